// The tables at the end of a run.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "statistics/comparison.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

constexpr std::size_t k_label_width = 44, k_default_width = 110;

/// Cells of one method on one dataset.
struct Group {
  double sum = 0;
  std::size_t n_values = 0, n_cells = 0, n_good = 0, n_skipped = 0;
  std::optional<double> mean() const {
    if (n_values == 0) return std::nullopt;
    return sum / static_cast<double>(n_values);
  }
  /// Of all repetitions: a mean of those that happened to end well is not compared.
  std::optional<double> whole_mean() const { return n_values == n_cells ? mean() : std::nullopt; }
};

/// Rows and columns of one table: (label -> dataset -> group).
using Rows = std::map<std::string, std::map<std::string, Group>>;

using Cells = std::vector<const CellRecord*>;

bool reports(const Cells& cells, const MetricInfo& metric) {
  for (const CellRecord* cell : cells)
    for (const Metric& value : cell->result.metrics)
      if (value.name == metric.name) return true;
  return false;
}

/// The first headline metric that the cells report; when they report none, the first one.
const MetricInfo* headline(const std::vector<MetricInfo>& metrics, const Cells& cells) {
  const MetricInfo* first = nullptr;
  for (const MetricInfo& metric : metrics) {
    if (!metric.headline) continue;
    if (reports(cells, metric)) return &metric;
    if (!first) first = &metric;
  }
  return first || metrics.empty() ? first : &metrics.front();
}

std::string better_text(Direction direction) {
  if (direction == Direction::lower_is_better) return ", lower is better";
  return direction == Direction::higher_is_better ? ", higher is better" : "";
}

/// Best mean of a column, by the metric's direction.
std::optional<double> best_of(const Rows& rows, const std::string& dataset, Direction direction) {
  std::optional<double> best;
  for (const auto& [label, columns] : rows) {
    const auto group = columns.find(dataset);
    const std::optional<double> mean = group == columns.end() ? std::nullopt : group->second.whole_mean();
    if (!mean || std::isnan(*mean)) continue;
    if (!best || (direction == Direction::lower_is_better ? *mean < *best : *mean > *best)) best = mean;
  }
  return best;
}

std::string table(const Rows& rows, const std::set<std::string>& datasets, Direction direction,
                  std::size_t width) {
  std::size_t label_width = 6;
  for (const auto& [label, columns] : rows)
    label_width = std::max(label_width, std::min(label.size(), k_label_width));
  std::vector<std::string> shown;
  std::size_t used = 2 + label_width + 10;
  for (const std::string& dataset : datasets) {
    const std::size_t column = std::max<std::size_t>(dataset.size(), 10) + 2;
    if (used + column > width) break;
    used += column;
    shown.push_back(dataset);
  }
  std::string out = fmt::format("  {:<{}}", "", label_width);
  for (const std::string& dataset : shown)
    out += fmt::format("  {:>{}}", dataset, std::max<std::size_t>(dataset.size(), 10));
  out += fmt::format("  {:>8}\n", "ok");
  for (const auto& [label, columns] : rows) {
    out += fmt::format("  {:<{}}", fit(label, static_cast<int>(label_width)), label_width);
    std::size_t n_good = 0, n_cells = 0, n_skipped = 0;
    for (const auto& [dataset, group] : columns) {
      n_good += group.n_good;
      n_cells += group.n_cells;
      n_skipped += group.n_skipped;
    }
    for (const std::string& dataset : shown) {
      const auto group = columns.find(dataset);
      std::string text = "-";
      if (group != columns.end()) {
        if (const std::optional<double> mean = group->second.mean()) {
          const bool best = direction != Direction::none && group->second.whole_mean() &&
                            best_of(rows, dataset, direction) == mean;
          text = fmt::format("{:.5g}{}", *mean, best ? "*" : " ");
        } else {
          text = group->second.n_skipped == group->second.n_cells ? "skipped "
                 : group->second.n_good == group->second.n_cells ? "none "  // the metric does not exist there
                                                                 : "failed ";
        }
      }
      out += fmt::format("  {:>{}}", text, std::max<std::size_t>(dataset.size(), 10));
    }
    out += fmt::format("  {:>8}{}\n", fmt::format("{}/{}", n_good, n_cells),
                       n_skipped ? fmt::format(" ({} skipped)", n_skipped) : "");
  }
  if (shown.size() < datasets.size())
    out += fmt::format("  and {} more datasets: see the report\n", datasets.size() - shown.size());
  return out;
}

}  // namespace

std::string summary_tables(const RunResults& results, std::span<const Protocol* const> protocols, int width) {
  std::string out;
  for (const Protocol* protocol : protocols) {
    const std::vector<MetricInfo> metrics = protocol->metrics();
    std::map<std::string, Cells> by_options;
    for (const CellRecord& cell : results.cells)
      if (cell.protocol == protocol->id()) by_options[cell.options].push_back(&cell);
    for (const auto& [options, cells] : by_options) {
      const MetricInfo* metric = headline(metrics, cells);
      const bool has_networks = compares_networks(cells);
      Rows rows;
      std::set<std::string> datasets;
      std::int64_t repetitions = 0;
      for (const CellRecord* cell : cells) {
        repetitions = std::max(repetitions, cell->repetition + 1);
        const std::string dataset = has_networks ? std::string(k_own_networks) : cell->dataset;
        datasets.insert(dataset);
        Group& group = rows[has_networks ? cell->label + " on " + cell->dataset : cell->label][dataset];
        ++group.n_cells;
        group.n_good += cell->result.outcome == CellOutcome::ok;
        group.n_skipped += cell->result.outcome == CellOutcome::skipped;
        for (const Metric& value : cell->result.metrics)
          if (metric && value.name == metric->name) {
            group.sum += value.value;
            ++group.n_values;
          }
      }
      out += fmt::format("\n{}", protocol->id());
      if (by_options.size() > 1) out += " " + options;
      if (metric)
        out += fmt::format(": {}{}{}, mean of {} repetition(s)", metric->name,
                           metric->unit.empty() ? "" : " [" + metric->unit + "]",
                           better_text(metric->direction), repetitions);
      out += '\n';
      out += table(rows, datasets, metric ? metric->direction : Direction::none,
                   width > 0 ? static_cast<std::size_t>(width) : k_default_width);
    }
  }
  return out.empty() ? out : out + '\n';
}

}  // namespace borel::app
