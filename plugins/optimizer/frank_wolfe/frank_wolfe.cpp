// Frank-Wolfe on the simplex: the best direction of the linear model is a vertex, s = argmin_i g_i.
//   open_loop:         p+ = p + t (e_s - p), t = 2 / (k + 2)               Jaggi, ICML 2013, algorithm 1
//   line_search:       the same direction, t by the step rule              Jaggi, ICML 2013, algorithm 3
//   away:              that, or away from the worst used vertex, t (p - e_a), a = argmax over p_a > 0 of g_a, whichever is
//                      steeper; t <= p_a / (1 - p_a)                       Lacoste-Julien, Jaggi, NIPS 2015, algorithm 1
//   pairwise:          p+ = p + t (e_s - e_a), t <= p_a                    the same paper, algorithm 2
//   blended_pairwise:  pairwise between used vertices while their gap g_a - g_u, u = argmin over p_u > 0 of g_u, is at
//                      least p.g - g_s, else toward s                      Tsuji, Tanaka, Pokutta, ICML 2022, algorithm 1
//   fully_corrective:  a new vertex enters only when the gap among the used ones has fallen to k_corrected of p.g - g_s;
//                      until then pairwise steps among them                Jaggi, ICML 2013, algorithm 4, the inner problem
//                                                                          solved to that accuracy
// Step rules: exact (closed form of the problem, else the root of the slope), adaptive (Pedregosa et al., AISTATS 2020,
// algorithm 2, with their model F + t slope + t^2 L |d|^2 / 2), automatic = closed form when there is one, else adaptive.
// On quadratics the gradient is kept up to date with two columns of Q, O(n) per step, and made anew every k_refresh steps
// and before convergence is claimed, because the updates drift.
#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "column_cache.hpp"

namespace {

using borel::index_t;

enum class Variant { open_loop, line_search, away, pairwise, blended_pairwise, fully_corrective };
enum class StepRule { automatic, exact, adaptive };

constexpr index_t k_refresh = 1000;
constexpr double k_column_cache_bytes = 512.0 * (1 << 20);
constexpr double k_shrink = 0.9, k_grow = 2;
/// Relative difference of two values below which rounding decides their order; gradients are compared then.
constexpr double k_values_differ = 1e-9;
/// The slope search ends when the slope is this small against the first one.
constexpr double k_slope_left = 1e-6;

/// fully_corrective: the gap among used vertices must be at most this part of the whole gap before a new one enters.
constexpr double k_corrected = 0.1;

/// Steps this close to the longest one are full: dust left on a vertex would cost an iteration of its own
/// later.
constexpr double k_full_step = 1e-14;

/// A direction that moves mass between p and one vertex, or between two vertices.
struct Direction {
  enum class Kind { toward, away, pairwise } kind = Kind::toward;
  index_t s = 0, a = 0;
  double slope = 0, t_max = 1;
};

struct Extremes {
  index_t lowest = 0, lowest_used = 0, highest_used = 0;
  double p_dot_g = 0;
};

Extremes find_extremes(const std::vector<double>& p, const std::vector<double>& g) {
  const borel::dense::Extremes at = borel::dense::extremes(p, g);
  // Where g is infinite everywhere there is none; the methods' tests of values refuse such points.
  return {std::max<index_t>(at.lowest, 0), std::max<index_t>(at.lowest_used, 0),
          std::max<index_t>(at.highest_used, 0), borel::dense::dot(p, g)};
}

/// p + t d. A full step away from a vertex takes its mass to exactly 0.
void move(std::vector<double>& p, const Direction& d, double t) {
  const auto s = static_cast<std::size_t>(d.s), a = static_cast<std::size_t>(d.a);
  switch (d.kind) {
    case Direction::Kind::toward:
      for (double& value : p) value *= 1 - t;
      p[s] += t;
      break;
    case Direction::Kind::away:
      for (double& value : p) value *= 1 + t;
      p[a] = t >= d.t_max * (1 - k_full_step) ? 0 : std::max(p[a] - t, 0.0);
      break;
    case Direction::Kind::pairwise:
      p[s] += t;
      p[a] = t >= d.t_max * (1 - k_full_step) ? 0 : std::max(p[a] - t, 0.0);
      break;
  }
}

/// p with value, gradient and the ways to go on from there.
struct State {
  std::vector<double> p, gradient;
  double value = 0;
};

class FrankWolfe final : public borel::Optimizer {
 public:
  struct Params {
    Variant variant = Variant::pairwise;
    StepRule step = StepRule::automatic;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant,
               {{"open_loop", Variant::open_loop},
                {"line_search", Variant::line_search},
                {"away", Variant::away},
                {"pairwise", Variant::pairwise},
                {"blended_pairwise", Variant::blended_pairwise},
                {"fully_corrective", Variant::fully_corrective}},
               "Which directions are used, and for open_loop the step size 2/(k+2).");
      p.choice(
          "step", step,
          {{"automatic", StepRule::automatic}, {"exact", StepRule::exact}, {"adaptive", StepRule::adaptive}},
          "Step size along the direction; open_loop ignores it.");
    }
  };

  explicit FrankWolfe(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.monotone = params_.variant != Variant::open_loop;
    traits.order = 1;
    traits.linear = params_.variant != Variant::open_loop;
    traits.rate = params_.variant == Variant::open_loop ? "O(1/k)"
                  : params_.variant == Variant::line_search
                      ? "O(1/k); linear when strongly convex with its minimum inside"
                      : "linear when strongly convex, O(1/k) otherwise";
    return traits;
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("frank_wolfe", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("frank_wolfe: " + reason);
    State state{run.start(), std::vector<double>(static_cast<std::size_t>(run.size()))};
    if (!run.may_call()) return run.result(std::move(state.p));
    state.value = run.objective().value_and_gradient(state.p, state.gradient);
    if (!std::isfinite(state.value))
      throw borel::MethodError(
          "frank_wolfe: F is infinite at the start; start inside, e.g. at the uniform point");
    if (run.objective().quadratic() && params_.step != StepRule::adaptive)
      minimize_quadratic(run, stop, state);
    else
      minimize_general(run, state);
    return run.result(std::move(state.p));
  }

 private:
  Direction choose(const State& state, const Extremes& found) const {
    const auto s = static_cast<std::size_t>(found.lowest), a = static_cast<std::size_t>(found.highest_used);
    const std::vector<double>& g = state.gradient;
    const Direction toward{Direction::Kind::toward, found.lowest, found.lowest, g[s] - found.p_dot_g, 1};
    if (params_.variant == Variant::blended_pairwise || params_.variant == Variant::fully_corrective) {
      const double among_used = g[a] - g[static_cast<std::size_t>(found.lowest_used)],
                   all = found.p_dot_g - g[s];
      const bool blended = params_.variant == Variant::blended_pairwise;
      if (among_used > 0 && among_used >= (blended ? 1 : k_corrected) * all)
        return {Direction::Kind::pairwise, found.lowest_used, found.highest_used, -among_used, state.p[a]};
      if (blended) return toward;
    }
    if (params_.variant == Variant::pairwise || params_.variant == Variant::fully_corrective)
      return {Direction::Kind::pairwise, found.lowest, found.highest_used, g[s] - g[a], state.p[a]};
    if (params_.variant == Variant::away && state.p[a] < 1 && found.p_dot_g - g[a] < toward.slope)
      return {Direction::Kind::away, found.highest_used, found.highest_used, found.p_dot_g - g[a],
              state.p[a] / (1 - state.p[a])};
    return toward;
  }

  /// Gradients by columns of Q; exact steps.
  void minimize_quadratic(borel::SimplexRun& run, const borel::StopRule& stop, State& state) const {
    const borel::QuadraticForm& form = *run.objective().quadratic();
    const std::span<const double> b = form.linear();
    ColumnCache columns(form, run.size(), std::min(stop.budget.memory_bytes, k_column_cache_bytes));
    const std::size_t n = state.p.size();
    index_t since_refresh = 0;
    const auto refresh = [&] {
      if (!run.may_call()) return false;
      since_refresh = 0;
      double sum = 0;
      for (double value : state.p) sum += value;
      for (double& value : state.p) value /= sum;
      state.value = run.objective().value_and_gradient(state.p, state.gradient);
      return true;
    };
    for (index_t k = 0;; ++k) {
      if (since_refresh >= k_refresh && !refresh()) return;
      Extremes found = find_extremes(state.p, state.gradient);
      double gap = found.p_dot_g - state.gradient[static_cast<std::size_t>(found.lowest)];
      if (gap <= stop.gap_tolerance) {
        if (since_refresh > 0 && !refresh()) return;
        found = find_extremes(state.p, state.gradient);
        gap = borel::frank_wolfe_gap(state.p, state.gradient);
      }
      if (!run.go_on(k, state.value, gap, state.p)) return;

      const Direction d = choose(state, found);
      const auto s = static_cast<std::size_t>(d.s), a = static_cast<std::size_t>(d.a);
      std::vector<double>& g = state.gradient;
      // Vertices enter where g is small, and leave where it is large.
      const auto enters = [&](std::size_t i) { return g[i]; };
      const auto leaves = [&](std::size_t i) {
        return state.p[i] > 0 ? -g[i] : std::numeric_limits<double>::infinity();
      };
      const std::span<const double> q_s =
          d.kind == Direction::Kind::away ? columns.get(d.s, d.a, leaves) : columns.get(d.s, d.a, enters);
      double curvature = form.diagonal(d.s), t = 0;
      if (d.kind == Direction::Kind::pairwise) {
        const std::span<const double> q_a = columns.get(d.a, d.s, leaves);
        curvature += form.diagonal(d.a) - 2 * q_s[a];
        t = step_size(d, k, curvature);
        borel::dense::add_scaled(t, q_s, g);
        borel::dense::add_scaled(-t, q_a, g);
      } else {
        // d = +-(e_s - p): Q d = +-(Q e_s - (g - b))
        double p_q_p = found.p_dot_g;
        for (std::size_t i = 0; i < n; ++i) p_q_p -= state.p[i] * b[i];
        curvature += p_q_p - 2 * (g[s] - b[s]);
        t = step_size(d, k, curvature);
        const double signed_t = d.kind == Direction::Kind::toward ? t : -t;
        for (std::size_t i = 0; i < n; ++i) g[i] += signed_t * (q_s[i] - (g[i] - b[i]));
      }
      if (!(t > 0)) {
        if (since_refresh == 0) return run.stall("the line search gives step 0");
        if (!refresh()) return;
        continue;
      }
      move(state.p, d, t);
      state.value += t * (d.slope + 0.5 * t * std::max(curvature, 0.0));
      ++since_refresh;
    }
  }

  double step_size(const Direction& d, index_t k, double curvature) const {
    if (params_.variant == Variant::open_loop) return 2.0 / static_cast<double>(k + 2);
    if (!(d.slope < 0)) return 0;
    return curvature > 0 ? std::min(d.t_max, -d.slope / curvature) : d.t_max;
  }

  /// One gradient per accepted step.
  void minimize_general(borel::SimplexRun& run, State& state) const {
    const borel::SimplexObjective& f = run.objective();
    State trial = state;
    double lipschitz = 0;  // of the gradient along directions; 0 = no guess yet
    for (index_t k = 0; run.go_on(k, state.value, borel::frank_wolfe_gap(state.p, state.gradient), state.p);
         ++k) {
      const Direction d = choose(state, find_extremes(state.p, state.gradient));
      const auto look_at = [&](double t) {
        trial.p = state.p;
        move(trial.p, d, t);
        if (!run.may_call()) return false;
        trial.value = f.value_and_gradient(trial.p, trial.gradient);
        return true;
      };
      bool moved = false;
      if (params_.variant == Variant::open_loop)
        moved = open_step(k, trial, look_at);
      else if (d.slope < 0)
        moved = searched_step(run, state, trial, d, lipschitz, look_at);
      if (run.over()) return;
      if (!moved) return run.stall("the line search gives step 0");
      std::swap(state, trial);
    }
  }

  /// 2 / (k + 2), halved while F is infinite there (the first step, t = 1, leads to a vertex).
  template <class LookAt>
  static bool open_step(index_t k, const State& trial, LookAt&& look_at) {
    for (double t = 2.0 / static_cast<double>(k + 2); t > 0; t *= 0.5) {
      if (!look_at(t)) return false;
      if (std::isfinite(trial.value)) return true;
    }
    return false;
  }

  template <class LookAt>
  bool searched_step(borel::SimplexRun& run, const State& state, const State& trial, const Direction& d,
                     double& lipschitz, LookAt&& look_at) const {
    const std::size_t n = state.p.size();
    std::vector<double> direction(n, 0.0);
    if (d.kind != Direction::Kind::pairwise) {
      const double sign = d.kind == Direction::Kind::toward ? -1 : 1;
      for (std::size_t i = 0; i < n; ++i) direction[i] = sign * state.p[i];
    }
    if (d.kind != Direction::Kind::away) direction[static_cast<std::size_t>(d.s)] += 1;
    if (d.kind != Direction::Kind::toward) direction[static_cast<std::size_t>(d.a)] -= 1;

    if (params_.step != StepRule::adaptive) {
      if (!run.may_call(2)) return false;
      if (const auto t = run.objective().exact_step(state.p, direction, d.t_max))
        return *t > 0 && look_at(*t) && std::isfinite(trial.value);
    }
    const auto slope_at_trial = [&] {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += direction[i] * trial.gradient[i];
      return sum;
    };
    if (params_.step == StepRule::exact) return root_of_slope(trial, d, look_at, slope_at_trial);

    double square = 0;
    for (double v : direction) square += v * v;
    if (lipschitz == 0)
      lipschitz = std::max(-d.slope / (d.t_max * square), std::numeric_limits<double>::min());
    for (;; lipschitz *= k_grow) {
      const double t = std::min(d.t_max, -d.slope / (lipschitz * square));
      if (!(t > 0) || !look_at(t)) return false;
      if (!std::isfinite(trial.value)) continue;
      const double scale = std::max(std::abs(state.value), std::abs(trial.value));
      // Near the optimum gradients decide: for convex F the slope at the end must not exceed 0, for then F
      // cannot have risen, and the change of slope must fit the model.
      const bool fits = std::abs(trial.value - state.value) > k_values_differ * scale
                            ? trial.value <= state.value + t * (d.slope + 0.5 * t * lipschitz * square)
                            : slope_at_trial() - d.slope <= t * lipschitz * square;
      if (fits) {
        lipschitz *= k_shrink;
        return true;
      }
      if (trial.p == state.p) return false;
    }
  }

  /// Zero of the slope in (0, t_max] by bisection with secant steps (Illinois rule); ends at a point that was
  /// evaluated.
  template <class LookAt, class Slope>
  static bool root_of_slope(const State& trial, const Direction& d, LookAt&& look_at,
                            Slope&& slope_at_trial) {
    double low = 0, slope_low = d.slope, high = d.t_max, slope_high = std::numeric_limits<double>::infinity();
    double t = d.t_max;
    for (int evaluation = 0; evaluation < 60; ++evaluation) {
      if (!look_at(t)) return false;
      const double slope =
          std::isfinite(trial.value) ? slope_at_trial() : std::numeric_limits<double>::infinity();
      if (std::abs(slope) <= -k_slope_left * d.slope || (slope < 0 && t == d.t_max)) return true;
      if (slope < 0) {
        low = t;
        slope_low = slope;
        slope_high *= 0.5;
      } else {
        high = t;
        slope_high = slope;
        slope_low *= 0.5;
      }
      t = low - slope_low * (high - low) / (slope_high - slope_low);
      if (!(t > low && t < high)) t = 0.5 * (low + high);
      if (!(t > low && t < high)) break;
    }
    // Rounding ended the search: the last point is used when F has not risen there.
    return look_at(low) && low > 0;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, FrankWolfe>(
      "frank_wolfe",
      {.summary = "Search inside the convex set: steps between vertices; open loop, line search, away steps, "
                  "pairwise",
       .formula =
           "s = argmin g,  p+ = p + t (e_s - p)   or   p+ = p + t (e_s - e_a), a = argmax of g where p > 0",
       .source = "Jaggi, ICML 2013; Lacoste-Julien, Jaggi, NIPS 2015, arXiv:1511.05932; Pedregosa et al., "
                 "AISTATS 2020, "
                 "arXiv:1806.05123",
       .complexity = "quadratics: O(n) per step and a column of Q per new vertex; else one or more oracle "
                     "calls per step",
       .notes = "Before convergence is claimed the gradient is computed anew"});
}
