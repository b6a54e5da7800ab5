// The truth that recipes store, checked by other means than the recipes'.
#include "dataset/recipes.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/math/distributions/beta.hpp>
#include <cmath>
#include <numeric>

#include "dataset/berlinet_devroye.hpp"
#include "dataset/dataset.hpp"

namespace borel {
namespace {

std::shared_ptr<const Dataset> made(const char* id) { return Dataset::from(run_recipe(*find_recipe(id))); }

double gap_of(std::span<const double> p, const std::vector<double>& gradient) {
  const double least = *std::min_element(gradient.begin(), gradient.end());
  double gap = 0;
  for (std::size_t i = 0; i < p.size(); ++i) gap += p[i] * (gradient[i] - least);
  return gap;
}

TEST(Recipes, IdsAreUniqueSortedAndDescribed) {
  const auto ids = recipe_ids();
  EXPECT_TRUE(std::adjacent_find(ids.begin(), ids.end(), std::greater_equal<>()) == ids.end());
  EXPECT_GE(ids.size(), 34U);
  for (const Recipe& recipe : recipes()) {
    EXPECT_FALSE(recipe.title.empty() || recipe.source.empty() || recipe.licence.empty()) << recipe.id;
    EXPECT_LE(recipe.title.size(), 90U) << recipe.id;
  }
}

TEST(Recipes, TheSameRecipeGivesTheSameDigest) {
  for (const char* id :
       {"galaxies", "marron_wand_10", "problem_markowitz", "problem_linear_entropy", "mqar_n32_kv8"})
    EXPECT_EQ(run_recipe(*find_recipe(id)).seal(), run_recipe(*find_recipe(id)).seal()) << id;
}

TEST(Problems, LeastSquaresOptimumIsCertified) {
  const auto problem = made("problem_simplex_ls");
  const auto a = problem->doubles("a"), b = problem->doubles("b"), p = problem->doubles("truth/p");
  ASSERT_EQ(a.size(), 500U * 1000U);
  std::vector<double> residual(b.begin(), b.end()), gradient(1000, 0.0);
  double value = 0;
  for (std::size_t i = 0; i < 500; ++i) {
    residual[i] =
        std::inner_product(p.begin(), p.end(), a.begin() + static_cast<std::ptrdiff_t>(i * 1000), -b[i]);
    value += residual[i] * residual[i] / 2;
    for (std::size_t j = 0; j < 1000; ++j) gradient[j] += residual[i] * a[i * 1000 + j];
  }
  EXPECT_LE(std::abs(gap_of(p, gradient)), 1e-12);
  EXPECT_LE(problem->number("", "optimum_gap"), 1e-12);
  EXPECT_LE(std::abs(value - problem->number("", "optimum")), 1e-13);
  const auto support = std::count_if(p.begin(), p.end(), [](double x) { return x > 0; });
  EXPECT_GE(support, 80);
  EXPECT_LE(support, 300);
}

TEST(Problems, NpmleReachesThePublishedOptimum) {
  const auto problem = made("problem_npmle_galaxies");
  EXPECT_LE(std::abs(problem->number("", "optimum") - 2.4310116548), 1e-10);
  EXPECT_LE(problem->number("", "optimum_gap"), 1e-11);
  const auto l = problem->doubles("likelihood"), p = problem->doubles("truth/p");
  std::vector<double> gradient(1000, 0.0);
  for (std::size_t i = 0; i < 82; ++i) {
    const double fit =
        std::inner_product(p.begin(), p.end(), l.begin() + static_cast<std::ptrdiff_t>(i * 1000), 0.0);
    for (std::size_t j = 0; j < 1000; ++j) gradient[j] -= l[i * 1000 + j] / fit / 82;
  }
  EXPECT_LE(std::abs(gap_of(p, gradient)), 1e-11);
}

TEST(Problems, DOptimalMatchesTheClosedForm) {
  const auto problem = made("problem_d_optimal_5");
  EXPECT_LE(std::abs(problem->number("", "optimum") - 6.5149006732), 1e-10);
  EXPECT_LE(std::abs(problem->number("", "optimum_gap")), 1e-12);
  const auto p = problem->doubles("truth/p");
  EXPECT_EQ(std::count_if(p.begin(), p.end(), [](double x) { return x > 0; }), 6);
}

TEST(Problems, SparsemaxSatisfiesItsOptimalityConditions) {
  const auto problem = made("problem_sparsemax");
  const auto x = problem->doubles("x"), p = problem->doubles("truth/p");
  std::vector<double> gradient(1000);
  for (std::size_t i = 0; i < 1000; ++i) gradient[i] = p[i] - x[i];
  EXPECT_LE(std::abs(gap_of(p, gradient)), 1e-15);
  EXPECT_LE(std::abs(std::accumulate(p.begin(), p.end(), 0.0) - 1), 1e-14);
}

TEST(Problems, LinearEntropyValueIsTheLogSum) {
  const auto problem = made("problem_linear_entropy");
  const auto c = problem->doubles("c"), p = problem->doubles("truth/p");
  const double epsilon = problem->number("", "epsilon");
  double value = 0;
  for (std::size_t i = 0; i < c.size(); ++i) value += c[i] * p[i] + epsilon * p[i] * std::log(p[i]);
  EXPECT_LE(std::abs(value - problem->number("", "optimum")), 1e-14);
  EXPECT_LE(std::abs(problem->number("", "optimum_gap")), 1e-14);
}

TEST(Problems, MarkowitzIsOnRealReturnsAndCertified) {
  const auto problem = made("problem_markowitz");
  const auto s = problem->doubles("covariance"), m = problem->doubles("mean"),
             p = problem->doubles("truth/p");
  ASSERT_EQ(p.size(), 4U);
  std::vector<double> gradient(4);
  for (std::size_t i = 0; i < 4; ++i)
    gradient[i] = std::inner_product(p.begin(), p.end(), s.begin() + static_cast<std::ptrdiff_t>(4 * i),
                                     -problem->number("", "risk_tolerance") * m[i]);
  EXPECT_LE(std::abs(gap_of(p, gradient)), 1e-15);
  // DAX: 1.03 % a day standard deviation, the known value for these eight years.
  EXPECT_LE(std::abs(std::sqrt(s[0]) - 1.03), 0.005);
  const auto support = std::count_if(p.begin(), p.end(), [](double x) { return x > 0; });
  EXPECT_GE(support, 2);
  EXPECT_LE(support, 3);
}

// Kolmogorov-Smirnov of the draws against the integral of the stored formula, in the probability scale of the draws.
TEST(BerlinetDevroye, DrawsFollowTheLogDensity) {
  for (const BerlinetDevroyeDensity& density : berlinet_devroye_densities()) {
    Rng rng(Seed{static_cast<std::uint64_t>(density.number)});
    std::vector<double> x(4000);
    for (double& value : x) value = density.draw(rng);
    std::sort(x.begin(), x.end());
    // Mass between neighbouring draws by the substitution x = s e^v away from 0, which tames peaks and tails alike.
    const auto mass = [&](double low, double high) {
      double sum = 0;
      const double ratio = std::log(high / low);
      constexpr int k_steps = 64;
      for (int i = 0; i < k_steps; ++i) {
        const double at = low * std::exp(ratio * (i + 0.5) / k_steps);
        sum += std::exp(density.log_pdf(at)) * std::abs(at) * ratio / k_steps * (low > 0 ? 1 : -1);
      }
      return sum;
    };
    double total = 0, expected = 0, furthest = 0;
    for (std::size_t i = 40; i + 40 < x.size(); i += 40) {
      if (x[i] == x[i + 40] || (x[i] < 0) != (x[i + 40] < 0)) continue;
      total += mass(x[i], x[i + 40]);
      expected += 0.01;
      furthest = std::max(furthest, std::abs(total - expected));
    }
    EXPECT_GE(expected, 0.9) << density.name;
    EXPECT_LE(furthest, 0.035) << density.name;  // Kolmogorov-Smirnov at level 1e-4: 2.2 / sqrt(4000)
    for (const double value : x)
      EXPECT_TRUE(std::isfinite(density.log_pdf(value))) << density.name << " " << value;
  }
}

// The draws of z against the stored conditional, by bins: sum over contexts of (counted - expected) is a sum of
// independent terms of known variance; and the mean log probability of the drawn bin is minus the mean entropy.
TEST(FourierHeadTargets, DrawsFollowTheStoredConditional) {
  for (const char* id : {"fourier_head_gaussian", "fourier_head_gmm2"}) {
    const auto dataset = made(id);
    const auto test = dataset->doubles("test/x"), pmf = dataset->doubles("truth/conditional_pmf"),
               centre = dataset->doubles("truth/bin_centre");
    const std::size_t n_bins = centre.size();
    ASSERT_EQ(n_bins, 50U);
    std::vector<double> difference(n_bins, 0.0), variance(n_bins, 0.0);
    double log_p = 0, entropy = 0, log_p_variance = 0;
    for (std::size_t i = 0; 3 * i < test.size(); ++i) {
      const auto p = pmf.subspan(i * n_bins, n_bins);
      const auto bin =
          static_cast<std::size_t>(std::clamp(std::floor((test[3 * i + 2] + 1) / 0.04), 0.0, 49.0));
      double own = 0, square = 0;
      for (std::size_t k = 0; k < n_bins; ++k) {
        difference[k] += (k == bin ? 1 : 0) - p[k];
        variance[k] += p[k] * (1 - p[k]);
        if (p[k] > 0) own -= p[k] * std::log(p[k]), square += p[k] * std::log(p[k]) * std::log(p[k]);
      }
      if (p[bin] > 0) log_p += std::log(p[bin]);
      entropy += own, log_p_variance += square - own * own;
    }
    for (std::size_t k = 5; k < 45;
         ++k)  // beyond, the paper's truth leaves out what falls outside of [-1, 1]
      EXPECT_LE(std::abs(difference[k]), 5 * std::sqrt(variance[k]) + 0.01 * variance[k])
          << id << " bin " << k;
    EXPECT_LE(std::abs(log_p + entropy), 5 * std::sqrt(log_p_variance) + 0.03 * entropy) << id;
  }
}

TEST(FourierHeadTargets, BetaDrawsHaveTheMeanAndVarianceOfTheirContext) {
  const auto dataset = made("fourier_head_beta");
  const auto x = dataset->doubles("x");
  double mean = 0, spread = 0, sign = 0, n = 0;
  for (std::size_t i = 0; i < x.size(); i += 3) {
    const double a = 100 * std::abs(x[i]), b = 100 * std::abs(x[i + 1]);
    if (a + b < 1) continue;
    const double expected = a / (a + b), variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    const double z = (std::abs(x[i + 2]) - expected) / std::sqrt(variance);
    mean += z, spread += z * z, sign += x[i + 2] > 0 ? 1 : -1, n += 1;
  }
  EXPECT_LE(std::abs(mean / n), 5 / std::sqrt(n));
  EXPECT_LE(std::abs(spread / n - 1), 0.06);  // heavy fourth moments where a or b is small
  EXPECT_LE(std::abs(sign / n), 5 / std::sqrt(n));

  const auto test = dataset->doubles("test/x"), pmf = dataset->doubles("truth/conditional_pmf");
  for (std::size_t i = 0; i < 200; ++i) {
    const boost::math::beta_distribution<double> beta(100 * std::abs(test[3 * i]),
                                                      100 * std::abs(test[3 * i + 1]));
    double sum = 0;
    for (int k = 0; k < 25; ++k) sum += 2 * boost::math::pdf(beta, (k + 0.5) / 25);
    for (int k = 0; k < 25; ++k)  // bin 25 + k is that of z = (k + 1/2) / 25, bin 24 - k that of -z
      for (const int bin : {25 + k, 24 - k})
        EXPECT_LE(std::abs(pmf[50 * i + static_cast<std::size_t>(bin)] -
                           boost::math::pdf(beta, (k + 0.5) / 25) / sum),
                  1e-9);
  }
}

// S of the stored keys against the closed forms, averaged over the directions that share (beta, gamma).
TEST(GaussianQueriesAndKeys, MeasuredConcentrationAgreesWithTheClosedForms) {
  const auto dataset = made("gaussian_qk_d64");
  const auto q = dataset->floats("q"), k = dataset->floats("k");
  const auto n_q = static_cast<std::size_t>(dataset->shape("q")[1]),
             n_k = static_cast<std::size_t>(dataset->shape("k")[1]);
  const double scale = dataset->number("truth", "scale");
  const auto softmax = dataset->doubles("truth/s_softmax"), relu2 = dataset->doubles("truth/s_relu2"),
             identity = dataset->doubles("truth/s_identity");
  constexpr std::size_t k_directions = 16;
  ASSERT_EQ(n_q % k_directions, 0U);
  for (std::size_t group = 0; group < n_q; group += k_directions) {
    double measured[3] = {};
    for (std::size_t i = group; i < group + k_directions; ++i) {
      double first[3] = {}, second[3] = {};
      for (std::size_t j = 0; j < n_k; ++j) {
        float dot = 0;
        for (std::size_t c = 0; c < 64; ++c) dot += q[i * 64 + c] * k[j * 64 + c];
        const double s = scale * static_cast<double>(dot), positive = std::max(s, 0.0);
        const double a[3] = {std::exp(s), positive * positive, std::abs(s)};
        for (int f = 0; f < 3; ++f) {
          first[f] += a[f];
          second[f] += a[f] * a[f];
        }
      }
      for (int f = 0; f < 3; ++f)
        measured[f] += first[f] / std::sqrt(second[f] * static_cast<double>(n_k)) / k_directions;
    }
    EXPECT_LE(std::abs(measured[0] / softmax[group] - 1), 0.01) << "query " << group;
    EXPECT_LE(std::abs(measured[1] / relu2[group] - 1), 0.01) << "query " << group;
    EXPECT_LE(std::abs(measured[2] / identity[group] - 1), 0.01) << "query " << group;
  }
}

}  // namespace
}  // namespace borel
