#include "protocols/concentration.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "borel/rng.hpp"

namespace borel {
namespace {

TEST(Concentration, UniformRowIsNotConcentrated) {
  const std::vector<float> row(100, -0.5F);
  const Concentration c = concentration_of(row);
  EXPECT_LE(std::abs(c.sparsity - 1), 1e-12);
  EXPECT_LE(std::abs(c.entropy_nats - std::log(100.0)), 1e-12);
  EXPECT_LE(std::abs(c.effective_support - 100), 1e-9);
  EXPECT_LE(std::abs(c.max_weight - 0.01), 1e-12);
}

TEST(Concentration, OneKeyGivesTheSmallestSparsity) {
  std::vector<float> row(400, 0.0F);
  row[17] = 3;
  const Concentration c = concentration_of(row);
  EXPECT_LE(std::abs(c.sparsity - 1 / std::sqrt(400.0)), 1e-12);
  EXPECT_LE(std::abs(c.effective_support - 1), 1e-12);
  EXPECT_LE(std::abs(c.max_weight - 1), 1e-12);
}

TEST(Concentration, ZeroRowIsNotConcentratedAndNotNaN) {
  const std::vector<float> row(8, 0.0F);
  const Concentration c = concentration_of(row);
  EXPECT_EQ(c.sparsity, 1);
  EXPECT_LE(std::abs(c.effective_support - 8), 1e-12);
}

TEST(Concentration, GaussianRowMatchesTheClosedFormOfTheIdentity) {
  // beta = 0: S = sqrt(2 / pi), kexue.fm 9889.
  std::vector<float> row(1 << 20);
  Rng rng(Seed{7});
  rng.fill_normal(row);
  EXPECT_LE(std::abs(concentration_of(row).sparsity - std::sqrt(2 / std::numbers::pi)), 2e-3);
}

TEST(NumericalRank, CountsIndependentRows) {
  // Rows: e1, e2, e1 + e2, and a copy: rank 2, in both orientations.
  const std::vector<float> wide{1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0};
  EXPECT_EQ(numerical_rank({wide.data(), {3, 4}}), 2);
  const std::vector<float> tall{1, 0, 0, 1, 1, 1, 1, 0};
  EXPECT_EQ(numerical_rank({tall.data(), {4, 2}}), 2);
}

TEST(NumericalRank, LowerTriangleHasFullRank) {
  // Why rank does not explain causal linear attention: any masked matrix with a non-zero diagonal has full rank.
  constexpr index_t n = 64;
  std::vector<float> a(n * n, 0.0F);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j <= i; ++j) a[static_cast<std::size_t>(i * n + j)] = 1;
  EXPECT_EQ(numerical_rank({a.data(), {n, n}}), n);
}

}  // namespace
}  // namespace borel
