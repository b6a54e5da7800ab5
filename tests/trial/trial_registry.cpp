#include "trial_registry.hpp"

#include <gtest/gtest.h>

#include "loader/plugin_set.hpp"

namespace borel::trial {

namespace {

LoadReport& report() {
  static LoadReport loaded;
  return loaded;
}

}  // namespace

const Registry& trial_registry() {
  static const Registry& filled = [&]() -> const Registry& {
    // Leaked like the plugins themselves: methods must never outlive it.
    auto* registry = new Registry;
    report() = load_plugins({.paths = {BOREL_TRIAL_FOLDER}, .use_environment = false, .use_builtin = false},
                            *registry);
    return *registry;
  }();
  return filled;
}

TEST(InterfaceTrial, LoadsEveryPlugin) {
  trial_registry();
  for (const RefusedPlugin& refused : report().refused) ADD_FAILURE() << refused.reason;
  EXPECT_EQ(report().loaded.size(), static_cast<std::size_t>(BOREL_TRIAL_COUNT));
}

}  // namespace borel::trial
