// Performance profiles: Dolan, More, Math. Prog. 91 (2002) 201.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"

namespace borel {
namespace {

constexpr std::size_t k_label_limit = 34;
constexpr double k_widest_ratio = 1000;

}  // namespace

bool is_work_to_reach(const MetricInfo& metric) {
  return metric.direction == Direction::lower_is_better && metric.name.find("_to_1e_") != std::string::npos;
}

std::optional<Figure> profile_figure(const ComparisonGroup& group, const MetricInfo& metric) {
  const std::size_t n_entries = group.entries.size();
  // ratios[entry]: work over the least work on the same dataset and repetition, for what was reached
  std::vector<std::vector<double>> ratios(n_entries);
  std::size_t n_blocks = 0;
  for (std::size_t d = 0; d < group.datasets.size(); ++d)
    for (std::size_t r = 0; r < group.repetitions.size(); ++r) {
      double least = std::numeric_limits<double>::infinity();
      std::vector<std::optional<double>> work(n_entries);
      for (std::size_t e = 0; e < n_entries; ++e) {
        work[e] = metric_value(group.cell(e, d, r), metric.name);
        if (work[e]) least = std::min(least, std::max(*work[e], 1.0));
      }
      if (!std::isfinite(least)) continue;
      ++n_blocks;
      for (std::size_t e = 0; e < n_entries; ++e)
        if (work[e]) ratios[e].push_back(std::max(*work[e], 1.0) / least);
    }
  if (n_entries < 2 || n_blocks < 2) return std::nullopt;

  Figure figure;
  figure.name = "profile-" + metric.name;
  figure.title = "Performance profile: " + words(metric.name);
  figure.caption = fmt::format(
      "Share of {} on which a method needs at most so many times the work of the best one; higher and "
      "further left is "
      "better. At the right end: the share that it reaches at all (ratios up to {:g}). Dolan and Moré "
      "(2002).",
      counted(n_blocks, "problem"), k_widest_ratio);
  figure.csv = "method,ratio,share\n";
  std::string plots;
  std::vector<LegendItem> items;
  std::string& g = figure.script;
  for (std::size_t e = 0; e < n_entries; ++e) {
    std::ranges::sort(ratios[e]);
    std::vector<std::vector<double>> rows;
    double share = 0;
    rows.push_back({1, 0});
    for (double ratio : ratios[e]) {
      share += 1 / static_cast<double>(n_blocks);
      if (ratio > k_widest_ratio) break;
      rows.push_back({ratio, share});
      figure.csv +=
          fmt::format("{},{},{}\n", csv_field(group.entries[e]), exact_text(ratio), exact_text(share));
    }
    rows.push_back({k_widest_ratio, rows.back()[1]});
    const std::string block = fmt::format("p{}", e);
    g += gnuplot_block(block, rows);
    plots += fmt::format("{}${} using 1:2 with steps lc rgb {} dt {} lw 1.8 notitle", e ? ", " : "", block,
                         series_colour(e), series_dash(e));
    items.push_back({shorten_label(group.short_names[e], k_label_limit), e, true, false});
  }
  const int plot_height_px = 320;
  const Legend legend = legend_below(items, figure.width_px, plot_height_px);
  figure.height_px = plot_height_px + legend.height_px;
  g += legend.script;
  g += fmt::format("set logscale x\nset xrange [1:{}]\nset yrange [0:1.02]\n", k_widest_ratio);
  g += "set xlabel 'work / least work'\nset ylabel 'share of problems'\n";
  g += "plot " + plots + "\n";
  return figure;
}

}  // namespace borel
