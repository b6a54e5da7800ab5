// The plugins of this build or installation, loaded once: for tests and benchmarks.
#pragma once

#include "borel/registry.hpp"
#include "loader/plugin_set.hpp"

namespace borel {

/// Never destroyed: methods made from it may live until the program ends.
inline const Registry& own_plugins() {
  static const Registry* registry = [] {
    auto* made = new Registry;
    load_plugins({{}, false, true}, *made);
    return made;
  }();
  return *registry;
}

}  // namespace borel
