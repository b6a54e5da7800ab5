#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "rows_cell.hpp"

namespace borel {
namespace {

using test::metric;
using test::registry;

/// Trained with 64 tokens, reads 256; vectors of 8 components, so four pairs.
CellInput input_of(const std::string& position) {
  CellInput input = test::rows_cell(32, "position.response");
  input.methods = {parse_method_spec(position, "position")};
  input.options.params = {{"train_length", "64"}, {"test_length", "256"}};
  return input;
}

double untrained_turns(const std::string& position) {
  const CellInput input = input_of(position);
  const Protocol& protocol = find_protocol("position.response");
  EXPECT_EQ(protocol.refuses(input), "") << position;
  return metric(protocol.run(input), "untrained_turns");
}

// Distances 64 .. 255 of 256 lie beyond training, for the pairs that made less than a turn in 63 tokens: base 10000 has
// 0.63 and 0.063 radians (and 63, 6.3), base 100 only 1.99 (and 6.3, 19.9, 63).
TEST(PositionResponse, MeasuresArcsByTheBaseOfTheEncoding) {
  EXPECT_DOUBLE_EQ(untrained_turns("rope"), 0.75 * 2 / 4);
  EXPECT_DOUBLE_EQ(untrained_turns("rope{theta_base=100}"), 0.75 / 4);
  EXPECT_DOUBLE_EQ(untrained_turns("abf{theta_base=100}"), 0.75 / 4);
  EXPECT_DOUBLE_EQ(untrained_turns("log_n{of=rope{theta_base=100}}"), 0.75 / 4);
  EXPECT_DOUBLE_EQ(untrained_turns("log_n{of=\"\"}"), 0);
}

TEST(PositionResponse, RefusesWhatHasNoSingleResponse) {
  EXPECT_NE(find_protocol("position.response").refuses(input_of("multi_base")), "");
  EXPECT_NE(find_protocol("position.response").refuses(input_of("sinusoidal")), "");
}

}  // namespace
}  // namespace borel
