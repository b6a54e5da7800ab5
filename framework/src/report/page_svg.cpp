#include <fmt/format.h>

#include <array>
#include <cctype>

#include "report/gnuplot.hpp"
#include "report/html.hpp"
#include "report/web_colours.hpp"

namespace borel {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::size_t at = 0;
  while ((at = text.find(from, at)) != std::string::npos) {
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

/// gnuplot opens and closes a group for every pen change; most stay empty.
void remove_empty_groups(std::string& text) {
  std::size_t at = 0;
  while ((at = text.find("<g ", at)) != std::string::npos) {
    const std::size_t close = text.find('>', at);
    if (close == std::string::npos) return;
    const std::size_t next = text.find_first_not_of(" \t\r\n", close + 1);
    if (next != std::string::npos && text.compare(next, 4, "</g>") == 0)
      text.erase(at, next + 4 - at);
    else
      at = close;
  }
}

void remove_between(std::string& text, std::string_view open, std::string_view close) {
  const std::size_t begin = text.find(open);
  if (begin == std::string::npos) return;
  const std::size_t end = text.find(close, begin);
  if (end != std::string::npos) text.erase(begin, end + close.size() - begin);
}

}  // namespace

std::string page_svg(std::string_view raw, const Figure& figure) {
  const std::size_t open = raw.find("<svg"), open_end = raw.find('>', open), close = raw.rfind("</svg>");
  if (open == std::string_view::npos || close == std::string_view::npos) return "";
  std::string body(raw.substr(open_end + 1, close - open_end - 1));
  remove_between(body, "<title>", "</title>");
  remove_between(body, "<desc>", "</desc>");
  remove_between(body, "<rect x=\"0\" y=\"0\"", "/>");
  remove_between(body, "<filter id='textbox'", "</filter>");
  remove_between(body, "<filter id='greybox'", "</filter>");
  remove_empty_groups(body);

  for (const WebColour& colour : k_web_colours) {
    const std::string variable = fmt::format("var(--{})", colour.name);
    replace_all(body, fmt::format("rgb({:3d}, {:3d}, {:3d})", colour.red, colour.green, colour.blue),
                variable);
    replace_all(body, fmt::format("rgb({},{},{})", colour.red, colour.green, colour.blue), variable);
    replace_all(body, fmt::format("#{:02x}{:02x}{:02x}", colour.red, colour.green, colour.blue), variable);
    replace_all(body, fmt::format("#{:02X}{:02X}{:02X}", colour.red, colour.green, colour.blue), variable);
  }
  for (const char* attribute : {"color", "fill", "stroke"})
    for (const char* quote : {"\"", "'"}) {
      replace_all(body, fmt::format("{}={}black{}", attribute, quote, quote),
                  fmt::format("{}={}var(--ink){}", attribute, quote, quote));
      replace_all(body, fmt::format("{}={}gray{}", attribute, quote, quote),
                  fmt::format("{}={}var(--gridline){}", attribute, quote, quote));
    }
  for (const char* quote : {"\"", "'"}) {
    replace_all(body, fmt::format(" id={}", quote), fmt::format(" id={}{}-", quote, figure.name));
    replace_all(body, fmt::format("href={}#", quote), fmt::format("href={}#{}-", quote, figure.name));
  }
  replace_all(body, "url(#", fmt::format("url(#{}-", figure.name));
  replace_all(body, " font-family=\"sans-serif\" ", " ");
  replace_all(body, "\n\n", "\n");
  return fmt::format(
             R"(<svg viewBox="0 0 {} {}" style="max-width:{}px" role="img" aria-label="{}" xmlns:xlink="http://www.w3.org/1999/xlink">)",
             figure.width_px, figure.height_px, figure.width_px * 6 / 5,
             escape_html(figure.title + ". " + figure.caption)) +
         body + "</svg>";
}

}  // namespace borel
