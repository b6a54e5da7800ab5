// Gradient methods without constraints, by p = softmax(theta):
//   dF/dtheta_i = p_i (g_i - p.g)
//   adam:   m = b1 m + (1 - b1) d,  v = b2 v + (1 - b2) d^2,  theta -= step (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)
//           Kingma, Ba, ICLR 2015, arXiv:1412.6980, algorithm 1
//   lbfgs:  two-loop recursion with `memory` pairs, backtracking by the sufficient decrease rule
//           Nocedal, Wright, Numerical Optimization (2006), algorithm 7.4
// Minima on faces lie at theta = -infinity: the gradient fades with p_i, which is why this method stalls there.
// Differs from the paper: Adam's step is halved when F has found no new minimum for k_patience steps (the problems here
// have no noise that would average out), and the best point is returned. Pairs with s.y <= 0 are left out (F(softmax) is
// not convex).
// A start with zeros is mixed with k_mix of the uniform point, because log 0 could never come back.
#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Variant { adam, lbfgs };

constexpr double k_mix = 1e-8;
constexpr index_t k_patience = 50;
constexpr double k_sufficient = 1e-4, k_shrink = 0.5;
/// Largest change of a logit in one step of L-BFGS: a weight changes by at most e^2.
constexpr double k_longest = 2;
/// Relative difference of two values below which rounding decides their order; slopes are compared then.
constexpr double k_values_differ = 1e-9;
constexpr double k_beta1 = 0.9, k_beta2 = 0.999, k_epsilon = 1e-8;

struct Point {
  std::vector<double> theta, p, gradient, slope;  ///< gradient: of F by p; slope: by theta
  double value = std::numeric_limits<double>::infinity();
};

/// A pair of L-BFGS: s = change of theta, y = change of slope.
struct Pair {
  std::vector<double> s, y;
  double s_dot_y;
};

class SoftmaxGradient final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::lbfgs;
    double step = 0.1;
    std::int64_t memory = 10;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant, {{"adam", Variant::adam}, {"lbfgs", Variant::lbfgs}},
               "Adam with a fixed step, or a quasi-Newton method with line search.");
      p.real("step", step, borel::Range::left_open(0, 10), "1",
             "Adam: step size in theta; halved when F stands still.");
      p.integer("memory", memory, borel::Range::closed(1, 100), "pairs", "L-BFGS: pairs that are kept.");
    }
  };

  explicit SoftmaxGradient(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = params_.variant == Variant::lbfgs;
    traits.rate = "none proven: not convex in theta; sublinear when the minimum lies on a face";
    return traits;
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("softmax_gradient", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("softmax_gradient: " + reason);
    const auto n = static_cast<std::size_t>(run.size());
    Point now{std::vector<double>(n), run.start(), std::vector<double>(n), std::vector<double>(n)};
    if (!evaluate(run, now)) return run.result(std::move(now.p));
    if (!std::isfinite(now.value))
      throw borel::MethodError(
          "softmax_gradient: F is infinite at the start; start inside, e.g. at the uniform point");
    if (!go_on(run, 0, now)) return run.result(std::move(now.p));
    if (*std::ranges::min_element(now.p) <= 0) {
      for (double& value : now.p) value = (1 - k_mix) * value + k_mix / static_cast<double>(n);
      if (!evaluate(run, now)) return run.result(std::move(now.p));
    }
    for (std::size_t i = 0; i < n; ++i) now.theta[i] = std::log(now.p[i]);
    return run.result(params_.variant == Variant::adam ? adam(run, std::move(now))
                                                       : lbfgs(run, std::move(now)));
  }

 private:
  static bool go_on(borel::SimplexRun& run, index_t k, const Point& point) {
    return run.go_on(k, point.value, borel::frank_wolfe_gap(point.p, point.gradient), point.p);
  }
  /// Value, gradient and slope at point.p.
  static bool evaluate(borel::SimplexRun& run, Point& point) {
    if (!run.may_call()) return false;
    point.value = run.objective().value_and_gradient(point.p, point.gradient);
    if (!std::isfinite(point.value)) return true;
    const double mean = borel::dense::dot(point.p, point.gradient);
    for (std::size_t i = 0; i < point.p.size(); ++i) point.slope[i] = point.p[i] * (point.gradient[i] - mean);
    return true;
  }
  /// p = softmax(theta); theta is shifted so that its largest number is 0.
  static void to_simplex(Point& point) {
    const double largest = *std::ranges::max_element(point.theta);
    for (double& value : point.theta) value -= largest;
    point.p = point.theta;
    const double sum = borel::dense::exp_and_sum(point.p, 0);
    for (double& value : point.p) value /= sum;
  }

  std::vector<double> adam(borel::SimplexRun& run, Point now) const {
    const std::size_t n = now.p.size();
    std::vector<double> mean(n, 0.0), square(n, 0.0), best_p = now.p;
    double best = now.value, step = params_.step, power1 = 1, power2 = 1;
    index_t best_at = 0;
    Point trial = now;
    for (index_t k = 1;; ++k) {
      power1 *= k_beta1;
      power2 *= k_beta2;
      for (std::size_t i = 0; i < n; ++i) {
        mean[i] += (1 - k_beta1) * (now.slope[i] - mean[i]);
        square[i] += (1 - k_beta2) * (now.slope[i] * now.slope[i] - square[i]);
        trial.theta[i] = now.theta[i] -
                         step * (mean[i] / (1 - power1)) / (std::sqrt(square[i] / (1 - power2)) + k_epsilon);
      }
      to_simplex(trial);
      if (!evaluate(run, trial)) break;
      if (std::isfinite(trial.value)) {
        std::swap(now, trial);
      } else {
        step *= k_shrink;
      }
      if (now.value < best) {
        best = now.value;
        best_p = now.p;
        best_at = k;
      } else if (k - best_at >= k_patience) {
        step *= k_shrink;
        best_at = k;
      }
      if (!go_on(run, k, now)) {
        if (borel::frank_wolfe_gap(now.p, now.gradient) <= run.gap_tolerance()) return now.p;
        break;
      }
    }
    return best_p;
  }

  std::vector<double> lbfgs(borel::SimplexRun& run, Point now) const {
    const std::size_t n = now.p.size();
    Point trial = now;
    std::deque<Pair> pairs;
    std::vector<double> direction(n);
    for (index_t k = 1;; ++k) {
      find_direction(now.slope, pairs, direction);
      double slope = borel::dense::dot(direction, now.slope);
      if (!(slope < 0)) {  // rounding spoiled the pairs
        pairs.clear();
        find_direction(now.slope, pairs, direction);
        slope = borel::dense::dot(direction, now.slope);
      }
      // A longer step may push weights so low that no gradient is left to bring them back.
      double longest = 0;
      for (double value : direction) longest = std::max(longest, std::abs(value));
      double t = std::min(1.0, k_longest / longest);
      for (;; t *= k_shrink) {
        if (!(slope < 0) || !(t > 1e-20)) {
          run.stall(
              "no step along the search direction lowers F: the gradient in theta has faded, as it does near "
              "faces");
          return now.p;
        }
        for (std::size_t i = 0; i < n; ++i) trial.theta[i] = now.theta[i] + t * direction[i];
        to_simplex(trial);
        if (!evaluate(run, trial)) return now.p;
        if (std::isfinite(trial.value) && accepts(now, trial, direction, slope, t)) break;
      }
      Pair pair{std::vector<double>(n), std::vector<double>(n), 0};
      for (std::size_t i = 0; i < n; ++i) {
        pair.s[i] = t * direction[i];
        pair.y[i] = trial.slope[i] - now.slope[i];
      }
      pair.s_dot_y = borel::dense::dot(pair.s, pair.y);
      if (pair.s_dot_y > 1e-16 * borel::dense::dot(pair.y, pair.y)) {
        pairs.push_back(std::move(pair));
        if (static_cast<std::int64_t>(pairs.size()) > params_.memory) pairs.pop_front();
      }
      std::swap(now, trial);
      if (!go_on(run, k, now)) return now.p;
    }
  }

  static bool accepts(const Point& now, const Point& trial, const std::vector<double>& direction,
                      double slope, double t) {
    const double scale = std::max(std::abs(now.value), std::abs(trial.value));
    if (std::abs(trial.value - now.value) > k_values_differ * scale)
      return trial.value <= now.value + k_sufficient * t * slope;
    // Values cannot tell: a slope that has risen but not beyond 0 means that F fell on the way. Differences of values by
    // rounding alone are let pass, real ones are not.
    return borel::dense::dot(direction, trial.slope) <= 0 && trial.value <= now.value + 1e-15 * scale;
  }

  /// -H slope by the two-loop recursion; without pairs a step of length 1.
  static void find_direction(const std::vector<double>& slope, const std::deque<Pair>& pairs,
                             std::vector<double>& direction) {
    std::vector<double> factor(pairs.size());
    for (std::size_t i = 0; i < slope.size(); ++i) direction[i] = -slope[i];
    if (pairs.empty()) {
      const double norm = std::sqrt(borel::dense::dot(slope, slope));
      if (norm > 0)
        for (double& value : direction) value /= norm;
      return;
    }
    for (std::size_t j = pairs.size(); j-- > 0;) {
      factor[j] = borel::dense::dot(pairs[j].s, direction) / pairs[j].s_dot_y;
      borel::dense::add_scaled(-factor[j], pairs[j].y, direction);
    }
    const Pair& last = pairs.back();
    const double scale = last.s_dot_y / borel::dense::dot(last.y, last.y);
    for (double& value : direction) value *= scale;
    for (std::size_t j = 0; j < pairs.size(); ++j)
      borel::dense::add_scaled(factor[j] - borel::dense::dot(pairs[j].y, direction) / pairs[j].s_dot_y,
                               pairs[j].s, direction);
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, SoftmaxGradient>(
      "softmax_gradient",
      {.summary = "Unconstrained gradients of F(softmax(theta)): Adam or L-BFGS",
       .formula = "p = softmax(theta),  dF/dtheta_i = p_i (g_i - p.g)",
       .source = "Kingma, Ba, ICLR 2015, arXiv:1412.6980, algorithm 1; Nocedal, Wright, Numerical "
                 "Optimization (2006), "
                 "algorithm 7.4",
       .complexity =
           "one oracle call per step, more while L-BFGS searches; memory O(n), with L-BFGS O(memory n)",
       .notes = "A minimum on a face is at theta = -infinity, where the gradient fades: the gap falls slowly "
                "there"});
}
