// Protocols density.fit and density.sampling on small datasets made here, and acceptance of the density
// plugins.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <map>
#include <numbers>

#include "borel/error.hpp"
#include "cell_metric.hpp"
#include "contract/density_subject.hpp"
#include "contract/memory_state.hpp"
#include "dataset/dataset_writer.hpp"
#include "loader/own_plugins.hpp"
#include "protocols/density_data.hpp"
#include "protocols/density_distance.hpp"
#include "reference/density_reference.hpp"

namespace borel {
namespace {

using test::metric;

/// 0.5 N(-2, 0.5) + 0.5 N(2, 1), with its truth and own test rows when asked for.
std::shared_ptr<const Dataset> two_normals(index_t n, bool with_truth) {
  const GaussianMixture truth({0.5, 0.5}, {-2, 2}, {0.5, 1});
  Rng rng(Seed{99});
  std::vector<double> x(static_cast<std::size_t>(n)), test(x.size());
  for (double& value : x) value = truth.sample(rng);
  for (double& value : test) value = truth.sample(rng);
  DatasetWriter writer(DatasetKind::samples, "two_normals", "Two normals", "made by the test", "none");
  writer.array("x", x, {n, 1});
  if (with_truth) {
    writer.array("test/x", test, {n, 1});
    writer.array("truth/weight", std::vector<double>{0.5, 0.5}, {2});
    writer.array("truth/mean", std::vector<double>{-2, 2}, {2});
    writer.array("truth/sd", std::vector<double>{0.5, 1}, {2});
    writer.array("truth/mode", truth.modes(), {2});
    writer.attribute("truth", "type", std::string("gaussian_mixture"));
    writer.attribute("truth", "entropy_nats", truth.entropy());
    writer.attribute("truth", "modes", std::int64_t{2});
  }
  writer.seal();
  return Dataset::from(writer);
}

CellInput cell(std::string_view protocol, std::shared_ptr<const Dataset> dataset, std::string_view method,
               std::map<std::string, std::string> options = {}) {
  CellInput input;
  input.dataset = std::move(dataset);
  input.registry = &own_plugins();
  input.methods = {parse_method_spec(method, "density")};
  input.options = {"", std::string(protocol), std::move(options)};
  input.seed = Seed{12};
  return input;
}

TEST(DensityFitProtocol, ReachesTheTruthWithTheRightModel) {
  const Protocol& protocol = find_protocol("density.fit");
  const CellInput input =
      cell("density.fit", two_normals(4000, true), "gmm{n_components=2}", {{"n_train", "4000"}});
  ASSERT_EQ(protocol.refuses(input), "");
  const CellResult result = protocol.run(input);
  // 5 parameters, n = 4000: 2 n KL is about chi-squared with 5 degrees of freedom; 30 has probability 1e-5.
  EXPECT_GE(metric(result, "kl"), 0);
  EXPECT_LE(metric(result, "kl"), 30 / (2 * 4000.0));
  const GaussianMixture truth({0.5, 0.5}, {-2, 2}, {0.5, 1});
  EXPECT_LE(std::abs(metric(result, "held_out_log_likelihood") + truth.entropy()),
            0.06);  // sd / sqrt(n) = 0.012
  EXPECT_LE(std::abs(metric(result, "held_out_bits") * std::numbers::ln2 +
                     metric(result, "held_out_log_likelihood")),
            1e-12);
  EXPECT_EQ(metric(result, "modes_matched"), 2);
  EXPECT_EQ(metric(result, "modes_spurious"), 0);
  EXPECT_EQ(metric(result, "parameters"), 5);
  EXPECT_EQ(metric(result, "held_out_outside"), 0);
  EXPECT_EQ(result.curves.size(), 2u);
  EXPECT_EQ(protocol.timed_tasks(input).size(), 2u);
}

TEST(DensityFitProtocol, EveryMetricIsDeclared) {
  for (const char* id : {"density.fit", "density.sampling"})
    for (const bool with_truth : {true, false}) {
      const Protocol& protocol = find_protocol(id);
      const CellResult result = protocol.run(cell(id, two_normals(300, with_truth), "kde"));
      for (const Metric& found : result.metrics) {
        bool declared = false;
        for (const MetricInfo& info : protocol.metrics())
          declared |= info.name == found.name && info.unit == found.unit && info.direction == found.direction;
        EXPECT_TRUE(declared) << id << " " << found.name;
        EXPECT_TRUE(std::isfinite(found.value)) << id << " " << found.name;
      }
    }
}

TEST(DensityFitProtocol, ZeroDensityAtAHeldOutRowIsMinusInfinityAndCounted) {
  const CellResult result = find_protocol("density.fit")
                                .run(cell("density.fit", two_normals(400, true),
                                          "histogram{tails=none, pseudo_count=0}", {{"n_train", "40"}}));
  EXPECT_EQ(metric(result, "held_out_log_likelihood"), -std::numeric_limits<double>::infinity());
  EXPECT_GT(metric(result, "held_out_outside"), 0);
  EXPECT_EQ(metric(result, "kl"), std::numeric_limits<double>::infinity());
  EXPECT_LE(metric(result, "l1"), 2);
}

TEST(DensityFitProtocol, RefusesWhatTheDatasetCannotServe) {
  const Protocol& protocol = find_protocol("density.fit");
  EXPECT_THAT(protocol.refuses(cell("density.fit", two_normals(50, false), "kde", {{"column", "3"}})),
              testing::HasSubstr("column 3"));
  EXPECT_THAT(protocol.refuses(cell("density.fit", two_normals(50, false), "kde", {{"n_train", "41"}})),
              testing::HasSubstr("only 40 rows"));
  EXPECT_THAT(protocol.refuses(cell("density.fit", two_normals(4, false), "kde")),
              testing::HasSubstr("too few"));
}

TEST(DensityData, SplitsBySeedAloneAndNeverOverlaps) {
  const auto dataset = two_normals(200, false);
  CellInput input = cell("density.fit", dataset, "kde");
  const DensityData first = make_density_data(input, 0, 0), again = make_density_data(input, 0, 0);
  EXPECT_EQ(first.train, again.train);
  EXPECT_EQ(first.train.size(), 160u);
  EXPECT_EQ(first.held_out.size(), 40u);
  for (const double value : first.held_out)
    EXPECT_EQ(std::count(first.train.begin(), first.train.end(), value), 0);
  input.methods = {parse_method_spec("histogram", "density")};
  EXPECT_EQ(make_density_data(input, 0, 0).train, first.train);  // paired across methods
  input.seed = Seed{13};
  EXPECT_NE(make_density_data(input, 0, 0).train, first.train);
}

TEST(DensitySamplingProtocol, CorrectSamplersPassTheirOwnTest) {
  for (const char* method : {"gmm", "kde", "histogram", "fourier"}) {
    const CellResult result =
        find_protocol("density.sampling").run(cell("density.sampling", two_normals(2000, true), method));
    EXPECT_GE(metric(result, "ks_own_p"), 1e-6) << method;
    EXPECT_LE(metric(result, "ks_target"), 0.1) << method;
    EXPECT_LE(metric(result, "w1_target"), 0.15) << method;
  }
}

TEST(DensityDistance, MatchesModesOneToOne) {
  const std::vector<double> found{-1.02, -0.98, 2.5}, truth{-1, 1, 2.45};
  const ModeRecovery recovery = match_modes(found, truth, 0.1);
  EXPECT_EQ(recovery.matched, 2);
  EXPECT_EQ(recovery.missed, 1);
  EXPECT_EQ(recovery.spurious, 1);
}

TEST(DensityDistance, EmpiricalDistancesByHand) {
  const std::vector<double> a{0, 1, 2, 3}, b{0, 1, 2, 7};
  EXPECT_LE(std::abs(ks_distance(a, b) - 0.25), 1e-15);
  EXPECT_LE(std::abs(w1_distance(a, b) - 1.0), 1e-15);  // one of four points moves by 4
  EXPECT_EQ(ks_distance(a, a), 0);
  EXPECT_LE(std::abs(ks_distance(std::vector<double>{0.25, 0.5, 0.75}) - 0.25), 1e-15);
  // Kolmogorov's table: P(sqrt(n) D > 1.3581) = 0.05 for large n.
  EXPECT_LE(std::abs(ks_p_value(1.3581 / 1e4, 1e8) - 0.05), 1e-4);
  EXPECT_EQ(ks_p_value(0, 100), 1);
}

// Acceptance of the plugins on published anchors.

const std::vector<double> k_demo_mean{.015150,  -.241987, -.345205, .209195, .173668,
                                      -.346456, -.223895, -.298093, .005521, .023814};
const std::vector<double> k_demo_sd{.052399, .047042, .044892, .056442, .055701,
                                    .044866, .047419, .045873, .052198, .052579};

class FourierDemo : public testing::TestWithParam<std::pair<int, double>> {};

TEST_P(FourierDemo, FitsTheTargetAsWellAsItsModelClassAllows) {
  const auto [n_frequencies, bound] = GetParam();
  const reference::NormalMixture target{std::vector<double>(10, 0.1), k_demo_mean, k_demo_sd};
  constexpr int k_points = 4096;
  std::vector<double> x(k_points), w(k_points);
  for (std::size_t i = 0; i < k_points; ++i) {
    x[i] = -1 + 2 * (static_cast<double>(i) + 0.5) / k_points;
    w[i] = target.pdf(x[i]);
  }
  // Weighted quadrature points of the true density: the likelihood is the exact cross-entropy.
  const auto method = own_plugins().make<DensityEstimator>(
      "fourier{map=identity, placement=fixed, n_frequencies=" + std::to_string(n_frequencies) + "}");
  const auto density = method->fit(contract::as_samples(x, w), {});
  const std::vector<double> log_q = contract::log_pdf_of(*density, x);
  double kl = 0;
  for (std::size_t i = 0; i < k_points; ++i) kl += 2.0 / k_points * w[i] * (std::log(w[i]) - log_q[i]);
  EXPECT_GE(kl, 0);
  EXPECT_LE(kl, bound);
  EXPECT_THAT(density->outcome().sentence, testing::HasSubstr("4 of 4 starts agree"));
  EXPECT_EQ(density->parameter_count(), 2 * n_frequencies - 2);
  // And the fitted density is that of the paper's series: compared through the autocorrelation.
  contract::MemoryState state;
  density->save(state);
  std::vector<std::complex<double>> a;
  const std::vector<double> re = state.get("a_re"), im = state.get("a_im");
  for (std::size_t k = 0; k < re.size(); ++k) a.emplace_back(re[k], im[k]);
  for (const double at : {-0.7, -0.3, 0.0, 0.2}) {
    const double q = std::exp(contract::log_pdf_of(*density, {&at, 1})[0]);
    EXPECT_LE(std::abs(q - reference::fourier_pdf(a, at)), 1e-12 * (1 + q));
  }
}

INSTANTIATE_TEST_SUITE_P(Frequencies, FourierDemo,
                         testing::Values(std::pair{14, 3.73e-3}, std::pair{20, 2.2e-4}, std::pair{28, 3e-7}));

/// The closed form of the multivariate normal's largest likelihood: -1/2 log det(2 pi e S), S the samples' covariance.
TEST(Autoregressive, OfOneNormalIsTheMultivariateNormalOfLargestLikelihood) {
  constexpr index_t n = 400;
  Rng rng(Seed{31});
  std::vector<double> x;
  for (index_t i = 0; i < n; ++i) {
    const double a = rng.normal(), b = 0.9 * a + 0.3 * rng.normal();
    x.insert(x.end(), {10 + 2 * a, 100 * b, a - b + 0.5 * rng.normal()});
  }
  const TensorView<const double, 2> rows(x.data(), {n, 3});
  double mean[3] = {}, s[3][3] = {};
  for (index_t i = 0; i < n; ++i)
    for (index_t d = 0; d < 3; ++d) mean[d] += rows(i, d) / n;
  for (index_t i = 0; i < n; ++i)
    for (index_t d = 0; d < 3; ++d)
      for (index_t c = 0; c < 3; ++c) s[d][c] += (rows(i, d) - mean[d]) * (rows(i, c) - mean[c]) / n;
  const double det = s[0][0] * (s[1][1] * s[2][2] - s[1][2] * s[2][1]) -
                     s[0][1] * (s[1][0] * s[2][2] - s[1][2] * s[2][0]) +
                     s[0][2] * (s[1][0] * s[2][1] - s[1][1] * s[2][0]);
  const double expected = -0.5 * (std::log(det) + 3 * std::log(2 * std::numbers::pi * std::numbers::e));

  const auto method = own_plugins().make<DensityEstimator>("autoregressive{of=gmm{n_components=1}, ridge=0}");
  const auto density = method->fit({rows, {}}, {});
  std::vector<double> log_p(n);
  density->log_pdf(rows, log_p);
  double found = 0;
  for (const double value : log_p) found += value / n;
  EXPECT_NEAR(found, expected, 1e-9);

  // Samples have the covariance again, and a loaded density is the same one.
  constexpr index_t n_drawn = 20000;
  std::vector<double> drawn(3 * n_drawn);
  Rng sampler(Seed{32});
  density->sample(sampler, {drawn.data(), {n_drawn, 3}});
  double product = 0;
  for (index_t i = 0; i < n_drawn; ++i)
    product += (drawn[static_cast<std::size_t>(3 * i)] - mean[0]) *
               (drawn[static_cast<std::size_t>(3 * i + 1)] - mean[1]);
  EXPECT_NEAR(product / n_drawn / s[0][1], 1, 0.05);
  contract::MemoryState state;
  density->save(state);
  std::vector<double> again(n);
  method->load(state)->log_pdf(rows, again);
  EXPECT_EQ(again, log_p);
}

TEST(Dfp, RefusesAStateWhoseNetworkItCannotHold) {
  const auto method = own_plugins().make<DensityEstimator>("dfp{n_starts=1, max_iterations=5}");
  const std::vector<double> x{0, 1, 2, 4, 7, 9};
  contract::MemoryState state;
  method->fit(contract::as_samples(x), {})->save(state);
  EXPECT_NO_THROW(method->load(state));
  for (const std::vector<double>& filters :
       {std::vector<double>{1000}, {-3}, {std::nan("")}, {1e300}, std::vector<double>(9, 3.0)}) {
    state.put("filters", filters);
    EXPECT_THROW(method->load(state), MethodError) << filters.front();
  }
}

TEST(SplineFlow, GradientOfTheLogDensityIsItsDerivativeAndTailsAreTheBases) {
  Rng rng(Seed{41});
  std::vector<double> x(3000);
  for (double& value : x) value = rng.uniform() < 0.3 ? -20 + rng.normal() : 10 * rng.uniform();
  for (const char* spec : {"spline_flow{n_bins=8}", "spline_flow{n_bins=8, base=logistic}"}) {
    const auto density = own_plugins().make<DensityEstimator>(spec)->fit(contract::as_samples(x), {});
    for (const double at : {-60.0, -20.3, -5.0, 0.013, 3.0, 9.7, 30.0}) {
      double gradient = 0;
      ASSERT_TRUE(density->log_pdf_gradient({&at, {1, 1}}, {&gradient, {1, 1}}));
      constexpr double k_step = 1e-5;
      const double around[] = {at - k_step, at + k_step};
      const std::vector<double> log_p = contract::log_pdf_of(*density, around);
      const double difference = (log_p[1] - log_p[0]) / (2 * k_step);
      EXPECT_NEAR(gradient, difference, 1e-5 * (1 + std::abs(difference))) << spec << " at " << at;
    }
    // Second differences far out: constant and negative for the normal, none for the logistic.
    const double far[] = {50, 60, 70, 80};
    const std::vector<double> log_p = contract::log_pdf_of(*density, far);
    const double bend = log_p[0] - 2 * log_p[1] + log_p[2], next = log_p[1] - 2 * log_p[2] + log_p[3];
    EXPECT_NEAR(bend, next, 1e-9 * (1 + std::abs(log_p[3]))) << spec;
    if (std::string_view(spec).find("logistic") != std::string_view::npos)
      EXPECT_NEAR(bend, 0, 1e-6);
    else
      EXPECT_LT(bend, -0.1);
  }
}

/// Half a standard normal, half a narrow one.
std::vector<double> two_widths(std::size_t n) {
  Rng rng(Seed{33});
  std::vector<double> x(n);
  for (double& value : x) value = rng.uniform() < 0.5 ? rng.normal() : 1 + 0.1 * rng.normal();
  return x;
}

double mean_log_likelihood(const char* spec, const std::vector<double>& x) {
  const TensorView<const double, 2> rows(x.data(), {static_cast<index_t>(x.size()), 1});
  const auto density = own_plugins().make<DensityEstimator>(spec)->fit({rows, {}}, {});
  std::vector<double> log_p(x.size());
  density->log_pdf(rows, log_p);
  double sum = 0;
  for (const double value : log_p) sum += value / static_cast<double>(x.size());
  return sum;
}

/// Fits go through cells of samples; no lower loss is left for one that sees every sample.
TEST(Fourier, LargeSamplesReachTheOptimumOfTheExactLikelihood) {
  const std::vector<double> x = two_widths(20000);
  const double found = mean_log_likelihood("fourier{n_frequencies=12}", x);
  EXPECT_NEAR(found, mean_log_likelihood("fourier{n_frequencies=12, tolerance=1e-11}", x), 1e-9);
  // A penalty, however small, takes the other way: L-BFGS with corrected cells.
  EXPECT_NEAR(found, mean_log_likelihood("fourier{n_frequencies=12, penalty=1e-300, tolerance=1e-9}", x),
              1e-9);
}

TEST(Fourier, AMillionSamplesReachTheOptimumInFlatDirectionsToo) {
  const std::vector<double> x = two_widths(1'000'000);
  EXPECT_NEAR(mean_log_likelihood("fourier{n_frequencies=64}", x),
              mean_log_likelihood("fourier{n_frequencies=64, tolerance=1e-13}", x), 1e-9);
}

}  // namespace
}  // namespace borel
