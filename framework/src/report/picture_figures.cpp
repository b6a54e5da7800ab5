#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/figures.hpp"
#include "report/html.hpp"
#include "report/number_text.hpp"

namespace borel {

std::optional<Figure> picture_figure(const ComparisonGroup& group, const std::string& name,
                                     std::size_t dataset) {
  struct Panel {
    std::size_t entry;
    const Picture* picture;
  };
  std::vector<Panel> panels;
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (std::size_t e = 0; e < group.entries.size(); ++e) {
    const Picture* found = nullptr;
    for (std::size_t r = 0; r < group.repetitions.size() && !found; ++r)
      if (const CellRecord* cell = group.cell(e, dataset, r); cell && cell->result.outcome == CellOutcome::ok)
        for (const Picture& picture : cell->result.pictures)
          if (picture.name == name && picture.n_rows > 0 && picture.n_cols > 0 &&
              picture.values.size() == static_cast<std::size_t>(picture.n_rows * picture.n_cols))
            found = &picture;
    if (!found) continue;
    panels.push_back({e, found});
    for (double value : found->values)
      if (std::isfinite(value)) {
        low = std::min(low, value);
        high = std::max(high, value);
      }
  }
  if (panels.empty() || !(low <= high)) return std::nullopt;
  if (low == high) high = low + (low == 0 ? 1 : std::abs(low));

  const Picture& first = *panels.front().picture;
  // What does not depend on the method (the clean image) needs one panel.
  const bool shared = panels.size() > 1 && std::all_of(panels.begin(), panels.end(), [&](const Panel& panel) {
                        return panel.picture->values == first.values && panel.picture->n_cols == first.n_cols;
                      });
  if (shared) panels.erase(panels.begin() + 1, panels.end());
  const bool photograph =
      first.x_label == "column" && first.y_label == "row";  // pixels: grey, not a colour scale
  Figure figure;
  figure.name = "picture-" + name;
  figure.title = words(name) + " on " + group.datasets[dataset];
  figure.caption = fmt::format("First repetition. Rows: {}; columns: {}. One colour scale for all panels.",
                               first.y_label.empty() ? "row" : first.y_label,
                               first.x_label.empty() ? "column" : first.x_label);
  std::int64_t n_csv_columns = 0;
  for (const Panel& panel : panels) n_csv_columns = std::max(n_csv_columns, panel.picture->n_cols);
  figure.csv = "method,row";  // then a value for each column: a picture has many
  for (std::int64_t c = 0; c < n_csv_columns; ++c) figure.csv += fmt::format(",{}", c);
  figure.csv += '\n';
  const int n_columns = panels.size() == 1 ? 1 : panels.size() == 2 || panels.size() == 4 ? 2 : 3;
  const int n_lines = (static_cast<int>(panels.size()) + n_columns - 1) / n_columns;
  const int gap = 10, title = 22, side = std::min(300, (figure.width_px - gap * (n_columns + 1)) / n_columns);
  const double ratio =
      std::clamp(static_cast<double>(first.n_rows) / static_cast<double>(first.n_cols), 0.3, 1.5);
  const int panel_height = static_cast<int>(side * ratio), scale_height = 46;
  figure.height_px = n_lines * (panel_height + title) + scale_height + 4;

  std::string& g = figure.script;
  for (const Panel& panel : panels) {
    std::vector<std::vector<double>> rows;
    const Picture& picture = *panel.picture;
    for (std::int64_t r = 0; r < picture.n_rows; ++r) {
      rows.emplace_back(picture.values.begin() + r * picture.n_cols,
                        picture.values.begin() + (r + 1) * picture.n_cols);
      figure.csv += fmt::format("{},{}", csv_field(group.entries[panel.entry]), r);
      for (const double value : rows.back()) figure.csv += fmt::format(",{:.6g}", value);
      figure.csv += '\n';
    }
    g += gnuplot_block(fmt::format("panel{}", panel.entry), rows);
  }
  if (photograph) g += "set palette defined (0 '#000000', 1 '#ffffff')\n";
  g += fmt::format(
      "unset tics\nunset grid\nunset key\nset border 15 lc rgb gridline lw 0.8\nset cbrange [{}:{}]\n",
      gnuplot_number(low), gnuplot_number(high));
  g += fmt::format(
      "set colorbox horizontal user origin screen 0.2, screen {:.4f} size screen 0.6, screen {:.4f}\n",
      26.0 / figure.height_px, 9.0 / figure.height_px);
  g += "set cbtics scale 0.3 offset 0,0.4 textcolor rgb ink format '%g' autofreq\nset multiplot\n";
  const double used = n_columns * side + (n_columns - 1) * gap, start = (figure.width_px - used) / 2;
  for (std::size_t i = 0; i < panels.size(); ++i) {
    const int column = static_cast<int>(i) % n_columns, line = static_cast<int>(i) / n_columns;
    const double x = start + column * (side + gap), y = line * (panel_height + title) + title;
    const auto across = [&](double px) { return px / figure.width_px; };
    const auto up = [&](double px) { return 1 - px / figure.height_px; };
    const Picture& picture = *panels[i].picture;
    g += fmt::format(
        "set lmargin at screen {:.4f}\nset rmargin at screen {:.4f}\nset tmargin at screen {:.4f}\n",
        across(x), across(x + side), up(y));
    g += fmt::format("set bmargin at screen {:.4f}\nset xrange [-0.5:{}]\nset yrange [{}:-0.5]\n",
                     up(y + panel_height), static_cast<double>(picture.n_cols) - 0.5,
                     static_cast<double>(picture.n_rows) - 0.5);
    g += fmt::format(
        "set label 1 {} at screen {:.4f}, screen {:.4f} center font ',12' textcolor rgb ink noenhanced\n",
        gnuplot_text(
            shared ? "the same for all methods"
                   : shorten_label(group.short_names[panels[i].entry], static_cast<std::size_t>(side / 8))),
        across(x + side / 2.0), up(y - 9));
    g += fmt::format("plot $panel{} matrix with image notitle\nunset colorbox\n", panels[i].entry);
  }
  g += "unset multiplot\n";
  return figure;
}

}  // namespace borel
