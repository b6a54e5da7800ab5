#include "protocols/concentration.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>
#include <vector>

#include "borel/rng.hpp"
#include "protocols/concentration_truth.hpp"

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

TEST(ConcentrationTruth, IsTheClosedFormsOfTheArticle) {
  // kexue.fm 9889: q = (2, 3, 0, 0), mu = (0.5, 0, 0, 0), sigma = 1.5, scale = 1 / 2.
  const std::vector<double> mean{0.5, 0, 0, 0};
  const std::vector<float> q{2, 3, 0, 0};
  const GaussianKeys keys{1.5, mean, 1000};
  const double beta = 0.5, gamma = 0.5 * 1.5 * std::sqrt(13.0), ratio = beta / gamma;
  const double cdf = 0.5 * std::erfc(-ratio / std::numbers::sqrt2),
               pdf = std::exp(-0.5 * ratio * ratio) / std::sqrt(2 * std::numbers::pi);
  const auto of = [&](const char* spec) {
    return concentration_truth(parse_method_spec(spec, "attention"), keys, q, 0).value().sparsity;
  };
  EXPECT_LE(std::abs(of("softmax{scale=0, softcap=0, log_n=none}") / std::exp(-gamma * gamma / 2) - 1), 1e-9);
  EXPECT_LE(
      std::abs(of("softmax{scale=0.1, softcap=0, log_n=none, sink=fixed}") / std::exp(-gamma * gamma / 50) -
               1),
      1e-9);
  const double first = (beta * beta + gamma * gamma) * cdf + beta * gamma * pdf;
  const double second = (std::pow(beta, 4) + 6 * beta * beta * gamma * gamma + 3 * std::pow(gamma, 4)) * cdf +
                        (std::pow(beta, 3) * gamma + 5 * beta * std::pow(gamma, 3)) * pdf;
  EXPECT_LE(std::abs(of("relu2") - first / std::sqrt(second)), 1e-6);
  const double identity = (gamma * std::sqrt(2 / std::numbers::pi) * std::exp(-0.5 * ratio * ratio) +
                           beta * std::erf(ratio / std::numbers::sqrt2)) /
                          std::sqrt(beta * beta + gamma * gamma);
  EXPECT_LE(std::abs(of("identity{scale=0}") - identity), 1e-6);
  EXPECT_LE(std::abs(of("identity{scale=3}") - identity), 1e-6);  // a factor changes nothing
  // phi = exp: log-normal components with mean e^(m + s^2/2) and variance (e^(s^2) - 1) e^(2 m + s^2).
  double mu = 0, variance = 0;
  for (std::size_t c = 0; c < 4; ++c) {
    const double w = std::exp(static_cast<double>(q[c])), s2 = 1.5 * 1.5, m = mean[c];
    mu += w * std::exp(m + s2 / 2);
    variance += w * w * (std::exp(s2) - 1) * std::exp(2 * m + s2);
  }
  EXPECT_LE(std::abs(of("linear{feature=exp}") - 1 / std::sqrt(1 + variance / (mu * mu))), 1e-9);
  const double lambda = 0.9, n = 1000;
  const double decay =
      std::sqrt((1 - std::pow(lambda, n)) * (1 + lambda) / (n * (1 - lambda) * (1 + std::pow(lambda, n))));
  EXPECT_LE(std::abs(of("retention{decay=0.9}") - decay * identity), 1e-6);
  EXPECT_FALSE(
      concentration_truth(parse_method_spec("linear{feature=softmax_dim}", "attention"), keys, q, 0));
}

TEST(ConcentrationTruth, KnowsThresholds) {
  const std::vector<double> mean{0.4, 0};
  const std::vector<float> q{0.6F, 0.8F};  // of length 1
  const auto of = [&](const char* spec, double sigma, index_t n) {
    return concentration_truth(parse_method_spec(spec, "attention"), {sigma, mean, n}, q, 0).value().sparsity;
  };
  const double scale = 1 / std::sqrt(2.0), beta = scale * static_cast<double>(q[0]) * 0.4, gamma = scale,
               ratio = beta / gamma;
  const double cdf = 0.5 * std::erfc(-ratio / std::numbers::sqrt2),
               pdf = std::exp(-0.5 * ratio * ratio) / std::sqrt(2 * std::numbers::pi);
  EXPECT_LE(std::abs(of("relu{alpha=1}", 1, 100) -
                     (beta * cdf + gamma * pdf) /
                         std::sqrt((beta * beta + gamma * gamma) * cdf + beta * gamma * pdf)),
            1e-6);
  // Half of the keys, mean 0: e^(g^2/2) Phi(g) / sqrt(e^(2 g^2) Phi(2 g)), whatever beta is.
  const auto phi = [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); };
  const double half =
      std::exp(gamma * gamma / 2) * phi(gamma) / std::sqrt(std::exp(2 * gamma * gamma) * phi(2 * gamma));
  EXPECT_LE(std::abs(of("topk{k=50}", 1, 100) - half),
            2e-3);  // the threshold lies between two points of the integral
  EXPECT_LE(std::abs(of("topk{k=100}", 1, 100) - std::exp(-gamma * gamma / 2)), 1e-7);
  // Scores that hardly differ: every key is in the support, weight = 1 / n + x - mean.
  const double spread = 1e-3 * scale, n = 20;
  EXPECT_LE(std::abs(of("sparsemax{scale=0}", 1e-3, 20) - 1 / std::sqrt(1 + n * n * spread * spread)), 1e-7);
  // Between the two in concentration, as alpha is between 1 and 2.
  const double soft = of("softmax{scale=0, softcap=0, log_n=none}", 1, 1000),
               ent = of("entmax15{scale=0}", 1, 1000), sparse = of("sparsemax{scale=0}", 1, 1000);
  EXPECT_LT(ent, soft);
  EXPECT_LT(sparse, ent);
  // With b = -ln n, a sigmoid is nearly an exponential.
  EXPECT_LE(std::abs(of("sigmoid{length=0}", 1, 100000) / soft - 1), 1e-4);
}

TEST(ConcentrationTruth, KnowsHowMuchARowScatters) {
  const std::vector<double> mean{0.3, 0};
  const std::vector<float> q{0.5F,
                             0.25F};  // beyond gamma = 1 the fourth moment lives in tails that 2000 keys miss
  const GaussianKeys keys{1, mean, 2000};
  const ConcentrationTruth truth =
      concentration_truth(parse_method_spec("softmax{scale=1, softcap=0, log_n=none}", "attention"), keys, q,
                          0)
          .value();
  double sum = 0, square = 0;
  constexpr int k_rows = 400;
  std::vector<float> row(2000), k(2);
  Rng rng(Seed{11});
  for (int r = 0; r < k_rows; ++r) {
    for (float& a : row) {
      rng.fill_normal(k);
      a = std::exp(q[0] * (k[0] + 0.3F) + q[1] * k[1]);
    }
    const double s = concentration_of(row).sparsity;
    sum += s, square += s * s;
  }
  const double average = sum / k_rows, sd = std::sqrt(square / k_rows - average * average);
  EXPECT_LE(std::abs(average / truth.sparsity - 1), 0.01);
  EXPECT_LE(std::abs(sd / average / truth.relative_sd - 1), 0.25);
}

}  // namespace
}  // namespace borel
