// The plugins of this build by the name that tests use.
#pragma once

#include "loader/own_plugins.hpp"

namespace borel::test {

inline constexpr auto& registry = own_plugins;

}  // namespace borel::test
