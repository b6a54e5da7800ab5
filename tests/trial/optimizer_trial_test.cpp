// An objective for each domain, and one real property of each trial optimizer.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "borel/optimizer.hpp"
#include "trial_registry.hpp"

namespace borel::trial {

namespace {

constexpr double k_gap = 1e-9;
const double k_mean_at_1 = 2 * std::exp(-1.0);  // Ornstein-Uhlenbeck from N(2, 1/4)
const double k_variance_at_1 = 1 + (0.25 - 1) * std::exp(-2.0);

std::unique_ptr<Optimizer> optimizer(std::string_view spec) { return trial_registry().make<Optimizer>(spec); }

/// F(p) = 1/2 |A p - b|^2 with a random A [12, n].
class LeastSquares final : public SimplexObjective {
 public:
  LeastSquares(index_t n, Seed seed) : n_(n), a_(static_cast<std::size_t>(12 * n)), b_(12) {
    Rng rng(seed);
    rng.fill_normal(a_);
    rng.fill_normal(b_);
  }
  index_t size() const override { return n_; }
  std::string_view name() const override { return "least squares"; }
  bool has_curvature() const override { return true; }

 protected:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (double r : residual(p)) sum += 0.5 * r * r;
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    transposed(residual(p), gradient);
    return do_value(p);
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    std::vector<double> product = residual(v);
    for (std::size_t r = 0; r < 12; ++r) product[r] += b_[r];
    transposed(product, out);
  }

 private:
  std::vector<double> residual(std::span<const double> p) const {
    std::vector<double> r(12);
    for (std::size_t row = 0; row < 12; ++row) {
      r[row] = -b_[row];
      for (std::size_t i = 0; i < p.size(); ++i) r[row] += a_[row * p.size() + i] * p[i];
    }
    return r;
  }
  void transposed(std::span<const double> r, std::span<double> out) const {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = 0;
      for (std::size_t row = 0; row < 12; ++row) out[i] += a_[row * out.size() + i] * r[row];
    }
  }
  index_t n_;
  std::vector<double> a_, b_;
};

class Transport final : public SimplexObjective, public TransportProblem {
 public:
  Transport(index_t n, index_t m, double epsilon) : n_(n), m_(m), epsilon_(epsilon) {
    Rng rng(Seed{7});
    for (index_t i = 0; i < n * m; ++i) cost_.push_back(rng.uniform());
    for (index_t i = 0; i < n; ++i)
      source_.push_back(static_cast<double>(i + 1) * 2 / static_cast<double>(n * (n + 1)));
    target_.assign(static_cast<std::size_t>(m), 1 / static_cast<double>(m));
  }
  index_t size() const override { return n_ * m_; }
  std::string_view name() const override { return "transport"; }
  const TransportProblem* transport() const override { return this; }
  TensorView<const double, 2> cost() const override { return {cost_.data(), {n_, m_}}; }
  std::span<const double> source() const override { return source_; }
  std::span<const double> target() const override { return target_; }
  double epsilon() const override { return epsilon_; }

 protected:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t c = 0; c < p.size(); ++c)
      sum += p[c] * cost_[c] + (p[c] > 0 ? epsilon_ * p[c] * (std::log(p[c]) - 1) : 0);
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    for (std::size_t c = 0; c < p.size(); ++c) gradient[c] = cost_[c] + epsilon_ * std::log(p[c]);
    return do_value(p);
  }

 private:
  index_t n_, m_;
  double epsilon_;
  std::vector<double> cost_, source_, target_;
};

/// V = x^2 / 2 and diffusion 1, for both continuous domains.
template <class Base>
class OrnsteinUhlenbeck : public Base {
 public:
  std::string_view name() const override { return "Ornstein-Uhlenbeck"; }
  void potential(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) {
      out[static_cast<std::size_t>(i)] = 0;
      for (double c : x.row(i)) out[static_cast<std::size_t>(i)] += 0.5 * c * c;
    }
  }
  void potential_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) std::copy(x.row(i).begin(), x.row(i).end(), out.row(i).begin());
  }
  double diffusion() const override { return 1; }
};

class Particles final : public OrnsteinUhlenbeck<ParticleObjective> {
 public:
  index_t n_particles() const override { return 300; }
  index_t n_dims() const override { return 1; }
};

class Cells final : public OrnsteinUhlenbeck<GridObjective> {
 public:
  const GridSpec& grid() const override { return grid_; }

 private:
  GridSpec grid_{.begin = {-6}, .end = {6}, .n_cells = {400}};
};

std::vector<double> uniform(index_t n) {
  return std::vector<double>(static_cast<std::size_t>(n), 1 / static_cast<double>(n));
}

TEST(OptimizerTrial, LagrangianNewtonClosesTheGapWithSecondDerivatives) {
  LeastSquares objective(40, {1});
  Trace trace(objective, 1000, 10);
  const auto method = optimizer("lagrangian_newton");
  ASSERT_EQ(method->refuses(objective), "");
  const OptimizerResult result = method->minimize(
      objective, uniform(40), {.budget = {.max_iterations = 200}, .gap_tolerance = k_gap}, {}, trace);
  EXPECT_EQ(result.outcome.termination, Termination::converged) << result.outcome.sentence;
  EXPECT_LE(frank_wolfe_gap(objective, result.state), 2 * k_gap);
  EXPECT_LE(domain_violation(objective, result.state), 1e-12);
  EXPECT_LE(result.outcome.iterations, 60);
  EXPECT_GE(objective.counts().curvature_products, 40);
  EXPECT_EQ(trace.points().size(), static_cast<std::size_t>(result.outcome.iterations + 1));
}

TEST(OptimizerTrial, LagrangianNewtonMeetsMomentsWithACertificate) {
  const auto problem = trial_registry().make<ProblemMaker>("entropy_with_mean{n=30, mean=0.8}");
  const std::unique_ptr<Objective> made = problem->make({});
  auto& objective = static_cast<SimplexObjective&>(*made);
  Trace none;
  const OptimizerResult result =
      optimizer("lagrangian_newton")
          ->minimize(objective, uniform(30), {.budget = {.max_iterations = 200}, .gap_tolerance = k_gap}, {},
                     none);
  EXPECT_EQ(result.outcome.termination, Termination::converged) << result.outcome.sentence;
  EXPECT_LE(constraint_violation(objective, result.state), 1e-9);
  EXPECT_LE(std::abs(certified_gap(objective, result.state, result.multipliers)), 1e-8);
  // Any multipliers give a bound, bad ones a bad one; none give no number.
  EXPECT_GT(certified_gap(objective, result.state, std::vector<double>{0.0}), 0.1);
  EXPECT_TRUE(std::isnan(certified_gap(objective, result.state, {})));
  for (std::size_t i = 2; i < 30; ++i) {
    const std::vector<double>& p = result.state;
    EXPECT_LE(std::abs(std::log(p[i] / p[i - 1]) - std::log(p[1] / p[0])), 1e-5)
        << "an exponential family in x";
  }
}

TEST(OptimizerTrial, SinkhornMeetsMarginalsAndItsPotentialsCertifyIt) {
  Transport objective(6, 9, 0.05);
  Trace trace(objective, 100, 0);
  const auto method = optimizer("sinkhorn");
  ASSERT_EQ(method->refuses(objective), "");
  const OptimizerResult result =
      method->minimize(objective, uniform(54), {.budget = {.max_iterations = 5000}}, {}, trace);
  EXPECT_EQ(result.outcome.termination, Termination::converged) << result.outcome.sentence;
  EXPECT_LE(constraint_violation(objective, result.state), 1e-12);
  EXPECT_LE(std::abs(certified_gap(objective, result.state, result.multipliers)), k_gap);
  EXPECT_LE(domain_violation(objective, result.state), 1e-12);
}

TEST(OptimizerTrial, MethodsRefuseWhatTheyWouldGetWrong) {
  Transport transport(3, 3, 0.1);
  LeastSquares squares(5, {2});
  Particles particles;
  Cells cells;
  EXPECT_NE(optimizer("lagrangian_newton")->refuses(transport), "");  // would ignore the marginals
  EXPECT_NE(optimizer("lagrangian_newton")->refuses(cells), "");
  EXPECT_NE(optimizer("sinkhorn")->refuses(squares), "");
  EXPECT_NE(optimizer("wasserstein_flow")->refuses(cells), "");
  EXPECT_NE(optimizer("fokker_planck")->refuses(particles), "");
  EXPECT_EQ(optimizer("wasserstein_flow")->refuses(particles), "");
}

TEST(OptimizerTrial, FokkerPlanckFollowsTheExactMomentsAndKeepsMass) {
  Cells objective;
  const std::vector<double> x = objective.grid().centres();
  std::vector<double> start;
  double mass = 0;
  for (double c : x) mass += start.emplace_back(std::exp(-2 * (c - 2) * (c - 2))) * objective.grid().width(0);
  for (double& p : start) p /= mass;
  Trace trace(objective, 1000, 5);
  const OptimizerResult result =
      optimizer("fokker_planck{time_step=0.0025}")
          ->minimize(objective, start, {.budget = {.max_iterations = 1000}, .time_horizon = 1}, {}, trace);
  double mean = 0, square = 0;
  for (std::size_t c = 0; c < x.size(); ++c) mean += x[c] * result.state[c] * objective.grid().width(0);
  for (std::size_t c = 0; c < x.size(); ++c)
    square += (x[c] - mean) * (x[c] - mean) * result.state[c] * objective.grid().width(0);
  EXPECT_LE(std::abs(mean - k_mean_at_1), 2e-3);
  EXPECT_LE(std::abs(square - k_variance_at_1), 2e-3);
  EXPECT_LE(domain_violation(objective, result.state), 1e-12);
  for (std::size_t point = 1; point < trace.points().size(); ++point)
    EXPECT_LE(trace.points()[point].value, trace.points()[point - 1].value + 1e-12)
        << "the free energy falls";
  EXPECT_EQ(objective.counts().gradients, result.outcome.iterations);

  const OptimizerResult stationary =
      optimizer("fokker_planck{time_step=1}")
          ->minimize(objective, start, {.stationarity_tolerance = 1e-12}, {}, trace);
  for (std::size_t c = 0; c < x.size(); ++c)
    EXPECT_LE(std::abs(stationary.state[c] - std::exp(-0.5 * x[c] * x[c]) / std::sqrt(2 * std::numbers::pi)),
              1e-6);
}

TEST(OptimizerTrial, WassersteinFlowMovesParticlesAsTheExactSolution) {
  Particles objective;
  std::vector<double> start(300);
  Rng(Seed{8}).fill_normal(start);
  double shift = 0, spread = 0;
  for (double x : start) shift += x / 300;
  for (double x : start) spread += (x - shift) * (x - shift) / 300;
  for (double& x : start) x = 2 + 0.5 * (x - shift) / std::sqrt(spread);
  Trace none;
  const OptimizerResult result =
      optimizer("wasserstein_flow{density=kde, time_step=0.01}")
          ->minimize(objective, start, {.budget = {.max_iterations = 1000}, .time_horizon = 1}, {}, none);
  EXPECT_EQ(result.outcome.termination, Termination::converged);
  EXPECT_EQ(result.outcome.iterations, 100);
  double mean = 0, square = 0;
  for (double x : result.state) mean += x / 300;
  for (double x : result.state) square += (x - mean) * (x - mean) / 300;
  EXPECT_LE(std::abs(mean - k_mean_at_1), 0.02);
  EXPECT_LE(std::abs(square - k_variance_at_1),
            0.1);  // the kernel's smoothing takes a tenth of the diffusion
  EXPECT_EQ(objective.counts().gradients, 100);
}

}  // namespace

}  // namespace borel::trial
