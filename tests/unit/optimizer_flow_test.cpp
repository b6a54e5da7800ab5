// Flows against exact solutions: accuracy and order where theory promises them, problems from datasets, and the checks that
// name what is wrong with an objective.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "built_plugins.hpp"
#include "contract/optimizer_subject.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/recipes.hpp"
#include "protocols/problems.hpp"
#include "protocols/protocol.hpp"

namespace {

using borel::Seed;
using testing::HasSubstr;

using borel::test::registry;

std::shared_ptr<const borel::Dataset> dataset(const char* id) {
  return borel::Dataset::from(borel::run_recipe(*borel::find_recipe(id)));
}

borel::CellResult run(const char* problem, const std::string& method,
                      std::map<std::string, std::string> options = {}) {
  borel::CellInput input;
  input.dataset = dataset(problem);
  input.registry = &registry();
  input.methods = {borel::parse_method_spec(method, "optimizer")};
  input.options.id = "optimizer.flow";
  input.options.params = std::move(options);
  input.seed = Seed{7};
  const borel::Protocol& protocol = borel::find_protocol("optimizer.flow");
  EXPECT_EQ(protocol.refuses(input), "");
  return protocol.run(input);
}

std::map<std::string, double> measure(const char* problem, const std::string& method,
                                      std::map<std::string, std::string> options = {}) {
  std::map<std::string, double> metrics;
  for (const borel::Metric& metric : run(problem, method, std::move(options)).metrics)
    metrics[metric.name] = metric.value;
  return metrics;
}

TEST(OptimizerFlow, CrankNicolsonFollowsOrnsteinUhlenbeckToSecondOrder) {
  auto metrics = measure("flow_ou", "fokker_planck{time_step=0.0125}");
  EXPECT_LE(metrics["l1_error"], 2.7e-5);
  EXPECT_GE(metrics["order"], 1.9);
  EXPECT_LE(metrics["mass_error"], 2e-13);
  EXPECT_EQ(metrics["steps"], 80);
}

TEST(OptimizerFlow, ImplicitEulerAndQuantilesReachTheirOrders) {
  EXPECT_GE(measure("flow_ou_coarse", "fokker_planck{scheme=implicit_euler}")["order"], 0.9);
  EXPECT_GE(measure("flow_ou_coarse", "jko_1d{scheme=euler}")["order"], 0.9);
  EXPECT_GE(measure("flow_ou_coarse", "jko_1d{scheme=bdf2}")["order"], 1.5);
}

TEST(OptimizerFlow, PorousMediumAndRepulsionApproachTheirExactSolutions) {
  auto porous = measure("flow_barenblatt", "fokker_planck");
  EXPECT_LE(porous["l1_error"], 5e-3);
  EXPECT_GE(porous["order"], 0.8);  // the front is no smooth solution
  auto explicit_porous =
      measure("flow_barenblatt", "wasserstein_flow");  // smooth: only diffusion limits the step
  EXPECT_LE(explicit_porous["l1_error"], 5e-4);
  EXPECT_GE(explicit_porous["order"], 1);
  auto repulsion = measure("flow_repulsion", "wasserstein_flow");
  EXPECT_LE(repulsion["l1_error"], 5e-2);
  EXPECT_GE(repulsion["order"], 0.5);
}

TEST(OptimizerFlow, SamplersReachMeanAndVarianceWithinTheirError) {
  for (const char* method : {"langevin{variant=mala}", "langevin{variant=ula, time_step=0.01}"}) {
    auto metrics = measure("flow_ou_particles", method, {{"time_horizon", "6"}});
    EXPECT_LE(metrics["mean_error"], 4) << method;
    EXPECT_LE(metrics["variance_error"], 4) << method;
  }
  auto metrics = measure("flow_ou_particles", "svgd", {{"time_horizon", "0"}, {"max_steps", "500"}});
  EXPECT_LE(metrics["mean_error"], 1);
  EXPECT_LE(metrics["variance_error"], 4);
}

TEST(OptimizerFlow, PicturesShowTheDensityFromStartToEnd) {
  const std::pair<const char*, const char*> cases[] = {{"flow_ou_coarse", "fokker_planck"},
                                                       {"flow_ou_particles", "langevin"}};
  for (const auto& [problem, method] : cases) {
    const borel::CellResult result = run(problem, method, {{"halvings", "0"}});
    const auto picture = std::ranges::find(result.pictures, "density in time", &borel::Picture::name);
    ASSERT_NE(picture, result.pictures.end()) << problem;
    ASSERT_GE(picture->n_rows, 3);
    const auto n = static_cast<std::size_t>(picture->n_cols);
    const auto mean_place = [&](std::int64_t row) {
      double sum = 0, mass = 0;
      for (std::size_t c = 0; c < n; ++c) {
        sum += static_cast<double>(c) * picture->values[static_cast<std::size_t>(row) * n + c];
        mass += picture->values[static_cast<std::size_t>(row) * n + c];
      }
      return sum / mass / static_cast<double>(n);
    };
    EXPECT_GT(mean_place(0), mean_place(picture->n_rows - 1) + 0.02) << problem;  // mean 2 falls to 2 / e
    for (std::int64_t row = 1; row < picture->n_rows; ++row)
      EXPECT_LE(mean_place(row), mean_place(row - 1) + 0.005) << problem << " row " << row;
  }
}

TEST(OptimizerFlow, DoubleWellComesToRestAtTheMinimum) {
  auto metrics = measure("flow_double_well", "fokker_planck{scheme=implicit_euler, time_step=1}",
                         {{"time_horizon", "0"}, {"stationarity_tolerance", "1e-10"}});
  EXPECT_LE(std::abs(metrics["energy_excess"]), 1e-12);
  EXPECT_LE(metrics["l1_error"], 1e-2);
}

TEST(GradientFault, NamesTheCoordinate) {
  class Wrong final : public borel::SimplexObjective {
   public:
    borel::index_t size() const override { return 5; }
    std::string_view name() const override { return "wrong"; }

   private:
    double do_value(std::span<const double> p) const override {
      double sum = 0;
      for (double x : p) sum += x * x;
      return sum;
    }
    double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
      for (std::size_t i = 0; i < p.size(); ++i) gradient[i] = 2 * p[i];
      gradient[3] *= 1.01;
      return do_value(p);
    }
  } wrong;
  const std::vector<double> p{0.1, 0.2, 0.3, 0.2, 0.2};
  EXPECT_THAT(borel::contract::gradient_fault(wrong, p), HasSubstr("coordinate 3"));
  for (const auto& f : borel::contract::assorted_problems(7, Seed{1}))
    EXPECT_EQ(borel::contract::gradient_fault(*f, borel::contract::random_point(7, Seed{2})), "")
        << f->name();
}

TEST(FreeEnergyProblems, RefuseSizesThatAreNone) {
  const auto made = [](const char* domain, auto&& add) {
    borel::DatasetWriter writer(borel::DatasetKind::problem, "sizes", "Sizes", "made here", "CC0");
    for (const auto& [name, text] :
         {std::pair{"objective", "free_energy"}, std::pair{"domain", domain}, std::pair{"potential", "none"},
          std::pair{"interaction", "none"}, std::pair{"exact", "gaussian"}})
      writer.attribute("", name, std::string(text));
    for (const auto& [name, value] : {std::pair{"diffusion", 1.0}, std::pair{"power", 1.0},
                                      std::pair{"start_mean", 0.0}, std::pair{"start_sd", 1.0}})
      writer.attribute("", name, value);
    add(writer);
    writer.seal();
    return borel::Dataset::from(writer);
  };
  const auto grid = [&](std::int64_t n_cells) {
    return made("grid", [&](borel::DatasetWriter& writer) {
      writer.array<double>("grid/begin", {0}, {1});
      writer.array<double>("grid/end", {1}, {1});
      writer.array<std::int64_t>("grid/n_cells", {n_cells}, {1});
    });
  };
  EXPECT_EQ(borel::make_free_energy(*grid(8), 2)->size(), 16);
  for (const std::int64_t n_cells : {std::int64_t{0}, std::int64_t{-3}, std::int64_t{1} << 62})
    EXPECT_THROW(borel::make_free_energy(*grid(n_cells), 4), borel::DatasetError) << n_cells;
  const auto particles = [&](double n) {
    return made("particles", [&](borel::DatasetWriter& writer) { writer.attribute("", "n_particles", n); });
  };
  EXPECT_EQ(borel::make_objective(*particles(5))->size(), 5);
  for (const double n : {0.0, -1.0, 2.5, 1e300})
    EXPECT_THROW(borel::make_objective(*particles(n)), borel::DatasetError) << n;
}

TEST(ProblemRecipes, EveryProblemBecomesAnObjectiveThatKeepsItsOptimum) {
  for (const borel::Recipe& recipe : borel::recipes()) {
    if (recipe.kind != borel::DatasetKind::problem) continue;
    if (recipe.id.find("large") != std::string::npos || recipe.id.find("wide") != std::string::npos ||
        recipe.id.find("npmle") != std::string::npos || recipe.id == std::string_view("problem_simplex_ls"))
      continue;  // seconds each; recipe_test looks at them
    const auto data = dataset(std::string(recipe.id).c_str());
    const auto f = borel::make_objective(*data);
    ASSERT_GT(f->size(), 0) << recipe.id;
    if (f->domain() != borel::Domain::simplex || !f->optimum() || !data->has("truth/p")) continue;
    const auto& simplex = static_cast<const borel::SimplexObjective&>(*f);
    const std::span<const double> p = data->doubles("truth/p");
    EXPECT_LE(std::abs(simplex.value(p) - *f->optimum()), 1e-12 * (1 + std::abs(*f->optimum()))) << recipe.id;
    if (simplex.constraints() || simplex.transport()) continue;  // their gap needs multipliers
    EXPECT_LE(borel::frank_wolfe_gap(simplex, p), data->number("", "optimum_gap") + 1e-12) << recipe.id;
  }
}

}  // namespace
