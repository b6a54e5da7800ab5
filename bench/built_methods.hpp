// The plugins of this build, loaded once for a benchmark.
#pragma once

#include "borel/registry.hpp"
#include "loader/plugin_set.hpp"

namespace borel::bench {

/// Never destroyed: methods made from it may live until the program ends.
inline const Registry& methods() {
  static const Registry* registry = [] {
    auto* made = new Registry;
    load_plugins({{}, false, true}, *made);
    return made;
  }();
  return *registry;
}

}  // namespace borel::bench
