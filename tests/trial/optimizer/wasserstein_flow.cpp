// Wasserstein gradient flow of a free energy by particles, dx/dt = -grad(V + W * p + U'(p))(x), explicit
// Euler; the internal energy needs the density of the particles, which another method estimates at every step
// (Carrillo, Craig, Patacchini 2019).
//   grad U'(p) = diffusion * power * p^(power - 1) grad log p
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "borel/density.hpp"
#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class WassersteinFlow final : public Optimizer {
 public:
  struct Params {
    MethodSpec density = {.family = "density", .id = "kde"};
    double time_step = 0.01;
    void declare(ParamBinder& p) {
      p.method("density", density, "density",
               "estimates the particles' density; must offer log_pdf_gradient");
      p.real("time_step", time_step, Range::greater_than(0), "flow time", "of explicit Euler");
    }
  };
  WassersteinFlow(const Params& params, const Registry& registry)
      : p_(params), density_(registry.make<DensityEstimator>(params.density)) {}

  OptimizerTraits traits() const override {
    return {.particles = true, .rate = "first order in the time step"};
  }

  OptimizerResult minimize(Objective& base, std::span<const double> start, const StopRule& stop, Seed seed,
                           Trace& trace) const override {
    auto& objective = static_cast<ParticleObjective&>(base);
    OptimizerResult result{.state = {start.begin(), start.end()},
                           .outcome = {Termination::budget_used_up, "all steps of the budget were used", 0}};
    const index_t n = objective.n_particles(), d = objective.n_dims();
    const TensorView<double, 2> x(result.state.data(), {n, d});
    std::vector<double> velocity(result.state.size()), score(result.state.size()),
        log_p(static_cast<std::size_t>(n));
    const TensorView<double, 2> v(velocity.data(), {n, d}), grad_log_p(score.data(), {n, d});
    double time = 0;
    while (result.outcome.iterations < stop.budget.max_iterations) {
      if (stop.budget.stop.stop_requested()) {
        result.outcome = {Termination::stopped_by_user, "stopped", result.outcome.iterations};
        break;
      }
      objective.gradient(x, v);
      if (objective.diffusion() > 0) {
        const auto fitted = density_->fit({.x = x}, {.seed = seed});
        if (!fitted->log_pdf_gradient(x, grad_log_p))
          throw MethodError("optimizer wasserstein_flow: density=" + p_.density.id +
                            " has no gradient; use kde");
        if (objective.power() != 1) fitted->log_pdf(x, log_p);
        for (index_t i = 0; i < n; ++i) {
          const double factor =
              objective.diffusion() * objective.power() *
              (objective.power() == 1
                   ? 1
                   : std::exp((objective.power() - 1) * log_p[static_cast<std::size_t>(i)]));
          for (index_t c = 0; c < d; ++c) v(i, c) += factor * grad_log_p(i, c);
        }
      }
      const double left = stop.time_horizon > 0 ? stop.time_horizon - time : p_.time_step;
      const double step = std::min(p_.time_step, left);
      double square = 0;
      for (std::size_t c = 0; c < velocity.size(); ++c) {
        if (!std::isfinite(velocity[c]))
          throw MethodError("optimizer wasserstein_flow: the velocity is not finite");
        result.state[c] -= step * velocity[c];
        square += velocity[c] * velocity[c] / static_cast<double>(n);
      }
      time += step;
      ++result.outcome.iterations;
      if (trace.active()) {
        trace.record(result.outcome.iterations, objective.value(x), NAN, time);
        trace.snapshot(result.outcome.iterations, result.state, time);
      }
      if (stop.time_horizon > 0 ? time >= stop.time_horizon * (1 - 1e-12)
                                : std::sqrt(square) <= stop.stationarity_tolerance) {
        result.outcome = {Termination::converged,
                          stop.time_horizon > 0 ? "time horizon reached" : "stationary",
                          result.outcome.iterations};
        break;
      }
    }
    return result;
  }

 private:
  Params p_;
  std::unique_ptr<DensityEstimator> density_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Optimizer, WassersteinFlow>(
      "wasserstein_flow",
      {.summary = "particles along the Wasserstein gradient", .source = "arXiv 1709.09195"});
}
