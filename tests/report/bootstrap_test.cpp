#include "statistics/bootstrap.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace borel {
namespace {

TEST(Bootstrap, SameSeedGivesTheSameBits) {
  std::vector<double> values(30);
  Rng{Seed{1}}.fill_normal(values);
  const ConfidenceInterval a = bootstrap_mean(values, 0.95, Seed{3}),
                           b = bootstrap_mean(values, 0.95, Seed{3});
  EXPECT_EQ(a.lower, b.lower);
  EXPECT_EQ(a.upper, b.upper);
  EXPECT_NE(a.lower, bootstrap_mean(values, 0.95, Seed{4}).lower);
}

TEST(Bootstrap, OneValueGivesNoInterval) {
  const std::vector<double> one = {2.0}, two = {2.0, 3.0};
  const std::vector<std::int64_t> apart = {0, 1};
  EXPECT_FALSE(bootstrap_mean(one, 0.95, Seed{1}).known());
  EXPECT_FALSE(bootstrap_mean(two, apart, 0.95, Seed{1}).known());
  EXPECT_TRUE(bootstrap_mean(two, 0.95, Seed{1}).known());
}

TEST(Bootstrap, DifferencesBetweenStrataDoNotWidenTheInterval) {
  const std::vector<double> values = {100, 101, 102, 500, 501, 502};
  const std::vector<std::int64_t> strata = {0, 0, 0, 1, 1, 1};
  const ConfidenceInterval interval = bootstrap_mean(values, strata, 0.95, Seed{1});
  EXPECT_GE(interval.lower, 300);
  EXPECT_LE(interval.upper, 302);
  EXPECT_LE(interval.lower, 301);
  EXPECT_GE(interval.upper, 301);
}

double coverage(int n, double level) {
  constexpr int k_samples = 1500;
  int covered = 0;
  for (int s = 0; s < k_samples; ++s) {
    Rng rng{Seed{7}.derive(static_cast<std::uint64_t>(s))};
    std::vector<double> values(static_cast<std::size_t>(n));
    rng.fill_normal(values);
    const ConfidenceInterval interval =
        bootstrap_mean(values, level, Seed{static_cast<std::uint64_t>(s)}, 400);
    covered += interval.lower <= 0 && 0 <= interval.upper;
  }
  return covered / static_cast<double>(k_samples);
}

TEST(Bootstrap, CoversTheTrueMeanNearlyAsOftenAsItSays) {
  EXPECT_LE(std::abs(coverage(20, 0.95) - 0.95), 0.025);
  EXPECT_LE(std::abs(coverage(10, 0.90) - 0.90), 0.04);
}

TEST(Quantile, InterpolatesLikeRType7) {
  const std::vector<double> values = {1, 2, 4, 8};
  EXPECT_EQ(quantile_of_sorted(values, 0), 1);
  EXPECT_EQ(quantile_of_sorted(values, 0.5), 3);
  EXPECT_EQ(quantile_of_sorted(values, 1), 8);
}

}  // namespace
}  // namespace borel
