// Rank tests against published tables, worked examples and brute force.
#include "statistics/rank_tests.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "borel/rng.hpp"

namespace borel {
namespace {

constexpr double k_inf = std::numeric_limits<double>::infinity();

void expect_close(double value, double expected, double bound) {
  EXPECT_LE(std::abs(value - expected), bound);
}

/// Demsar 2006, table 6: AUC of four variants of C4.5 on 14 datasets, as costs. One pair is equal in print
/// but not in the paper's own ranks (voting: 2 and 3), hence the fifth digit.
BlockTable demsar_table() {
  const std::vector<double> auc = {
      0.763, 0.768, 0.771, 0.798, 0.599, 0.591, 0.590, 0.569, 0.954,   0.971, 0.968, 0.967, 0.628, 0.661,
      0.654, 0.657, 0.882, 0.888, 0.886, 0.898, 0.936, 0.931, 0.916,   0.931, 0.661, 0.668, 0.609, 0.685,
      0.583, 0.583, 0.563, 0.625, 0.775, 0.838, 0.866, 0.875, 1.000,   1.000, 1.000, 1.000, 0.940, 0.962,
      0.965, 0.962, 0.619, 0.666, 0.614, 0.669, 0.972, 0.981, 0.97501, 0.975, 0.957, 0.978, 0.946, 0.970};
  BlockTable table{14, 4, {}};
  for (double value : auc) table.cost.push_back(-value);
  return table;
}

TEST(MidRanks, TiesShareTheMeanRankAndInfinityIsLast) {
  const std::vector<double> values = {3, 1, k_inf, 3, k_inf, 2};
  EXPECT_EQ(mid_ranks(values), (std::vector<double>{3.5, 1, 5.5, 3.5, 5.5, 2}));
  EXPECT_TRUE(mid_ranks({}).empty());
}

TEST(Friedman, AgreesWithDemsarsExample) {
  const FriedmanResult result = friedman(demsar_table(), 0, 1);
  const std::vector<double> published = {3.143, 2.000, 2.893, 1.964};
  for (std::size_t m = 0; m < published.size(); ++m) expect_close(result.average_rank[m], published[m], 5e-4);
  // The paper does not correct for ties: chi2 = 9.28 and F = 3.69. The correction raises chi2 by the tied
  // share.
  const double ties = (3 * 6.0 + 60.0) / (14 * 60.0);
  expect_close(result.chi2 * (1 - ties), 9.28, 0.01);
  EXPECT_GE(result.chi2, 9.28);
  EXPECT_LE(result.p_f, 0.05);
}

TEST(Friedman, AgreesWithRonHollanderAndWolfesRoundingTimes) {
  const std::vector<double> seconds = {
      5.40, 5.50, 5.55, 5.85, 5.70, 5.75, 5.20, 5.60, 5.50, 5.55, 5.50, 5.40, 5.90, 5.85, 5.70, 5.45, 5.55,
      5.60, 5.40, 5.40, 5.35, 5.45, 5.50, 5.35, 5.25, 5.15, 5.00, 5.85, 5.80, 5.70, 5.25, 5.20, 5.10, 5.65,
      5.55, 5.45, 5.60, 5.35, 5.45, 5.05, 5.00, 4.95, 5.50, 5.50, 5.40, 5.45, 5.55, 5.50, 5.55, 5.55, 5.35,
      5.45, 5.50, 5.55, 5.50, 5.45, 5.25, 5.65, 5.60, 5.40, 5.70, 5.65, 5.55, 6.30, 6.30, 6.25};
  const FriedmanResult result = friedman({22, 3, seconds}, 4000, 1);
  expect_close(result.chi2, 11.143, 5e-4);
  expect_close(result.p_chi2, 0.003805, 5e-7);
  expect_close(result.p_permutation, result.p_chi2, 0.004);
}

TEST(Friedman, SaysNothingWhenAllIsTiedAndEverythingWhenAllBlocksAgree) {
  const FriedmanResult tied = friedman({3, 2, {1, 1, 2, 2, k_inf, k_inf}}, 100, 1);
  EXPECT_EQ(tied.p_f, 1);
  EXPECT_EQ(tied.p_permutation, 1);
  const FriedmanResult agreed = friedman({4, 2, {1, 2, 1, 2, 1, k_inf, 3, 4}}, 0, 1);
  EXPECT_EQ(agreed.p_f, 0);
  EXPECT_EQ(agreed.average_rank, (std::vector<double>{1, 2}));
}

TEST(Nemenyi, QuantilesAgreeWithDemsarsTable) {
  const std::vector<double> level_05 = {1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164};
  const std::vector<double> level_10 = {1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920};
  for (int k = 2; k <= 10; ++k) {  // the published table is not rounded consistently in its last digit
    expect_close(nemenyi_quantile(0.05, k), level_05[static_cast<std::size_t>(k - 2)], 1.1e-3);
    expect_close(nemenyi_quantile(0.10, k), level_10[static_cast<std::size_t>(k - 2)], 1.1e-3);
  }
  expect_close(nemenyi_quantile(0.05, 2), 1.959963984540054, 1e-8);  // the normal quantile
  expect_close(nemenyi_critical_difference(0.05, 4, 14), 1.25, 5e-3);
}

TEST(Nemenyi, RangeOfTwoNormalsHasItsClosedForm) {
  for (double q : {0.1, 1.0, 2.5, 6.0}) expect_close(range_cdf(q, 2), std::erf(q / 2), 1e-10);
}

TEST(Cliques, AreMaximalRunsShorterThanTheCriticalDifference) {
  const std::vector<double> ranks = {1.0, 1.8, 2.5, 4.9, 5.0};
  EXPECT_EQ(nemenyi_cliques(ranks, 1.0), (std::vector<Clique>{{0, 1}, {1, 2}, {3, 4}}));
  EXPECT_EQ(nemenyi_cliques(ranks, 9.0), (std::vector<Clique>{{0, 4}}));
  EXPECT_TRUE(nemenyi_cliques(ranks, 0.05).empty());
}

TEST(Wilcoxon, AgreesWithDarwinsMaize) {  // Fisher's example: T = 24, exact p = 0.041259765625
  const std::vector<double> d = {6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75};
  const WilcoxonResult result = wilcoxon_signed_rank(d);
  EXPECT_TRUE(result.exact);
  EXPECT_EQ(result.negative_rank_sum, 24);
  expect_close(result.p_value, 0.041259765625, 1e-14);
  expect_close(result.rank_biserial, 72.0 / 120, 1e-14);
}

TEST(Wilcoxon, AgreesWithEnumerationOfAllSignsWithTiesZerosAndInfinity) {
  const std::vector<double> d = {1, -1, 2, 2, 0, -3, 5, k_inf, 2, k_inf};
  const WilcoxonResult result = wilcoxon_signed_rank(d);
  std::vector<double> sizes;
  for (double x : d)
    if (x != 0) sizes.push_back(std::abs(x));
  const std::vector<double> ranks = mid_ranks(sizes);
  int lower = 0, upper = 0;
  const int n_signs = 1 << ranks.size();
  for (int signs = 0; signs < n_signs; ++signs) {
    double sum = 0;
    for (std::size_t i = 0; i < ranks.size(); ++i) sum += (signs >> i & 1) ? ranks[i] : 0.0;
    lower += sum <= result.positive_rank_sum;
    upper += sum >= result.positive_rank_sum;
  }
  EXPECT_EQ(result.n_used, 9);
  expect_close(result.p_value, std::min(1.0, 2.0 * std::min(lower, upper) / n_signs), 1e-12);
}

TEST(Wilcoxon, ApproximationMeetsTheExactTestAtTheLimit) {
  Rng rng{Seed{4}};
  std::vector<double> d(200);
  for (double& x : d) x = rng.normal() + 0.15;
  const WilcoxonResult exact = wilcoxon_signed_rank(d);
  d.push_back(1e-9);  // one more value of the smallest rank changes next to nothing
  const WilcoxonResult approximate = wilcoxon_signed_rank(d);
  EXPECT_TRUE(exact.exact);
  EXPECT_FALSE(approximate.exact);
  expect_close(approximate.p_value, exact.p_value, 0.02 * exact.p_value + 1e-4);
}

TEST(Wilcoxon, NoDifferenceIsNoEvidence) {
  const std::vector<double> zeros(5, 0.0);
  EXPECT_EQ(wilcoxon_signed_rank(zeros).p_value, 1);
  EXPECT_EQ(wilcoxon_signed_rank({}).p_value, 1);
}

TEST(MannWhitney, AgreesWithAWorkedExample) {  // age at diagnosis: U = 17 and 3, exact p = 1/9
  const std::vector<double> males = {19, 22, 16, 29, 24}, females = {20, 11, 17, 12};
  const MannWhitneyResult result = mann_whitney_u(males, females);
  EXPECT_EQ(result.u, 17);
  expect_close(result.p_value, 1.0 / 9, 1e-12);
  expect_close(result.superiority, 0.85, 1e-14);
  expect_close(mann_whitney_u(females, males).p_value, result.p_value, 1e-12);
}

TEST(MannWhitney, AgreesWithEnumerationOfAllSplitsWithTies) {
  const std::vector<double> a = {1, 2, 2, 4, k_inf}, b = {2, 3, 5, 5, 1, 6};
  const MannWhitneyResult result = mann_whitney_u(a, b);
  std::vector<double> pooled = a;
  pooled.insert(pooled.end(), b.begin(), b.end());
  const std::vector<double> ranks = mid_ranks(pooled);
  const double seen = std::accumulate(ranks.begin(), ranks.begin() + 5, 0.0);
  std::vector<int> chosen(pooled.size(), 0);
  std::fill(chosen.end() - 5, chosen.end(), 1);
  double lower = 0, upper = 0, all = 0;
  do {
    const double sum = std::inner_product(ranks.begin(), ranks.end(), chosen.begin(), 0.0);
    lower += sum <= seen;
    upper += sum >= seen;
    ++all;
  } while (std::next_permutation(chosen.begin(), chosen.end()));
  EXPECT_EQ(all, 462);
  expect_close(result.p_value, std::min(1.0, 2 * std::min(lower, upper) / all), 1e-12);
}

TEST(MannWhitney, ApproximationMeetsTheExactTestAtTheLimit) {
  Rng rng{Seed{5}};
  std::vector<double> a(30), b(30);
  for (double& x : a) x = rng.normal() + 0.5;
  for (double& x : b) x = rng.normal();
  const MannWhitneyResult exact = mann_whitney_u(a, b);
  a.push_back(0.25);
  const MannWhitneyResult approximate = mann_whitney_u(a, b);
  EXPECT_TRUE(exact.exact);
  EXPECT_FALSE(approximate.exact);
  expect_close(approximate.p_value, exact.p_value, 0.02);
}

TEST(MannWhitney, EmptySampleIsNoEvidence) {
  const std::vector<double> a = {1, 2};
  EXPECT_EQ(mann_whitney_u(a, {}).p_value, 1);
}

TEST(Holm, AgreesWithRsExample) {  // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
  const std::vector<double> p = {0.01, 0.04, 0.03, 0.005}, expected = {0.03, 0.06, 0.06, 0.02};
  const std::vector<double> adjusted = holm_adjusted(p);
  for (std::size_t i = 0; i < p.size(); ++i) expect_close(adjusted[i], expected[i], 1e-15);
}

// A/A: two names for the same method must be told apart at the nominal rate only; A/B: a real difference must
// be found.
double rejection_share(double planted, int n_studies) {
  constexpr int k_methods = 4, k_blocks = 12;
  int rejected = 0;
  for (int study = 0; study < n_studies; ++study) {
    Rng rng{Seed{99}.derive(static_cast<std::uint64_t>(study))};
    BlockTable table{k_blocks, k_methods, {}};
    for (int b = 0; b < k_blocks; ++b) {
      const double level = 10 * rng.normal();  // datasets differ far more than methods
      for (int m = 0; m < k_methods; ++m)
        table.cost.push_back(level + rng.normal() - (m == 0 ? planted : 0.0));
    }
    rejected += friedman(table, 0, 1).p_f < 0.05;
  }
  return static_cast<double>(rejected) / n_studies;
}

TEST(AaTest, SameMethodUnderFourNamesIsToldApartAtTheNominalRate) {
  constexpr int k_studies = 2000;
  const double four_sigma = 4 * std::sqrt(0.05 * 0.95 / k_studies);
  expect_close(rejection_share(0, k_studies), 0.05, four_sigma);
}

TEST(AaTest, PlantedDifferenceIsFound) { EXPECT_GE(rejection_share(1.8, 300), 0.9); }

TEST(AaTest, ShuffledLabelsOfARealTableAreToldApartAtTheNominalRate) {
  const FriedmanResult result = friedman(demsar_table(), 4000, 7);
  expect_close(result.relabelled_rejection_rate, 0.05, 0.02);
  expect_close(result.p_permutation, result.p_f, 0.02);
}

}  // namespace
}  // namespace borel
