// Facts about a method as text, for lists and reports.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace borel {

using TraitList = std::vector<std::pair<std::string, std::string>>;

}  // namespace borel
