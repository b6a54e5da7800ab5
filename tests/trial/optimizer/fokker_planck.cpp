// Fokker-Planck equation on a one-dimensional grid, dp/dt = (p V' + D p')', by finite volumes with
// Scharfetter-Gummel fluxes
//   F_(i+1/2) = D / h (B(dV / D) p_i - B(-dV / D) p_(i+1)),  B(z) = z / (e^z - 1),
// implicit Euler: positive, exact in mass, exact at equilibrium.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

double bernoulli(double z) { return std::abs(z) < 1e-8 ? 1 - 0.5 * z : z / std::expm1(z); }

class FokkerPlanck final : public Optimizer {
 public:
  struct Params {
    double time_step = 0.01;
    void declare(ParamBinder& p) {
      p.real("time_step", time_step, Range::greater_than(0), "flow time", "of implicit Euler");
    }
  };
  explicit FokkerPlanck(const Params& params) : p_(params) {}

  OptimizerTraits traits() const override {
    return {.grid = true, .monotone = true, .rate = "first order in the time step"};
  }

  std::string refuses(const Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& energy = static_cast<const GridObjective&>(objective);
    if (energy.n_dims() != 1) return "it solves one dimension only";
    if (energy.power() != 1 || !(energy.diffusion() > 0))
      return "it needs linear diffusion (power 1, diffusion > 0)";
    return energy.has_interaction() ? "it has no interaction term" : "";
  }

  OptimizerResult minimize(Objective& base, std::span<const double> start, const StopRule& stop, Seed,
                           Trace& trace) const override {
    auto& objective = static_cast<GridObjective&>(base);
    const std::vector<double> centres = objective.grid().centres();
    const std::size_t n = centres.size();
    const double h = objective.grid().width(0), diffusion = objective.diffusion();
    std::vector<double> potential(n);
    objective.potential(TensorView<const double, 2>(centres.data(), {static_cast<index_t>(n), 1}), potential);
    // dp_i/dt = (F_(i-1/2) - F_(i+1/2)) / h; no flux through the border.
    std::vector<double> right(n, 0), left(n, 0);
    for (std::size_t i = 0; i + 1 < n; ++i) {
      const double z = (potential[i + 1] - potential[i]) / diffusion;
      right[i] = diffusion / (h * h) * bernoulli(z);
      left[i + 1] = diffusion / (h * h) * bernoulli(-z);
    }
    OptimizerResult result{.state = {start.begin(), start.end()},
                           .outcome = {Termination::budget_used_up, "all steps of the budget were used", 0}};
    double time = 0;
    while (result.outcome.iterations < stop.budget.max_iterations) {
      if (stop.budget.stop.stop_requested()) {
        result.outcome = {Termination::stopped_by_user, "stopped", result.outcome.iterations};
        break;
      }
      const double step =
          stop.time_horizon > 0 ? std::min(p_.time_step, stop.time_horizon - time) : p_.time_step;
      const std::vector<double> before = result.state;
      implicit_step(step, left, right, result.state);
      objective.count_velocity();
      time += step;
      ++result.outcome.iterations;
      if (trace.active()) {
        trace.record(result.outcome.iterations, objective.value(result.state), NAN, time);
        trace.snapshot(result.outcome.iterations, result.state, time);
      }
      double change = 0;
      for (std::size_t i = 0; i < n; ++i) change += std::abs(result.state[i] - before[i]) * h / step;
      if (stop.time_horizon > 0 ? time >= stop.time_horizon * (1 - 1e-12)
                                : change <= stop.stationarity_tolerance) {
        result.outcome = {Termination::converged,
                          stop.time_horizon > 0 ? "time horizon reached" : "stationary",
                          result.outcome.iterations};
        break;
      }
    }
    double mass = 0;
    for (double p : result.state) mass += p * h;
    for (double& p : result.state) p /= mass;
    return result;
  }

 private:
  /// Solves p_i (1 + step (left_i + right_i)) - step right_(i-1) p_(i-1) - step left_(i+1) p_(i+1) = old p_i.
  static void implicit_step(double step, std::span<const double> left, std::span<const double> right,
                            std::span<double> p) {
    const std::size_t n = p.size();
    std::vector<double> upper(n);
    double pivot = 1 + step * (left[0] + right[0]);
    p[0] /= pivot;
    for (std::size_t i = 1; i < n; ++i) {
      upper[i] = -step * left[i] / pivot;
      pivot = 1 + step * (left[i] + right[i]) + step * right[i - 1] * upper[i];
      p[i] = (p[i] + step * right[i - 1] * p[i - 1]) / pivot;
    }
    for (std::size_t i = n - 1; i-- > 0;) p[i] -= upper[i + 1] * p[i + 1];
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Optimizer, FokkerPlanck>(
      "fokker_planck",
      {.summary = "positive finite volumes", .source = "Chang & Cooper 1970; Scharfetter & Gummel 1969"});
}
