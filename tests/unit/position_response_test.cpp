#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "borel/rng.hpp"
#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"

namespace borel {
namespace {

using test::metric;
using test::registry;

/// Trained with 64 tokens, reads 256; vectors of 8 components, so four pairs.
CellInput input_of(const std::string& position) {
  DatasetWriter writer(DatasetKind::qkv, "rows", "rows", "a test", "CC0");
  std::vector<float> rows(32 * 8);
  Rng rng(Seed{5});
  rng.fill_normal(rows);
  for (const char* name : {"q", "k", "v"}) writer.array(name, rows, {1, 32, 8});
  writer.seal();
  CellInput input;
  input.dataset = Dataset::from(writer);
  input.registry = &registry();
  input.methods = {parse_method_spec(position, "position")};
  input.options.id = "position.response";
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
