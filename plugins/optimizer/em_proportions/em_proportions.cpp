// EM for mixture proportions, the multiplicative algorithm of optimal design: for F with F(c p) = F(p) - k log c,
// falling in every coordinate,
//   M(p)_i = p_i (-g_i) / k                                                the sum stays 1, F(M(p)) <= F(p)
// Mixture likelihoods: k = 1, M(p)_j = p_j sum_i w_i L_ij / (L p)_i         Cover, IEEE Trans. Inf. Theory 30 (1984)
// D-optimal designs:   k = d, M(p)_i = p_i d_i / d                          Silvey, Titterington, Torsney (1978); Yu,
//                                                                           Ann. Statist. 38 (2010), theorem 1
//   squarem:  r = log M(p) - log p,  v = (log M(M(p)) - log M(p)) - r,  a = -|r| / |v|
//             p+ = M(exp(log p - 2 a r + a^2 v) / Z)                         Varadhan, Roland, Scand. J. Statist. 35 (2008),
//                                                                           scheme S3
// Differs from the paper: the extrapolation is made in log p, so that it stays in the simplex, and the extrapolated
// point is used only where F is below F(M(p)), so that F never rises.
// Zeros of the start would stay for ever: it is mixed with k_mix of the uniform point when it is not yet optimal.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Acceleration { none, squarem };

constexpr double k_mix = 1e-8;
/// A coordinate whose update factor is 0 would have logarithm -infinity.
constexpr double k_smallest_factor = 1e-300;

struct Point {
  std::vector<double> p, gradient;
  double value = 0;
};

class EmProportions final : public borel::Optimizer {
 public:
  struct Params {
    Acceleration acceleration = Acceleration::squarem;
    void declare(borel::ParamBinder& p) {
      p.choice("acceleration", acceleration,
               {{"none", Acceleration::none}, {"squarem", Acceleration::squarem}},
               "Plain EM, or squared extrapolation with a check of F.");
    }
  };

  explicit EmProportions(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = true;
    traits.order = 1;
    traits.linear = true;
    traits.rate = "O(log(n)/k); linear when the minimum is inside and curved";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& f = static_cast<const borel::SimplexObjective&>(objective);
    if (!f.log_homogeneity())
      return std::string("updates by -gradient need a likelihood, F(c p) = F(p) - k log c; the problem '")
          .append(f.name())
          .append("' is none");
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("em_proportions", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("em_proportions: " + reason);
    const borel::SimplexObjective& f = run.objective();
    const auto n = static_cast<std::size_t>(run.size());
    const auto evaluate = [&](Point& point) {
      if (!run.may_call()) return false;
      point.value = f.value_and_gradient(point.p, point.gradient);
      return true;
    };

    Point now{run.start(), std::vector<double>(n)};
    if (!evaluate(now)) return run.result(std::move(now.p));
    if (!std::isfinite(now.value))
      throw borel::MethodError(
          "em_proportions: F is infinite at the start; start inside, e.g. at the uniform point");
    if (!run.go_on(0, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p))
      return run.result(std::move(now.p));
    if (*std::ranges::min_element(now.p) <= 0) {
      for (double& value : now.p) value = (1 - k_mix) * value + k_mix / static_cast<double>(n);
      if (!evaluate(now)) return run.result(std::move(now.p));
    }

    Point next = now, trial = now;
    std::vector<double> first(n), second(n);
    for (index_t k = 1;; ++k) {
      update(now, next.p, first);
      if (next.p == now.p) {
        run.stall("an update does not move p");
        break;
      }
      if (!evaluate(next)) break;
      std::swap(now, next);  // F(M(p)) <= F(p)
      if (params_.acceleration == Acceleration::squarem) {
        update(now, next.p, second);
        if (extrapolate(now.p, first, second, trial.p)) {
          if (!evaluate(trial)) break;
          if (std::isfinite(trial.value) && trial.value <= now.value) std::swap(now, trial);
        }
      }
      if (!run.go_on(k, now.value, borel::frank_wolfe_gap(now.p, now.gradient), now.p)) break;
    }
    return run.result(std::move(now.p));
  }

 private:
  /// next = M(p), log_factor = log M(p) - log p.
  static void update(const Point& point, std::vector<double>& next, std::vector<double>& log_factor) {
    double sum = 0;
    for (std::size_t i = 0; i < next.size(); ++i)
      sum += next[i] = point.p[i] * std::max(-point.gradient[i], 0.0);
    // sum is k up to rounding; dividing by it keeps the sum of p exact
    for (std::size_t i = 0; i < next.size(); ++i) {
      next[i] /= sum;
      log_factor[i] = std::log(std::max(-point.gradient[i] / sum, k_smallest_factor));
    }
  }

  /// The extrapolated point, from p1 = M(p0): log p0 - 2 a r + a^2 v with log p0 = log p1 - r. False when the two
  /// factors are the same (no v) or a = -1, which is M(M(p0)).
  static bool extrapolate(const std::vector<double>& p1, const std::vector<double>& r,
                          const std::vector<double>& second, std::vector<double>& out) {
    double r_square = 0, v_square = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (p1[i] == 0) continue;  // counts for nothing; its factor may be anything
      r_square += p1[i] * r[i] * r[i];
      v_square += p1[i] * (second[i] - r[i]) * (second[i] - r[i]);
    }
    if (!(v_square > 0)) return false;
    const double a = -std::max(1.0, std::sqrt(r_square / v_square));
    double largest = -std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < r.size(); ++i) {
      out[i] = p1[i] > 0 ? std::log(p1[i]) - r[i] - 2 * a * r[i] + a * a * (second[i] - r[i])
                         : -std::numeric_limits<double>::infinity();
      largest = std::max(largest, out[i]);
    }
    if (!std::isfinite(largest)) return false;
    double sum = 0;
    for (double& value : out) sum += value = std::exp(value - largest);
    for (double& value : out) value /= sum;
    return true;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, EmProportions>(
      "em_proportions",
      {.summary =
           "EM for mixture proportions, the multiplicative algorithm of optimal design; SQUAREM acceleration",
       .formula = "p_i+ = p_i (-g_i) / k",
       .source =
           "Cover, IEEE Trans. Inf. Theory 30 (1984) 369; Silvey, Titterington, Torsney (1978); Yu, Ann. "
           "Statist. 38 (2010), theorem 1; Varadhan, Roland, Scand. J. Statist. 35 (2008), scheme S3",
       .complexity = "one oracle call per iteration, two with squarem; memory O(n)",
       .notes =
           "The norms of the extrapolation are weighted by p. A start with zeros is mixed with 1e-8 of the "
           "uniform point"});
}
