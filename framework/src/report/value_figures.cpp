#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"

namespace borel {
namespace {

constexpr std::size_t k_label_limit = 32;
constexpr double k_log_ratio = 50;  ///< values that span more than this are shown on a log axis

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool wants_log() const { return low > 0 && high / low > k_log_ratio; }
};

std::string log_axis(char axis) {
  return fmt::format("set logscale {0}\nset format {0} '10^{{%T}}'\n", axis);
}

/// Log axes of less than two decades need labels between the powers.
std::string log_axis(char axis, const Range& range) {
  if (range.low > 0 && range.high / range.low < 30)
    return fmt::format("set logscale {0}\nset format {0} '%g'\n", axis);
  return log_axis(axis);
}

/// About five labels, at 1, 2 or 5 times a power of ten, with room at both ends. Values that share their first digits
/// have labels at the ends only, long enough to tell them apart.
std::string linear_axis(const Range& range) {
  const double width = range.high > range.low ? range.high - range.low : std::max(std::abs(range.low), 1.0);
  const auto ends = [&](double room) {
    return fmt::format("set xrange [{:.17g}:{:.17g}]\n", range.low - room * width, range.high + room * width);
  };
  if (width < 2e-3 * std::abs(range.low)) {
    const int digits = static_cast<int>(std::ceil(std::log10(std::abs(range.low) / width))) + 2;
    return ends(0.4) + fmt::format("set xtics ({} {:.17g}, {} {:.17g})\n",
                                   gnuplot_text(number_text(range.low, digits)), range.low,
                                   gnuplot_text(number_text(range.high, digits)), range.high);
  }
  const double raw = width / 4, power = std::pow(10.0, std::floor(std::log10(raw)));
  const double step = raw / power < 1.5   ? power
                      : raw / power < 3.5 ? 2 * power
                      : raw / power < 7.5 ? 5 * power
                                          : 10 * power;
  return ends(0.08) + fmt::format("set xtics {:.9g}\n", step);
}

std::string_view better_text(Direction direction) {
  return direction == Direction::higher_is_better  ? "higher is better"
         : direction == Direction::lower_is_better ? "lower is better"
                                                   : "no direction is better";
}

/// Blues from pale (0, worst) to deep (1, best), with the text colour that stands out.
struct Shade {
  int rgb;
  const char* text;
};
Shade shade(double goodness) {
  const auto mix = [&](int pale, int deep) {
    return static_cast<int>(std::lround(pale + (deep - pale) * goodness));
  };
  const int rgb = mix(0xf1, 0x08) << 16 | mix(0xf5, 0x51) << 8 | mix(0xf9, 0x9c);
  return {rgb, goodness > 0.55 ? "#ffffff" : "#1b1f24"};
}

}  // namespace

Figure heat_map_figure(const ComparisonGroup& group, const MetricInfo& metric) {
  const std::size_t n_entries = group.entries.size(), n_datasets = group.datasets.size();
  Figure figure;
  figure.name = "heat-map-" + metric.name;
  figure.title = "Mean " + axis_text(metric.name, metric.unit) + " by method and dataset";
  figure.caption =
      fmt::format("Deep blue is the best of its dataset, pale the worst; {}.", better_text(metric.direction));
  figure.csv = "method,dataset,mean,lower_95,upper_95,values,cells\n";

  double longest = 0;
  for (const std::string& entry : group.short_names)
    longest = std::max(longest, text_width_px(shorten_label(entry, k_label_limit)));
  const double left = longest + 16;
  std::size_t longest_name = 0;
  for (const std::string& dataset : group.datasets)
    longest_name = std::max(longest_name, character_count(dataset));
  const double least_width = 78 * static_cast<double>(n_datasets);
  const bool turned = 7.0 * static_cast<double>(longest_name) >
                      std::max(78.0, (450 - left) / static_cast<double>(n_datasets));
  // Names that are turned lean over what stands right of the last column.
  const double right = turned ? std::min(120.0, 5 * static_cast<double>(longest_name)) : 10;
  figure.width_px = std::max(480, static_cast<int>(left + least_width + right) + 10);
  const double top = turned ? std::min(130.0, 24 + 5.4 * static_cast<double>(longest_name)) : 32;
  figure.height_px = static_cast<int>(top) + 10 + 30 * static_cast<int>(n_entries);

  std::string& g = figure.script;
  g += fmt::format(
      "set lmargin at screen {:.4f}\nset rmargin at screen {:.4f}\nset tmargin at screen {:.4f}\n",
      left / figure.width_px, 1 - right / figure.width_px, 1 - top / figure.height_px);
  g += fmt::format("set bmargin at screen {:.4f}\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\n",
                   8.0 / figure.height_px, static_cast<double>(n_datasets) - 0.5,
                   static_cast<double>(n_entries) - 0.5);
  g += "unset grid\nunset border\nunset key\nset tics scale 0\nunset xtics\n";
  for (std::size_t d = 0; d < n_datasets; ++d) {
    std::vector<ValueSummary> column;
    std::vector<double> costs;
    for (std::size_t e = 0; e < n_entries; ++e) {
      column.push_back(summarise(group, e, d, metric.name));
      // The mean of infinities of both signs is none.
      costs.push_back(std::isnan(column.back().mean)                    ? BlockTable::k_no_value
                      : metric.direction == Direction::higher_is_better ? -column.back().mean
                                                                        : column.back().mean);
    }
    const std::vector<double> ranks = mid_ranks(costs);
    const double worst = static_cast<double>(std::max<std::size_t>(2, n_entries));
    for (std::size_t e = 0; e < n_entries; ++e) {
      const ValueSummary& summary = column[e];
      const bool partial =
          !summary.values.empty() && static_cast<std::int64_t>(summary.values.size()) < summary.n_cells;
      const bool none = summary.values.empty();
      const Shade colour = shade(1 - (ranks[e] - 1) / (worst - 1));
      g += fmt::format("set object rectangle center {},{} size 0.96,0.9 back fillstyle {} fillcolor rgb {}\n",
                       d, e, none ? "empty border lc rgb soft" : "solid 1 noborder",
                       none ? "soft" : fmt::format("'#{:06x}'", colour.rgb));
      const std::string text = summary.n_cells == 0 ? "not run"
                               : none               ? "no value"
                                                    : number_text(summary.mean, 3) + (partial ? " *" : "");
      g += fmt::format("set label {} at {},{} center font ',12' textcolor rgb {} noenhanced front\n",
                       gnuplot_text(text), d, e, none ? "ink" : fmt::format("'{}'", colour.text));
      figure.csv +=
          fmt::format("{},{},{},{},{},{},{}\n", csv_field(group.entries[e]), csv_field(group.datasets[d]),
                      exact_text(summary.mean), exact_text(summary.interval.lower),
                      exact_text(summary.interval.upper), summary.values.size(), summary.n_cells);
      if (partial && figure.caption.find('*') == std::string::npos)
        figure.caption += " * some repetitions gave no value.";
    }
    g += fmt::format("set label {} at {},graph 1.0 {} offset 0,{} {} textcolor rgb ink noenhanced\n",
                     gnuplot_text(shorten(group.datasets[d], 24)), d, turned ? "left" : "center",
                     turned ? "0.5" : "0.8", turned ? "rotate by 40" : "");
  }
  std::string labels;
  for (std::size_t e = 0; e < n_entries; ++e)
    labels += (e ? ", " : "") + gnuplot_text(shorten_label(group.short_names[e], k_label_limit)) +
              fmt::format(" {}", e);
  g += "set ytics (" + labels + ") noenhanced\nplot NaN notitle\n";
  return figure;
}

Figure values_figure(const ComparisonGroup& group, const MetricInfo& metric, std::size_t dataset) {
  const std::size_t n_entries = group.entries.size();
  Figure figure;
  figure.name = "values-" + metric.name;
  figure.title = axis_text(metric.name, metric.unit) + " on " + group.datasets[dataset];
  figure.caption = fmt::format(
      "Small dots are repetitions; the large mark is their mean, its bar the 95\u00a0% bootstrap interval; "
      "{}.",
      better_text(metric.direction));
  figure.csv = "method,repetition,value\n";
  struct Row {
    std::size_t entry;
    ValueSummary summary;
  };
  std::vector<Row> rows;
  for (std::size_t e = 0; e < n_entries; ++e) rows.push_back({e, summarise(group, e, dataset, metric.name)});
  const double sign = metric.direction == Direction::higher_is_better ? -1 : 1;
  std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
    if (a.summary.values.empty() || b.summary.values.empty())
      return !a.summary.values.empty() && b.summary.values.empty();
    return sign * a.summary.mean < sign * b.summary.mean;
  });
  Range range;
  std::vector<std::vector<double>> dots, means, bars;
  std::string labels;
  double longest = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const double y = static_cast<double>(i);
    std::string label = shorten_label(group.short_names[row.entry], k_label_limit);
    if (row.summary.values.empty()) label += " (no value)";
    longest = std::max(longest, text_width_px(label));
    labels += (i ? ", " : "") + gnuplot_text(label) + fmt::format(" {}", i);
    for (double value : row.summary.values) {
      range.add(value);
      dots.push_back({value, y + 0.26});
    }
    if (!row.summary.values.empty()) means.push_back({row.summary.mean, y, static_cast<double>(row.entry)});
    if (row.summary.interval.known())
      bars.push_back({row.summary.mean, y, row.summary.interval.lower, row.summary.interval.upper});
    for (std::size_t r = 0; r < group.repetitions.size(); ++r) {
      const auto value = metric_value(group.cell(row.entry, dataset, r), metric.name);
      figure.csv += fmt::format("{},{},{}\n", csv_field(group.entries[row.entry]), group.repetitions[r],
                                value ? exact_text(*value) : "");
    }
  }
  figure.height_px = std::max(150, 78 + 27 * static_cast<int>(n_entries));
  std::string& g = figure.script;
  g += gnuplot_block("dots", dots) + gnuplot_block("means", means) + gnuplot_block("bars", bars);
  g += fmt::format("set lmargin at screen {:.4f}\nset rmargin at screen 0.95\nset tmargin at screen {:.4f}\n",
                   (longest + 16) / figure.width_px, 1 - 12.0 / figure.height_px);
  g += fmt::format("set bmargin at screen {:.4f}\nset yrange [{}:-0.6]\n", 52.0 / figure.height_px,
                   static_cast<double>(n_entries) - 0.4);
  if (range.wants_log())
    g += log_axis('x') + "set offsets graph 0.06, graph 0.06, 0, 0\n";
  else if (!dots.empty())
    g += linear_axis(range);
  g += fmt::format(
      "set ytics ({}) noenhanced\nset border 1\nset ytics scale 0\nset xlabel {}\nunset "
      "key\n",
      labels, gnuplot_text(axis_text(metric.name, metric.unit)));
  if (dots.empty()) {
    g += "set xrange [0:1]\nplot NaN notitle\n";
    return figure;
  }
  g += "plot $dots using 1:2 with points pt 6 ps 0.5 lc rgb soft notitle";
  if (!bars.empty()) g += ", $bars using 1:2:3:4 with xerrorbars lc rgb ink lw 1.6 pt 0 notitle";
  for (const Row& row : rows)
    if (!row.summary.values.empty())
      g += fmt::format(", $means using ($3=={} ? $1 : NaN):2 with points pt {} ps 1.1 lc rgb {} notitle",
                       row.entry, series_point(row.entry), series_colour(row.entry));
  g += "\n";
  return figure;
}

std::vector<double> timing_seconds(const ComparisonGroup& group, std::size_t entry, std::size_t dataset,
                                   const std::string& timing) {
  std::vector<double> seconds;
  for (std::size_t r = 0; r < group.repetitions.size(); ++r)
    if (const CellRecord* cell = group.cell(entry, dataset, r))
      for (const Timing& candidate : cell->result.timings)
        if (candidate.name == timing)
          seconds.insert(seconds.end(), candidate.seconds.begin(), candidate.seconds.end());
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

std::optional<Figure> cost_figure(const ComparisonGroup& group, const MetricInfo& metric,
                                  const std::string& timing, std::size_t dataset) {
  struct Point {
    std::size_t entry;
    double seconds, low, high;
    ValueSummary value;
  };
  std::vector<Point> points;
  Range cost, quality;
  for (std::size_t e = 0; e < group.entries.size(); ++e) {
    const std::vector<double> seconds = timing_seconds(group, e, dataset, timing);
    ValueSummary value = summarise(group, e, dataset, metric.name);
    if (seconds.empty() || value.values.empty() || !std::isfinite(value.mean)) continue;
    points.push_back({e, quantile_of_sorted(seconds, 0.5), quantile_of_sorted(seconds, 0.25),
                      quantile_of_sorted(seconds, 0.75), value});
    cost.add(points.back().seconds);
    quality.add(value.mean);
  }
  if (points.size() < 2) return std::nullopt;

  Figure figure;
  figure.name = "cost-" + metric.name + "-" + timing;
  figure.title = fmt::format("What {} costs on {}", words(metric.name), group.datasets[dataset]);
  figure.caption = fmt::format(
      "Median and quartiles of the raw timings; {}. The line is the Pareto front: nothing is both faster and "
      "better.",
      better_text(metric.direction));
  figure.csv = "method,median_s,lower_quartile_s,upper_quartile_s,mean,lower_95,upper_95,on_front\n";
  const double sign = metric.direction == Direction::higher_is_better ? -1 : 1;
  std::sort(points.begin(), points.end(), [&](const Point& a, const Point& b) {
    return std::pair(a.seconds, sign * a.value.mean) < std::pair(b.seconds, sign * b.value.mean);
  });
  std::vector<std::vector<double>> front, marks;
  double best = std::numeric_limits<double>::infinity();
  std::vector<LegendItem> items;
  for (const Point& p : points) {
    const bool on_front = sign * p.value.mean < best;
    if (on_front) {
      best = sign * p.value.mean;
      front.push_back({p.seconds, p.value.mean});
    }
    const double low = p.value.interval.known() ? p.value.interval.lower : p.value.mean,
                 high = p.value.interval.known() ? p.value.interval.upper : p.value.mean;
    marks.push_back({p.seconds, p.value.mean, p.low, p.high, low, high, static_cast<double>(p.entry)});
    items.push_back({shorten_label(group.short_names[p.entry], k_label_limit), p.entry, false, true});
    figure.csv +=
        fmt::format("{},{},{},{},{},{},{},{}\n", csv_field(group.entries[p.entry]), exact_text(p.seconds),
                    exact_text(p.low), exact_text(p.high), exact_text(p.value.mean),
                    exact_text(p.value.interval.lower), exact_text(p.value.interval.upper), on_front ? 1 : 0);
  }
  const Legend legend = legend_below(items, figure.width_px, 300);
  figure.height_px = 300 + legend.height_px;
  std::string& g = figure.script;
  g += gnuplot_block("front", front) + gnuplot_block("marks", marks) + legend.script;
  g += fmt::format("set bmargin at screen {:.4f}\nset rmargin at screen 0.96\n",
                   (legend.height_px + 50.0) / figure.height_px);
  g += fmt::format("set xlabel {}\nset ylabel {}\nset offsets graph 0.08, graph 0.08, graph 0.1, graph 0.1\n",
                   gnuplot_text(timed_words(timing) + " (median seconds)"),
                   gnuplot_text(axis_text(metric.name, metric.unit)));
  g += log_axis('x', cost);
  if (quality.wants_log()) g += log_axis('y');
  g += "plot $front using 1:2 with steps lc rgb soft lw 1.4 dt 2 notitle";
  g += ", $marks using 1:2:3:4:5:6 with xyerrorbars lc rgb soft lw 1 pt 0 notitle";
  for (std::size_t i = 0; i < points.size(); ++i)
    g += fmt::format(", $marks using ($7=={0} ? $1 : NaN):2 with points pt {1} ps 1.3 lc rgb {2} notitle",
                     points[i].entry, series_point(points[i].entry), series_colour(points[i].entry));
  g += "\n";
  return figure;
}

}  // namespace borel
