// One real property of each trial density.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "contract/memory_state.hpp"
#include "trial_registry.hpp"

namespace borel::trial {

namespace {

constexpr double k_gradient_error = 1e-6;  // central differences in double, relative to 1 + |gradient|

constexpr double k_mass_error = 1e-5;  // trapezoid with step 1e-3: a jump at an end of the support costs most

std::unique_ptr<DensityEstimator> density(std::string_view spec) {
  return trial_registry().make<DensityEstimator>(spec);
}

/// Half N(-2, 0.5^2), half N(1, 1).
std::vector<double> two_bumps(index_t n, Seed seed) {
  Rng rng(seed);
  std::vector<double> x;
  for (index_t i = 0; i < n; ++i)
    x.push_back(rng.uniform() < 0.5 ? -2 + 0.5 * rng.normal() : 1 + rng.normal());
  return x;
}

TensorView<const double, 2> column(std::span<const double> x) {
  return {x.data(), {static_cast<index_t>(x.size()), 1}};
}

double mean_log_pdf(const FittedDensity& fitted, TensorView<const double, 2> x) {
  std::vector<double> log_p(static_cast<std::size_t>(x.shape(0)));
  fitted.log_pdf(x, log_p);
  double sum = 0;
  for (double value : log_p) sum += value / static_cast<double>(log_p.size());
  return sum;
}

double best_normal(std::span<const double> x) {
  double mean = 0, variance = 0;
  for (double v : x) mean += v / static_cast<double>(x.size());
  for (double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
  return -0.5 * std::log(2 * std::numbers::pi * variance) - 0.5;
}

/// Trapezoid over [-30, 30].
double mass(const FittedDensity& fitted) {
  std::vector<double> x, log_p;
  for (int c = 0; c <= 60000; ++c) x.push_back(-30 + c * 1e-3);
  log_p.resize(x.size());
  fitted.log_pdf(column(x), log_p);
  double sum = 0;
  for (double value : log_p) sum += 1e-3 * std::exp(value);
  return sum;
}

/// A stream in blocks of any size.
class Blocks final : public SampleStream {
 public:
  Blocks(std::span<const double> x, index_t block) : x_(x), block_(block) {}
  index_t n_samples() const override { return static_cast<index_t>(x_.size()); }
  index_t n_dims() const override { return 1; }
  Samples next() override {
    const index_t n = std::min(block_, n_samples() - at_);
    const Samples part{.x = {x_.data() + at_, {n, 1}}};
    at_ += n;
    return part;
  }
  void rewind() override { at_ = 0; }

 private:
  std::span<const double> x_;
  index_t block_, at_ = 0;
};

TEST(DensityTrial, LogisticMixtureHeadHasItsGradients) {
  const auto method = density("logistic_mixture{components=3}");
  const DensityHead& head = *method->head();
  std::vector<double> theta = {0.3, -0.2, 0.5, -1, 0.4, 2, -0.5, 0.1, 0.3};
  for (double y : {-40.0, -1.0, 0.2, 3.0, 40.0}) {
    std::vector<double> gradient(9);
    double log_p = 0;
    head.log_pdf({theta.data(), {1, 9}}, {&y, 1}, {&log_p, 1}, {gradient.data(), {1, 9}});
    for (std::size_t c = 0; c < 9; ++c) {
      double sides[2];
      for (int side : {0, 1}) {
        std::vector<double> moved = theta;
        moved[c] += side ? 1e-5 : -1e-5;
        head.log_pdf({moved.data(), {1, 9}}, {&y, 1}, {&sides[side], 1}, {});
      }
      EXPECT_LE(std::abs((sides[1] - sides[0]) / 2e-5 - gradient[c]),
                k_gradient_error * (1 + std::abs(gradient[c])))
          << y << " " << c;
    }
    const auto one = head.density(theta);
    double from_head = 0, from_density = 0;
    head.cdf({theta.data(), {1, 9}}, {&y, 1}, {&from_head, 1});
    one->cdf({&y, 1}, {&from_density, 1});
    EXPECT_LE(std::abs(from_head - from_density), 1e-15);
  }
}

TEST(DensityTrial, OneDimensionalFitsBeatTheBestNormalAndAreNormalised) {
  const std::vector<double> x = two_bumps(1000, {1});
  for (const char* spec : {"logistic_mixture{components=3}", "spline_flow{iterations=80}",
                           "bernstein{degree=30, solver=\"optimizer/lagrangian_newton\"}"}) {
    const auto fitted = density(spec)->fit({.x = column(x)}, {});
    EXPECT_GT(mean_log_pdf(*fitted, column(x)), best_normal(x) + 0.1) << spec;
    EXPECT_LE(std::abs(mass(*fitted) - 1), k_mass_error) << spec;
    // cdf and quantile, own or by default, belong to the same density.
    const std::vector<double> p = {0.01, 0.3, 0.5, 0.99};
    std::vector<double> q(4), back(4);
    fitted->quantile(p, q);
    fitted->cdf(q, back);
    for (std::size_t c = 0; c < 4; ++c) EXPECT_LE(std::abs(back[c] - p[c]), 1e-8) << spec;
  }
}

TEST(DensityTrial, AutoregressiveTakesAHeadAndLearnsTheDependence) {
  Rng rng(Seed{2});
  std::vector<double> x;
  for (index_t i = 0; i < 600; ++i) {
    const double a = rng.normal(), b = 0.9 * a + 0.3 * rng.normal();
    x.insert(x.end(), {10 + 2 * a, 100 * b, a * 0.1 + rng.normal()});
  }
  const TensorView<const double, 2> rows(x.data(), {600, 3});
  const auto method = density("autoregressive{of=logistic_mixture{components=2}}");
  const auto fitted = method->fit({.x = rows}, {.seed = {3}});
  double independent = 0;
  for (index_t d = 0; d < 3; ++d) {
    std::vector<double> one;
    for (index_t i = 0; i < 600; ++i) one.push_back(rows(i, d));
    independent += best_normal(one);
  }
  EXPECT_GT(mean_log_pdf(*fitted, rows), independent + 0.9);  // the truth gains log(0.949 / 0.3) = 1.15

  std::vector<double> drawn(2000 * 3);
  Rng sampler(Seed{4});
  fitted->sample(sampler, {drawn.data(), {2000, 3}});
  double mean[2] = {0, 0}, product = 0, square[2] = {0, 0};
  for (std::size_t i = 0; i < 2000; ++i)
    for (std::size_t d = 0; d < 2; ++d) mean[d] += drawn[3 * i + d] / 2000;
  for (std::size_t i = 0; i < 2000; ++i) {
    product += (drawn[3 * i] - mean[0]) * (drawn[3 * i + 1] - mean[1]);
    for (std::size_t d = 0; d < 2; ++d) square[d] += std::pow(drawn[3 * i + d] - mean[d], 2);
  }
  EXPECT_LE(std::abs(product / std::sqrt(square[0] * square[1]) - 0.949), 0.03);

  contract::MemoryState state;
  fitted->save(state);
  const auto loaded = method->load(state);
  EXPECT_EQ(mean_log_pdf(*loaded, rows), mean_log_pdf(*fitted, rows));
}

TEST(DensityTrial, AutoregressiveRefusesADensityWithoutHead) {
  EXPECT_THROW(density("autoregressive{of=kde}"), ParamError);
  EXPECT_THROW(density("autoregressive{of=nothing_such}"), Error);
}

TEST(DensityTrial, StreamedMixtureEqualsTheOneInMemory) {
  const std::vector<double> x = two_bumps(3000, {5});
  const auto method = density("gmm{components=2}");
  const auto in_memory = method->fit({.x = column(x)}, {});
  for (index_t block : {1, 17, 4000}) {
    Blocks stream(x, block);
    const auto streamed = fit_from_stream(*method, stream, {});
    EXPECT_LE(std::abs(mean_log_pdf(*streamed, column(x)) - mean_log_pdf(*in_memory, column(x))), 1e-9)
        << block;
  }
  // The truth is in the model class, so the largest likelihood cannot be below the truth's.
  double truth = 0;
  for (double v : x)
    truth += std::log((std::exp(-2 * (v + 2) * (v + 2)) + 0.5 * std::exp(-0.5 * (v - 1) * (v - 1))) /
                      std::sqrt(2 * std::numbers::pi)) /
             3000;
  EXPECT_GE(mean_log_pdf(*in_memory, column(x)), truth);
}

TEST(DensityTrial, KdeFromAHistogramIsTheKdeOfTheSamples) {
  const std::vector<double> x = two_bumps(500, {6});
  const auto method = density("kde");
  const auto exact = method->fit({.x = column(x)}, {});
  Blocks stream(x, 64);
  const auto binned = fit_from_stream(*method, stream, {});
  for (double at : {-3.0, -2.0, 0.0, 2.5}) {
    double log_p[2], gradient = 0, sides[2];
    exact->log_pdf({&at, {1, 1}}, {&log_p[0], 1});
    binned->log_pdf({&at, {1, 1}}, {&log_p[1], 1});
    EXPECT_LE(std::abs(log_p[1] - log_p[0]), 1e-3) << at;
    ASSERT_TRUE(exact->log_pdf_gradient({&at, {1, 1}}, {&gradient, {1, 1}}));
    for (int side : {0, 1}) {
      const double moved = at + (side ? 1e-5 : -1e-5);
      exact->log_pdf({&moved, {1, 1}}, {&sides[side], 1});
    }
    EXPECT_LE(std::abs((sides[1] - sides[0]) / 2e-5 - gradient), k_gradient_error * (1 + std::abs(gradient)))
        << at;
  }
}

}  // namespace

}  // namespace borel::trial
