// What a cell reported, for tests of protocols.
#pragma once

#include <cmath>
#include <string_view>

#include <gtest/gtest.h>

#include "protocols/protocol.hpp"

namespace borel::test {

/// Fails the test, and is no number, when there is no metric of that name.
inline double metric(const CellResult& result, std::string_view name) {
  for (const Metric& m : result.metrics)
    if (m.name == name) return m.value;
  ADD_FAILURE() << "no metric " << name;
  return std::nan("");
}

}  // namespace borel::test
