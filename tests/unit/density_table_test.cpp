// Densities in several dimensions: protocol density.table against closed forms, and conditionals by networks.
#include <gmock/gmock.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "contract/memory_state.hpp"
#include "dataset/dataset_writer.hpp"
#include "protocols/protocol.hpp"

namespace borel {
namespace {

using test::metric;

double log_normal(double x, double mean, double sd) {
  const double z = (x - mean) / sd;
  return -0.5 * z * z - std::log(sd * std::sqrt(2 * std::numbers::pi));
}

bool has_metric(const CellResult& result, std::string_view name) {
  return std::any_of(result.metrics.begin(), result.metrics.end(),
                     [&](const Metric& m) { return m.name == name; });
}

CellInput cell(std::shared_ptr<const Dataset> dataset, std::string_view method,
               std::map<std::string, std::string> options = {}) {
  CellInput input;
  input.dataset = std::move(dataset);
  input.registry = &test::registry();
  input.methods = {parse_method_spec(method, "density")};
  input.options = {"", "density.table", std::move(options)};
  input.seed = Seed{12};
  return input;
}

constexpr index_t k_bins = 40;
constexpr double k_published = 0.5;

/// (x, z): x ~ N(0, 1/2^2), z | x ~ N(x / 2, 0.3^2), with the conditional on 40 bins of [-2, 2].
std::shared_ptr<const Dataset> line_with_noise(index_t n, index_t n_test, bool with_truth = true) {
  Rng rng(Seed{7});
  const auto draw = [&](index_t rows) {
    std::vector<double> x;
    for (index_t i = 0; i < rows; ++i) {
      x.push_back(0.5 * rng.normal());
      x.push_back(0.5 * x.back() + 0.3 * rng.normal());
    }
    return x;
  };
  DatasetWriter writer(DatasetKind::samples, "line", "A line", "made by the test", "none");
  writer.array("x", draw(n), {n, 2});
  const std::vector<double> test = draw(n_test);
  if (with_truth) {
    std::vector<double> centre, pmf;
    for (index_t k = 0; k < k_bins; ++k) centre.push_back(-1.95 + 0.1 * static_cast<double>(k));
    for (index_t i = 0; i < n_test; ++i) {
      double sum = 0;
      for (const double z : centre) {
        pmf.push_back(std::exp(log_normal(z, 0.5 * test[static_cast<std::size_t>(2 * i)], 0.3)));
        sum += pmf.back();
      }
      for (auto value = pmf.end() - k_bins; value != pmf.end(); ++value) *value /= sum;
    }
    writer.array("truth/conditional_pmf", pmf, {n_test, k_bins});
    writer.array("truth/bin_centre", centre, {k_bins});
    writer.attribute("truth", "published_kl_gmm_head", k_published);
  }
  writer.array("test/x", test, {n_test, 2});
  writer.seal();
  return Dataset::from(writer);
}

TEST(DensityTable, TheRightModelReachesTheTruthOfItsConditional) {
  const Protocol& protocol = find_protocol("density.table");
  const CellInput input =
      cell(line_with_noise(4000, 1000), "autoregressive{of=gmm{n_components=1}}", {{"n_train", "4000"}});
  ASSERT_EQ(protocol.refuses(input), "");
  const CellResult result = protocol.run(input);
  // Slope, place and width of the conditional: 2 n KL is about chi-squared with 3 degrees of freedom.
  EXPECT_GE(metric(result, "conditional_kl"), 0);
  EXPECT_LE(metric(result, "conditional_kl"), 25 / (2 * 4000.0));
  EXPECT_EQ(metric(result, "published_gmm_head"), k_published);
  EXPECT_FALSE(has_metric(result, "published_linear_head"));
  EXPECT_NEAR(metric(result, "conditional_kl_ratio"), metric(result, "conditional_kl") / k_published, 1e-15);
  const double entropy = std::log(0.5 * 0.3) + 1 + std::log(2 * std::numbers::pi);
  EXPECT_NEAR(metric(result, "held_out_log_likelihood"), -entropy, 0.15);  // sd of the mean: 1 / sqrt(1000)
  EXPECT_NEAR(metric(result, "held_out_bits"),
              -metric(result, "held_out_log_likelihood") / 2 / std::numbers::ln2, 1e-12);
  EXPECT_EQ(protocol.timed_tasks(input).size(), 2u);
}

/// A density that ignores the context has the Kullback-Leibler distance of two normals, averaged over contexts.
TEST(DensityTable, DistanceOfAModelThatIgnoresTheContextIsTheClosedForm) {
  // ridge -> infinity takes all slopes away: z ~ N(0, sd^2) whatever x.
  const CellResult result =
      find_protocol("density.table")
          .run(cell(line_with_noise(20000, 4000), "autoregressive{of=gmm{n_components=1}, ridge=1e9}",
                    {{"n_train", "20000"}}));
  const double marginal = std::sqrt(0.3 * 0.3 + 0.25 * 0.25);
  EXPECT_NEAR(metric(result, "conditional_kl"), std::log(marginal / 0.3), 0.02);
}

TEST(DensityTable, AQuantisedContextCostsAndReportsNoJointLikelihood) {
  const auto dataset = line_with_noise(4000, 1000);
  const Protocol& protocol = find_protocol("density.table");
  const char* method = "autoregressive{of=gmm{n_components=1}}";
  const CellResult exact = protocol.run(cell(dataset, method)),
                   coarse = protocol.run(cell(dataset, method, {{"quantise_context", "true"}}));
  EXPECT_FALSE(has_metric(coarse, "held_out_log_likelihood"));
  // Rounding of x to 0.1 moves the mean by half a uniform error: 1/2 E (d / 2)^2 / 0.3^2 = 1.2e-3 nats more.
  EXPECT_NEAR(metric(coarse, "conditional_kl") - metric(exact, "conditional_kl"),
              0.5 * 0.25 * (0.01 / 12) / 0.09, 6e-4);
}

TEST(DensityTable, RefusesWhatCannotBeFitted) {
  const Protocol& protocol = find_protocol("density.table");
  EXPECT_THAT(protocol.refuses(cell(line_with_noise(100, 10), "gmm")), testing::HasSubstr("2 columns"));
  EXPECT_THAT(protocol.refuses(
                  cell(line_with_noise(100, 10, false), "autoregressive", {{"quantise_context", "true"}})),
              testing::HasSubstr("quantise_context"));
  EXPECT_EQ(protocol.refuses(cell(line_with_noise(100, 10, false), "autoregressive")), "");
}

TEST(DensityTable, EveryMetricIsDeclared) {
  const Protocol& protocol = find_protocol("density.table");
  for (const bool with_truth : {true, false})
    for (const Metric& found :
         protocol.run(cell(line_with_noise(300, 50, with_truth), "autoregressive")).metrics) {
      const auto list = protocol.metrics();
      EXPECT_TRUE(std::any_of(list.begin(), list.end(), [&](const MetricInfo& info) {
        return info.name == found.name && info.unit == found.unit && info.direction == found.direction;
      })) << found.name;
    }
}

// Conditionals by networks.

constexpr index_t k_n = 1500;

/// (x, y): x ~ U(-1, 1), y | x has place |x| and width 0.05 + 0.4 (x > 0): no line with one width follows it.
std::vector<double> bent(index_t n, Seed seed) {
  Rng rng(seed);
  std::vector<double> x;
  for (index_t i = 0; i < n; ++i) {
    const double at = 2 * rng.uniform() - 1;
    x.insert(x.end(), {10 + 3 * at, 100 * (std::abs(at) + (at > 0 ? 0.45 : 0.05) * rng.normal())});
  }
  return x;
}

constexpr const char* k_network =
    "autoregressive{of=logistic_mixture{n_components=3}, conditional=network, hidden=[24, 12], n_networks=2, "
    "max_epochs=60}";

struct Bent {
  std::vector<double> x = bent(k_n, Seed{1}), test = bent(1000, Seed{2});
  std::unique_ptr<DensityEstimator> method = test::registry().make<DensityEstimator>(k_network);
  TensorView<const double, 2> rows() const { return {x.data(), {k_n, 2}}; }
  std::unique_ptr<FittedDensity> fit() const {
    FitContext context;
    context.seed = Seed{3};
    return method->fit({rows(), {}}, context);
  }
};

const Bent& data() {
  static const Bent made;
  return made;
}

const FittedDensity& fitted() {
  static const std::unique_ptr<FittedDensity> made = data().fit();
  return *made;
}

std::vector<double> log_pdf_of(const FittedDensity& density, const std::vector<double>& x) {
  std::vector<double> out(x.size() / 2);
  density.log_pdf({x.data(), {static_cast<index_t>(out.size()), 2}}, out);
  return out;
}

double mean_of(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value / static_cast<double>(x.size());
  return sum;
}

TEST(ConditionalNetworks, LearnWhatALineCannot) {
  const double network = mean_of(log_pdf_of(fitted(), data().test));
  const double line =
      mean_of(log_pdf_of(*test::registry()
                              .make<DensityEstimator>("autoregressive{of=logistic_mixture{n_components=3}}")
                              ->fit({data().rows(), {}}, {}),
                         data().test));
  // Truth: -log 6 for x, the normal's entropy at two widths for y.
  const double truth =
      -std::log(6.0) - 0.5 * (std::log(45.0) + std::log(5.0)) - 0.5 * std::log(2 * std::numbers::pi) - 0.5;
  EXPECT_GT(network, line + 0.4);
  EXPECT_GT(network, truth - 0.15);
  EXPECT_LT(network, truth + 0.1);
}

TEST(ConditionalNetworks, GiveADensityForEveryContext) {
  std::vector<double> x;
  constexpr int k_points = 4000;
  constexpr double k_low = -400, k_step = 0.25;
  const std::vector<double> contexts{7.2, 9.9, 10.1, 12.5};
  for (const double context : contexts)
    for (int i = 0; i < k_points; ++i) x.insert(x.end(), {context, k_low + k_step * (i + 0.5)});
  const std::vector<double> log_p = log_pdf_of(fitted(), x);
  std::vector<double> first(contexts.size(), 0.0);
  for (std::size_t c = 0; c < contexts.size(); ++c)
    for (int i = 0; i < k_points; ++i)
      first[c] += k_step * std::exp(log_p[c * k_points + static_cast<std::size_t>(i)]);
  // The integral over y is the first column's density.
  const auto alone = test::registry().make<DensityEstimator>("logistic_mixture{n_components=3}");
  std::vector<double> column;
  for (index_t i = 0; i < k_n; ++i) column.push_back(data().rows()(i, 0));
  FitContext context;
  context.seed = Seed{3}.derive(std::uint64_t{0});
  const auto marginal = alone->fit({{column.data(), {k_n, 1}}, {}}, context);
  std::vector<double> expected(contexts.size());
  marginal->log_pdf({contexts.data(), {static_cast<index_t>(contexts.size()), 1}}, expected);
  for (std::size_t c = 0; c < contexts.size(); ++c)
    EXPECT_NEAR(first[c] / std::exp(expected[c]), 1, 1e-6) << contexts[c];
}

TEST(ConditionalNetworks, SamplesHaveTheDensityTheyComeFrom) {
  constexpr index_t n = 4000;
  std::vector<double> drawn(2 * n);
  Rng rng(Seed{5});
  fitted().sample(rng, {drawn.data(), {n, 2}});
  // E log p under p, from two independent sets of draws, and the same draws again from the same seed.
  std::vector<double> again(2 * n), others(2 * n);
  Rng same(Seed{5}), other(Seed{6});
  fitted().sample(same, {again.data(), {n, 2}});
  fitted().sample(other, {others.data(), {n, 2}});
  EXPECT_EQ(drawn, again);
  EXPECT_NE(drawn, others);
  // Left and right of the bend the widths differ ninefold: compared with the data's.
  const auto width = [](const std::vector<double>& x, bool right) {
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < x.size(); i += 2)
      if ((x[i] > 10) == right) sum += std::abs(x[i + 1] - 100 * std::abs(x[i] - 10) / 3), count += 1;
    return sum / count;
  };
  EXPECT_NEAR(width(drawn, true) / width(data().test, true), 1, 0.15);
  EXPECT_NEAR(width(drawn, false) / width(data().test, false), 1, 0.5);
}

TEST(ConditionalNetworks, SaveAndLoadTheSameBits) {
  contract::MemoryState state;
  fitted().save(state);
  const auto loaded = data().method->load(state);
  EXPECT_EQ(log_pdf_of(*loaded, data().test), log_pdf_of(fitted(), data().test));
  EXPECT_EQ(loaded->parameter_count(), fitted().parameter_count());
  const auto without_head = test::registry().make<DensityEstimator>("autoregressive{of=gmm}");
  EXPECT_THROW(without_head->load(state), Error);
}

TEST(ConditionalNetworks, TheSameBitsForAnyNumberOfThreadsAndOrderOfRows) {
  const tbb::global_control allow(tbb::global_control::max_allowed_parallelism, 2);
  tbb::task_arena arena(2);
  std::vector<double> two_threads;
  arena.execute([&] { two_threads = log_pdf_of(*data().fit(), data().test); });
  EXPECT_EQ(two_threads, log_pdf_of(fitted(), data().test));

  Bent turned;
  for (index_t i = 0; i < k_n / 2; ++i)
    for (index_t c = 0; c < 2; ++c)
      std::swap(turned.x[static_cast<std::size_t>(2 * i + c)],
                turned.x[static_cast<std::size_t>(2 * (k_n - 1 - i) + c)]);
  const std::vector<double> p = log_pdf_of(*turned.fit(), data().test), q = log_pdf_of(fitted(), data().test);
  // Sums for means and slopes round differently, and training magnifies that: not the same bits, the same fit.
  EXPECT_NEAR(mean_of(p), mean_of(q), 0.05);
}

TEST(ConditionalNetworks, WeightsCountAsRepetitions) {
  // All weight on the rows left of the bend: the fit follows them alone.
  std::vector<double> weights;
  for (index_t i = 0; i < k_n; ++i) weights.push_back(data().rows()(i, 0) < 10 ? 1.0 : 0.0);
  const auto left = data().method->fit({data().rows(), weights}, {});
  std::vector<double> test;
  for (std::size_t i = 0; i < data().test.size(); i += 2)
    if (data().test[i] < 10) test.insert(test.end(), {data().test[i], data().test[i + 1]});
  const double truth = -std::log(3.0) - std::log(5.0) - 0.5 * std::log(2 * std::numbers::pi) - 0.5;
  EXPECT_GT(mean_of(log_pdf_of(*left, test)), truth - 0.2);
}

TEST(ConditionalNetworks, RefuseWhatTheyCannotLearn) {
  const auto message = [](const std::string& spec) {
    try {
      test::registry().make<DensityEstimator>(spec);
    } catch (const ParamError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(message("autoregressive{of=kde, conditional=network}"), testing::HasSubstr("head"));
  EXPECT_THAT(message("autoregressive{of=logistic_mixture, conditional=network, hidden=[2.5]}"),
              testing::HasSubstr("whole numbers"));
  const std::vector<double> few = bent(9, Seed{4});
  EXPECT_THROW(data().method->fit({{few.data(), {9, 2}}, {}}, {}), MethodError);
}

TEST(ConditionalNetworks, StopWhenAsked) {
  const std::atomic<bool> stop{true};
  FitContext context;
  context.budget.stop = StopToken(&stop, StopToken::Clock::time_point::max());
  EXPECT_THROW(data().method->fit({data().rows(), {}}, context), Stopped);
}

}  // namespace
}  // namespace borel
