// The plugins of this build, loaded once for all tests of a program.
#pragma once

#include "borel/registry.hpp"
#include "loader/plugin_set.hpp"

namespace borel::test {

/// Never destroyed: methods made from it may live as long as any test.
inline const Registry& registry() {
  static const Registry* made = [] {
    auto* fresh = new Registry;
    load_plugins({{}, false, true}, *fresh);
    return fresh;
  }();
  return *made;
}

}  // namespace borel::test
