// Exponentiated gradient: mirror descent with the entropy.
//   p_i+ = p_i exp(-eta g_i) / Z
// Kivinen, Warmuth, Inform. Comput. 132 (1997), section 4; Beck, Teboulle, Oper. Res. Lett. 31 (2003).
//   fixed:     eta = 1/L with L the smoothness relative to the entropy (Bauschke, Bolte, Teboulle, Math.
//   Oper. Res. 42
//              (2017)), or eta = step when given
//   adaptive:  eta grows by k_grow per step and halves until F(p+) <= F(p) + g.(p+ - p) + KL(p+ | p) / eta
// Weights are kept as logarithms, so that a coordinate that underflows in p can come back.
// A start with zeros would keep them for ever: it is mixed with k_mix of the uniform point when it is not yet
// optimal.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Variant { fixed, adaptive };

constexpr double k_grow = 1.3;
constexpr double k_shrink = 0.5;
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
  double sum = 0;
  for (std::size_t i = 0; i < point.p.size(); ++i) {
    point.p[i] = std::exp(point.log_p[i] - largest);
    sum += point.p[i];
  }
  const double log_sum = largest + std::log(sum);
  for (std::size_t i = 0; i < point.p.size(); ++i) {
    point.p[i] /= sum;
    point.log_p[i] -= log_sum;
  }
}

class ExponentiatedGradient final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::adaptive;
    double step = 0;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant, {{"fixed", Variant::fixed}, {"adaptive", Variant::adaptive}},
               "One step size, or the largest one that keeps F below its model.");
      p.real("step", step, borel::Range::at_least(0), "1",
             "Step size eta (adaptive: the first one); 0 takes 1/L from the problem.");
    }
  };

  explicit ExponentiatedGradient(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = params_.variant == Variant::adaptive || params_.step == 0;
    traits.rate = "O(log(n)/k); linear when strongly convex relative to the entropy";
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

    Point trial = now;
    double eta = first_step(f, now);
    for (index_t k = 1;; ++k) {
      for (;; eta *= k_shrink) {
        double largest_move = 0;
        for (std::size_t i = 0; i < n; ++i) trial.log_p[i] = now.log_p[i] - eta * now.gradient[i];
        normalise(trial);
        for (std::size_t i = 0; i < n; ++i)
          largest_move = std::max(largest_move, std::abs(trial.p[i] - now.p[i]));
        if (largest_move == 0) {
          run.stall("a multiplicative step does not move p");
          return run.result(std::move(now.p));
        }
        if (!evaluate(trial)) return run.result(std::move(now.p));
        if (params_.variant == Variant::fixed ? std::isfinite(trial.value) : accepts(now, trial, eta)) break;
      }
      std::swap(now, trial);
      if (!run.go_on(k, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p)) break;
      if (params_.variant == Variant::adaptive) eta *= k_grow;
    }
    return run.result(std::move(now.p));
  }

 private:
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
      {.summary = "Multiplicative updates: mirror descent with the entropy, fixed or adaptive step",
       .formula = "p_i+ = p_i exp(-eta g_i) / Z",
       .source = "Kivinen, Warmuth, Inform. Comput. 132 (1997), section 4; Beck, Teboulle, Oper. Res. Lett. "
                 "31 (2003); "
                 "Bauschke, Bolte, Teboulle, Math. Oper. Res. 42 (2017)",
       .complexity = "one oracle call (more while the step is searched) and O(n) exponentials per iteration; "
                     "memory O(n)",
       .notes = "A start with zeros is mixed with 1e-8 of the uniform point"});
}
