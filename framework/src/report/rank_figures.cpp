#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"

namespace borel {
namespace {

constexpr std::size_t k_label_limit = 32;

}  // namespace

Figure ranking_figure(const ComparisonGroup& group, const Comparison& comparison) {
  const std::size_t k = comparison.standings.size();
  Figure figure;
  figure.name = "ranking-" + comparison.metric.name;
  figure.title = "Average rank by " + words(comparison.metric.name);
  const bool sure = std::any_of(comparison.standings.begin(), comparison.standings.end(),
                                [](const Standing& s) { return s.rank_interval.known(); });
  figure.caption = fmt::format(
      "1 is best. Mean over {}{}.", counted(static_cast<std::size_t>(comparison.table.n_blocks), "block"),
      sure ? "; bars are 95\u00a0% bootstrap intervals" : "; one block a dataset gives no interval");
  figure.csv = "method,average_rank,lower_95,upper_95,share_best,blocks_without_value\n";

  std::vector<std::vector<double>> bars, points;
  double longest = 0;
  std::string labels;
  for (std::size_t i = 0; i < k; ++i) {
    const Standing& s = comparison.standings[i];
    const std::string& entry = group.entries[s.entry];
    const double y = static_cast<double>(i);
    const std::string label = shorten_label(group.short_names[s.entry], k_label_limit);
    longest = std::max(longest, text_width_px(label));
    labels += (i ? ", " : "") + gnuplot_text(label) + fmt::format(" {}", i);
    points.push_back({s.average_rank, y, static_cast<double>(s.entry)});
    if (s.rank_interval.known())
      bars.push_back({s.average_rank, y, s.rank_interval.lower, s.rank_interval.upper});
    figure.csv += fmt::format("{},{},{},{},{},{}\n", csv_field(entry), exact_text(s.average_rank),
                              exact_text(s.rank_interval.lower), exact_text(s.rank_interval.upper),
                              exact_text(s.share_best), s.n_without_value);
  }
  figure.height_px = std::max(150, 78 + 27 * static_cast<int>(k));
  std::string& g = figure.script;
  g += gnuplot_block("points", points) + gnuplot_block("bars", bars);
  g += fmt::format("set lmargin at screen {:.4f}\nset rmargin at screen 0.95\nset tmargin at screen {:.4f}\n",
                   (longest + 16) / figure.width_px, 1 - 12.0 / figure.height_px);
  g += fmt::format("set bmargin at screen {:.4f}\nset yrange [{}:-0.6]\nset xrange [0.8:{}]\n",
                   52.0 / figure.height_px, static_cast<double>(k) - 0.4, static_cast<double>(k) + 0.2);
  g += fmt::format("set ytics ({}) noenhanced\nset xtics {}\nset border 1\nset ytics scale 0\n", labels,
                   std::max<std::size_t>(1, (k + 7) / 8));
  g += "set xlabel 'average rank (1 = best)'\nunset key\nplot ";
  if (!bars.empty()) g += "$bars using 1:2:3:4 with xerrorbars lc rgb ink lw 1.6 pt 0 notitle, ";
  for (std::size_t i = 0; i < k; ++i) {
    const std::size_t entry = comparison.standings[i].entry;
    g += fmt::format("{}$points using ($3=={} ? $1 : NaN):2 with points pt {} ps 1.1 lc rgb {} notitle",
                     i ? ", " : "", entry, series_point(entry), series_colour(entry));
  }
  g += "\n";
  return figure;
}

Figure critical_difference_figure(const ComparisonGroup& group, const Comparison& comparison) {
  const std::size_t k = comparison.standings.size(), n_left = (k + 1) / 2;
  const double cd = comparison.critical_difference, span = static_cast<double>(k) - 1;
  Figure figure;
  figure.name = "critical-difference-" + comparison.metric.name;
  figure.title = "Which methods can be told apart by " + words(comparison.metric.name);
  figure.caption =
      cd > span
          ? fmt::format(
                "Critical-difference diagram (Nemenyi, 5\u00a0%). With {} the critical difference {} is "
                "wider "
                "than the whole scale: no pair can be told apart by ranks.",
                counted(static_cast<std::size_t>(comparison.table.n_blocks), "block"), number_text(cd, 3))
          : "Critical-difference diagram (Nemenyi, 5\u00a0%): a thick bar joins methods that cannot be told "
            "apart.";
  figure.csv = "method,average_rank,critical_difference\n";
  double longest = 0;
  for (const Standing& s : comparison.standings) {
    longest = std::max(longest, text_width_px(shorten_label(group.short_names[s.entry], k_label_limit)));
    figure.csv += fmt::format("{},{},{}\n", csv_field(group.entries[s.entry]), exact_text(s.average_rank),
                              exact_text(cd));
  }
  figure.width_px =
      std::max(480, static_cast<int>(2 * (longest + 14)) + std::max(200, 30 * static_cast<int>(k)));
  // y in pixels from the top: ruler, axis, clique bars, then one level per method on each side.
  const double axis = 66, bar_step = 9,
               first_level = axis + 22 + bar_step * static_cast<double>(comparison.cliques.size());
  const double level_step = 22;
  figure.height_px =
      std::max(150, static_cast<int>(first_level + level_step * static_cast<double>(n_left) + 6));
  std::string& g = figure.script;
  const double side = (longest + 14) / figure.width_px;
  g += fmt::format("set lmargin at screen {:.4f}\nset rmargin at screen {:.4f}\nset tmargin at screen 1\n",
                   side, 1 - side);
  g += fmt::format("set bmargin at screen 0\nset xrange [1:{}]\nset yrange [{}:0]\n", k, figure.height_px);
  g += "unset border\nunset tics\nunset grid\nunset key\n";
  const auto line = [&](double x0, double y0, double x1, double y1, std::string_view style) {
    g += fmt::format("set arrow from {:.6g},{:.6g} to {:.6g},{:.6g} nohead {}\n", x0, y0, x1, y1, style);
  };
  line(1, axis, static_cast<double>(k), axis, "lc rgb ink lw 1.2");
  const std::size_t tick_step = std::max<std::size_t>(1, (k + 9) / 10);
  for (std::size_t rank = 1; rank <= k; rank += tick_step) {
    line(static_cast<double>(rank), axis - 6, static_cast<double>(rank), axis, "lc rgb ink lw 1.2");
    g += fmt::format("set label '{}' at {},{} center textcolor rgb ink\n", rank, rank, axis - 15);
  }
  const double ruler_end = 1 + std::min(cd, span);
  line(1, 28, ruler_end, 28, "lc rgb soft lw 2");
  line(1, 23, 1, 33, "lc rgb soft lw 1.5");
  if (cd <= span) line(ruler_end, 23, ruler_end, 33, "lc rgb soft lw 1.5");
  g += fmt::format("set label {} at {:.6g},12 left textcolor rgb soft noenhanced\n",
                   gnuplot_text("critical difference " + number_text(cd, 3) +
                                (cd > span ? " (wider than the scale)" : "")),
                   1.0);
  for (std::size_t c = 0; c < comparison.cliques.size(); ++c) {
    const Clique& clique = comparison.cliques[c];
    const double y = axis + 12 + bar_step * static_cast<double>(c), overhang = 0.012 * span;
    line(comparison.standings[clique.first].average_rank - overhang, y,
         comparison.standings[clique.last].average_rank + overhang, y, "lc rgb ink lw 4.5");
  }
  for (std::size_t i = 0; i < k; ++i) {
    const Standing& s = comparison.standings[i];
    const bool left = i < n_left;
    const double level = first_level + level_step * static_cast<double>(left ? i : k - 1 - i);
    const std::string style = fmt::format("lc rgb {} lw 1.4", series_colour(s.entry));
    line(s.average_rank, axis, s.average_rank, level, style);
    line(s.average_rank, level, left ? 1 : static_cast<double>(k), level, style);
    g += fmt::format("set label {} at graph {},first {} {} textcolor rgb ink noenhanced\n",
                     gnuplot_text(shorten_label(group.short_names[s.entry], k_label_limit)),
                     left ? "-0.015" : "1.015", level, left ? "right" : "left");
  }
  g += "plot NaN notitle\n";
  return figure;
}

}  // namespace borel
