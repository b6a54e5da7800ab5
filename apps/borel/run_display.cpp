// How a run is shown while it goes on.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <map>

#include <fmt/format.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include "study_session.hpp"

namespace borel::app {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string clock_text(double seconds) {
  const long total = static_cast<long>(seconds + 0.5);
  if (total >= 3600) return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string cell_text(const CellRecord& cell) {
  return fmt::format("{} {} on {} #{}", cell.protocol, cell.label, cell.dataset, cell.repetition);
}

/// Lines for people; on a terminal with a bar below them.
class TextDisplay : public RunListener {
 public:
  TextDisplay(bool bar, bool quiet) : bar_(bar), quiet_(quiet) {
    const char* no_color = std::getenv("NO_COLOR");
    color_ = bar && !(no_color && *no_color);
  }

  void begin(const Plan& plan, const RunFolder& folder, std::size_t n_cells, std::size_t n_to_run) override {
    folder_ = folder;
    n_to_run_ = n_to_run;
    begin_ = Clock::now();
    if (n_to_run == 0)
      line(fmt::format("{}: all {} cells are done", plan.title, n_cells));
    else if (n_to_run == n_cells)
      line(fmt::format("{}: {} cells", plan.title, n_cells));
    else
      line(fmt::format("{}: {} cells, {} of them done before", plan.title, n_cells, n_cells - n_to_run));
  }

  void cell_started(const CellRecord& cell) override {
    running_[cell.cell_id] = cell_text(cell);
    draw(false);
  }

  void cell_finished(const CellRecord& cell) override {
    running_.erase(cell.cell_id);
    ++n_done_;
    const CellOutcome outcome = cell.result.outcome;
    const bool good = is_final(outcome);
    if (!good) ++n_failed_;
    if (!good || (!bar_ && !quiet_)) {
      std::string text =
          fmt::format("[{}/{}] {} {}  {:.2f} s", n_done_, n_to_run_,
                      paint(good ? "32" : "31", to_string(outcome)), cell_text(cell), cell.result.wall_s);
      if (!cell.result.reason.empty()) text += ": " + cell.result.reason;
      line(text);
    }
    draw(n_done_ == n_to_run_);
  }

  void timing_begin(std::size_t n_cells) override {
    clear();
    phase_ = "timing";
    if (!bar_ && !quiet_) line(fmt::format("timing {} cells, alone and interleaved", n_cells));
    begin_ = Clock::now();
    timing_progress(0, n_cells);
  }

  void timing_progress(std::size_t n_done, std::size_t n_cells) override {
    n_done_ = n_done;
    n_to_run_ = n_cells;
    draw(true);
  }

  void outputs_begin() override {
    clear();
    drawn_ = Clock::time_point{};
  }

  void warning(std::string_view text) override {
    clear();
    fmt::print(stderr, "borel: warning: {}\n", text);
  }

  void end(const RunSummary& summary, const RunResults& results) override {
    clear();
    if (!summary.interrupted) fmt::print("{}", summary_tables(results, protocols(), terminal_width()));
    std::string counts;
    for (CellOutcome outcome : {CellOutcome::ok, CellOutcome::skipped, CellOutcome::failed,
                                CellOutcome::timeout, CellOutcome::crashed})
      if (const std::size_t n = summary.count(outcome))
        counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", n, to_string(outcome));
    if (summary.n_missing)
      counts += fmt::format("{}{} not run", counts.empty() ? "" : ", ", summary.n_missing);
    fmt::print("{} {}: {}\n", summary.n_cells, summary.n_cells == 1 ? "cell" : "cells", counts);
    if (summary.interrupted && summary.n_missing == 0) {
      fmt::print("stopped; all {} cells are done and kept. Go on with: borel resume {}\n", summary.n_cells,
                 folder_.root.string());
      return;
    }
    if (summary.interrupted) {
      fmt::print("stopped; {} of {} cells are done and kept. Go on with: borel resume {}\n",
                 summary.n_cells - summary.n_missing, summary.n_cells, folder_.root.string());
      return;
    }
    if (summary.n_cells - summary.n_missing >
        summary.count(CellOutcome::ok) + summary.count(CellOutcome::skipped))
      fmt::print("failed cells are kept as they are; run them again with: borel resume {} --retry-failed\n",
                 folder_.root.string());
    fmt::print("results: {}\n", folder_.results().string());
    if (std::filesystem::exists(folder_.report())) fmt::print("report:  {}\n", folder_.report().string());
  }

 private:
  std::string paint(std::string_view code, std::string_view text) const {
    return color_ ? fmt::format("\033[{}m{}\033[0m", code, text) : std::string(text);
  }

  void line(const std::string& text) {
    clear();
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }

  void clear() {
    if (!bar_ || !shown_) return;
    fmt::print("\r\033[K");
    std::fflush(stdout);
    shown_ = false;
  }

  void draw(bool now) {
    if (!bar_ || quiet_ || (!now && seconds_since(drawn_) < 0.1)) return;
    drawn_ = Clock::now();
    constexpr std::size_t k_width = 24;
    const std::size_t filled = n_to_run_ ? k_width * n_done_ / n_to_run_ : k_width;
    const double rate = static_cast<double>(n_done_) / std::max(seconds_since(begin_), 1e-9);
    std::string text = fmt::format("{} [{}{}] {}/{}", phase_, std::string(filled, '#'),
                                   std::string(k_width - filled, '-'), n_done_, n_to_run_);
    if (n_done_)
      text += fmt::format("  {:.1f}/s  ETA {}", rate,
                          clock_text(static_cast<double>(n_to_run_ - n_done_) / rate));
    if (n_failed_) text += fmt::format("  {} failed", n_failed_);
    for (const auto& [id, cell] : running_)
      text += fmt::format("{} {}", text.ends_with(';') ? "" : "  |", cell);
    fmt::print("\r\033[K{}", fit(text, std::max(20, terminal_width() - 1)));
    std::fflush(stdout);
    shown_ = true;
  }

  bool bar_, quiet_, color_ = false, shown_ = false;
  RunFolder folder_;
  std::string phase_ = "cells";
  std::size_t n_done_ = 0, n_to_run_ = 0, n_failed_ = 0;
  Clock::time_point begin_{}, drawn_{};
  std::map<std::string, std::string> running_;
};

/// One JSON object a line on standard output.
class JsonDisplay : public RunListener {
 public:
  void begin(const Plan& plan, const RunFolder& folder, std::size_t n_cells, std::size_t n_to_run) override {
    folder_ = folder;
    emit({{"event", "begin"},
          {"title", plan.title},
          {"digest", plan.digest},
          {"run_folder", folder.root.string()},
          {"cells", n_cells},
          {"to_run", n_to_run}});
  }
  void cell_started(const CellRecord& cell) override {
    emit({{"event", "cell_started"}, {"id", cell.cell_id}});
  }
  void cell_finished(const CellRecord& cell) override {
    emit({{"event", "cell_finished"},
          {"id", cell.cell_id},
          {"protocol", cell.protocol},
          {"label", cell.label},
          {"dataset", cell.dataset},
          {"repetition", cell.repetition},
          {"outcome", to_string(cell.result.outcome)},
          {"reason", cell.result.reason},
          {"wall_s", cell.result.wall_s}});
  }
  void timing_begin(std::size_t n_cells) override { emit({{"event", "timing_begin"}, {"cells", n_cells}}); }
  void timing_progress(std::size_t n_done, std::size_t n_cells) override {
    emit({{"event", "timing_progress"}, {"done", n_done}, {"cells", n_cells}});
  }
  void outputs_begin() override { emit({{"event", "outputs_begin"}}); }
  void warning(std::string_view text) override { emit({{"event", "warning"}, {"text", text}}); }
  void end(const RunSummary& summary, const RunResults&) override {
    nlohmann::ordered_json counts = nlohmann::ordered_json::object();
    for (CellOutcome outcome : {CellOutcome::ok, CellOutcome::skipped, CellOutcome::failed,
                                CellOutcome::timeout, CellOutcome::crashed})
      counts[std::string(to_string(outcome))] = summary.count(outcome);
    emit({{"event", "end"},
          {"cells", summary.n_cells},
          {"found", summary.n_found},
          {"run", summary.n_run},
          {"timed", summary.n_timed},
          {"missing", summary.n_missing},
          {"outcomes", counts},
          {"interrupted", summary.interrupted},
          {"outputs_written", summary.outputs_written},
          {"results", folder_.results().string()},
          {"report", folder_.report().string()}});
  }

 private:
  void emit(const nlohmann::ordered_json& event) {
    fmt::print("{}\n", event.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    std::fflush(stdout);
  }
  RunFolder folder_;
};

}  // namespace

std::unique_ptr<RunListener> make_display(bool json, bool quiet) {
  if (json) return std::make_unique<JsonDisplay>();
  const char* terminal = std::getenv("TERM");
  const bool bar = ::isatty(STDOUT_FILENO) && terminal && std::string_view(terminal) != "dumb";
  return std::make_unique<TextDisplay>(bar, quiet);
}

}  // namespace borel::app
