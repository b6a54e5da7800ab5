// Minimising movements of Jordan, Kinderlehrer and Otto in one dimension, where the Wasserstein distance is the L2 distance of
// quantile functions:
//   X+ = argmin 1/(2 tau) sum_i w_i (X_i - Y_i)^2 + sum_i w_i V(X_i) + 1/2 sum_ij w_i w_j W(X_i - X_j)
//               + sum_i phi(g_i, X_(i+1) - X_i),    X_i = quantile at the middle of mass w_i, g_i = (w_i + w_(i+1)) / 2
//   phi(g, s) = D g log(g / s)                   for U = D p log p       (density g / s between neighbours)
//   phi(g, s) = D / (m - 1) g^m s^(1 - m)        for U = D p^m / (m - 1)
// SIAM J. Math. Anal. 29 (1998), eq. (12); quantiles: Blanchet, Calvez, Carrillo, SIAM J. Numer. Anal. 46 (2008).
//   euler:  Y = X, tau = h                       order 1
//   bdf2:   Y = (4 X - X_before) / 3, tau = 2 h / 3, first step by euler: order 2       Matthes, Plazotta, Numer. Math. 142 (2019)
// Newton's method, tridiagonal (interactions enter the gradient only), with steps that keep the order of the quantiles.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "borel/draft/flow_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Scheme { euler, bdf2 };
enum class Levels { uniform, cosine };

constexpr int k_max_newton = 200;
constexpr double k_to_collision = 0.9;
constexpr double k_shrink = 0.5;
/// Newton ends when the predicted decrease is this small relative to the energy: far below the rounding of the energy, X is
/// then right to about 1e-12.
constexpr double k_decrement = 1e-22;
/// What rounding may add to the energy in the comparison of two points.
constexpr double k_rounding = 1e-14;

class Jko1d final : public borel::Optimizer {
 public:
  struct Params {
    Scheme scheme = Scheme::bdf2;
    Levels levels = Levels::cosine;
    double time_step = 0.025;
    std::int64_t n_quantiles = 400;
    void declare(borel::ParamBinder& p) {
      p.choice("scheme", scheme, {{"euler", Scheme::euler}, {"bdf2", Scheme::bdf2}},
               "The movement of the paper, or its second-order variant.");
      p.choice("levels", levels, {{"uniform", Levels::uniform}, {"cosine", Levels::cosine}},
               "Equal masses between quantiles, or small ones in the tails.");
      p.real("time_step", time_step, borel::Range::greater_than(0), "flow time", "Length h of a movement.");
      p.integer("n_quantiles", n_quantiles, borel::Range::closed(3, 1000000), "1",
                "Points of the quantile function.");
    }
  };

  explicit Jko1d(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.grid = true;
    traits.rate = params_.scheme == Scheme::euler ? "order 1 in time" : "order 2 in time";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& energy = static_cast<const borel::GridObjective&>(objective);
    if (energy.n_dims() != 1) return "quantiles exist in one dimension only";
    if (!(energy.diffusion() > 0))
      return std::string("the problem '")
          .append(energy.name())
          .append("' has no internal energy, quantiles would collide");
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& base, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::FlowRun run("jko_1d", base, start, stop, trace);
    if (const std::string reason = refuses(base); !reason.empty())
      throw borel::MethodError("jko_1d: " + reason);
    const auto& energy = static_cast<const borel::GridObjective&>(base);
    Movement move(energy, quantile_masses());
    std::vector<double> p = run.start(), x = move.quantiles(p), before = x, target(x.size()), next;
    // BDF2 needs equal steps: the horizon is divided evenly.
    const double h = run.horizon() > 0 ? run.horizon() / std::ceil(run.horizon() / params_.time_step - 1e-9)
                                       : params_.time_step;
    while (run.go_on()) {
      const bool second = params_.scheme == Scheme::bdf2 && run.iteration() > 0;
      for (std::size_t i = 0; i < x.size(); ++i) target[i] = second ? (4 * x[i] - before[i]) / 3 : x[i];
      next = x;
      if (!move.minimise(run, second ? 2 * h / 3 : h, target, next)) break;
      double speed = 0;
      for (std::size_t i = 0; i < x.size(); ++i) speed += move.mass(i) * (next[i] - x[i]) * (next[i] - x[i]);
      before = std::exchange(x, next);
      p = move.cells(x);
      run.advance(run.horizon() > 0 ? std::min(h, run.horizon() - run.time()) : h, std::sqrt(speed) / h, p);
    }
    return run.result(std::move(p));
  }

 private:
  std::vector<double> quantile_masses() const {
    const auto n = static_cast<std::size_t>(params_.n_quantiles);
    std::vector<double> w(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double low = static_cast<double>(i) / static_cast<double>(n),
                   high = static_cast<double>(i + 1) / static_cast<double>(n);
      w[i] = params_.levels == Levels::uniform
                 ? 1 / static_cast<double>(n)
                 : 0.5 * (std::cos(std::numbers::pi * low) - std::cos(std::numbers::pi * high));
    }
    return w;
  }

  /// Quantiles of fixed masses under one energy.
  class Movement {
   public:
    Movement(const borel::GridObjective& energy, std::vector<double> mass)
        : energy_(energy), w_(std::move(mass)), m_(energy.power()), diffusion_(energy.diffusion()) {
      const borel::GridSpec& grid = energy.grid();
      begin_ = grid.begin[0];
      end_ = grid.end[0];
      width_ = grid.width(0);
      const std::size_t n = w_.size();
      for (std::size_t i = 0; i + 1 < n; ++i) gap_.push_back(0.5 * (w_[i] + w_[i + 1]));
      value_.resize(n);
      slope_.resize(n);
      bend_.resize(n);
      pull_.resize(n);
      gradient_.resize(n);
      diagonal_.resize(n);
      off_.resize(n);
      step_.resize(n);
    }
    double mass(std::size_t i) const { return w_[i]; }

    /// Quantiles of cell densities: the cdf is linear in each cell.
    std::vector<double> quantiles(const std::vector<double>& p) const {
      std::vector<double> x(w_.size());
      std::size_t cell = 0;
      double level = 0, below = 0;  // mass below the cell
      for (std::size_t i = 0; i < x.size(); ++i) {
        level += 0.5 * w_[i];
        while (cell + 1 < p.size() && below + p[cell] * width_ < level) below += p[cell++] * width_;
        const double part = p[cell] > 0 ? std::clamp((level - below) / (p[cell] * width_), 0.0, 1.0) : 0.5;
        x[i] = begin_ + (static_cast<double>(cell) + part) * width_;
        level += 0.5 * w_[i];
      }
      // Equal quantiles would be an infinite density.
      for (std::size_t i = 1; i < x.size(); ++i) x[i] = std::max(x[i], x[i - 1] + 1e-12 * (end_ - begin_));
      return x;
    }

    /// Cell densities: mass g_i spread evenly between neighbours, the outer halves at the density of their neighbour gap.
    /// What lies outside the grid goes to its border cells.
    std::vector<double> cells(const std::vector<double>& x) const {
      const borel::GridSpec& grid = energy_.grid();
      std::vector<double> p(static_cast<std::size_t>(grid.size()), 0.0);
      const auto spread = [&](double low, double high, double mass) {
        const double density = mass / (high - low);
        const auto cell_of = [&](double at) {
          return std::clamp<index_t>(static_cast<index_t>(std::floor((at - begin_) / width_)), 0,
                                     grid.size() - 1);
        };
        const index_t first = cell_of(low), last = cell_of(high);
        for (index_t c = first; c <= last; ++c) {
          const double left = c == first ? low : begin_ + static_cast<double>(c) * width_;
          const double right = c == last ? high : begin_ + static_cast<double>(c + 1) * width_;
          p[static_cast<std::size_t>(c)] += density * (right - left) / width_;
        }
      };
      const std::size_t n = x.size();
      for (std::size_t i = 0; i + 1 < n; ++i) spread(x[i], x[i + 1], gap_[i]);
      spread(x[0] - 0.5 * w_[0] * (x[1] - x[0]) / gap_[0], x[0], 0.5 * w_[0]);
      spread(x[n - 1], x[n - 1] + 0.5 * w_[n - 1] * (x[n - 1] - x[n - 2]) / gap_[n - 2], 0.5 * w_[n - 1]);
      return p;
    }

    /// x becomes the argmin; false when the budget ran out.
    bool minimise(borel::FlowRun& run, double tau, const std::vector<double>& target,
                  std::vector<double>& x) {
      const std::size_t n = x.size();
      std::vector<double> trial(n);
      if (!run.may_call()) return false;
      double value = look(x, tau, target, true);
      for (int iteration = 0; iteration < k_max_newton; ++iteration) {
        solve_tridiagonal();
        double slope = 0, t = 1;
        for (std::size_t i = 0; i < n; ++i) slope += step_[i] * gradient_[i];
        if (!(-slope > k_decrement * (1 + std::abs(value)))) return true;
        for (std::size_t i = 0; i + 1 < n; ++i) {
          const double closing = step_[i] - step_[i + 1];
          if (closing > 0) t = std::min(t, k_to_collision * (x[i + 1] - x[i]) / closing);
        }
        for (;; t *= k_shrink) {
          double largest = 0;
          for (std::size_t i = 0; i < n; ++i) {
            trial[i] = x[i] + t * step_[i];
            largest = std::max(largest, std::abs(trial[i] - x[i]));
          }
          if (largest <= 1e-16 * (end_ - begin_)) return true;
          const double next = look(trial, tau, target, false);
          if (next <= value + 1e-4 * t * slope + k_rounding * (1 + std::abs(value))) break;
        }
        x = trial;
        if (!run.may_call()) return false;
        value = look(x, tau, target, true);
      }
      return true;  // interactions converge linearly: what is left is far below the error of the scheme
    }

   private:
    /// Energy of a movement at x; with `derivatives` also gradient_ and the tridiagonal Hessian (counted as one oracle
    /// call).
    double look(const std::vector<double>& x, double tau, const std::vector<double>& target,
                bool derivatives) {
      const std::size_t n = x.size();
      const auto count = static_cast<index_t>(n);
      const borel::TensorView<const double, 2> points(x.data(), {count, 1});
      energy_.potential(points, value_);
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i)
        sum += w_[i] * (value_[i] + (x[i] - target[i]) * (x[i] - target[i]) / (2 * tau));
      for (std::size_t i = 0; i + 1 < n; ++i) sum += internal(gap_[i], x[i + 1] - x[i]);
      if (energy_.has_interaction()) sum += interaction(x, derivatives);
      if (!derivatives) return sum;

      energy_.count_velocity();
      energy_.potential_gradient(points, {slope_.data(), {count, 1}});
      if (!energy_.potential_hessian(points, {bend_.data(), {count, 1, 1}})) finite_differences(x);
      std::ranges::fill(off_, 0.0);
      for (std::size_t i = 0; i < n; ++i) {
        gradient_[i] =
            w_[i] * ((x[i] - target[i]) / tau + slope_[i] + (energy_.has_interaction() ? pull_[i] : 0));
        diagonal_[i] = w_[i] * (1 / tau + std::max(bend_[i], 0.0));  // not convex: its convex part
      }
      for (std::size_t i = 0; i + 1 < n; ++i) {
        const double s = x[i + 1] - x[i], g = gap_[i];
        const double first = m_ == 1 ? -diffusion_ * g / s : -diffusion_ * std::pow(g / s, m_);
        const double second = m_ == 1 ? diffusion_ * g / (s * s) : diffusion_ * m_ * std::pow(g / s, m_) / s;
        gradient_[i] -= first;
        gradient_[i + 1] += first;
        diagonal_[i] += second;
        diagonal_[i + 1] += second;
        off_[i] = -second;
      }
      return sum;
    }

    double internal(double g, double s) const {
      if (!(s > 0)) return std::numeric_limits<double>::infinity();
      return m_ == 1 ? diffusion_ * g * std::log(g / s) : diffusion_ / (m_ - 1) * std::pow(g / s, m_) * s;
    }

    /// 1/2 sum_ij w_i w_j W(X_i - X_j); pull_i = sum_j w_j W'(X_i - X_j).
    double interaction(const std::vector<double>& x, bool derivatives) {
      const std::size_t n = x.size();
      const auto count = static_cast<index_t>(n);
      std::vector<double> z(n), out(n);
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < n; ++j) z[j] = x[i] - x[j];
        energy_.interaction({z.data(), {count, 1}}, out);
        for (std::size_t j = 0; j < n; ++j)
          if (j != i) sum += 0.5 * w_[i] * w_[j] * out[j];
        if (!derivatives) continue;
        energy_.interaction_gradient({z.data(), {count, 1}}, {out.data(), {count, 1}});
        pull_[i] = 0;
        for (std::size_t j = 0; j < n; ++j)
          if (j != i) pull_[i] += w_[j] * out[j];
      }
      return sum;
    }

    void finite_differences(const std::vector<double>& x) {
      const auto count = static_cast<index_t>(x.size());
      const double h = 1e-5 * (end_ - begin_);
      std::vector<double> shifted(x.size()), up(x.size());
      for (std::size_t i = 0; i < x.size(); ++i) shifted[i] = x[i] + h;
      energy_.potential_gradient({shifted.data(), {count, 1}}, {up.data(), {count, 1}});
      for (std::size_t i = 0; i < x.size(); ++i) bend_[i] = (up[i] - slope_[i]) / h;
    }

    /// step_ = -Hessian^-1 gradient_ (positive definite: LDL').
    void solve_tridiagonal() {
      const std::size_t n = gradient_.size();
      std::vector<double> pivot(n);
      pivot[0] = diagonal_[0];
      step_[0] = -gradient_[0];
      for (std::size_t i = 1; i < n; ++i) {
        const double factor = off_[i - 1] / pivot[i - 1];
        pivot[i] = diagonal_[i] - factor * off_[i - 1];
        step_[i] = -gradient_[i] - factor * step_[i - 1];
      }
      step_[n - 1] /= pivot[n - 1];
      for (std::size_t i = n - 1; i-- > 0;) step_[i] = (step_[i] - off_[i] * step_[i + 1]) / pivot[i];
    }

    const borel::GridObjective& energy_;
    std::vector<double> w_, gap_, value_, slope_, bend_, pull_, gradient_, diagonal_, off_, step_;
    double m_, diffusion_, begin_ = 0, end_ = 0, width_ = 0;
  };

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, Jko1d>(
      "jko_1d",
      {.summary = "Minimising movements (JKO) in one dimension, on the quantile function",
       .formula = "X+ = argmin 1/(2 tau) sum w (X - Y)^2 + F(X)",
       .source = "Jordan, Kinderlehrer, Otto, SIAM J. Math. Anal. 29 (1998), eq. (12); Blanchet, Calvez, "
                 "Carrillo, SIAM J. "
                 "Numer. Anal. 46 (2008); Matthes, Plazotta, Numer. Math. 142 (2019)",
       .complexity =
           "O(n_quantiles) per Newton step, O(n_quantiles^2) with interaction; memory O(n_quantiles)",
       .notes = "The density is constant between neighbouring quantiles; mass that leaves the grid is put "
                "into its border "
                "cells"});
}
