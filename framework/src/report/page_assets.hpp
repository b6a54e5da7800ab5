// Style and script of the page, kept as page.css and page.js.
#pragma once

#include <string_view>

namespace borel {

extern const std::string_view k_page_css, k_page_js;

}  // namespace borel
