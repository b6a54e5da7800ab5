// Row normalisers against sorting in float64 and against the standard library.
#include "borel/draft/row_normalisers.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "borel/rng.hpp"

namespace borel {
namespace {

constexpr float k_infinity = std::numeric_limits<float>::infinity();

std::vector<float> normal_row(index_t n, float scale, std::uint64_t seed) {
  std::vector<float> row(static_cast<std::size_t>(n));
  Rng rng(Seed{seed});
  rng.fill_normal(std::span<float>(row));
  for (float& x : row) x *= scale;
  return row;
}

std::vector<double> softmax_of_largest(const std::vector<float>& row, std::size_t k) {
  std::vector<float> sorted = row;
  std::ranges::sort(sorted, std::greater<>());
  const float bound = k < sorted.size() ? sorted[k - 1] : -k_infinity;
  std::vector<double> weights;
  double sum = 0;
  for (const float x : row) {
    weights.push_back(x >= bound ? std::exp(static_cast<double>(x) - static_cast<double>(sorted[0])) : 0.0);
    sum += weights.back();
  }
  for (double& w : weights) w /= sum;
  return weights;
}

void expect_near(const std::vector<float>& found, const std::vector<double>& expected, double bound,
                 const std::string& what) {
  for (std::size_t c = 0; c < found.size(); ++c) {
    const double error = std::abs(static_cast<double>(found[c]) - expected[c]);
    ASSERT_TRUE(error <= bound) << what << ", column " << c << ": " << found[c] << ", expected "
                                << expected[c];
  }
}

TEST(RowNormalisers, TopKEqualsSorting) {
  for (const index_t n : {1, 7, 8, 31, 200, 1000, 4096})
    for (const index_t k : {1, 2, 5, 32, 300})
      for (const float scale : {0.0f, 1e-20f, 1.0f, 30.0f}) {
        const std::vector<float> row = normal_row(n, scale, static_cast<std::uint64_t>(n * 1000 + k));
        std::vector<float> found = row;
        top_k_softmax(found, k);
        expect_near(found, softmax_of_largest(row, static_cast<std::size_t>(k)), 1e-6,
                    "n " + std::to_string(n) + " k " + std::to_string(k) + " scale " + std::to_string(scale));
      }
}

TEST(RowNormalisers, TopKKeepsTiesAndLeavesMaskedOut) {
  for (const index_t n : {40, 1000}) {
    std::vector<float> row(static_cast<std::size_t>(n));
    for (std::size_t c = 0; c < row.size(); ++c)
      row[c] = c % 5 == 0 ? -k_infinity : static_cast<float>(c % 4);
    const std::vector<double> expected = softmax_of_largest(row, 6);
    top_k_softmax(row, 6);
    expect_near(row, expected, 1e-6, "n " + std::to_string(n));
  }
}

TEST(RowNormalisers, SoftcapEqualsTanh) {
  for (const float cap : {0.5f, 30.0f, 1e6f}) {
    std::vector<float> row = normal_row(4099, 1, 5);
    for (std::size_t c = 0; c < row.size(); ++c) row[c] *= std::pow(10.0f, static_cast<float>(c % 12) - 6);
    std::vector<float> found = row;
    softcap(found, cap);
    for (std::size_t c = 0; c < row.size(); ++c) {
      const double height = static_cast<double>(cap),
                   expected = height * std::tanh(static_cast<double>(row[c]) / height);
      ASSERT_TRUE(std::abs(static_cast<double>(found[c]) - expected) <= 5e-7 * std::abs(expected))
          << "cap " << cap << " score " << row[c] << ": " << found[c] << ", expected " << expected;
    }
  }
}

TEST(RowNormalisers, SoftcapKeepsMaskedAndNaN) {
  std::vector<float> row{-k_infinity, 1, k_infinity, std::numeric_limits<float>::quiet_NaN(), 0};
  softcap(row, 2);
  EXPECT_EQ(row[0], -k_infinity);
  EXPECT_EQ(row[2], k_infinity);
  EXPECT_TRUE(std::isnan(row[3]));
  EXPECT_EQ(row[4], 0);
}

}  // namespace
}  // namespace borel
