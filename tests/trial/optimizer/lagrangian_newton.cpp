// Interior point method with second derivatives: Newton steps on F(p) - mu sum log p under sum p = 1 and A p
// = b, mu -> 0.
//   [ H + mu / p^2   E' ] [ dp ]   [ -grad F + mu / p ]
//   [ E              0  ] [ y  ] = [  e - E p         ],   E = [1'; A], solved through the Cholesky factor of
//   H + mu / p^2
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

/// L L' = m in place (lower triangle). @return false when m is not positive definite
bool factor(TensorView<double, 2> m) {
  for (index_t j = 0; j < m.shape(0); ++j) {
    for (index_t k = 0; k < j; ++k)
      for (index_t i = j; i < m.shape(0); ++i) m(i, j) -= m(i, k) * m(j, k);
    if (!(m(j, j) > 0)) return false;
    const double pivot = std::sqrt(m(j, j));
    for (index_t i = j; i < m.shape(0); ++i) m(i, j) /= pivot;
  }
  return true;
}

void solve(TensorView<const double, 2> l, std::span<double> x) {
  const index_t n = l.shape(0);
  for (index_t i = 0; i < n; ++i) {
    for (index_t k = 0; k < i; ++k)
      x[static_cast<std::size_t>(i)] -= l(i, k) * x[static_cast<std::size_t>(k)];
    x[static_cast<std::size_t>(i)] /= l(i, i);
  }
  for (index_t i = n; i-- > 0;) {
    for (index_t k = i + 1; k < n; ++k)
      x[static_cast<std::size_t>(i)] -= l(k, i) * x[static_cast<std::size_t>(k)];
    x[static_cast<std::size_t>(i)] /= l(i, i);
  }
}

class LagrangianNewton final : public Optimizer {
 public:
  struct Params {
    double reduction = 0.2;
    void declare(ParamBinder& p) {
      p.real("reduction", reduction, Range::open(0, 1), "1", "factor on mu after a good step");
    }
  };
  explicit LagrangianNewton(const Params& params) : p_(params) {}

  OptimizerTraits traits() const override {
    return {.simplex = true, .linear_constraints = true, .rate = "superlinear"};
  }

  std::string refuses(const Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& simplex = static_cast<const SimplexObjective&>(objective);
    return simplex.has_curvature() || simplex.quadratic()
               ? ""
               : "it needs second derivatives, which the problem does not offer";
  }

  OptimizerResult minimize(Objective& base, std::span<const double> start, const StopRule& stop, Seed,
                           Trace& trace) const override {
    auto& objective = static_cast<SimplexObjective&>(base);
    const auto n = static_cast<std::size_t>(objective.size());
    const LinearConstraints* narrowing = objective.constraints();
    const std::size_t rows = 1 + (narrowing ? static_cast<std::size_t>(narrowing->matrix().shape(0)) : 0);
    const auto coefficient = [&](std::size_t row, std::size_t i) {
      return row == 0 ? 1.0 : narrowing->matrix()(static_cast<index_t>(row - 1), static_cast<index_t>(i));
    };
    std::vector<double> p(n), gradient(n), y(rows, 0), hessian(n * n);
    for (std::size_t i = 0; i < n; ++i) p[i] = 0.9 * start[i] + 0.1 / static_cast<double>(n);
    const TensorView<double, 2> h(hessian.data(), {objective.size(), objective.size()});
    double mu = 1 / static_cast<double>(n);
    Outcome outcome{Termination::budget_used_up, "all iterations of the budget were used", 0};
    double best_gap = INFINITY;
    index_t without_progress = 0;
    for (; outcome.iterations < stop.budget.max_iterations; ++outcome.iterations) {
      if (stop.budget.stop.stop_requested()) {
        outcome = {Termination::stopped_by_user, "stopped", outcome.iterations};
        break;
      }
      const double value = objective.value_and_gradient(p, gradient);
      const double gap = gap_of(p, gradient, y, rows, coefficient, narrowing);
      trace.record(outcome.iterations, value, gap);
      const double residual = largest_residual(p, rows, coefficient, narrowing);
      if (gap <= stop.gap_tolerance && residual <= 1e-10) {
        outcome = {Termination::converged, "gap and residual are small enough", outcome.iterations};
        break;
      }
      without_progress = gap < best_gap ? 0 : without_progress + 1;
      best_gap = std::min(best_gap, gap);
      if (without_progress > 50) {
        outcome = {Termination::stalled, "the gap no longer falls", outcome.iterations};
        break;
      }
      curvature(objective, p, h);
      for (std::size_t i = 0; i < n; ++i)
        h(static_cast<index_t>(i), static_cast<index_t>(i)) += mu / (p[i] * p[i]);
      if (!factor(h)) {
        outcome = {Termination::failed, "the Hessian is not positive definite", outcome.iterations};
        break;
      }
      // Schur complement in the multipliers: (E M^-1 E') y = E M^-1 r - (e - E p).
      std::vector<double> right(n), solved(n * rows), schur(rows * rows);
      for (std::size_t i = 0; i < n; ++i) right[i] = -gradient[i] + mu / p[i];
      std::vector<double> direction = right;
      solve(h, direction);
      const TensorView<double, 2> s(schur.data(), {static_cast<index_t>(rows), static_cast<index_t>(rows)});
      for (std::size_t r = 0; r < rows; ++r) {
        const std::span<double> column(&solved[r * n], n);
        for (std::size_t i = 0; i < n; ++i) column[i] = coefficient(r, i);
        solve(h, column);
      }
      for (std::size_t r = 0; r < rows; ++r) {
        y[r] = -(r == 0 ? 1 : narrowing->right_hand_side()[r - 1]);
        for (std::size_t i = 0; i < n; ++i) {
          y[r] += coefficient(r, i) * (p[i] + direction[i]);
          for (std::size_t c = 0; c < rows; ++c)
            s(static_cast<index_t>(r), static_cast<index_t>(c)) += coefficient(r, i) * solved[c * n + i];
        }
      }
      if (!factor(s)) {
        outcome = {Termination::failed, "the constraints depend on each other", outcome.iterations};
        break;
      }
      solve(s, y);
      for (std::size_t r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < n; ++i) direction[i] -= solved[r * n + i] * y[r];
      double step = 1;
      for (std::size_t i = 0; i < n; ++i)
        if (direction[i] < 0) step = std::min(step, -0.99 * p[i] / direction[i]);
      for (std::size_t i = 0; i < n; ++i) p[i] += step * direction[i];
      if (step > 0.9) mu *= p_.reduction;
    }
    double sum = 0;
    for (double x : p) sum += x;
    for (double& x : p) x /= sum;
    return {.state = std::move(p), .outcome = std::move(outcome), .multipliers = {y.begin() + 1, y.end()}};
  }

 private:
  template <class Coefficient>
  static double largest_residual(std::span<const double> p, std::size_t rows, const Coefficient& coefficient,
                                 const LinearConstraints* narrowing) {
    double largest = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = -(r == 0 ? 1 : narrowing->right_hand_side()[r - 1]);
      for (std::size_t i = 0; i < p.size(); ++i) sum += coefficient(r, i) * p[i];
      largest = std::max(largest, std::abs(sum));
    }
    return largest;
  }
  /// The framework's certificate from a gradient that is there already.
  template <class Coefficient>
  static double gap_of(std::span<const double> p, std::span<const double> gradient, std::span<const double> y,
                       std::size_t rows, const Coefficient& coefficient, const LinearConstraints* narrowing) {
    double inner = 0, least = INFINITY;
    for (std::size_t i = 0; i < p.size(); ++i) {
      double reduced = gradient[i];
      for (std::size_t r = 1; r < rows; ++r) reduced += coefficient(r, i) * y[r];
      least = std::min(least, reduced);
      inner += p[i] * gradient[i];
    }
    for (std::size_t r = 1; r < rows; ++r) inner += y[r] * narrowing->right_hand_side()[r - 1];
    return inner - least;
  }
  static void curvature(const SimplexObjective& objective, std::span<const double> p,
                        TensorView<double, 2> h) {
    std::vector<double> unit(p.size(), 0);
    for (index_t i = 0; i < objective.size(); ++i) {
      if (objective.quadratic()) {
        objective.quadratic()->column(i, h.row(i));
        continue;
      }
      unit[static_cast<std::size_t>(i)] = 1;
      objective.curvature_product(p, unit, h.row(i));
      unit[static_cast<std::size_t>(i)] = 0;
    }
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Optimizer, LagrangianNewton>(
      "lagrangian_newton",
      {.summary = "interior point with second derivatives", .source = "Nocedal & Wright 2006, chapter 19"});
}
