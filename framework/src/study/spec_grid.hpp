// Grids: a parameter given as a list stands for one spec per element.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/params.hpp"

namespace borel {

/// Elements of "[a, [b, c], d{x=1}]" as texts, without outer blanks and quotes; the text itself when it is no
/// list.
std::vector<std::string> list_elements(std::string_view text);

/// Every combination of the listed parameter values, in the order of names and elements. A parameter that is
/// itself a list of numbers is expanded only when a list of lists is given. Unknown names are kept as they
/// are: the method's own check names them.
std::vector<MethodSpec> expand_grid(const MethodSpec& spec, std::span<const ParamInfo> params);

}  // namespace borel
