#include "report/scaling_curves.hpp"

#include <gtest/gtest.h>

namespace borel {
namespace {

TEST(ScalingCurves, AreMadeOfTasksTimedAtSeveralSizes) {
  RunResults results;
  results.cells.resize(2);
  results.cells[0].result.timings = {
      {"forward_n1024_s", {4, 3, 5}}, {"forward_n256_s", {1, 2}}, {"fit_s", {9}}, {"step_n64_s", {7}}};
  results.cells[1].result.timings = {{"forward_n256_s", {1}}, {"forward_n1024_s", {}}};
  add_scaling_curves(results);
  ASSERT_EQ(results.cells[0].result.curves.size(), 1U);  // a single size is no curve
  const Curve& curve = results.cells[0].result.curves[0];
  EXPECT_EQ(curve.name, "time of forward");
  EXPECT_EQ(curve.x, (std::vector<double>{256, 1024}));
  EXPECT_EQ(curve.y, (std::vector<double>{1.5, 4}));
  EXPECT_TRUE(curve.log_x && curve.log_y);
  EXPECT_TRUE(results.cells[1].result.curves.empty());
}

TEST(ScalingCurves, TakeNamesOfTheirFormOnly) {
  EXPECT_TRUE(is_scaling_timing("forward_n256_s"));
  for (const char* name :
       {"forward_s", "forward_n_s", "_n256_s", "forward_n2x_s", "forward_n256", "forward_n0_s", ""})
    EXPECT_FALSE(is_scaling_timing(name)) << name;
}

}  // namespace
}  // namespace borel
