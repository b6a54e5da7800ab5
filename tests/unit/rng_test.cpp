#include "borel/rng.hpp"

#include <array>
#include <cmath>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "sdk/philox.hpp"

namespace {

using borel::Rng;
using borel::Seed;
using Block = std::array<std::uint32_t, 4>;

// Known answers of philox4x32-10, published with Random123 1.09 (file kat_vectors).
TEST(Philox, MatchesPublishedKnownAnswers) {
  EXPECT_EQ(borel::philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(borel::philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(borel::philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, SameSeedGivesSameNumbers) {
  Rng a(Seed{7}), b(Seed{7});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a(), b());
}

TEST(Rng, DerivedSeedsDiffer) {
  std::set<std::uint64_t> seen{7};
  for (std::uint64_t i = 0; i < 10000; ++i) seen.insert(Seed{7}.derive(i).value);
  for (const char* name : {"", "a", "b", "ab", "ba", "init"}) seen.insert(Seed{7}.derive(name).value);
  EXPECT_EQ(seen.size(), 10007u);
}

TEST(Rng, DerivationDependsOnOrderOfNames) {
  EXPECT_NE(Seed{1}.derive("a").derive("b"), Seed{1}.derive("b").derive("a"));
  EXPECT_NE(Seed{1}.derive("1"), Seed{1}.derive(std::uint64_t{1}));
}

TEST(Rng, MakingAStreamDoesNotAdvanceTheParent) {
  Rng a(Seed{3}), b(Seed{3});
  a.stream(5)();
  EXPECT_EQ(a(), b());
}

TEST(Rng, UniformStaysInItsInterval) {
  Rng rng(Seed{1});
  double sum = 0;
  constexpr int k_n = 200000;
  for (int i = 0; i < k_n; ++i) {
    const double u = rng.uniform(), v = rng.uniform_open();
    ASSERT_TRUE(u >= 0 && u < 1) << u;
    ASSERT_TRUE(v > 0 && v < 1) << v;
    sum += u;
  }
  EXPECT_LE(std::abs(sum / k_n - 0.5), 5 * std::sqrt(1.0 / 12 / k_n));
}

TEST(Rng, NormalHasTheRightMoments) {
  Rng rng(Seed{2});
  constexpr int k_n = 400000;
  std::vector<double> x(k_n);
  rng.fill_normal(std::span<double>(x));
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  for (double v : x) m1 += v, m2 += v * v, m3 += v * v * v, m4 += v * v * v * v;
  const double error = 5 / std::sqrt(double{k_n});
  EXPECT_LE(std::abs(m1 / k_n), error);
  EXPECT_LE(std::abs(m2 / k_n - 1), error * std::sqrt(2.0));
  EXPECT_LE(std::abs(m3 / k_n), error * std::sqrt(15.0));
  EXPECT_LE(std::abs(m4 / k_n - 3), error * std::sqrt(96.0));
}

TEST(Rng, BelowIsUnbiased) {
  Rng rng(Seed{4});
  EXPECT_EQ(rng.below(1), 0u);
  // n = 3 * 2^62: without rejection the first half of the range would come up too often.
  const std::uint64_t n = std::uint64_t{3} << 62;
  int low = 0;
  constexpr int k_n = 100000;
  for (int i = 0; i < k_n; ++i) {
    const std::uint64_t value = rng.below(n);
    ASSERT_LT(value, n);
    low += value < n / 2;
  }
  EXPECT_LE(std::abs(low - k_n / 2), 5 * std::sqrt(k_n) / 2);
}

}  // namespace
