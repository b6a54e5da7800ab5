// One method or protocol as JSON, the same for `list --json` and `info --json`.
#pragma once

#include <nlohmann/json.hpp>

#include "borel/registry.hpp"
#include "protocols/protocol.hpp"

namespace borel::app {

nlohmann::ordered_json method_json(const MethodEntry& method);
nlohmann::ordered_json protocol_json(const Protocol& protocol);

}  // namespace borel::app
