// Exponentiated gradient: mirror descent with the entropy.
//   p_i+ = p_i exp(-eta g_i) / Z
// Kivinen, Warmuth, Inform. Comput. 132 (1997), section 4; Beck, Teboulle, Oper. Res. Lett. 31 (2003).
//   fixed:       eta = 1/L with L the smoothness relative to the entropy (Bauschke, Bolte, Teboulle, Math. Oper. Res. 42
//                (2017)), or eta = step when given
//   adaptive:    eta grows by k_grow per step and halves until F(p+) <= F(p) + g.(p+ - p) + KL(p+ | p) / eta
//   accelerated: y = (1 - a) p + a z,  z+ = z exp(-g(y) / (a L)) / Z,  p+ = (1 - a) p + a z+,  a+ = (sqrt(a^4 + 4 a^2) - a^2) / 2
//                Tseng (2008), "On accelerated proximal gradient methods", algorithm 1; L by backtracking on
//                F(p+) <= F(y) + g(y).(p+ - y) + a^2 L KL(z+ | z). The momentum is thrown away, z = p, when it points
//                uphill, g(y).(p+ - p) > 0 (O'Donoghue, Candes, Found. Comput. Math. 15 (2015), section 3.2).
// Weights are kept as logarithms, so that a coordinate that underflows in p can come back.
// A start with zeros would keep them for ever: it is mixed with k_mix of the uniform point when it is not yet optimal.
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

enum class Variant { fixed, adaptive, accelerated };

constexpr double k_grow = 1.3;
constexpr double k_shrink = 0.5;
/// Accelerated: L falls by this much per step, so that it can follow the curvature down.
constexpr double k_relax = 0.95;
/// L never falls below this part of its first value: for linear F it would vanish, and steps would overflow.
constexpr double k_least = 1e-6;
constexpr double k_smallest = 1e-300, k_lowest_log = -1e6;
constexpr double k_mix = 1e-8;
/// Relative difference of two values below which rounding decides their order; gradients are compared then.
constexpr double k_values_differ = 1e-9;

struct Point {
  std::vector<double> log_p, p, gradient;
  double value = 0;
};

/// p = exp(log_p) / Z, and log_p -= log Z.
void normalise(Point& point) {
  const double largest = *std::ranges::max_element(point.log_p);
  point.p = point.log_p;
  const double sum = borel::dense::exp_and_sum(point.p, largest);
  const double log_sum = largest + std::log(sum);
  for (std::size_t i = 0; i < point.p.size(); ++i) {
    point.p[i] /= sum;
    point.log_p[i] -= log_sum;
  }
}

/// Whether normalise() alone may have moved p this far: log p is right to |log p| units of rounding.
bool lost_in_rounding(const Point& from, const Point& to) {
  constexpr double k_rounding = 8 * std::numeric_limits<double>::epsilon();
  for (std::size_t i = 0; i < from.p.size(); ++i)
    if (!(std::abs(to.p[i] - from.p[i]) <= k_rounding * (1 - from.log_p[i]) * from.p[i])) return false;
  return true;
}

class ExponentiatedGradient final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::adaptive;
    double step = 0;
    void declare(borel::ParamBinder& p) {
      p.choice(
          "variant", variant,
          {{"fixed", Variant::fixed}, {"adaptive", Variant::adaptive}, {"accelerated", Variant::accelerated}},
          "One step size, the largest one that keeps F below its model, or that with momentum.");
      p.real("step", step, borel::Range::at_least(0), "1",
             "Step size eta (adaptive, accelerated: the first one); 0 takes 1/L from the problem.");
    }
  };

  explicit ExponentiatedGradient(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone =
        params_.variant == Variant::adaptive || (params_.variant == Variant::fixed && params_.step == 0);
    traits.order = params_.variant == Variant::accelerated ? 2 : 1;
    traits.linear = params_.variant != Variant::accelerated;
    traits.rate = params_.variant == Variant::accelerated
                      ? "O(log(n)/k^2) where F is smooth in the 1-norm"
                      : "O(log(n)/k); linear when strongly convex relative to the entropy";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& f = static_cast<const borel::SimplexObjective&>(objective);
    if (params_.variant == Variant::fixed && params_.step == 0 && !f.relative_smoothness())
      return std::string("variant fixed needs a step: the problem '")
          .append(f.name())
          .append("' has no smoothness relative to the entropy; give step, or use variant adaptive");
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("exponentiated_gradient", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("exponentiated_gradient: " + reason);
    const borel::SimplexObjective& f = run.objective();
    const auto n = static_cast<std::size_t>(run.size());

    Point now{std::vector<double>(n), run.start(), std::vector<double>(n)};
    const auto evaluate = [&](Point& point) {
      if (!run.may_call()) return false;
      point.value = f.value_and_gradient(point.p, point.gradient);
      return true;
    };
    if (!evaluate(now)) return run.result(std::move(now.p));
    if (!std::isfinite(now.value))
      throw borel::MethodError(
          "exponentiated_gradient: F is infinite at the start; start inside, e.g. at the uniform point");
    if (!run.go_on(0, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p))
      return run.result(std::move(now.p));
    if (*std::ranges::min_element(now.p) <= 0) {
      for (double& value : now.p) value = (1 - k_mix) * value + k_mix / static_cast<double>(n);
      if (!evaluate(now)) return run.result(std::move(now.p));
    }
    for (std::size_t i = 0; i < n; ++i) now.log_p[i] = std::log(now.p[i]);

    if (params_.variant == Variant::accelerated) return accelerated(run, std::move(now));
    Point trial = now;
    double eta = first_step(f, now);
    for (index_t k = 1;; ++k) {
      for (;; eta *= k_shrink) {
        for (std::size_t i = 0; i < n; ++i) trial.log_p[i] = now.log_p[i] - eta * now.gradient[i];
        normalise(trial);
        if (trial.p == now.p) {
          run.stall("a multiplicative step does not move p");
          return run.result(std::move(now.p));
        }
        if (!evaluate(trial)) return run.result(std::move(now.p));
        if (params_.variant == Variant::fixed ? std::isfinite(trial.value) : accepts(now, trial, eta)) break;
        if (lost_in_rounding(now, trial)) {
          run.stall("every multiplicative step that lowers F is lost in rounding");
          return run.result(std::move(now.p));
        }
      }
      std::swap(now, trial);
      if (!run.go_on(k, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p)) break;
      if (params_.variant == Variant::adaptive) eta *= k_grow;
    }
    return run.result(std::move(now.p));
  }

 private:
  borel::OptimizerResult accelerated(borel::SimplexRun& run, Point now) const {
    const borel::SimplexObjective& f = run.objective();
    const std::size_t n = now.p.size();
    Point z = now, z_next = now, trial = now;
    std::vector<double> y = now.p, gradient(n);
    double lipschitz = 1 / first_step(f, now), a = 1;
    const double least = k_least * lipschitz;
    const auto evaluate = [&](const std::vector<double>& p, std::vector<double>& g, double& value) {
      if (!run.may_call()) return false;
      value = f.value_and_gradient(p, g);
      return true;
    };
    for (index_t k = 1;; ++k) {
      double value_y = now.value;
      if (a < 1) {
        for (std::size_t i = 0; i < n; ++i) y[i] = (1 - a) * now.p[i] + a * z.p[i];
        if (!evaluate(y, gradient, value_y)) break;
      }
      if (a == 1 || !std::isfinite(value_y)) {
        a = 1;
        z.p = y = now.p;
        for (std::size_t i = 0; i < n; ++i) z.log_p[i] = std::log(std::max(now.p[i], k_smallest));
        gradient = now.gradient;
        value_y = now.value;
      }
      bool found = false;
      for (; std::isfinite(lipschitz); lipschitz /= k_shrink) {
        for (std::size_t i = 0; i < n; ++i)
          z_next.log_p[i] = std::max(k_lowest_log, z.log_p[i] - gradient[i] / (a * lipschitz));
        normalise(z_next);
        double slope = 0, symmetric = 0, move = 0;
        for (std::size_t i = 0; i < n; ++i) {
          trial.p[i] = (1 - a) * now.p[i] + a * z_next.p[i];
          const double d = trial.p[i] - y[i];
          slope += gradient[i] * d;
          symmetric += (z_next.p[i] - z.p[i]) * (z_next.log_p[i] - z.log_p[i]);
          move = std::max(move, std::abs(d));
        }
        if (move == 0) break;
        if (!evaluate(trial.p, trial.gradient, trial.value)) return run.result(std::move(now.p));
        if (!std::isfinite(trial.value)) continue;
        double change = 0;
        for (std::size_t i = 0; i < n; ++i) change += (trial.gradient[i] - gradient[i]) * (trial.p[i] - y[i]);
        // KL(z+ | z) is half its symmetric form to second order, and that form does not cancel.
        const double scale = std::max(std::abs(value_y), std::abs(trial.value));
        found = std::abs(trial.value - value_y) > k_values_differ * scale
                    ? trial.value <= value_y + slope + 0.5 * a * a * lipschitz * symmetric
                    : change <= a * a * lipschitz * symmetric;
        if (found) break;
      }
      if (!found) {
        if (a < 1) {  // without momentum there may still be a way
          a = 1;
          lipschitz = 1 / first_step(f, now);
          --k;  // the same iteration once more
          continue;
        }
        run.stall("a multiplicative step does not move p");
        break;
      }
      double uphill = 0;
      for (std::size_t i = 0; i < n; ++i) uphill += gradient[i] * (trial.p[i] - now.p[i]);
      std::swap(now, trial);
      std::swap(z, z_next);
      a = uphill > 0 ? 1 : 0.5 * (std::sqrt(a * a * a * a + 4 * a * a) - a * a);
      if (!run.go_on(k, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p)) break;
      lipschitz = std::max(least, lipschitz * k_relax);
    }
    return run.result(std::move(now.p));
  }

  double first_step(const borel::SimplexObjective& f, const Point& start) const {
    if (params_.step > 0) return params_.step;
    const double smoothness = f.relative_smoothness().value_or(0);
    if (smoothness > 0) return 1 / smoothness;
    const auto [low, high] = std::ranges::minmax_element(start.gradient);
    return *high > *low ? 1 / (*high - *low) : 1;
  }

  /// F below its model: by values, or near the optimum by the symmetric form (g+ - g).d <= (1/eta) sum d (log
  /// p+ - log p), which for convex F still forbids an increase, because g.d = -(1/eta) sum d (log p+ - log
  /// p).
  static bool accepts(const Point& now, const Point& trial, double eta) {
    if (!std::isfinite(trial.value)) return false;
    double slope = 0, change = 0, divergence = 0, symmetric = 0;
    for (std::size_t i = 0; i < now.p.size(); ++i) {
      const double d = trial.p[i] - now.p[i], log_ratio = trial.log_p[i] - now.log_p[i];
      slope += now.gradient[i] * d;
      change += (trial.gradient[i] - now.gradient[i]) * d;
      divergence += trial.p[i] * log_ratio;
      symmetric += d * log_ratio;
    }
    const double scale = std::max(std::abs(now.value), std::abs(trial.value));
    if (std::abs(trial.value - now.value) > k_values_differ * scale)
      return trial.value <= now.value + slope + divergence / eta;
    return change <= symmetric / eta;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, ExponentiatedGradient>(
      "exponentiated_gradient",
      {.summary =
           "Multiplicative updates: mirror descent with the entropy, fixed or adaptive step, or accelerated",
       .formula = "p_i+ = p_i exp(-eta g_i) / Z",
       .source = "Kivinen, Warmuth, Inform. Comput. 132 (1997), section 4; Beck, Teboulle, Oper. Res. Lett. "
                 "31 (2003); "
                 "Bauschke, Bolte, Teboulle, Math. Oper. Res. 42 (2017); Tseng (2008), On accelerated "
                 "proximal gradient "
                 "methods, algorithm 1",
       .complexity = "one oracle call (more while the step is searched) and O(n) exponentials per iteration; "
                     "memory O(n)",
       .notes = "A start with zeros is mixed with 1e-8 of the uniform point"});
}
