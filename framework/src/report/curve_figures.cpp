#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"

namespace borel {
namespace {

constexpr std::size_t k_label_limit = 34;
constexpr std::size_t k_max_points = 400;  ///< per line; more cannot be seen and only make the page heavy

const Curve* find_curve(const CellRecord* cell, const std::string& name) {
  if (!cell || cell->result.outcome != CellOutcome::ok) return nullptr;
  for (const Curve& curve : cell->result.curves)
    if (curve.name == name && !curve.x.empty() && curve.x.size() == curve.y.size()) return &curve;
  return nullptr;
}

/// Linear in the drawn coordinates, so that a log axis stays straight between points. Empty outside of the
/// curve.
std::optional<double> value_at(const Curve& curve, double x) {
  if (!(x >= curve.x.front() && x <= curve.x.back())) return std::nullopt;
  const auto after = std::lower_bound(curve.x.begin(), curve.x.end(), x);
  const auto i = static_cast<std::size_t>(after - curve.x.begin());
  if (*after == x) return curve.y[i];
  const bool log_x = curve.log_x && curve.x[i - 1] > 0,
             log_y = curve.log_y && curve.y[i - 1] > 0 && curve.y[i] > 0;
  const auto on_x = [&](double value) { return log_x ? std::log(value) : value; };
  const auto on_y = [&](double value) { return log_y ? std::log(value) : value; };
  const double part = (on_x(x) - on_x(curve.x[i - 1])) / (on_x(curve.x[i]) - on_x(curve.x[i - 1]));
  const double y = on_y(curve.y[i - 1]) + part * (on_y(curve.y[i]) - on_y(curve.y[i - 1]));
  return log_y ? std::exp(y) : y;
}

std::vector<double> thinned(const std::vector<double>& x, bool log_x) {
  if (x.size() <= k_max_points) return x;
  std::vector<double> kept;
  double next = -std::numeric_limits<double>::infinity();
  const auto place = [&](double value) {
    return log_x ? std::log(std::max(value, x.back() * 1e-12)) : value;
  };
  const double step = (place(x.back()) - place(x.front())) / static_cast<double>(k_max_points - 1);
  for (double value : x)
    if (place(value) >= next || value == x.back()) {
      kept.push_back(value);
      next = place(value) + step * 0.999;
    }
  return kept;
}

bool is_reference(const Curve& curve) { return !curve.reference_of.empty(); }
template <class Item>
bool is_reference(const Item&) {
  return false;
}

struct Line {
  std::size_t entry;
  std::vector<std::vector<double>> rows;  ///< x, median, lowest, highest
  bool has_band = false;
  bool is_cut = false;  ///< repetitions cover different ranges; the line has what all of them cover
};

std::optional<Line> line_of(const ComparisonGroup& group, const std::string& name, std::size_t entry,
                            std::size_t dataset) {
  std::vector<const Curve*> curves;
  for (std::size_t r = 0; r < group.repetitions.size(); ++r)
    if (const Curve* curve = find_curve(group.cell(entry, dataset, r), name)) curves.push_back(curve);
  if (curves.empty()) return std::nullopt;
  Line line{entry, {}, false, false};
  const bool ascending = std::ranges::all_of(curves, [](const Curve* c) {
    return std::ranges::adjacent_find(c->x, std::greater_equal{}) == c->x.end();
  });
  if (!ascending) {  // not a function of x, for example steps or a path: the first repetition as it is
    for (std::size_t i = 0; i < curves[0]->x.size(); ++i)
      line.rows.push_back({curves[0]->x[i], curves[0]->y[i], curves[0]->y[i], curves[0]->y[i]});
    return line;
  }
  // Where one repetition has ended, a median of the others would jump.
  const Curve* shortest = *std::min_element(
      curves.begin(), curves.end(), [](const Curve* a, const Curve* b) { return a->x.back() < b->x.back(); });
  double start = shortest->x.front();
  for (const Curve* curve : curves) {
    start = std::max(start, curve->x.front());
    line.is_cut =
        line.is_cut || curve->x.front() != shortest->x.front() || curve->x.back() != shortest->x.back();
  }
  for (double x : thinned(shortest->x, shortest->log_x)) {
    if (x < start) continue;
    std::vector<double> values;
    for (const Curve* curve : curves)
      if (const auto y = value_at(*curve, x); y && std::isfinite(*y)) values.push_back(*y);
    if (values.empty()) {
      line.rows.push_back({x, std::nan(""), std::nan(""), std::nan("")});
      continue;
    }
    std::sort(values.begin(), values.end());
    line.rows.push_back({x, quantile_of_sorted(values, 0.5), values.front(), values.back()});
    line.has_band = line.has_band || values.front() != values.back();
  }
  return line;
}

/// A tick at every x where there are few: sizes of contexts are read better than one power of ten between them.
std::string ticks_at_points(const std::vector<Line>& lines) {
  constexpr std::size_t k_most_ticks = 8;
  std::set<double> points;
  for (const Line& line : lines)
    for (const auto& row : line.rows)
      if (row[0] > 0) points.insert(row[0]);
  if (points.empty() || points.size() > k_most_ticks) return {};
  std::string ticks;
  for (double x : points) ticks += fmt::format("{}{:g}", ticks.empty() ? "" : ", ", x);
  return fmt::format("set xtics ({}) format '%g'\n", ticks);
}

/// What the curves of a figure are held against. Where all entries say the same it is one line of its own.
struct Reference {
  std::string name;
  std::vector<Line> lines;  ///< one a entry that has it, or a single one
  bool is_shared = false;
};

std::vector<Reference> references_of(const ComparisonGroup& group, const std::string& curve_name,
                                     std::size_t dataset) {
  std::vector<Reference> references;
  for (std::size_t e = 0; e < group.entries.size(); ++e)
    for (std::size_t r = 0; r < group.repetitions.size(); ++r) {
      const CellRecord* cell = group.cell(e, dataset, r);
      if (!cell || cell->result.outcome != CellOutcome::ok) continue;
      for (const Curve& curve : cell->result.curves) {
        if (curve.reference_of != curve_name) continue;
        auto at = std::ranges::find(references, curve.name, &Reference::name);
        if (at == references.end()) at = references.insert(at, Reference{curve.name, {}, false});
        if (!at->lines.empty() && at->lines.back().entry == e) continue;  // an earlier repetition had it
        if (auto line = line_of(group, curve.name, e, dataset)) at->lines.push_back(std::move(*line));
      }
    }
  std::erase_if(references, [](const Reference& reference) { return reference.lines.empty(); });
  for (Reference& reference : references) {
    reference.is_shared = std::ranges::all_of(
        reference.lines, [&](const Line& line) { return line.rows == reference.lines.front().rows; });
    if (reference.is_shared) reference.lines.resize(1);
  }
  return references;
}

template <class List>
std::vector<std::string> names_in(const ComparisonGroup& group, const List& list) {
  std::vector<std::string> names;
  for (const CellRecord* cell : group.cells)
    if (cell)
      for (const auto& item : list(cell->result))
        if (!is_reference(item) && std::find(names.begin(), names.end(), item.name) == names.end())
          names.push_back(item.name);
  return names;
}

}  // namespace

std::vector<std::string> curve_names(const ComparisonGroup& group) {
  return names_in(
      group, [](const CellResult& result) -> const auto& { return result.curves; });
}
std::vector<std::string> picture_names(const ComparisonGroup& group) {
  return names_in(
      group, [](const CellResult& result) -> const auto& { return result.pictures; });
}
std::vector<std::string> timing_names(const ComparisonGroup& group) {
  return names_in(
      group, [](const CellResult& result) -> const auto& { return result.timings; });
}

std::optional<Figure> curve_figure(const ComparisonGroup& group, const std::string& name,
                                   std::size_t dataset) {
  std::vector<Line> lines;
  const Curve* sample = nullptr;
  for (std::size_t e = 0; e < group.entries.size(); ++e) {
    if (auto line = line_of(group, name, e, dataset)) lines.push_back(std::move(*line));
    for (std::size_t r = 0; r < group.repetitions.size() && !sample; ++r)
      sample = find_curve(group.cell(e, dataset, r), name);
  }
  if (!sample) return std::nullopt;
  std::vector<Reference> references = references_of(group, name, dataset);

  bool has_band = false, is_cut = false, x_positive = false, y_positive = false, lost = false;
  std::size_t most_points = 0;
  for (const Line& line : lines) {
    has_band = has_band || line.has_band;
    is_cut = is_cut || line.is_cut;
    most_points = std::max(most_points, line.rows.size());
    for (const auto& row : line.rows) {
      x_positive = x_positive || row[0] > 0;
      y_positive = y_positive || row[1] > 0;
    }
  }
  const bool log_x = sample->log_x && x_positive, log_y = sample->log_y && y_positive;

  Figure figure;
  figure.name = "curve-" + name;
  figure.title = words(name) + " on " + group.datasets[dataset];
  figure.csv = "method,x,median,lowest,highest\n";
  std::string& g = figure.script;
  for (Line& line : lines) {
    for (auto& row : line.rows) {
      figure.csv += fmt::format("{},{},{},{},{}\n", csv_field(group.entries[line.entry]), exact_text(row[0]),
                                exact_text(row[1]), exact_text(row[2]), exact_text(row[3]));
      lost = lost || (log_x && row[0] <= 0) || (log_y && row[1] <= 0);
      if (log_y && row[2] <= 0)
        row[2] = row[1] > 0 ? row[1] : std::nan("");  // a band cannot reach zero on a log axis
    }
    g += gnuplot_block(fmt::format("line{}", line.entry), line.rows);
  }
  for (Reference& reference : references)
    for (Line& line : reference.lines) {
      const std::string whose =
          reference.is_shared ? reference.name : reference.name + ", " + group.entries[line.entry];
      for (auto& row : line.rows) {
        figure.csv += fmt::format("{},{},{},{},{}\n", csv_field(whose), exact_text(row[0]),
                                  exact_text(row[1]), exact_text(row[2]), exact_text(row[3]));
        lost = lost || (log_x && row[0] <= 0) || (log_y && row[1] <= 0);
      }
      g +=
          gnuplot_block(fmt::format("reference{}_{}", &reference - references.data(), line.entry), line.rows);
    }
  figure.caption = has_band ? fmt::format("Line: median of {}; band: lowest to highest.",
                                          counted(group.repetitions.size(), "repetition"))
                            : "Repetitions do not differ, or there is one.";
  if (is_cut) figure.caption += " A line ends where its first repetition ends.";
  std::string absent;
  for (std::size_t e = 0; e < group.entries.size(); ++e)
    if (std::none_of(lines.begin(), lines.end(), [&](const Line& line) { return line.entry == e; }))
      absent += (absent.empty() ? " No curve from " : ", ") + group.short_names[e];
  if (!absent.empty()) figure.caption += absent + ".";
  if (lost) figure.caption += " Values that are not positive cannot stand on the log axis and are left out.";

  for (const Reference& reference : references)
    figure.caption += fmt::format(" Dotted: {}{}.", reference.name,
                                  reference.is_shared ? "" : ", in the colour of what it is held against");

  const bool marks = most_points <= 24;
  std::vector<LegendItem> items;
  for (const Line& line : lines)
    items.push_back({shorten_label(group.short_names[line.entry], k_label_limit), line.entry, true, marks});
  for (const Reference& reference : references)
    if (reference.is_shared)
      items.push_back({shorten(reference.name, k_label_limit), k_reference_series, true, false});
  const Legend legend = legend_below(items, figure.width_px, 300);
  figure.height_px = 300 + legend.height_px;
  g += legend.script;
  g += fmt::format("set bmargin at screen {:.4f}\nset rmargin at screen 0.96\nset tmargin at screen {:.4f}\n",
                   (legend.height_px + 50.0) / figure.height_px, 1 - 12.0 / figure.height_px);
  if (log_x) g += "set logscale x\nset format x '10^{%T}'\n";
  if (log_x) g += ticks_at_points(lines);
  if (log_y) g += "set logscale y\nset format y '10^{%T}'\n";
  g += fmt::format("set xlabel {}\nset ylabel {}\nset autoscale xfix\n", gnuplot_text(sample->x_label),
                   gnuplot_text(sample->y_label));
  std::string plots;
  for (const Line& line : lines)
    if (line.has_band)
      plots += fmt::format(
          "{}$line{} using 1:3:4 with filledcurves fs transparent solid 0.18 noborder lc rgb {} notitle",
          plots.empty() ? "" : ", ", line.entry, series_colour(line.entry));
  for (std::size_t i = 0; i < lines.size(); ++i)
    plots += fmt::format("{}$line{} using 1:2 with {} lc rgb {} lw 2 dt {} {} notitle",
                         plots.empty() ? "" : ", ", lines[i].entry, marks ? "linespoints" : "lines",
                         series_colour(lines[i].entry), series_dash(lines[i].entry),
                         marks ? fmt::format("pt {} ps 0.7", series_point(lines[i].entry)) : "");
  for (std::size_t i = 0; i < references.size(); ++i)
    for (const Line& line : references[i].lines)
      plots += fmt::format(
          ", $reference{}_{} using 1:2 with lines lc rgb {} lw 2 dt '.' notitle", i, line.entry,
          references[i].is_shared ? series_colour(k_reference_series) : series_colour(line.entry));
  g += "plot " + plots + "\n";
  return figure;
}

}  // namespace borel
