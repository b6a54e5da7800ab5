// The optimizer plugins at work: the convergence protocol, exact answers, and the least-squares problem that
// pairwise steps must solve to a certified gap of 1e-8.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "built_plugins.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/recipes.hpp"
#include "protocols/problems.hpp"
#include "protocols/protocol.hpp"
#include "protocols/simplex_problems.hpp"
#include "reference/optimizer_reference.hpp"

namespace {

using borel::MethodSpec;
using borel::Rng;
using borel::Seed;

using borel::test::registry;

std::shared_ptr<const borel::Dataset> least_squares_dataset() {
  constexpr std::size_t m = 30, n = 20;
  std::vector<double> a(m * n), b(m);
  Rng rng{Seed{4}};
  rng.fill_normal(a);
  rng.fill_normal(b);
  borel::DatasetWriter writer(borel::DatasetKind::problem, "small_ls", "Least squares", "made here", "CC0");
  writer.attribute("", "objective", std::string("least_squares"));
  writer.attribute("", "domain", std::string("simplex"));
  writer.array("a", a, {m, n});
  writer.array("b", b, {m});
  writer.seal();
  return borel::Dataset::from(writer);
}

borel::CellInput cell(const std::string& method, const std::string& options, std::int64_t repetition) {
  borel::CellInput input;
  input.dataset = least_squares_dataset();
  input.registry = &registry();
  input.methods = {borel::parse_method_spec(method, "optimizer")};
  input.options.id = "optimizer.convergence";
  if (!options.empty()) input.options.params["max_iterations"] = options;
  input.repetition = repetition;
  input.seed = Seed{7}.derive(static_cast<std::uint64_t>(repetition));
  return input;
}

std::map<std::string, double> metrics_of(const borel::CellResult& result) {
  std::map<std::string, double> map;
  for (const borel::Metric& metric : result.metrics) map[metric.name] = metric.value;
  return map;
}

TEST(OptimizerConvergence, MeasuresGapAndWork) {
  const borel::Protocol& protocol = borel::find_protocol("optimizer.convergence");
  const borel::CellInput input = cell("frank_wolfe", "", 0);
  EXPECT_EQ(protocol.refuses(input), "");
  EXPECT_GT(protocol.memory_bytes(input), 3 * 8 * 600);
  const borel::CellResult result = protocol.run(input);
  std::map<std::string, double> metrics = metrics_of(result);
  EXPECT_LE(metrics["gap"], 1e-9 * (1 + 1e-6));
  ASSERT_TRUE(metrics.contains("iterations_to_1e_9"));
  EXPECT_LE(metrics["iterations_to_1e_3"], metrics["iterations_to_1e_6"]);
  EXPECT_LE(metrics["iterations_to_1e_6"], metrics["iterations"]);
  EXPECT_GE(metrics["oracle_calls"], 1);
  EXPECT_LE(metrics["oracle_calls"], 20);  // a quadratic: columns instead of gradients
  ASSERT_FALSE(result.curves.empty());
  EXPECT_GT(result.curves[0].y.front(), result.curves[0].y.back());
  for (const auto& metric : metrics) {
    const std::string& name = metric.first;  // Clang 14 captures no structured bindings
    EXPECT_TRUE(std::ranges::any_of(protocol.metrics(), [&](const auto& info) { return info.name == name; }))
        << name;
  }
}

TEST(OptimizerConvergence, RepeatsBitByBitAndVariesTheStart) {
  const borel::Protocol& protocol = borel::find_protocol("optimizer.convergence");
  for (const std::string method :
       {"projected_gradient", "exponentiated_gradient", "frank_wolfe{variant=away}"}) {
    const auto first = metrics_of(protocol.run(cell(method, "30", 1)));
    EXPECT_EQ(first, metrics_of(protocol.run(cell(method, "30", 1)))) << method;
    EXPECT_NE(first, metrics_of(protocol.run(cell(method, "30", 2)))) << method;
  }
}

TEST(OptimizerConvergence, OffersTheSolutionAsATimedTask) {
  const auto tasks = borel::find_protocol("optimizer.convergence").timed_tasks(cell("frank_wolfe", "10", 0));
  ASSERT_GE(tasks.size(), 1u);
  EXPECT_EQ(tasks[0].name, "solve_s");
  for (const borel::TimedTask& task : tasks) EXPECT_NO_THROW(task.work()) << task.name;
  // Levels that a run of 10 steps does not reach are not timed; a long run reaches all.
  std::vector<std::string> names;
  for (const auto& task : borel::find_protocol("optimizer.convergence")
                              .timed_tasks(cell("frank_wolfe{variant=pairwise}", "", 0)))
    names.push_back(task.name);
  EXPECT_EQ(names, (std::vector<std::string>{"solve_s", "to_1e_3_s", "to_1e_6_s", "to_1e_9_s"}));
}

TEST(OptimizerPlugins, AgreeWithTheExactQuadraticProgram) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    constexpr std::size_t m = 12, n = 9;
    std::vector<double> a(m * n), b(m), q(n * n, 0.0), linear(n, 0.0);
    Rng rng{Seed{seed}};
    rng.fill_normal(a);
    rng.fill_normal(b);
    double constant = 0;
    for (std::size_t r = 0; r < m; ++r) {
      constant += b[r] * b[r] / 2;
      for (std::size_t i = 0; i < n; ++i) {
        linear[i] -= a[r * n + i] * b[r];
        for (std::size_t j = 0; j < n; ++j) q[i * n + j] += a[r * n + i] * a[r * n + j];
      }
    }
    const borel::reference::SimplexSolution exact = borel::reference::simplex_quadratic_program(q, linear);
    const std::vector<double> start(n, 1.0 / n);
    for (const std::string& id : registry().ids<borel::Optimizer>()) {
      const auto method = registry().make<borel::Optimizer>(id);
      const auto f = borel::least_squares_problem({"ls"}, a, b);
      if (!method->refuses(*f).empty()) continue;
      borel::StopRule stop;
      stop.gap_tolerance = 1e-11;
      stop.budget.max_iterations = 200000;
      borel::Trace trace;
      const borel::OptimizerResult result = method->minimize(*f, start, stop, Seed{seed}, trace);
      EXPECT_LE(std::abs(f->value(result.state) - exact.value - constant), 1e-9) << id << " seed " << seed;
      for (std::size_t i = 0; i < n; ++i)
        EXPECT_LE(std::abs(result.state[i] - exact.p[i]), 1e-4)
            << id << " seed " << seed << " coordinate " << i;
    }
  }
}

/// Published and closed-form minima, reached with a certificate.
TEST(OptimizerPlugins, NewtonReachesKnownMinimaOfLikelihoodsAndDesigns) {
  for (const auto& [id, minimum, variant] :
       {std::tuple{"problem_npmle_galaxies", 2.4310116548, "interior_point"},
        {"problem_d_optimal_3", 2.6310891600, "interior_point"},
        {"problem_d_optimal_3", 2.6310891600, "active_set"}}) {
    const auto f = borel::make_objective(*borel::Dataset::from(borel::run_recipe(*borel::find_recipe(id))));
    const auto method =
        registry().make<borel::Optimizer>(std::string("lagrangian_newton{variant=") + variant + "}");
    const auto n = static_cast<std::size_t>(f->size());
    borel::StopRule stop;
    stop.gap_tolerance = 1e-10;
    stop.budget.max_iterations = 200;
    borel::Trace trace;
    const borel::OptimizerResult result =
        method->minimize(*f, std::vector<double>(n, 1.0 / static_cast<double>(n)), stop, Seed{1}, trace);
    const auto& simplex = static_cast<const borel::SimplexObjective&>(*f);
    EXPECT_EQ(result.outcome.termination, borel::Termination::converged)
        << id << ": " << result.outcome.sentence;
    EXPECT_LE(borel::frank_wolfe_gap(simplex, result.state), 1.01e-10) << id << " " << variant;
    EXPECT_LE(std::abs(simplex.value(result.state) - minimum), 2e-10) << id << " " << variant;
  }
}

TEST(OptimizerPlugins, MultipliersCertifyMomentsAndMarginals) {
  for (const auto& [id, spec] : {std::pair{"problem_max_entropy_waiting", "lagrangian_newton"},
                                 {"problem_transport_faithful", "sinkhorn"}}) {
    const auto f = borel::make_objective(*borel::Dataset::from(borel::run_recipe(*borel::find_recipe(id))));
    const auto n = static_cast<std::size_t>(f->size());
    borel::StopRule stop;
    stop.gap_tolerance = 1e-9;
    stop.budget.max_iterations = 5000;
    borel::Trace trace;
    const borel::OptimizerResult result =
        registry()
            .make<borel::Optimizer>(std::string_view(spec))
            ->minimize(*f, std::vector<double>(n, 1.0 / static_cast<double>(n)), stop, Seed{1}, trace);
    const auto& simplex = static_cast<const borel::SimplexObjective&>(*f);
    EXPECT_EQ(result.outcome.termination, borel::Termination::converged)
        << id << ": " << result.outcome.sentence;
    EXPECT_LE(borel::constraint_violation(simplex, result.state), 1e-9) << id;
    EXPECT_LE(std::abs(borel::certified_gap(simplex, result.state, result.multipliers)), 1.1e-9) << id;
    EXPECT_LE(std::abs(simplex.value(result.state) - *f->optimum()), 2e-9) << id;
  }
}

/// F is flat but claims slopes that turn round after the first call and grow at every other: no step of any size passes a test of values and
/// gradients.
class Contradiction final : public borel::SimplexObjective {
 public:
  std::string_view name() const override { return "contradiction"; }
  borel::index_t size() const override { return 2; }

 protected:
  double do_value(std::span<const double>) const override { return 1; }
  double do_value_and_gradient(std::span<const double>, std::span<double> gradient) const override {
    gradient[0] = slope_;
    gradient[1] = -slope_;
    slope_ = -10 * std::abs(slope_);
    return 1;
  }

 private:
  mutable double slope_ = 1;
};

TEST(OptimizerPlugins, LineSearchesEndWhereRoundingBegins) {
  for (const std::string method : {"exponentiated_gradient", "exponentiated_gradient{variant=accelerated}",
                                   "projected_gradient", "frank_wolfe{variant=line_search}"}) {
    Contradiction f;
    borel::StopRule stop;
    stop.budget.max_iterations = 10;
    borel::Trace trace;
    const borel::OptimizerResult result =
        registry().make<borel::Optimizer>(method)->minimize(f, std::vector{0.4, 0.6}, stop, Seed{1}, trace);
    EXPECT_NE(result.outcome.termination, borel::Termination::converged) << method;
    EXPECT_LE(f.counts().total(), 2000) << method;
    if (method == "exponentiated_gradient") {
      EXPECT_EQ(result.outcome.termination, borel::Termination::stalled);
      EXPECT_LE(f.counts().total(), 80);
      EXPECT_THAT(result.outcome.sentence, testing::HasSubstr("lost in rounding"));
    }
  }
}

TEST(OptimizerPlugins, PairwiseStepsSolveLeastSquaresToACertifiedGap) {
  constexpr std::size_t m = 500, n = 1000;
  std::vector<double> a(m * n), b(m, 0.0), weight(n, 0.0);
  Rng rng{Seed{3}};
  rng.fill_normal(a);
  rng.fill_normal(b);
  for (double& v : b) v *= 0.05;
  for (std::size_t i = 0; i < 200; ++i) weight[5 * i] = rng.uniform() / 100;
  for (std::size_t r = 0; r < m; ++r)
    for (std::size_t i = 0; i < n; ++i) b[r] += a[r * n + i] * weight[i];
  const auto f = borel::least_squares_problem({"ls"}, std::move(a), std::move(b));
  const auto method = registry().make<borel::Optimizer>("frank_wolfe{variant=pairwise}");
  borel::StopRule stop;
  stop.gap_tolerance = 1e-8;
  stop.budget.max_iterations = 100000;
  borel::Trace trace;
  const borel::OptimizerResult result =
      method->minimize(*f, std::vector<double>(n, 1.0 / n), stop, Seed{1}, trace);
  EXPECT_EQ(result.outcome.termination, borel::Termination::converged) << result.outcome.sentence;
  EXPECT_LE(borel::frank_wolfe_gap(*f, result.state), 1e-8);
  EXPECT_LE(borel::domain_violation(*f, result.state), 1e-12);
  EXPECT_LE(f->counts().gradients, 200);
}

}  // namespace
