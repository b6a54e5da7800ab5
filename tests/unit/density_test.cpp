// Density SDK: defaults of FittedDensity against closed forms, sample checks, fine histograms, streams.
#include "borel/density.hpp"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

/// A density known by its logarithm only, so that every default is at work.
class KnownByLogPdf final : public FittedDensity {
 public:
  KnownByLogPdf(std::function<double(double)> log_p, RealInterval support)
      : log_p_(std::move(log_p)), support_(support) {}
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out[static_cast<std::size_t>(i)] = log_p_(x(i, 0));
  }
  RealInterval support(index_t) const override { return support_; }
  index_t parameter_count() const override { return 0; }
  Outcome outcome() const override { return {}; }
  void save(StateWriter&) const override {}

 private:
  std::function<double(double)> log_p_;
  RealInterval support_;
};

double log_normal_pdf(double x, double mean, double sd) {
  const double z = (x - mean) / sd;
  return -0.5 * z * z - std::log(sd) - 0.5 * std::log(2 * std::numbers::pi);
}

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

double cdf_at(const FittedDensity& density, double x) {
  double value = 0;
  density.cdf({&x, 1}, {&value, 1});
  return value;
}

double quantile_at(const FittedDensity& density, double p) {
  double value = 0;
  density.quantile({&p, 1}, {&value, 1});
  return value;
}

constexpr double k_cdf_bound = 1e-10;  // promised by FittedDensity::cdf

struct Place {
  double mean, sd;
};
void PrintTo(const Place& place, std::ostream* out) { *out << place.mean << " sd " << place.sd; }

class GaussianAt : public testing::TestWithParam<Place> {};

TEST_P(GaussianAt, DefaultCdfMatchesClosedForm) {
  const auto [mean, sd] = GetParam();
  const KnownByLogPdf density([mean = mean, sd = sd](double x) { return log_normal_pdf(x, mean, sd); }, {});
  for (const double z : {-37.0, -6.0, -1.0, -0.1, 0.0, 0.5, 2.0, 5.0, 40.0}) {
    const double x = mean + z * sd, rounded_z = (x - mean) / sd;
    EXPECT_LE(std::abs(cdf_at(density, x) - normal_cdf(rounded_z)), k_cdf_bound) << "z = " << z;
  }
  EXPECT_EQ(cdf_at(density, -k_infinity), 0);
  EXPECT_EQ(cdf_at(density, k_infinity), 1);
}

TEST_P(GaussianAt, DefaultQuantileInvertsCdf) {
  const auto [mean, sd] = GetParam();
  const KnownByLogPdf density([mean = mean, sd = sd](double x) { return log_normal_pdf(x, mean, sd); }, {});
  EXPECT_LE(std::abs(quantile_at(density, 0.5) - mean), 1e-9 * sd + 4e-16 * std::abs(mean));
  const double z = 1.959963984540054;
  EXPECT_LE(std::abs(quantile_at(density, 0.975) - (mean + z * sd)), 1e-8 * sd + 4e-16 * std::abs(mean));
  EXPECT_EQ(quantile_at(density, 0), -k_infinity);
  EXPECT_EQ(quantile_at(density, 1), k_infinity);
}

INSTANTIATE_TEST_SUITE_P(Scales, GaussianAt,
                         testing::Values(Place{0, 1}, Place{1e6, 1}, Place{-3, 1e-4}, Place{0, 1e150},
                                         Place{0, 1e-150}, Place{2e150, 1e149}, Place{-5e-151, 1e-150}));

TEST(FittedDensityDefaults, WhatIsNoNumberDisturbsNoNumber) {
  const KnownByLogPdf density([](double x) { return log_normal_pdf(x, 0, 1); }, {});
  std::vector<double> x(200), value(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = i % 3 == 1 ? std::numeric_limits<double>::quiet_NaN()
                      : std::remainder(7.3 * static_cast<double>(i), 6);
  density.cdf(x, value);
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % 3 == 1)
      EXPECT_TRUE(std::isnan(value[i])) << i;
    else
      EXPECT_LE(std::abs(value[i] - normal_cdf(x[i])), k_cdf_bound) << i;
  }
}

TEST(FittedDensityDefaults, FindSeparatedSpikes) {
  const KnownByLogPdf density(
      [](double x) {
        const double a = log_normal_pdf(x, -100, 1e-3), b = log_normal_pdf(x, 5, 1);
        if (std::max(a, b) == -k_infinity) return -k_infinity;
        return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b))) - std::numbers::ln2;
      },
      {});
  EXPECT_LE(std::abs(cdf_at(density, 0) - 0.5 - 0.5 * normal_cdf(-5)), k_cdf_bound);
  EXPECT_LE(std::abs(cdf_at(density, -100) - 0.25), k_cdf_bound);
  const std::vector<double> modes = density.modes();
  ASSERT_EQ(modes.size(), 2u);
  EXPECT_LE(std::abs(modes[0] + 100), 1e-6);
  EXPECT_LE(std::abs(modes[1] - 5), 1e-6);
}

TEST(FittedDensityDefaults, KeepBoundedSupport) {
  const KnownByLogPdf exponential([](double x) { return x < 0 ? -k_infinity : -x; }, {0, k_infinity});
  EXPECT_LE(std::abs(cdf_at(exponential, 1) - (1 - std::exp(-1.0))), k_cdf_bound);
  EXPECT_EQ(cdf_at(exponential, -1), 0);
  EXPECT_EQ(quantile_at(exponential, 0), 0);
  EXPECT_LE(std::abs(quantile_at(exponential, 0.5) - std::numbers::ln2), 1e-9);
  ASSERT_EQ(exponential.modes().size(), 1u);
  EXPECT_LE(std::abs(exponential.modes()[0]), 1e-6);

  const KnownByLogPdf uniform([](double x) { return x < 2 || x > 4 ? -k_infinity : -std::numbers::ln2; },
                              {2, 4});
  EXPECT_LE(std::abs(cdf_at(uniform, 2.5) - 0.25), k_cdf_bound);
  EXPECT_LE(std::abs(quantile_at(uniform, 0.75) - 3.5), 1e-9);
  ASSERT_EQ(uniform.modes().size(), 1u);
  EXPECT_LE(std::abs(uniform.modes()[0] - 3), 1e-2);  // the middle of the plateau
}

TEST(FittedDensityDefaults, HeavyTails) {
  const KnownByLogPdf cauchy(
      [](double x) {
        return -std::log(std::numbers::pi) -
               (std::abs(x) < 1e100 ? std::log1p(x * x) : 2 * std::log(std::abs(x)));
      },
      {});
  EXPECT_LE(std::abs(cdf_at(cauchy, 1) - 0.75), k_cdf_bound);
  EXPECT_LE(std::abs(quantile_at(cauchy, 0.25) + 1), 1e-9);
}

TEST(FittedDensityDefaults, RefuseWhatIsNotNormalised) {
  const KnownByLogPdf twice([](double x) { return log_normal_pdf(x, 0, 1) + std::numbers::ln2; }, {});
  EXPECT_THROW(cdf_at(twice, 0), MethodError);
}

TEST(FittedDensityDefaults, RefuseProbabilitiesOutsideTheUnitInterval) {
  const KnownByLogPdf density([](double x) { return log_normal_pdf(x, 0, 1); }, {});
  EXPECT_THROW(quantile_at(density, -0.1), MethodError);
  EXPECT_THROW(quantile_at(density, std::nan("")), MethodError);
}

TEST(FittedDensityDefaults, SamplesAreDeterministicAndSpread) {
  const KnownByLogPdf density([](double x) { return log_normal_pdf(x, 3, 2); }, {});
  std::vector<double> a(200), b(200);
  Rng first(Seed{5}), second(Seed{5});
  density.sample(first, TensorView<double, 2>(a.data(), {200, 1}));
  density.sample(second, TensorView<double, 2>(b.data(), {200, 1}));
  EXPECT_EQ(a, b);
  double mean = 0;
  for (const double x : a) mean += x / 200;
  EXPECT_LE(std::abs(mean - 3), 6 * 2 / std::sqrt(200.0));
}

Samples column(const std::vector<double>& x, std::span<const double> weights = {}) {
  return {TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), weights};
}

TEST(CheckSamples, NamesTheFirstBadRow) {
  const auto message = [](const std::vector<double>& x, std::span<const double> weights = {},
                          DensityTraits traits = {}) {
    try {
      check_samples(column(x, weights), traits);
    } catch (const MethodError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message({1, 2, 3}), "accepted");
  EXPECT_THAT(message({}), testing::HasSubstr("0 rows"));
  EXPECT_THAT(message({1, std::nan(""), k_infinity}), testing::HasSubstr("row 1"));
  EXPECT_THAT(message({1, 2, -k_infinity}), testing::HasSubstr("row 2"));
  const std::vector<double> negative{1, -1, 1}, zeros{0, 0, 0}, two{1, 1}, good{0, 1, 2};
  EXPECT_THAT(message({1, 2, 3}, negative), testing::HasSubstr("row 1 has weight -1"));
  EXPECT_THAT(message({1, 2, 3}, zeros), testing::HasSubstr("sum to 0"));
  EXPECT_THAT(message({1, 2, 3}, two), testing::HasSubstr("2 weights"));
  EXPECT_EQ(message({1, 2, 3}, good), "accepted");
  DensityTraits equal_weights_only;
  equal_weights_only.accepts_weights = false;
  EXPECT_THAT(message({1, 2, 3}, good, equal_weights_only), testing::HasSubstr("equal weight"));
  const std::vector<double> table(6, 1.0);
  EXPECT_THROW(check_samples({TensorView<const double, 2>(table.data(), {3, 2}), {}}, {}), MethodError);
}

TEST(FineHistogram, KeepsMassAndMoments) {
  const std::vector<double> x{0, 1, 1, 2, 10}, w{1, 2, 0, 1, 1};
  const FineHistogram histogram = make_fine_histogram(column(x, w), 10);
  EXPECT_EQ(histogram.range.begin, 0);
  EXPECT_EQ(histogram.range.end, 10.5);  // bins of 1/2, the last one holds 10
  std::vector<double> expected(21, 0.0);
  expected[0] = expected[4] = expected[20] = 1;
  expected[2] = 2;
  EXPECT_EQ(histogram.weight, expected);
  EXPECT_EQ(histogram.n_samples, 4);
  EXPECT_LE(std::abs(histogram.mean - 14.0 / 5), 1e-15);
  EXPECT_LE(std::abs(histogram.variance - (2 * 1 + 4 + 100) / 5.0 + 14.0 / 5 * 14.0 / 5), 1e-13);
}

/// Blocks that grow outwards, so that bins are joined many times.
class Outwards final : public SampleStream {
 public:
  explicit Outwards(std::vector<std::vector<double>> blocks) : blocks_(std::move(blocks)) {}
  index_t n_samples() const override {
    index_t n = 0;
    for (const auto& block : blocks_) n += static_cast<index_t>(block.size());
    return n;
  }
  index_t n_dims() const override { return 1; }
  Samples next() override { return at_ < blocks_.size() ? column(blocks_[at_++]) : Samples{}; }
  void rewind() override { at_ = 0; }

 private:
  std::vector<std::vector<double>> blocks_;
  std::size_t at_ = 0;
};

TEST(FineHistogram, OfAStreamHoldsEverySampleInItsBin) {
  for (const double scale : {1.0, 1e-290, 1e290, -3.0})
    for (const double shift : {0.0, 1.0, -40.0})
      for (const index_t n_bins : {1, 7, 64}) {
        borel::Rng rng(borel::Seed{static_cast<std::uint64_t>(n_bins)});
        std::vector<std::vector<double>> blocks;
        std::vector<double> all;
        for (int b = 0; b < 12; ++b) {
          std::vector<double> block(static_cast<std::size_t>(1 + 700 * b));
          rng.fill_normal(block);
          for (double& x : block) x = scale * (x * std::exp2(b % 5) + shift);
          all.insert(all.end(), block.begin(), block.end());
          blocks.push_back(std::move(block));
        }
        Outwards stream(std::move(blocks));
        const FineHistogram histogram = make_fine_histogram(stream, n_bins);
        const auto n = static_cast<index_t>(histogram.weight.size());
        EXPECT_GE(n, n_bins);
        EXPECT_LE(n, 4 * n_bins);
        std::vector<double> expected(histogram.weight.size(), 0.0);
        double mean = 0;
        for (const double x : all) {
          const double at = (x - histogram.range.begin) / histogram.bin_width();
          ASSERT_GE(at, 0);
          ASSERT_LT(at, static_cast<double>(n));
          ++expected[static_cast<std::size_t>(at)];
          mean += x / static_cast<double>(all.size());
        }
        EXPECT_EQ(histogram.weight, expected) << scale << ' ' << shift << ' ' << n_bins;
        EXPECT_EQ(histogram.n_samples, static_cast<double>(all.size()));
        double variance = 0;
        for (const double x : all)
          variance += (x - mean) / static_cast<double>(all.size()) * ((x - mean) / scale);
        EXPECT_NEAR(histogram.mean / scale, mean / scale, 1e-12 * (1 + std::abs(shift)));
        if (std::abs(scale) < 1e100 && std::abs(scale) > 1e-100) {
          EXPECT_NEAR(histogram.variance / scale / scale, variance / scale,
                      1e-9 * std::abs(variance / scale));
        }
      }
}

TEST(FineHistogram, HasNoMoreBinsThanDoublesThere) {
  const double next = std::nextafter(1e20, 2e20), after = std::nextafter(next, 2e20);
  const FineHistogram histogram = make_fine_histogram(column({1e20, next, after}), 1000);
  EXPECT_EQ(histogram.range.begin, 1e20);
  EXPECT_LE(histogram.weight.size(), 8U);
  double sum = 0;
  for (const double w : histogram.weight) sum += w;
  EXPECT_EQ(sum, 3);
}

TEST(FineHistogram, HoldsConstantDataAndRefusesBadRows) {
  const FineHistogram histogram = make_fine_histogram(column({4, 4, 4}), 8);
  EXPECT_LT(histogram.range.begin, 4);
  EXPECT_GT(histogram.range.end, 4);
  EXPECT_EQ(histogram.variance, 0);
  EXPECT_THROW(make_fine_histogram(column({1, std::nan("")}), 8), MethodError);
  EXPECT_THROW(make_fine_histogram(column({}), 8), MethodError);
}

TEST(Termination, HasNames) {
  EXPECT_EQ(to_string(Termination::converged), "converged");
  EXPECT_EQ(to_string(Termination::stopped_by_user), "stopped_by_user");
}

/// Records which way a stream was given to it.
class Recorder final : public DensityEstimator, public HistogramFit {
 public:
  explicit Recorder(bool histogram) : histogram_(histogram) {}
  DensityTraits traits() const override { return {}; }
  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext&) const override {
    n_rows = samples.n_samples();
    weights.assign(samples.weights.begin(), samples.weights.end());
    return nullptr;
  }
  std::unique_ptr<FittedDensity> load(const StateReader&) const override { return nullptr; }
  const HistogramFit* histogram_fit() const override { return histogram_ ? this : nullptr; }
  index_t bins_wanted() const override { return 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& histogram,
                                               const FitContext&) const override {
    n_bins = static_cast<index_t>(histogram.weight.size());
    return nullptr;
  }
  mutable index_t n_rows = 0, n_bins = 0;
  mutable std::vector<double> weights;

 private:
  bool histogram_;
};

/// Two blocks, the second one weighted.
class TwoBlocks final : public SampleStream {
 public:
  index_t n_samples() const override { return 5; }
  index_t n_dims() const override { return 1; }
  Samples next() override {
    ++block_;
    if (block_ == 1) return column(first_);
    if (block_ == 2) return column(second_, weights_);
    return {};
  }
  void rewind() override { block_ = 0; }

 private:
  std::vector<double> first_{1, 2, 3}, second_{4, 5}, weights_{2, 0.5};
  int block_ = 0;
};

TEST(FitFromStream, GathersBlocksOrBinsThem) {
  TwoBlocks stream;
  const Recorder in_memory(false), binned(true);
  fit_from_stream(in_memory, stream, {});
  EXPECT_EQ(in_memory.n_rows, 5);
  EXPECT_EQ(in_memory.weights, (std::vector<double>{1, 1, 1, 2, 0.5}));
  fit_from_stream(binned, stream, {});
  EXPECT_GE(binned.n_bins, 16);
  EXPECT_LE(binned.n_bins, 64);
  FitContext small;
  small.budget.memory_bytes = 10;
  EXPECT_THROW(fit_from_stream(in_memory, stream, small), MethodError);
}

}  // namespace
}  // namespace borel
