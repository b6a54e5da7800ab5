#include "dataset/truth.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "dataset/recipes.hpp"

namespace borel {
namespace {

struct Published {
  const char* id;
  double entropy_nats, sd;
  int modes;
};

// Entropies and standard deviations computed independently by quadrature, to the digits given.
constexpr Published k_published[] = {
    {"marron_wand_01", 1.418939, 1, 1},       {"marron_wand_02", 1.173501, .81593, 1},
    {"marron_wand_03", 1.001442, 1.03817, 1}, {"marron_wand_04", 1.024547, .81854, 1},
    {"marron_wand_05", -0.429801, .33015, 1}, {"marron_wand_06", 1.540251, 1.20185, 2},
    {"marron_wand_07", 1.415089, 1.58114, 2}, {"marron_wand_08", 1.451605, 1.09529, 2},
    {"marron_wand_09", 1.569582, 1.27525, 3}, {"marron_wand_10", 1.192764, .86891, 5},
    {"marron_wand_11", 1.534595, 1.19815, 7}, {"marron_wand_12", 1.423759, 1.11368, 5},
    {"marron_wand_13", 1.515208, 1.19120, 6}, {"marron_wand_14", 1.412701, 1.64331, 6},
    {"marron_wand_15", 1.411899, 1.69098, 6},
};

void PrintTo(const Published& published, std::ostream* out) { *out << published.id; }

class MarronWand : public testing::TestWithParam<Published> {};

TEST_P(MarronWand, TruthMatchesIndependentQuadrature) {
  const auto dataset = Dataset::from(run_recipe(*find_recipe(GetParam().id)));
  const auto mixture = GaussianMixture::from(*dataset);
  ASSERT_TRUE(mixture);
  EXPECT_LE(std::abs(mixture->entropy() - GetParam().entropy_nats), 6e-7);
  EXPECT_LE(std::abs(std::sqrt(mixture->variance()) - GetParam().sd), 6e-6);
  EXPECT_EQ(static_cast<int>(mixture->modes().size()), GetParam().modes);
  EXPECT_LE(std::abs(dataset->number("truth", "entropy_nats") - mixture->entropy()), 1e-10);
  // The draws come from this density: mean negative log density against the entropy, in standard errors.
  const auto x = dataset->doubles("x");
  double sum = 0, squares = 0;
  for (double value : x) {
    const double nats = -mixture->log_pdf(value);
    sum += nats;
    squares += nats * nats;
  }
  const double n = static_cast<double>(x.size());
  const double standard_error = std::sqrt((squares / n - sum / n * sum / n) / n);
  EXPECT_LE(std::abs(sum / n - mixture->entropy()), 4 * standard_error);
}

INSTANTIATE_TEST_SUITE_P(All, MarronWand, testing::ValuesIn(k_published),
                         [](const auto& instance) { return std::string(instance.param.id).substr(12); });

TEST(GaussianMixture, QuantileInvertsCdfInBothTails) {
  const GaussianMixture mixture({0.5, 0.3, 0.2}, {-1, 0, 3}, {0.5, 0.01, 2});
  for (double u : {1e-12, 1e-6, 0.01, 0.25, 0.5, 0.7, 0.99})
    EXPECT_LE(std::abs(mixture.cdf(mixture.quantile(u)) - u), 1e-14) << u;
  const double far = mixture.quantile(1 - 1e-12);
  EXPECT_LE(std::abs(mixture.survival(far) / (1 - (1 - 1e-12)) - 1), 1e-9);
}

TEST(GaussianMixture, DensityIsTheSlopeOfTheCdfAndStaysFiniteInLogs) {
  const GaussianMixture mixture({0.6, 0.4}, {-1, 2}, {0.5, 1});
  for (double x : {-3.0, -1.0, 0.3, 2.0, 4.0}) {
    const double h = 1e-5;
    EXPECT_LE(std::abs((mixture.cdf(x + h) - mixture.cdf(x - h)) / (2 * h) - mixture.pdf(x)), 1e-9);
    EXPECT_LE(std::abs(std::log(mixture.pdf(x)) - mixture.log_pdf(x)), 1e-13);
  }
  EXPECT_TRUE(std::isfinite(mixture.log_pdf(1e6)));
  EXPECT_EQ(mixture.pdf(1e6), 0);
}

TEST(GaussianMixture, RefusesWhatIsNoMixture) {
  EXPECT_THROW(GaussianMixture({0.5, 0.4}, {0, 1}, {1, 1}), DatasetError);
  EXPECT_THROW(GaussianMixture({1}, {0}, {0}), DatasetError);
  EXPECT_THROW(GaussianMixture({1}, {0, 1}, {1}), DatasetError);
}

TEST(FourierDemo, EntropyIsThePublishedOne) {
  const auto dataset = Dataset::from(run_recipe(*find_recipe("fourier_demo_k10")));
  EXPECT_LE(std::abs(dataset->number("truth", "entropy_nats") - -0.424025), 2e-6);
}

}  // namespace
}  // namespace borel
