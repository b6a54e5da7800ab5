// One method as JSON, the same for `list --json` and `info --json`.
#pragma once

#include <nlohmann/json.hpp>

#include "borel/registry.hpp"

namespace borel::app {

nlohmann::ordered_json method_json(const MethodEntry& method);

}  // namespace borel::app
