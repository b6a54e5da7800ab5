// A density whose weights any optimizer finds: neither family knows the other.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "borel/registry.hpp"
#include "built_plugins.hpp"

namespace {

using borel::index_t;

using borel::test::registry;

std::vector<double> two_humps() {
  std::vector<double> x(2000);
  borel::Rng rng(borel::Seed{5});
  rng.fill_normal(x);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % 3 == 0 ? 0.5 * x[i] + 3 : x[i];
  return x;
}

borel::Samples as_samples(const std::vector<double>& x) {
  return {borel::TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), {}};
}

double mean_log_pdf(const borel::FittedDensity& density, const std::vector<double>& x) {
  std::vector<double> out(x.size());
  density.log_pdf(as_samples(x).x, out);
  double sum = 0;
  for (const double value : out) sum += value / static_cast<double>(x.size());
  return sum;
}

TEST(DensitySolver, EveryOptimizerOnTheSimplexFindsTheSameBernsteinDensity) {
  const std::vector<double> x = two_humps();
  const auto fit = [&](const std::string& spec) {
    return registry().make<borel::DensityEstimator>(spec)->fit(as_samples(x), {});
  };
  const double by_em = mean_log_pdf(*fit("bernstein{degree=20, tolerance=1e-8, max_iterations=100000}"), x);
  int n_tried = 0;
  for (const std::string& id : registry().ids<borel::Optimizer>()) {
    const auto optimizer = registry().make<borel::Optimizer>(id);
    if (const auto traits = optimizer->traits(); !traits.simplex || traits.transport) continue;
    ++n_tried;
    const auto density =
        fit("bernstein{degree=20, tolerance=1e-5, max_iterations=20000, solver=optimizer/" + id + "}");
    EXPECT_NEAR(mean_log_pdf(*density, x), by_em, 2e-4) << id;
    EXPECT_THAT(density->outcome().sentence, testing::HasSubstr(id));
  }
  EXPECT_GE(n_tried, 5);
}

TEST(DensitySolver, AnswersForWhatCannotSolve) {
  const std::vector<double> x = two_humps();
  try {
    registry().make<borel::DensityEstimator>("bernstein{degree=5, solver=langevin}")->fit(as_samples(x), {});
    FAIL() << "accepted";
  } catch (const borel::MethodError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("the solver"));
    EXPECT_THAT(error.what(), testing::HasSubstr("langevin"));
  }
  EXPECT_THROW(registry().make<borel::DensityEstimator>("bernstein{solver=frank_wolf}"), borel::Error);
}

}  // namespace
