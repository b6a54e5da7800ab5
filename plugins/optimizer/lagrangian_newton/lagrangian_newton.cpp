// Multipliers: Newton's method on the optimality conditions of min F(p) under sum p = 1, A p = b, p >= 0.
//   interior_point:  grad F + E'y - z = 0,  E p = e,  p_i z_i = mu,  E = [1'; A], e = [1; b]:
//     (H + diag(z / p)) dp + E'dy = -(grad F + E'y) + mu / p,   dz = mu / p - z - (z / p) dp
//     Nocedal, Wright, Numerical Optimization (2006), section 19.2; for mixtures Koenker, Mizera, JASA 109 (2014)
//   active_set:      q = argmin of the second-order model on a face: the support of p and the vertices whose gradient is
//     low;  p+ = p + t (q - p), t by exact line search or sufficient decrease
//     Kim, Carbonetto, Stephens, Anitescu, J. Comput. Graph. Statist. 29 (2020) (mix-SQP); vertices enter as in Wang,
//     J. R. Statist. Soc. B 69 (2007), at local minima of the gradient along the index (adjacent ones are nearly the same)
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "barrier_system.hpp"
#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "face_program.hpp"

namespace {

enum class Variant { automatic, interior_point, active_set };

/// A dense Hessian of this many coordinates takes 512 MiB.
constexpr index_t k_most_coordinates = 8192;
constexpr double k_to_boundary = 0.99;
constexpr double k_constraint_tolerance = 1e-10;
constexpr double k_sufficient = 1e-4, k_shrink = 0.5, k_shortest = 1e-6;
/// Ridges of the model on a face, relative to its largest diagonal entry, tried one after the other.
constexpr double k_first_ridge = 1e-13, k_last_ridge = 1e-3, k_ridge_growth = 100;
/// Steps after which a gathered start must have paid.
constexpr index_t k_patience = 5;
/// Relative difference of two values below which rounding decides their order; slopes are compared then.
constexpr double k_values_differ = 1e-9;
/// Vertices that enter a face at once, at most.
constexpr std::size_t k_most_new = 64;
/// A start with more used vertices than this is first gathered on so many, unless F is curved in all directions there:
/// second-order models on hundreds of nearly dependent columns say nothing.
constexpr std::size_t k_gathered = 40;
/// Smallest pivot of a Hessian, relative to its largest diagonal entry, that counts as curved.
constexpr double k_curved = 1e-8;
/// Part of the start that becomes the uniform point, so that the interior point method starts inside.
constexpr double k_inside = 0.1;

class LagrangianNewton final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::automatic;
    double centring = 0.15;
    void declare(borel::ParamBinder& p) {
      p.choice(
          "variant", variant,
          {{"automatic", Variant::automatic},
           {"interior_point", Variant::interior_point},
           {"active_set", Variant::active_set}},
          "Path through the inside, or steps between faces; automatic: inside for constraints, else faces.");
      p.real("centring", centring, borel::Range::open(0, 1), "1",
             "Interior point: mu is this part of the present complementarity p.z / n.");
    }
  };

  explicit LagrangianNewton(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = params_.variant == Variant::active_set;
    traits.linear_constraints = params_.variant != Variant::active_set;
    traits.linear = true;
    traits.rate = "superlinear";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& f = static_cast<const borel::SimplexObjective&>(objective);
    if (!f.has_curvature() && !f.quadratic())
      return std::string("needs second derivatives, which the problem '")
          .append(f.name())
          .append("' does not offer");
    if (f.size() > k_most_coordinates && !f.mixture())
      return std::string("would factor a matrix of ")
          .append(std::to_string(f.size()))
          .append(" rows; at most ")
          .append(std::to_string(k_most_coordinates))
          .append(" unless it is a mixture; use frank_wolfe");
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("lagrangian_newton", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("lagrangian_newton: " + reason);
    const bool inside = params_.variant == Variant::interior_point ||
                        (params_.variant == Variant::automatic && run.objective().constraints());
    return inside ? interior_point(run) : active_set(run);
  }

 private:
  /// E = [1'; A] and e = [1; b].
  struct Equalities {
    std::vector<double> rows;  ///< [count, n]
    std::vector<double> right;
    index_t n;

    explicit Equalities(const borel::SimplexObjective& f)
        : rows(static_cast<std::size_t>(f.size()), 1.0), right{1.0}, n(f.size()) {
      if (const borel::LinearConstraints* linear = f.constraints()) {
        const borel::TensorView<const double, 2> a = linear->matrix();
        for (index_t r = 0; r < a.shape(0); ++r) rows.insert(rows.end(), a.row(r).begin(), a.row(r).end());
        right.insert(right.end(), linear->right_hand_side().begin(), linear->right_hand_side().end());
      }
    }
    index_t count() const { return static_cast<index_t>(right.size()); }
    borel::TensorView<const double, 2> matrix() const { return {rows.data(), {count(), n}}; }
    /// e - E p
    std::vector<double> residual(std::span<const double> p) const {
      std::vector<double> image(right.size());
      borel::dense::multiply(matrix(), p, image);
      for (std::size_t r = 0; r < right.size(); ++r) image[r] = right[r] - image[r];
      return image;
    }
  };

  /// The framework's certificate from a gradient that is there already; infinite while the constraints are not met.
  static double gap_of(const Equalities& e, std::span<const double> p, std::span<const double> gradient,
                       std::span<const double> y) {
    if (e.count() == 1) return borel::frank_wolfe_gap(p, gradient);
    for (double r : e.residual(p))
      if (!(std::abs(r) <= k_constraint_tolerance)) return std::numeric_limits<double>::infinity();
    double gap = 0, least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < p.size(); ++i) {
      double reduced = gradient[i];
      for (std::size_t r = 1; r < e.right.size(); ++r) reduced += e.rows[r * p.size() + i] * y[r];
      least = std::min(least, reduced);
    }
    for (std::size_t i = 0; i < p.size(); ++i) gap += p[i] * (gradient[i] - least);
    for (std::size_t r = 1; r < e.right.size(); ++r) gap += y[r] * e.right[r];
    return gap;
  }

  borel::OptimizerResult interior_point(borel::SimplexRun& run) const {
    const borel::SimplexObjective& f = run.objective();
    const auto n = static_cast<std::size_t>(run.size());
    const Equalities e(f);
    std::vector<double> p = run.start(), gradient(n), y(e.right.size(), 0.0), best = p, best_y = y;
    double best_gap = std::numeric_limits<double>::infinity();
    const auto finish = [&] {
      borel::OptimizerResult result =
          run.result(best_gap < std::numeric_limits<double>::infinity() ? best : p);
      if (e.count() > 1) result.multipliers.assign(best_y.begin() + 1, best_y.end());
      return result;
    };
    if (!run.may_call()) return finish();
    double value = f.value_and_gradient(p, gradient);
    if (!std::isfinite(value))
      throw borel::MethodError(
          "lagrangian_newton: F is infinite at the start; start inside, e.g. at the uniform point");
    double gap = gap_of(e, p, gradient, y);
    if (!run.go_on(0, value, gap, p)) return finish();
    // Inside: the sum stays 1, and every coordinate gets room.
    for (double& v : p) v = (1 - k_inside) * v + k_inside / static_cast<double>(n);
    if (!run.may_call()) return finish();
    value = f.value_and_gradient(p, gradient);

    HessianSource hessian(f);
    BarrierSystem barrier(f, hessian);
    const auto [low, high] = std::ranges::minmax_element(gradient);
    std::vector<double> z(n, std::max(*high - *low, 1e-8 * (1 + std::abs(*high)))), shift(n), dp(n), trial(n),
        right(n);
    y[0] = -*low + z[0];
    for (index_t k = 1;; ++k) {
      const double mu = params_.centring * borel::dense::dot(p, z) / static_cast<double>(n);
      for (std::size_t i = 0; i < n; ++i) shift[i] = z[i] / p[i];
      if (!barrier.factor(p, shift, run)) {
        run.stall("the Newton system is singular to rounding, or the budget has no room for it");
        break;
      }
      for (std::size_t i = 0; i < n; ++i) right[i] = mu / p[i] - gradient[i];
      dp = right;
      barrier.solve(dp);
      if (!eliminate(e, barrier, p, dp, y)) {
        run.stall("the constraints depend on each other to rounding");
        break;
      }
      double primal = 1, dual = 1;
      for (std::size_t i = 0; i < n; ++i) {
        const double dz = mu / p[i] - z[i] - shift[i] * dp[i];
        if (dp[i] < 0) primal = std::min(primal, -k_to_boundary * p[i] / dp[i]);
        if (dz < 0) dual = std::min(dual, -k_to_boundary * z[i] / dz);
      }
      for (std::size_t i = 0; i < n; ++i) z[i] += dual * (mu / p[i] - z[i] - shift[i] * dp[i]);
      for (;; primal *= k_shrink) {
        for (std::size_t i = 0; i < n; ++i) trial[i] = p[i] + primal * dp[i];
        if (!run.may_call()) return finish();
        value = f.value_and_gradient(trial, gradient);
        if (std::isfinite(value)) break;
        if (primal < 1e-12) {
          run.stall("F is infinite along the Newton step");
          return finish();
        }
      }
      std::swap(p, trial);
      gap = gap_of(e, p, gradient, y);
      if (gap < best_gap) {
        best_gap = gap;
        best = p;
        best_y = y;
      }
      if (!run.go_on(k, value, gap, p)) break;
      if (k > 20 && gap > 1e3 * best_gap) {
        run.stall("rounding spoils the Newton steps");
        break;
      }
    }
    return finish();
  }

  /// y from E M^-1 E' y = E (p + M^-1 r) - e, then dp = M^-1 (r - E' y). False when E M^-1 E' is not definite.
  static bool eliminate(const Equalities& e, const BarrierSystem& barrier, const std::vector<double>& p,
                        std::vector<double>& dp, std::vector<double>& y) {
    const index_t rows = e.count();
    const auto count = static_cast<std::size_t>(rows);
    std::vector<double> solved(count * dp.size()), schur(count * count);
    for (std::size_t r = 0; r < count; ++r) {
      const std::span<const double> row = e.matrix().row(static_cast<index_t>(r));
      std::vector<double> column(row.begin(), row.end());
      barrier.solve(column);
      std::ranges::copy(column, solved.begin() + static_cast<std::ptrdiff_t>(r * dp.size()));
    }
    const std::vector<double> left = e.residual(p);
    for (std::size_t r = 0; r < count; ++r) {
      const std::span<const double> row = e.matrix().row(static_cast<index_t>(r));
      y[r] = borel::dense::dot(row, dp) - left[r];
      for (std::size_t c = 0; c < count; ++c)
        schur[r * count + c] = borel::dense::dot(row, std::span(solved).subspan(c * dp.size(), dp.size()));
    }
    const borel::TensorView<double, 2> s(schur.data(), {rows, rows});
    if (!borel::dense::cholesky(s)) return false;
    borel::dense::cholesky_solve(s, y);
    for (std::size_t r = 0; r < count; ++r)
      borel::dense::add_scaled(-y[r], std::span(solved).subspan(r * dp.size(), dp.size()), dp);
    return true;
  }

  borel::OptimizerResult active_set(borel::SimplexRun& run) const {
    const borel::SimplexObjective& f = run.objective();
    const auto n = static_cast<std::size_t>(run.size());
    std::vector<double> p = run.start(), gradient(n), trial(n), trial_gradient(n), direction(n);
    if (!run.may_call()) return run.result(std::move(p));
    double value = f.value_and_gradient(p, gradient);
    if (!std::isfinite(value))
      throw borel::MethodError(
          "lagrangian_newton: F is infinite at the start; start inside, e.g. at the uniform point");
    HessianSource hessian(f);
    std::vector<double> h, face_p, face_g, q;
    // F may rise when the start is gathered: until Newton's steps are below it again, the start is what there is to show.
    std::vector<double> start;
    const double start_value = value, start_gap = borel::frank_wolfe_gap(p, gradient);
    bool gathered = false;
    for (index_t k = 0;; ++k) {
      const bool above_start = gathered && value > start_value;
      const double gap = borel::frank_wolfe_gap(p, gradient);
      if (!(above_start ? run.go_on(k, start_value, start_gap, start) : run.go_on(k, value, gap, p))) break;
      if (above_start && k > k_patience) {
        // No better than the start: go on from there, as it is.
        p = start;
        if (!run.may_call()) break;
        value = f.value_and_gradient(p, gradient);
        gathered = false;
      }
      if (k == 0 && gather(run, hessian, p, trial)) {
        start = p;
        if (!run.may_call()) break;
        const double gathered_value = f.value_and_gradient(trial, trial_gradient);
        if (std::isfinite(gathered_value)) {
          std::swap(p, trial);
          std::swap(gradient, trial_gradient);
          value = gathered_value;
          gathered = true;
        }
      }
      const std::vector<index_t> face = choose_face(p, gradient);
      const auto size = static_cast<index_t>(face.size());
      h.resize(face.size() * face.size());
      const borel::TensorView<double, 2> on_face(h.data(), {size, size});
      if (!hessian.on(face, p, run, on_face)) break;
      face_p.clear();
      face_g.clear();
      for (index_t i : face) {
        face_p.push_back(p[static_cast<std::size_t>(i)]);
        face_g.push_back(gradient[static_cast<std::size_t>(i)]);
      }
      bool moved = false;
      // Nearly dependent columns make the model worthless in some directions; a larger ridge keeps out of them.
      for (double ridge = k_first_ridge; ridge <= k_last_ridge && !moved; ridge *= k_ridge_growth) {
        q.assign(face.size(), 0.0);
        if (!solve_on_face(on_face, face_p, face_g, ridge, q)) continue;
        double slope = 0;
        std::ranges::fill(direction, 0.0);
        for (std::size_t i = 0; i < face.size(); ++i) {
          const auto at = static_cast<std::size_t>(face[i]);
          direction[at] = q[i] - p[at];
          slope += direction[at] * gradient[at];
        }
        if (!(slope < 0)) continue;
        for (double t = 1; t > k_shortest; t *= k_shrink) {
          for (std::size_t i = 0; i < n; ++i) trial[i] = std::max(p[i] + t * direction[i], 0.0);
          if (t == 1)
            for (std::size_t i = 0; i < face.size(); ++i) trial[static_cast<std::size_t>(face[i])] = q[i];
          if (!run.may_call())
            return run.result(gathered && value > start_value ? std::move(start) : std::move(p));
          const double next = f.value_and_gradient(trial, trial_gradient);
          if (!std::isfinite(next)) continue;
          const double scale = std::max(std::abs(value), std::abs(next));
          const bool good = std::abs(next - value) > k_values_differ * scale
                                ? next <= value + k_sufficient * t * slope
                                : borel::dense::dot(direction, trial_gradient) <= -0.9 * slope &&
                                      next <= value + 1e-15 * scale;
          if (!good) continue;
          std::swap(p, trial);
          std::swap(gradient, trial_gradient);
          value = next;
          moved = true;
          break;
        }
      }
      if (!moved) {
        run.stall("no step towards the minimum of the model lowers F");
        break;
      }
    }
    return run.result(gathered && value > start_value ? std::move(start) : std::move(p));
  }

  /// Mass of k_gathered pieces of equal mass along the index, each on its middle vertex. False when the start is small, or
  /// F is curved in all directions on its support.
  static bool gather(borel::SimplexRun& run, HessianSource& hessian, const std::vector<double>& p,
                     std::vector<double>& out) {
    std::vector<index_t> used;
    for (std::size_t i = 0; i < p.size(); ++i)
      if (p[i] > 0) used.push_back(static_cast<index_t>(i));
    if (used.size() <= k_gathered) return false;
    if (!run.objective().mixture()) {
      std::vector<double> h(used.size() * used.size());
      const auto size = static_cast<index_t>(used.size());
      const borel::TensorView<double, 2> m(h.data(), {size, size});
      if (!hessian.on(used, p, run, m)) return false;
      double largest = 0;
      for (index_t i = 0; i < size; ++i) largest = std::max(largest, m(i, i));
      if (borel::dense::cholesky(m)) {
        double least = largest;
        for (index_t i = 0; i < size; ++i) least = std::min(least, m(i, i) * m(i, i));
        if (least > k_curved * largest) return false;
      }
    }
    std::ranges::fill(out, 0.0);
    std::vector<std::size_t> home(k_gathered, p.size());
    std::vector<double> mass(k_gathered, 0.0), distance(k_gathered, 2.0);
    double below = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) continue;
      const double centre = below + 0.5 * p[i];
      below += p[i];
      const auto own =
          std::min(k_gathered - 1, static_cast<std::size_t>(centre * static_cast<double>(k_gathered)));
      mass[own] += p[i];
      const double off =
          std::abs(centre - (static_cast<double>(own) + 0.5) / static_cast<double>(k_gathered));
      if (off < distance[own]) {
        distance[own] = off;
        home[own] = i;
      }
    }
    for (std::size_t k = 0; k < k_gathered; ++k)
      if (mass[k] > 0) out[home[k]] += mass[k];
    return true;
  }

  /// The support, and local minima of the gradient along the index that lie below its mean over p, lowest first.
  static std::vector<index_t> choose_face(const std::vector<double>& p, const std::vector<double>& g) {
    const std::size_t n = p.size();
    const double level = borel::dense::dot(p, g);
    std::vector<index_t> face, low;
    for (std::size_t i = 0; i < n; ++i) {
      if (p[i] > 0)
        face.push_back(static_cast<index_t>(i));
      else if (g[i] < level && (i == 0 || g[i] <= g[i - 1] || p[i - 1] > 0) &&
               (i + 1 == n || g[i] <= g[i + 1] || p[i + 1] > 0))
        low.push_back(static_cast<index_t>(i));
    }
    std::ranges::stable_sort(low, [&](index_t a, index_t b) {
      return g[static_cast<std::size_t>(a)] < g[static_cast<std::size_t>(b)];
    });
    low.resize(std::min(low.size(), k_most_new));
    face.insert(face.end(), low.begin(), low.end());
    std::ranges::sort(face);
    return face;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, LagrangianNewton>(
      "lagrangian_newton",
      {.summary = "Multipliers and second derivatives: primal-dual interior point, or Newton steps on faces",
       .formula = "grad F + lambda 1 + A'y - z = 0,  p_i z_i = mu -> 0",
       .source =
           "Nocedal, Wright, Numerical Optimization (2006), section 19.2; Koenker, Mizera, JASA 109 (2014); "
           "Kim, "
           "Carbonetto, Stephens, Anitescu, J. Comput. Graph. Statist. 29 (2020); Portugal, Judice, Vicente, "
           "Math. Comp. 63 (1994)",
       .complexity =
           "O(n^3) per iteration; mixtures of numerical rank r: O((m + n) r^2); active_set: O(support^3)",
       .notes = "Quadratics and mixtures are read by columns; other problems give one curvature product per "
                "coordinate"});
}
