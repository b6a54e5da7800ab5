// Figures as gnuplot scripts, and the process that draws them.
#pragma once

#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "report/report.hpp"

namespace borel {

struct Figure {
  std::string name;     ///< stem of its files, [a-z0-9._-]
  std::string title;    ///< one line, plain text
  std::string caption;  ///< how to read it, plain text
  std::string script;   ///< gnuplot commands after the common head; colours by the names below
  std::string csv;      ///< what is drawn
  int width_px = 480, height_px = 340;
  // Filled by draw_figures:
  std::string svg;      ///< for the page; empty when it could not be drawn
  std::string problem;  ///< then why
};

/// Names of the colours in scripts: ink, soft (bars, secondary text), gridline, paper, c0 ... c7 (Okabe and
/// Ito's palette, yellow replaced by grey). Series beyond eight repeat the colours with other dashes and
/// points.
inline constexpr int k_n_colours = 8;
/// Series number of what all entries are held against: ink, dotted.
inline constexpr std::size_t k_reference_series = std::numeric_limits<std::size_t>::max();
std::string series_colour(std::size_t series);
std::string series_dash(std::size_t series);  ///< what follows `dt`
int series_point(std::size_t series);

/// A gnuplot string that is taken literally: single-quoted, so neither backslashes nor back-ticks mean
/// anything.
std::string gnuplot_text(std::string_view plain);
/// One value of a data block; NaN for what cannot be drawn.
std::string gnuplot_number(double value);
/// "$name << EOD" with rows of numbers.
std::string gnuplot_block(std::string_view name, const std::vector<std::vector<double>>& rows);

struct LegendItem {
  std::string label;
  std::size_t series = 0;
  bool line = true, point = true;
};
/// Legend in the lowest `height_px` of a figure, laid out here because gnuplot's own key guesses text widths.
struct Legend {
  int height_px = 0;
  std::string script;
};
Legend legend_below(const std::vector<LegendItem>& items, int figure_width_px, int figure_height_without_px);

/// Width of a text in a figure, for margins. An estimate on the large side.
double text_width_px(std::string_view text);

/// Draws all figures into `folder` (which is emptied of earlier figures first): one gnuplot process for SVG,
/// one for PDF, started again after a figure that gnuplot refuses. Never throws for what gnuplot does; see
/// Figure::problem.
/// @throws Error when a file cannot be written
void draw_figures(std::span<Figure> figures, const std::filesystem::path& folder,
                  const ReportOptions& options);

/// gnuplot's SVG made fit for a page: own id prefix, theme colours as CSS variables, no background, no empty
/// groups.
std::string page_svg(std::string_view raw, const Figure& figure);

}  // namespace borel
