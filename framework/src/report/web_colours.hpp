// Colours in figures: what papers get, and the marks that stand for CSS variables in the page's SVG.
#pragma once

#include <array>

namespace borel {

/// `red, green, blue` never occur in a figure otherwise; page_svg() turns them into var(--name), which
/// page.css sets for light and dark. `paper` is the colour in PDF files.
struct WebColour {
  const char* name;
  int red, green, blue;
  const char* paper;
};

inline constexpr std::array<WebColour, 12> k_web_colours = {{
    {"ink", 1, 254, 16, "#1b1f24"},
    {"soft", 1, 254, 17, "#5b6470"},
    {"gridline", 1, 254, 18, "#dde1e6"},
    {"paper", 1, 254, 19, "#ffffff"},
    {"c0", 1, 254, 20, "#0072b2"},
    {"c1", 1, 254, 21, "#d55e00"},
    {"c2", 1, 254, 22, "#009e73"},
    {"c3", 1, 254, 23, "#cc79a7"},
    {"c4", 1, 254, 24, "#e69f00"},
    {"c5", 1, 254, 25, "#56b4e9"},
    {"c6", 1, 254, 26, "#1b1f24"},
    {"c7", 1, 254, 27, "#8a8f98"},
}};

}  // namespace borel
