#include "report/gnuplot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

#include "borel/error.hpp"
#include "report/number_text.hpp"
#include "report/web_colours.hpp"

namespace borel {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view k_install_hint =
    "gnuplot was not found. Install it (Debian and Ubuntu: apt install gnuplot-nox) and run `borel report` "
    "on this run "
    "again; the data of the figure is in its CSV.";

void write_file(const fs::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  file.flush();
  if (!file)
    throw Error(fmt::format(
        "report: cannot write {}; check that the folder exists, is writable and has space", path.string()));
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

constexpr std::string_view k_done_mark = "borel: drawn\n";

struct ProcessEnd {
  bool ended = false;       ///< gnuplot ran and ended by itself
  std::size_t n_drawn = 0;  ///< figures finished before that
  std::string message;      ///< what gnuplot said after the last of them
};

ProcessEnd read_log(const fs::path& log) {
  std::string text = read_file(log);
  fs::remove(log);
  ProcessEnd end;
  for (std::size_t at = 0; (at = text.find(k_done_mark)) != std::string::npos; ++end.n_drawn)
    text.erase(0, at + k_done_mark.size());
  end.message = shorten(text, 600);
  return end;
}

bool interrupted(const ReportOptions& options) { return options.interrupted && options.interrupted->load(); }

/// Runs `program -d script` in `folder`, no shell; standard output and error go to a log file there. In a process group
/// of its own: Ctrl-C in the terminal is for us, and we end gnuplot. @throws Stopped
ProcessEnd run_gnuplot(const ReportOptions& options, const fs::path& folder, const std::string& script) {
  const std::string folder_text = folder.string(), log = script + ".log", no_init = "-d";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addchdir_np(&actions, folder_text.c_str());
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  std::string program = options.gnuplot, name = script;
  if (program.find('/') != std::string::npos) program = fs::absolute(program).string();
  std::string flag = no_init;
  std::array<char*, 4> arguments = {program.data(), flag.data(), name.data(), nullptr};
  pid_t child = 0;
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const int error = posix_spawnp(&child, program.c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    fs::remove(folder / log);
    if (error == ENOENT) return {false, 0, std::string(k_install_hint)};
    return {false, 0, fmt::format("{} could not be started: {}", options.gnuplot, std::strerror(error))};
  }
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration<double>(options.gnuplot_limit_s);
  int status = 0;
  bool in_time = true;
  while (true) {
    const pid_t done = waitpid(child, &status, in_time ? WNOHANG : 0);
    if (done == child || (done < 0 && errno != EINTR)) break;
    if (in_time && (interrupted(options) || std::chrono::steady_clock::now() >= deadline)) {
      in_time = false;
      kill(-child, SIGKILL);
    } else if (in_time) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  ProcessEnd end = read_log(folder / log);
  if (interrupted(options)) {
    fs::remove(folder / script);
    throw Stopped("stopped on request");
  }
  end.ended = in_time;
  if (!in_time) end.message = fmt::format("gnuplot was ended after {} s", options.gnuplot_limit_s);
  return end;
}

/// What stands before every script: in the batch for the page `borel_web` is set and the terminal too; on its
/// own the script draws its PDF.
std::string script_head(const Figure& figure) {
  std::string head = fmt::format("# {}\n# Redraw: gnuplot {}.gp\n", shorten(figure.title, 100), figure.name);
  head += "reset\nset encoding utf8\nset datafile missing 'NaN'\nif (!exists('borel_web')) {\n";
  head += fmt::format(
      "  set terminal pdfcairo enhanced color size {:.2f}cm,{:.2f}cm font 'sans,11' fontscale 0.66\n",
      figure.width_px * 2.54 / 96, figure.height_px * 2.54 / 96);
  head += fmt::format("  set output '{}.pdf'\n", figure.name);
  for (const WebColour& colour : k_web_colours)
    head += fmt::format("  {} = '{}'\n", colour.name, colour.paper);
  head +=
      "}\n"
      "set border 3 lc rgb ink lw 0.8\n"
      "set tics nomirror out scale 0.5 textcolor rgb ink\n"
      "set grid back lt 1 dt 1 lc rgb gridline lw 0.7\n"
      "set key noenhanced textcolor rgb ink\n"
      "set xtics offset 0,0.35\n"
      "set xlabel textcolor rgb ink noenhanced offset 0,0.7\n"
      "set ylabel textcolor rgb ink noenhanced offset 1.2,0\n"
      "set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', 6 "
      "'#35b779',"
      " 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')\n";  // viridis
  return head;
}

std::string batch(std::span<const Figure> figures, std::size_t first, bool web) {
  std::string text;
  if (web) {
    text += "borel_web = 1\n";
    for (const WebColour& colour : k_web_colours)
      text += fmt::format("{} = '#{:02x}{:02x}{:02x}'\n", colour.name, colour.red, colour.green, colour.blue);
  }
  for (std::size_t i = first; i < figures.size(); ++i) {
    if (web)
      text += fmt::format(
          "set terminal svg size {},{} dynamic enhanced font 'sans-serif,13'\nset output '{}.svg'\n",
          figures[i].width_px, figures[i].height_px, figures[i].name);
    text += fmt::format("load '{}.gp'\nunset multiplot\nset output\nprint '{}'\n", figures[i].name,
                        k_done_mark.substr(0, k_done_mark.size() - 1));
  }
  return text;
}

/// Draws all; starts again behind a figure at which gnuplot stopped. Returns per figure "" or what went
/// wrong.
std::vector<std::string> run_batches(std::span<const Figure> figures, const fs::path& folder,
                                     const ReportOptions& options, bool web) {
  std::vector<std::string> problems(figures.size());
  const std::string script = web ? "draw-svg.gp" : "draw-pdf.gp";
  for (std::size_t first = 0; first < figures.size();) {
    write_file(folder / script, batch(figures, first, web));
    const ProcessEnd end = run_gnuplot(options, folder, script);
    first += end.n_drawn;
    if (first >= figures.size()) break;
    if (!end.ended) {
      std::fill(problems.begin() + static_cast<std::ptrdiff_t>(first), problems.end(), end.message);
      break;
    }
    problems[first++] = "gnuplot refused the figure: " + end.message;
  }
  fs::remove(folder / script);
  return problems;
}

}  // namespace

std::string series_colour(std::size_t series) {
  return series == k_reference_series ? "ink" : fmt::format("c{}", series % k_n_colours);
}
std::string series_dash(std::size_t series) {
  if (series == k_reference_series) return "'.'";
  return fmt::format("{}", static_cast<int>(series / k_n_colours % 5) + 1);
}

int series_point(std::size_t series) {
  constexpr std::array<int, 10> k_points = {7, 5, 9, 13, 11, 6, 4, 8, 12, 10};
  return k_points[series % k_points.size()];
}

std::string gnuplot_text(std::string_view plain) {
  std::string text = "'";
  for (char c : plain) {
    if (c == '\'') text += '\'';
    text += static_cast<unsigned char>(c) < ' ' || c == 0x7F ? ' ' : c;
  }
  return text + "'";
}

std::string gnuplot_number(double value) {
  return std::isfinite(value) ? fmt::format("{:.9g}", value) : "NaN";
}

std::string gnuplot_block(std::string_view name, const std::vector<std::vector<double>>& rows) {
  std::string text = fmt::format("${} << EOD\n", name);
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) text.append(i ? " " : "").append(gnuplot_number(row[i]));
    text += "\n";
  }
  return text + "EOD\n";
}

double text_width_px(std::string_view text) { return 7.7 * static_cast<double>(character_count(text)); }

Legend legend_below(const std::vector<LegendItem>& items, int figure_width_px, int figure_height_without_px) {
  constexpr double k_row_px = 20, k_sample_px = 26, k_gap_px = 8, k_between_px = 22;
  const int n_items = static_cast<int>(items.size());
  // The most columns that fit, filled from top to bottom, each as wide as its longest label.
  std::vector<double> widths;
  int n_rows = n_items;
  double used = 0;
  for (int n_columns = std::min(n_items, 5); n_columns >= 1; --n_columns) {
    n_rows = (n_items + n_columns - 1) / n_columns;
    widths.assign(static_cast<std::size_t>((n_items + n_rows - 1) / n_rows), 0.0);
    for (int i = 0; i < n_items; ++i) {
      double& width = widths[static_cast<std::size_t>(i / n_rows)];
      width =
          std::max(width, k_sample_px + k_gap_px + text_width_px(items[static_cast<std::size_t>(i)].label));
    }
    used = k_between_px * static_cast<double>(widths.size() - 1);
    for (double width : widths) used += width;
    if (used <= figure_width_px - 16) break;
  }
  Legend legend;
  legend.height_px = static_cast<int>(n_rows * k_row_px) + 8;
  legend.script = "unset key\n";
  const double total = figure_height_without_px + legend.height_px;
  double x = std::max(8.0, (figure_width_px - used) / 2);
  const auto across = [&](double px) { return px / figure_width_px; };
  for (int i = 0; i < n_items; ++i) {
    const LegendItem& item = items[static_cast<std::size_t>(i)];
    if (i > 0 && i % n_rows == 0) x += widths[static_cast<std::size_t>(i / n_rows - 1)] + k_between_px;
    const double y = (legend.height_px - (i % n_rows + 0.5) * k_row_px) / total;
    const std::string colour = series_colour(item.series);
    if (item.line)
      legend.script += fmt::format(
          "set arrow from screen {:.4f}, screen {:.4f} to screen {:.4f}, screen {:.4f} nohead "
          "lc rgb {} lw 2 dt {}\n",
          across(x), y, across(x + k_sample_px), y, colour, series_dash(item.series));
    legend.script +=
        fmt::format("set label {} at screen {:.4f}, screen {:.4f} left textcolor rgb ink noenhanced\n",
                    gnuplot_text(item.label), across(x + k_sample_px + k_gap_px), y);
    if (item.point)
      legend.script +=
          fmt::format("set label '' at screen {:.4f}, screen {:.4f} point pt {} ps 1 lc rgb {}\n",
                      across(x + k_sample_px / 2), y, series_point(item.series), colour);
  }
  return legend;
}

void draw_figures(std::span<Figure> figures, const fs::path& folder, const ReportOptions& options) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw Error(fmt::format("report: cannot make the folder {}: {}", folder.string(), error.message()));
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (entry.is_regular_file() &&
        (extension == ".gp" || extension == ".csv" || extension == ".pdf" || extension == ".svg"))
      fs::remove(entry.path(), error);
  }
  for (const Figure& figure : figures) {
    write_file(folder / (figure.name + ".gp"), script_head(figure) + figure.script);
    write_file(folder / (figure.name + ".csv"), figure.csv);
  }
  std::vector<std::string> pdf_problems;
  std::jthread papers([&] {
    try {
      pdf_problems = run_batches(figures, folder, options, false);
    } catch (const std::exception&) {
      pdf_problems.clear();  // the SVG run below meets the same: a stop, or a folder that cannot be written
    }
  });
  const std::vector<std::string> problems = run_batches(figures, folder, options, true);
  papers.join();
  for (std::size_t i = 0; i < figures.size(); ++i) {
    const fs::path drawn = folder / (figures[i].name + ".svg");
    figures[i].problem = problems[i];
    if (problems[i].empty()) figures[i].svg = page_svg(read_file(drawn), figures[i]);
    if (figures[i].svg.empty() && figures[i].problem.empty()) figures[i].problem = "gnuplot drew nothing";
    fs::remove(drawn, error);
    if (i < pdf_problems.size() && !pdf_problems[i].empty())
      fs::remove(folder / (figures[i].name + ".pdf"), error);
  }
}

}  // namespace borel
