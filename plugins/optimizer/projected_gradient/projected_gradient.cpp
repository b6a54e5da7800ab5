// Projected gradient on the simplex.
//   plain:        p+ = P(p - g(p) / L)                                     P = Euclidean projection
//   accelerated:  y = p + beta (p - p_before),  p+ = P(y - g(y) / L),  beta = (t - 1) / t+,  t+ = (1 + sqrt(1 + 4 t^2)) / 2
// Beck, Teboulle, SIAM J. Imaging Sci. 2 (2009), algorithms ISTA and FISTA with their backtracking; restart of the momentum
// when (y - p+).(p+ - p) > 0: O'Donoghue, Candes, Found. Comput. Math. 15 (2015), section 3.2 (gradient scheme). Differs from
// the papers: y may leave the simplex, where F need not exist; for quadratics g(y) is the same combination of gradients
// already known (one oracle call less), otherwise y is projected. L may also shrink, by k_shrink per step.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::dense::dot;

enum class Variant { plain, accelerated };
enum class StepRule { backtracking, fixed };

constexpr double k_shrink = 0.9;
constexpr double k_grow = 2;
/// Relative difference of two values below which rounding decides their order; gradients are compared then.
constexpr double k_values_differ = 1e-9;

/// A point with value and gradient.
struct Point {
  std::vector<double> p, gradient;
  double value = std::numeric_limits<double>::quiet_NaN();
};

class ProjectedGradient final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::accelerated;
    StepRule step = StepRule::backtracking;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant, {{"plain", Variant::plain}, {"accelerated", Variant::accelerated}},
               "Plain steps, or momentum with restart.");
      p.choice("step", step, {{"backtracking", StepRule::backtracking}, {"fixed", StepRule::fixed}},
               "Step 1/L: search for L, or use the smoothness constant of the problem.");
    }
  };

  explicit ProjectedGradient(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = params_.variant == Variant::plain;
    traits.needs_smoothness = params_.step == StepRule::fixed;
    traits.order = params_.variant == Variant::plain ? 1 : 2;
    traits.linear = true;
    traits.rate = params_.variant == Variant::plain ? "O(1/k); linear when strongly convex"
                                                    : "O(1/k^2); linear with restart when strongly convex";
    return traits;
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("projected_gradient", objective, start, stop, trace);
    const borel::SimplexObjective& f = run.objective();
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("projected_gradient: " + reason);
    const auto n = static_cast<std::size_t>(run.size());
    const bool accelerated = params_.variant == Variant::accelerated;
    const bool affine_gradient = f.quadratic() != nullptr;

    Point now{run.start(), std::vector<double>(n)}, before = now, from = now, trial = now;
    if (!run.may_call()) return run.result(std::move(now.p));
    now.value = f.value_and_gradient(now.p, now.gradient);
    if (!std::isfinite(now.value))
      throw borel::MethodError(
          "projected_gradient: F is infinite at the start; start inside, e.g. at the uniform point");
    before = now;
    double lipschitz = f.smoothness().value_or(first_guess(now.gradient));
    if (!(lipschitz > 0)) lipschitz = 1;  // a linear F: any step will do
    double momentum = 1;

    for (index_t k = 0; run.go_on(k, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p); ++k) {
      const double next_momentum = 0.5 * (1 + std::sqrt(1 + 4 * momentum * momentum));
      const double beta = accelerated ? (momentum - 1) / next_momentum : 0;
      if (beta == 0) {
        from = now;
      } else {
        for (std::size_t i = 0; i < n; ++i) {
          from.p[i] = now.p[i] + beta * (now.p[i] - before.p[i]);
          from.gradient[i] = now.gradient[i] + beta * (now.gradient[i] - before.gradient[i]);
        }
        from.value = std::numeric_limits<double>::quiet_NaN();
        if (!affine_gradient) {
          borel::project_onto_simplex(from.p);
          if (!run.may_call()) break;
          from.value = f.value_and_gradient(from.p, from.gradient);
          if (!std::isfinite(from.value)) from = now;
        }
      }
      if (!step(run, from, trial, lipschitz)) break;

      double turn = 0;  // > 0: the momentum points uphill
      for (std::size_t i = 0; i < n; ++i) turn += (from.p[i] - trial.p[i]) * (trial.p[i] - now.p[i]);
      momentum = turn > 0 ? 1 : next_momentum;
      std::swap(before, now);
      std::swap(now, trial);
      if (params_.step == StepRule::backtracking) lipschitz *= k_shrink;
    }
    return run.result(std::move(now.p));
  }

 private:
  /// A step from the start then has length of about 1, the size of the simplex.
  static double first_guess(const std::vector<double>& gradient) {
    const auto [low, high] = std::ranges::minmax_element(gradient);
    return *high - *low;
  }

  /// trial = P(from - gradient / L), with L raised until F lies below its model there. False when the run is
  /// over.
  bool step(borel::SimplexRun& run, const Point& from, Point& trial, double& lipschitz) const {
    const std::size_t n = from.p.size();
    std::vector<double> d(n);
    for (;; lipschitz *= k_grow) {
      for (std::size_t i = 0; i < n; ++i) trial.p[i] = from.p[i] - from.gradient[i] / lipschitz;
      borel::project_onto_simplex(trial.p);
      for (std::size_t i = 0; i < n; ++i) d[i] = trial.p[i] - from.p[i];
      const double square = dot(d, d);
      if (square == 0 || !std::isfinite(lipschitz)) {
        run.stall("a projected step does not move p");
        return false;
      }
      if (!run.may_call()) return false;
      trial.value = run.objective().value_and_gradient(trial.p, trial.gradient);
      if (params_.step == StepRule::fixed && std::isfinite(trial.value)) return true;
      if (!std::isfinite(trial.value)) continue;
      const double scale = std::max(std::abs(from.value), std::abs(trial.value));
      // from.value is NaN for an extrapolated point: then, and near the optimum, gradients decide. For
      // quadratics the two tests are the same; for convex F the second one still forbids an increase.
      if (std::abs(trial.value - from.value) > k_values_differ * scale) {
        if (trial.value <= from.value + dot(from.gradient, d) + 0.5 * lipschitz * square) return true;
      } else if (dot(trial.gradient, d) - dot(from.gradient, d) <= lipschitz * square) {
        return true;
      }
    }
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, ProjectedGradient>(
      "projected_gradient",
      {.summary = "Gradient steps, each projected onto the simplex; optional momentum with restart",
       .formula = "p+ = P(y - g(y)/L),  y = p + beta (p - p_before)",
       .source = "Beck, Teboulle, SIAM J. Imaging Sci. 2 (2009) 183-202; O'Donoghue, Candes, Found. Comput. "
                 "Math. 15 "
                 "(2015); projection: Condat, Math. Prog. 158 (2016)",
       .complexity = "one or two oracle calls and O(n) per iteration; memory O(n)",
       .notes = "Gradients at extrapolated points are combined from known ones for quadratics, else the "
                "point is projected"});
}
