#include "fit.hpp"

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss.hpp>
#include <cmath>
#include <limits>

#include "borel/error.hpp"
#include "spline.hpp"

using borel::index_t;
using borel::StandardPoints;

namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr int k_newton_steps = 60;
constexpr double k_decrement = 1e-15;  // predicted gain of the mean log-likelihood at which Newton ends
using Rule = boost::math::quadrature::gauss<double, 20>;

/// Weight and moments about the left end of the points in each interval of the finest knots; two tails outside.
struct Moments {
  std::vector<double> fine;                ///< knots
  std::vector<std::array<double, 4>> sum;  ///< [K - 1] sum w (u - fine_j)^i
  std::array<double, 2> left{}, right{};   ///< sum w, sum w (u - end)

  Moments(const StandardPoints& points, const std::vector<double>& knots)
      : fine(knots), sum(knots.size() - 1) {
    std::size_t j = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double u = points.u[i], w = points.weight[i];
      if (u < fine.front()) {
        left[0] += w, left[1] += w * (u - fine.front());
      } else if (u > fine.back()) {
        right[0] += w, right[1] += w * (u - fine.back());
      } else {
        while (j + 2 < fine.size() && u > fine[j + 1]) ++j;
        double power = w;
        for (double& value : sum[j]) value += power, power *= u - fine[j];
      }
    }
  }
};

/// Everything about one set of knots that does not depend on the values.
class Problem {
 public:
  Problem(const Moments& moments, const std::vector<double>& knots) : spline_(knots) {
    const std::size_t n = size();
    mean_.assign(n, 0.0);
    for (std::size_t k = 0; k < n; ++k) {
      mean_[k] += (k == 0 ? moments.left[0] : 0.0) + moments.left[1] * spline_.left_slope(k);
      mean_[k] += (k == n - 1 ? moments.right[0] : 0.0) + moments.right[1] * spline_.right_slope(k);
    }
    std::size_t j = 0;
    for (std::size_t f = 0; f < moments.sum.size(); ++f) {
      while (j + 2 < n && moments.fine[f] >= knots[j + 1]) ++j;
      const double h = knots[j + 1] - knots[j], shift = (moments.fine[f] - knots[j]) / h;
      for (std::size_t k = 0; k < n; ++k) {
        std::array<double, 4> p;
        spline_.cubic(j, k, p);
        // The cubic about the fine interval's left end: t = shift + s / h.
        const std::array<double, 4> q{p[0] + shift * (p[1] + shift * (p[2] + shift * p[3])),
                                      (p[1] + shift * (2 * p[2] + shift * 3 * p[3])) / h,
                                      (p[2] + 3 * shift * p[3]) / (h * h), p[3] / (h * h * h)};
        for (std::size_t i = 0; i < 4; ++i) mean_[k] += q[i] * moments.sum[f][i];
      }
    }
    // Basis functions at the quadrature nodes.
    for (std::size_t i = 0; i + 1 < n; ++i) {
      const double h = knots[i + 1] - knots[i];
      for (std::size_t r = 0; r < Rule::abscissa().size(); ++r)
        for (const double side : {-1.0, 1.0}) {
          const double t = 0.5 * (1 + side * Rule::abscissa()[r]);
          node_weight_.push_back(0.5 * h * Rule::weights()[r]);
          for (std::size_t k = 0; k < n; ++k) {
            std::array<double, 4> p;
            spline_.cubic(i, k, p);
            basis_.push_back(p[0] + t * (p[1] + t * (p[2] + t * p[3])));
          }
        }
    }
  }

  std::size_t size() const { return spline_.size(); }
  const NaturalSpline& spline() const { return spline_; }

  /// Mean log-likelihood; its gradient and the covariance of the basis under p when wanted. -infinity when a tail rises.
  double likelihood(const std::vector<double>& values, std::vector<double>* gradient,
                    std::vector<double>* hessian) const {
    const std::size_t n = size();
    double left = 0, right = 0, along = 0;
    for (std::size_t k = 0; k < n; ++k) {
      left += values[k] * spline_.left_slope(k), right += values[k] * spline_.right_slope(k);
      along += values[k] * mean_[k];
    }
    if (!(left > 0 && right < 0)) return -k_infinity;
    std::vector<double> g(node_weight_.size());
    double top = std::max(values.front(), values.back());
    for (std::size_t q = 0; q < g.size(); ++q) {
      for (std::size_t k = 0; k < n; ++k) g[q] += values[k] * basis_[q * n + k];
      top = std::max(top, g[q]);
    }
    const double left_mass = std::exp(values.front() - top) / left,
                 right_mass = std::exp(values.back() - top) / -right;
    double z = left_mass + right_mass;
    for (std::size_t q = 0; q < g.size(); ++q) z += g[q] = node_weight_[q] * std::exp(g[q] - top);
    if (gradient) {
      std::vector<double> first(n);
      hessian->assign(n * n, 0.0);
      for (std::size_t q = 0; q < g.size(); ++q) {
        const double mass = g[q] / z;
        const double* const b = basis_.data() + q * n;
        for (std::size_t k = 0; k < n; ++k) {
          first[k] += mass * b[k];
          const double scaled = mass * b[k];
          for (std::size_t l = 0; l <= k; ++l) (*hessian)[k * n + l] += scaled * b[l];
        }
      }
      // Tails: on the left the basis is e + s x with x = u - end < 0 exponential of rate `left`: moments -1/rate, 2/rate^2.
      const auto add_tail = [&](double mass, double rate, double sign, std::size_t end, auto slope_of) {
        for (std::size_t k = 0; k < n; ++k) {
          const double e = k == end ? 1.0 : 0.0, s = sign * slope_of(k) / rate;
          first[k] += mass * (e + s);
          for (std::size_t l = 0; l <= k; ++l) {
            const double f = l == end ? 1.0 : 0.0, t = sign * slope_of(l) / rate;
            (*hessian)[k * n + l] += mass * (e * f + e * t + f * s + 2 * s * t);
          }
        }
      };
      add_tail(left_mass / z, left, -1.0, 0, [&](std::size_t k) { return spline_.left_slope(k); });
      add_tail(right_mass / z, -right, 1.0, n - 1, [&](std::size_t k) { return spline_.right_slope(k); });
      gradient->resize(n);
      for (std::size_t k = 0; k < n; ++k) {
        (*gradient)[k] = mean_[k] - first[k];
        for (std::size_t l = 0; l <= k; ++l) {
          (*hessian)[k * n + l] -= first[k] * first[l];
          (*hessian)[l * n + k] = (*hessian)[k * n + l];
        }
      }
    }
    return along - top - std::log(z);
  }

 private:
  NaturalSpline spline_;
  std::vector<double> mean_, node_weight_, basis_;
};

/// Cholesky of the covariance, in place, lower; the constant direction (1, ..., 1) is singular and is pinned.
void factorise(std::vector<double>& a, std::size_t n) {
  double trace = 0;
  for (std::size_t k = 0; k < n; ++k) trace += a[k * n + k];
  const double pin = trace / static_cast<double>(n * n);
  for (std::size_t k = 0; k < n; ++k)
    for (std::size_t l = 0; l < n; ++l) a[k * n + l] += pin + (k == l ? 1e-13 * trace : 0.0);
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t l = 0; l <= k; ++l) {
      double sum = a[k * n + l];
      for (std::size_t i = 0; i < l; ++i) sum -= a[k * n + i] * a[l * n + i];
      a[k * n + l] = l == k ? std::sqrt(std::max(sum, 1e-14 * trace)) : sum / a[l * n + l];
    }
  }
}

std::vector<double> solve(const std::vector<double>& factor, std::vector<double> b) {
  const std::size_t n = b.size();
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t i = 0; i < k; ++i) b[k] -= factor[k * n + i] * b[i];
    b[k] /= factor[k * n + k];
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t i = k + 1; i < n; ++i) b[k] -= factor[i * n + k] * b[i];
    b[k] /= factor[k * n + k];
  }
  return b;
}

struct NewtonRun {
  std::vector<double> values, factor;  ///< factor of the last covariance
  double likelihood = 0;
  index_t iterations = 0;
  bool converged = false;
};

NewtonRun newton(const Problem& problem, std::vector<double> values, const borel::StopToken& stop) {
  NewtonRun run;
  run.values = std::move(values);
  std::vector<double> gradient;
  for (int step = 0; step < k_newton_steps; ++step) {
    stop.throw_if_stopped();
    run.likelihood = problem.likelihood(run.values, &gradient, &run.factor);
    if (!std::isfinite(run.likelihood))
      throw borel::MethodError(
          "density logspline: no start with falling tails was found (nearly all samples equal?); use kde");
    factorise(run.factor, problem.size());
    const std::vector<double> direction = solve(run.factor, gradient);
    double decrement = 0;
    for (std::size_t k = 0; k < direction.size(); ++k) decrement += direction[k] * gradient[k];
    ++run.iterations;
    if (!(decrement > k_decrement)) {
      run.converged = true;
      break;
    }
    double t = 1;
    bool moved = false;
    for (int halving = 0; halving < 50 && !moved; ++halving, t *= 0.5) {
      std::vector<double> trial = run.values;
      for (std::size_t k = 0; k < trial.size(); ++k) trial[k] += t * direction[k];
      if (problem.likelihood(trial, nullptr, nullptr) >= run.likelihood + 1e-4 * t * decrement)
        run.values = std::move(trial), moved = true;
    }
    if (!moved) {  // the end of floating point
      run.converged = decrement < 1e-9;
      break;
    }
  }
  return run;
}

}  // namespace

LogsplineFit fit_logspline(const StandardPoints& points, std::vector<double> knots, double penalty,
                           bool delete_knots, const borel::FitContext& context) {
  const Moments moments(points, knots);
  // log of the normal density at the knots: its tails fall.
  std::vector<double> values;
  // Centred between the knots when all stand on one side of 0 (nearly all samples equal), or a tail would rise.
  const double centre = knots.front() < 0 && knots.back() > 0 ? 0 : 0.5 * (knots.front() + knots.back());
  const double half_width = std::max(1.0, std::max(centre - knots.front(), knots.back() - centre));
  const auto start_value = [&](double knot) { return -0.5 * (knot - centre) * (knot - centre) / half_width; };
  for (const double knot : knots) values.push_back(start_value(knot));
  LogsplineFit best;
  double best_score = k_infinity;
  index_t iterations = 0;
  const std::size_t n_first = knots.size();
  while (true) {
    const Problem problem(moments, knots);
    NewtonRun run = newton(problem, std::move(values), context.budget.stop);
    iterations += run.iterations;
    const std::size_t n = knots.size();
    const double score = -2 * points.n_effective * run.likelihood + penalty * static_cast<double>(n - 1);
    if (context.progress)
      context.progress->report(static_cast<double>(n_first - n) / static_cast<double>(n_first),
                               run.likelihood);
    if (run.converged && score < best_score) {
      best_score = score;
      best = {knots, run.values, run.likelihood, 0, true};
    } else if (best.knots.empty()) {
      best = {knots, run.values, run.likelihood, 0, run.converged};
    }
    if (!delete_knots || n <= 3) break;
    // Wald: (jump . values)^2 / (jump' covariance^-1 jump), largest evidence against leaving the knot out.
    std::size_t weakest = 1;
    double weakest_wald = k_infinity;
    std::vector<double> jump(n);
    for (std::size_t j = 1; j + 1 < n; ++j) {
      double along = 0;
      for (std::size_t k = 0; k < n; ++k)
        jump[k] = problem.spline().jump(j, k), along += jump[k] * run.values[k];
      const std::vector<double> solved = solve(run.factor, jump);
      double variance = 0;
      for (std::size_t k = 0; k < n; ++k) variance += jump[k] * solved[k];
      if (const double wald = along * along / variance; wald < weakest_wald) weakest_wald = wald, weakest = j;
    }
    knots.erase(knots.begin() + static_cast<index_t>(weakest));
    values = std::move(run.values);
    values.erase(values.begin() + static_cast<index_t>(weakest));
    const NaturalSpline spline(knots);
    double left = 0, right = 0;
    for (std::size_t k = 0; k < knots.size(); ++k)
      left += values[k] * spline.left_slope(k), right += values[k] * spline.right_slope(k);
    if (!(left > 0 && right < 0))  // the tails must fall: from the normal again
      for (std::size_t k = 0; k < knots.size(); ++k) values[k] = start_value(knots[k]);
  }
  best.iterations = iterations;
  return best;
}
