#include "borel/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "reference/optimizer_reference.hpp"

namespace {

using borel::index_t;
using borel::Rng;
using borel::Seed;
using testing::HasSubstr;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_nan = std::numeric_limits<double>::quiet_NaN();

/// F(p) = c.p, with a fault on request.
class Linear final : public borel::SimplexObjective {
 public:
  explicit Linear(std::vector<double> c) : c_(std::move(c)) {}
  index_t size() const override { return static_cast<index_t>(c_.size()); }
  std::string_view name() const override { return "linear"; }
  const borel::LinearConstraints* constraints() const override { return constraints_; }
  double fault = 0;
  const borel::LinearConstraints* constraints_ = nullptr;

 private:
  double do_value(std::span<const double> p) const override {
    return std::inner_product(p.begin(), p.end(), c_.begin(), fault);
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::ranges::copy(c_, gradient.begin());
    double value = 0;
    for (std::size_t i = 0; i < c_.size(); ++i)
      if (p[i] != 0) value += c_[i] * p[i];
    return value;
  }
  std::vector<double> c_;
};

double projected_distance(std::span<const double> x, double& threshold_error) {
  std::vector<double> p(x.begin(), x.end());
  const double tau = borel::project_onto_simplex(p);
  const double expected = borel::reference::projection_threshold(x);
  threshold_error = std::abs(tau - expected) / std::max(1.0, std::abs(expected));
  long double sum = 0;
  double largest = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += p[i];
    EXPECT_GE(p[i], 0.0);
    largest = std::max(largest, std::abs(p[i] - std::max(x[i] - expected, 0.0)));
  }
  EXPECT_LE(std::abs(sum - 1), 1e-12L);
  return largest;
}

TEST(SimplexProjection, AgreesWithSortingForManySizesAndScales) {
  for (const index_t n : {1, 2, 3, 63, 65, 127, 1000, 20000})
    for (const double scale : {0.0, 1e-3, 0.1, 1.0, 100.0}) {
      Rng rng{Seed{static_cast<std::uint64_t>(n)}};
      std::vector<double> x(static_cast<std::size_t>(n));
      for (double& v : x) v = scale * rng.normal() + 1.0 / static_cast<double>(n);
      double threshold_error = 0;
      EXPECT_LE(projected_distance(x, threshold_error), 1e-13) << "n " << n << " scale " << scale;
      EXPECT_LE(threshold_error, 1e-14) << "n " << n << " scale " << scale;
    }
}

TEST(SimplexProjection, StandsSortedEqualAndHugeInputs) {
  std::vector<double> rising(5000), falling(5000), equal(5000, 3.0), huge{1e15, 1e15 - 0.5, -1e300, 0};
  for (std::size_t i = 0; i < rising.size(); ++i) rising[i] = static_cast<double>(i) * 1e-4;
  std::ranges::reverse_copy(rising, falling.begin());
  for (const std::vector<double>& x : {rising, falling, equal}) {
    double threshold_error = 0;
    EXPECT_LE(projected_distance(x, threshold_error), 1e-13);
    EXPECT_LE(threshold_error, 1e-14);
  }
  borel::project_onto_simplex(huge);
  EXPECT_THAT(huge, testing::ElementsAre(0.75, 0.25, 0, 0));
}

TEST(SimplexProjection, ThresholdIsRightToTheLastDigits) {
  constexpr std::size_t n = 200000;
  for (const int kind : {0, 1, 2}) {
    std::vector<double> x(n);
    Rng rng{Seed{9}};
    for (double& v : x)
      v = kind == 0 ? 0.1 * rng.normal() : kind == 1 ? rng.uniform() : (1 + 0.3 * rng.normal()) / n + 1;
    const double expected = borel::reference::projection_threshold(x);
    const double tau = borel::project_onto_simplex(x);
    EXPECT_LE(std::abs(tau - expected), 1e-15 * std::abs(expected)) << "kind " << kind;
  }
}

TEST(SimplexProjection, IsIdempotent) {
  std::vector<double> x{0.2, -0.4, 1.7, 0.9};
  borel::project_onto_simplex(x);
  std::vector<double> again = x;
  borel::project_onto_simplex(again);
  for (std::size_t i = 0; i < x.size(); ++i) EXPECT_LE(std::abs(again[i] - x[i]), 1e-16);
}

TEST(SimplexProjection, RefusesEmptyAndNonFiniteVectors) {
  std::vector<double> empty, with_nan{0, k_nan, 1}, with_infinity{0, 1, k_infinity};
  EXPECT_THROW(borel::project_onto_simplex(empty), borel::MethodError);
  try {
    borel::project_onto_simplex(with_nan);
    FAIL() << "NaN was accepted";
  } catch (const borel::MethodError& error) {
    EXPECT_THAT(error.what(), HasSubstr("coordinate 1"));
  }
  EXPECT_THROW(borel::project_onto_simplex(with_infinity), borel::MethodError);
}

TEST(FrankWolfeGap, IsTheDistanceToTheBestVertexForLinearFunctions) {
  const Linear objective({3, 1, 2});
  const std::vector<double> p{0.5, 0.25, 0.25};
  EXPECT_DOUBLE_EQ(borel::frank_wolfe_gap(objective, p), 2.25 - 1);
  EXPECT_EQ(objective.counts().gradients, 1);
  EXPECT_EQ(borel::frank_wolfe_gap(std::vector<double>{0, 1, 0}, std::vector<double>{3, 1, 2}), 0);
  EXPECT_TRUE(std::isnan(borel::frank_wolfe_gap(std::vector<double>{0, 1}, std::vector<double>{k_nan, 1})));
}

TEST(CertifiedGap, UsesMultipliersOfLinearConstraints) {
  // min p.(0, 1, 4) with mean of (0, 1, 2) equal to 1: p = (0.5, 0, 0.5) costs 2, p = (0, 1, 0) costs 1 and
  // is optimal.
  struct MeanIsOne final : borel::LinearConstraints {
    double positions[3] = {0, 1, 2}, mean[1] = {1};
    borel::TensorView<const double, 2> matrix() const override { return {positions, {1, 3}}; }
    std::span<const double> right_hand_side() const override { return mean; }
  } constraints;
  Linear objective({0, 1, 4});
  objective.constraints_ = &constraints;
  const std::vector<double> optimal{0, 1, 0}, worse{0.5, 0, 0.5}, y{-2};
  EXPECT_LE(std::abs(borel::certified_gap(objective, optimal, y) - 0), 1e-15);
  EXPECT_LE(std::abs(borel::certified_gap(objective, worse, y) - 1), 1e-15);
  EXPECT_TRUE(std::isnan(borel::certified_gap(objective, optimal, {})));
  EXPECT_LE(std::abs(borel::constraint_violation(objective, std::vector<double>{1, 0, 0}) - 1), 1e-15);
}

TEST(SimplexObjective, NamesCallAndCoordinateOfNonFiniteNumbers) {
  const Linear objective({0, k_nan, 1});
  const std::vector<double> p{1, 0, 0};
  std::vector<double> gradient(3);
  try {
    objective.value_and_gradient(p, gradient);
    FAIL() << "a NaN gradient was accepted";
  } catch (const borel::MethodError& error) {
    EXPECT_THAT(error.what(), HasSubstr("'linear', gradient call 1: coordinate 1"));
  }
  Linear faulty({0, 1, 2});
  std::ignore = faulty.value(p);
  faulty.fault = k_nan;
  try {
    std::ignore = faulty.value(p);
    FAIL() << "a NaN value was accepted";
  } catch (const borel::MethodError& error) {
    EXPECT_THAT(error.what(), HasSubstr("value call 2"));
  }
  EXPECT_THROW(std::ignore = objective.value(std::vector<double>{1, 0}), borel::MethodError);
}

TEST(DomainViolation, MeasuresNegativeEntriesAndMass) {
  const Linear objective({0, 0, 0});
  EXPECT_EQ(borel::domain_violation(objective, std::vector<double>{0.5, 0.25, 0.25}), 0);
  EXPECT_DOUBLE_EQ(borel::domain_violation(objective, std::vector<double>{1.25, -0.25, 0}), 0.25);
  EXPECT_DOUBLE_EQ(borel::domain_violation(objective, std::vector<double>{0.5, 0.25, 0}), 0.25);
  EXPECT_EQ(borel::domain_violation(objective, std::vector<double>{0.5, 0.5}), k_infinity);
  EXPECT_EQ(borel::domain_violation(objective, std::vector<double>{k_nan, 1, 0}), k_infinity);
}

TEST(Trace, StaysSmallAndKeepsFirstAndLastPoint) {
  const Linear objective({0, 1});
  borel::Trace trace(objective, 50, 5);
  const std::vector<double> state{0.5, 0.5};
  for (index_t k = 0; k <= 12345; ++k) {
    trace.record(k, 1.0 / static_cast<double>(k + 1), 0);
    trace.snapshot(k, state);
  }
  EXPECT_LE(trace.points().size(), 50u);
  EXPECT_GE(trace.points().size(), 20u);
  EXPECT_EQ(trace.points().front().iteration, 0);
  EXPECT_EQ(trace.points().back().iteration, 12345);
  for (std::size_t i = 1; i < trace.points().size(); ++i)
    EXPECT_GT(trace.points()[i].iteration, trace.points()[i - 1].iteration);
  EXPECT_LE(trace.snapshots().size(), 5u);
  EXPECT_GE(trace.snapshots().size(), 2u);
  borel::Trace silent;
  silent.record(0, 1, 1);
  EXPECT_TRUE(silent.points().empty());
}

TEST(SimplexRun, SaysWhyItEnded) {
  Linear objective({0, 1});
  borel::Trace trace;
  const std::vector<double> start{0.5, 0.5};
  borel::StopRule stop;
  stop.gap_tolerance = 1e-3;
  stop.budget.max_iterations = 3;
  borel::SimplexRun converged("test", objective, start, stop, trace);
  EXPECT_TRUE(converged.go_on(0, 1, 0.5, start));
  EXPECT_FALSE(converged.go_on(1, 1, 1e-4, start));
  EXPECT_EQ(converged.result(start).outcome.termination, borel::Termination::converged);
  borel::SimplexRun used_up("test", objective, start, stop, trace);
  EXPECT_FALSE(used_up.go_on(3, 1, 0.5, start));
  EXPECT_EQ(used_up.result(start).outcome.termination, borel::Termination::budget_used_up);
  EXPECT_THAT(used_up.result(start).outcome.sentence, HasSubstr("3 iterations"));
  const std::atomic<bool> flag = true;
  stop.budget.stop = borel::StopToken(&flag, borel::StopToken::Clock::time_point::max());
  borel::SimplexRun stopped("test", objective, start, stop, trace);
  EXPECT_FALSE(stopped.go_on(0, 1, 0.5, start));
  EXPECT_EQ(stopped.result(start).outcome.termination, borel::Termination::stopped_by_user);
}

TEST(SimplexRun, RefusesStartsOutsideTheSimplex) {
  Linear objective({0, 1});
  Linear nothing({});
  borel::Trace trace;
  const borel::StopRule stop;
  const auto run = [&](Linear& problem, std::vector<double> start) {
    const borel::SimplexRun unused("test", problem, start, stop, trace);
  };
  EXPECT_THROW(run(objective, {1}), borel::MethodError);
  EXPECT_THROW(run(objective, {0.7, 0.7}), borel::MethodError);
  EXPECT_THROW(run(objective, {1.5, -0.5}), borel::MethodError);
  EXPECT_THROW(run(objective, {k_nan, 1}), borel::MethodError);
  EXPECT_THROW(run(nothing, {}), borel::MethodError);
  EXPECT_NO_THROW(run(objective, {0.25, 0.75}));
}

TEST(OptimizerReference, QuadraticProgramMeetsItsOptimalityConditions) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    Rng rng{Seed{seed}};
    constexpr std::size_t n = 7, m = 5;
    std::vector<double> a(m * n), q(n * n), b(n);
    rng.fill_normal(a);
    rng.fill_normal(b);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        for (std::size_t r = 0; r < m; ++r) q[i * n + j] += a[r * n + i] * a[r * n + j];
    const auto [p, value] = borel::reference::simplex_quadratic_program(q, b);
    std::vector<double> gradient(b);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) gradient[i] += q[i * n + j] * p[j];
    EXPECT_LE(borel::frank_wolfe_gap(p, gradient), 1e-12) << "seed " << seed;
  }
}

/// A particle problem whose energy has a closed form: V = |x|^2 / 2, W = |z|^2.
class Springs final : public borel::ParticleObjective {
 public:
  index_t n_particles() const override { return 3; }
  index_t n_dims() const override { return 2; }
  std::string_view name() const override { return "springs"; }
  bool has_interaction() const override { return true; }
  void potential(borel::TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = (x(i, 0) * x(i, 0) + x(i, 1) * x(i, 1)) / 2;
  }
  void potential_gradient(borel::TensorView<const double, 2> x,
                          borel::TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i)
      for (index_t c = 0; c < 2; ++c) out(i, c) = x(i, c);
  }
  void interaction(borel::TensorView<const double, 2> z, std::span<double> out) const override {
    for (index_t i = 0; i < z.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = z(i, 0) * z(i, 0) + z(i, 1) * z(i, 1);
  }
  void interaction_gradient(borel::TensorView<const double, 2> z,
                            borel::TensorView<double, 2> out) const override {
    for (index_t i = 0; i < z.shape(0); ++i)
      for (index_t c = 0; c < 2; ++c) out(i, c) = 2 * z(i, c);
  }
};

TEST(ParticleObjective, GradientIsTheDerivativeOfTheValue) {
  const Springs springs;
  std::vector<double> x{0.3, -1, 2, 0.5, -0.7, 0.1}, gradient(6);
  springs.gradient({x.data(), {3, 2}}, {gradient.data(), {3, 2}});
  constexpr double h = 1e-6;
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::vector<double> up = x, down = x;
    up[i] += h;
    down[i] -= h;
    const double slope =
        (springs.value({up.data(), {3, 2}}) - springs.value({down.data(), {3, 2}})) / (2 * h);
    EXPECT_LE(std::abs(3 * slope - gradient[i]), 1e-8) << "coordinate " << i;
  }
}

/// Entropy plus a quadratic interaction on a small two-dimensional grid.
class Cloud final : public borel::GridObjective {
 public:
  const borel::GridSpec& grid() const override { return grid_; }
  std::string_view name() const override { return "cloud"; }
  bool has_interaction() const override { return true; }
  double diffusion() const override { return 0.7; }
  double power() const override { return power_; }
  void potential(borel::TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out[static_cast<std::size_t>(i)] = x(i, 0) + 2 * x(i, 1);
  }
  void potential_gradient(borel::TensorView<const double, 2> x,
                          borel::TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) {
      out(i, 0) = 1;
      out(i, 1) = 2;
    }
  }
  void interaction(borel::TensorView<const double, 2> z, std::span<double> out) const override {
    for (index_t i = 0; i < z.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = std::exp(-z(i, 0) * z(i, 0) - 3 * z(i, 1) * z(i, 1));
  }
  double power_ = 1;

 private:
  borel::GridSpec grid_{{-1, 0}, {1, 3}, {3, 4}};
};

TEST(GridObjective, DerivativeIsTheDerivativeOfTheValue) {
  for (const double power : {1.0, 2.0, 3.0}) {
    Cloud cloud;
    cloud.power_ = power;
    EXPECT_EQ(cloud.size(), 12);
    EXPECT_DOUBLE_EQ(cloud.grid().cell_volume(), 0.5);
    EXPECT_DOUBLE_EQ(cloud.grid().centres()[2 * 5 + 1], 1.125);
    Rng rng{Seed{3}};
    std::vector<double> p(12), derivative(12);
    for (double& v : p) v = 0.1 + rng.uniform();
    const double value = cloud.value_and_derivative(p, derivative);
    EXPECT_LE(std::abs(value - cloud.value(p)), 1e-14);
    constexpr double h = 1e-6;
    for (std::size_t i = 0; i < p.size(); ++i) {
      std::vector<double> up = p, down = p;
      up[i] += h;
      down[i] -= h;
      const double slope = (cloud.value(up) - cloud.value(down)) / (2 * h) / cloud.grid().cell_volume();
      EXPECT_LE(std::abs(slope - derivative[i]), 1e-8) << "power " << power << " cell " << i;
    }
  }
}

}  // namespace
