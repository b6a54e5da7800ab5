// Fokker-Planck and aggregation-diffusion equations on grids, dp/dt = div(p grad(V + W * p + U'(p))), by finite volumes.
// Flux through the face between cells i and i+1 of width h, B(x) = x / (e^x - 1), D the diffusion at the face:
//   F = D / h (B(d / D) p_i - B(-d / D) p_(i+1))
//   scharfetter_gummel:  d = xi_(i+1) - xi_i, xi = V + W * p: exp(-xi / D) is exactly at rest
//                        Scharfetter, Gummel, IEEE Trans. Electron Devices 16 (1969)
//   chang_cooper:        d = h V'(face) + (W * p)_(i+1) - (W * p)_i; the same weights as their delta = 1/w - 1/(e^w - 1)
//                        Chang, Cooper, J. Comput. Phys. 6 (1970)
// U = D p log p: D is constant. U = D p^m / (m - 1): D at the face is (r_(i+1) - r_i) / (log p_(i+1) - log p_i),
// r = D m / (m - 1) p^(m - 1), and D m ((p_i + p_(i+1)) / 2)^(m - 1) where a cell is empty, so that fronts move
// (Bessemoulin-Chatard, Numer. Math. 121 (2012), eq. (14)).
//   implicit_euler:   positive, mass exact, falling free energy, for every time step; order 1
//   crank_nicolson:   order 2, mass exact; a step that would leave a cell negative is made again by implicit Euler
// Coefficients that depend on p are taken at the end (Euler) or in the middle (Crank-Nicolson) of the step and found by
// repetition. Two dimensions: one axis after the other (Lie), or half x, y, half x (Strang) for Crank-Nicolson.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/flow_run.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Scheme { implicit_euler, crank_nicolson };
enum class Flux { scharfetter_gummel, chang_cooper };

constexpr int k_max_repetitions = 50;
constexpr double k_repetition_tolerance = 1e-13;
/// Negative cells of this size relative to the largest one are rounding.
constexpr double k_rounding = 1e-14;
/// Densities below this share of the largest one are no reason for a logarithm.
constexpr double k_empty = 1e-200;

/// x / (e^x - 1)
double bernoulli(double x) {
  if (std::abs(x) < 1e-5) return 1 - x / 2 + x * x / 12;
  return x > 700 ? 0 : x / std::expm1(x);
}

/// Rates of one axis: mass per cell and time from cell i of a line to its upper and lower neighbour. [cells], in the order
/// of the grid.
struct Rates {
  std::vector<double> up, down;
};

class FokkerPlanck final : public borel::Optimizer {
 public:
  struct Params {
    Scheme scheme = Scheme::crank_nicolson;
    Flux flux = Flux::scharfetter_gummel;
    double time_step = 0.01;
    void declare(borel::ParamBinder& p) {
      p.choice("scheme", scheme,
               {{"implicit_euler", Scheme::implicit_euler}, {"crank_nicolson", Scheme::crank_nicolson}},
               "First order and positive by itself, or second order with a check.");
      p.choice("flux", flux,
               {{"scharfetter_gummel", Flux::scharfetter_gummel}, {"chang_cooper", Flux::chang_cooper}},
               "Drift from differences of the potential, or from its gradient at the faces.");
      p.real("time_step", time_step, borel::Range::greater_than(0), "flow time", "Length of a step.");
    }
  };

  explicit FokkerPlanck(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.grid = true;
    traits.monotone = params_.scheme == Scheme::implicit_euler && params_.flux == Flux::scharfetter_gummel;
    traits.rate = params_.scheme == Scheme::implicit_euler ? "order 1 in time, 2 in space"
                                                           : "order 2 in time and space";
    return traits;
  }

  borel::OptimizerResult minimize(borel::Objective& base, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::FlowRun run("fokker_planck", base, start, stop, trace);
    if (const std::string reason = refuses(base); !reason.empty())
      throw borel::MethodError("fokker_planck: " + reason);
    const auto& energy = static_cast<const borel::GridObjective&>(base);
    const Space space(energy, params_.flux);
    std::vector<double> p = run.start(), next = p, trial, coefficient_point;
    const bool fixed = energy.power() == 1 && !energy.has_interaction();
    std::vector<Rates> rates(static_cast<std::size_t>(energy.n_dims()));
    bool have_rates = false;
    index_t repaired = 0;
    while (run.go_on()) {
      const double dt = run.next_step(params_.time_step);
      bool euler = params_.scheme == Scheme::implicit_euler;
      for (int attempt = 0; attempt < 2; ++attempt) {
        next = p;
        for (int repetition = 0; repetition < k_max_repetitions; ++repetition) {
          if (!fixed || !have_rates) {
            if (!run.may_call()) return run.result(std::move(p), remark(repaired));
            coefficient_point = next;
            if (!euler)
              for (std::size_t i = 0; i < p.size(); ++i)
                coefficient_point[i] = 0.5 * (p[i] + std::max(next[i], 0.0));
            space.find_rates(coefficient_point, rates);
            energy.count_velocity();
            have_rates = true;
          } else if (repetition == 0) {
            if (!run.may_call()) return run.result(std::move(p), remark(repaired));
            energy.count_velocity();
          }
          trial = p;
          space.step(rates, dt, euler ? 1 : 0.5, trial);
          double change = 0, largest = 0;
          for (std::size_t i = 0; i < p.size(); ++i) {
            change = std::max(change, std::abs(trial[i] - next[i]));
            largest = std::max(largest, std::abs(trial[i]));
          }
          std::swap(next, trial);
          if (fixed || change <= k_repetition_tolerance * largest) break;
        }
        if (euler) break;
        const auto [lowest, highest] = std::ranges::minmax_element(next);
        if (*lowest >= -k_rounding * *highest) break;
        euler = true;
        ++repaired;
      }
      double speed = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        next[i] = std::max(next[i], 0.0);
        speed += std::abs(next[i] - p[i]);
      }
      std::swap(p, next);
      run.advance(dt, speed * space.volume() / dt, p);
    }
    return run.result(std::move(p), remark(repaired));
  }

 private:
  static std::string remark(index_t repaired) {
    return repaired == 0
               ? std::string()
               : std::to_string(repaired).append(" steps were made by implicit Euler to stay positive");
  }

  /// The grid with its potential, and steps along its axes.
  class Space {
   public:
    Space(const borel::GridObjective& energy, Flux flux)
        : energy_(energy), spec_(energy.grid()), flux_(flux) {
      const std::vector<double> x = spec_.centres();
      potential_.resize(static_cast<std::size_t>(spec_.size()));
      energy.potential({x.data(), {spec_.size(), spec_.n_axes()}}, potential_);
      if (flux_ == Flux::chang_cooper)
        for (index_t axis = 0; axis < spec_.n_axes(); ++axis) {
          std::vector<double> faces = x, slope(x.size());  // upper face of each cell
          for (index_t i = 0; i < spec_.size(); ++i)
            faces[static_cast<std::size_t>(i * spec_.n_axes() + axis)] += 0.5 * spec_.width(axis);
          energy.potential_gradient({faces.data(), {spec_.size(), spec_.n_axes()}},
                                    {slope.data(), {spec_.size(), spec_.n_axes()}});
          std::vector<double>& own = face_slope_.emplace_back();
          for (index_t i = 0; i < spec_.size(); ++i)
            own.push_back(slope[static_cast<std::size_t>(i * spec_.n_axes() + axis)]);
        }
    }
    double volume() const { return spec_.cell_volume(); }

    void find_rates(const std::vector<double>& p, std::vector<Rates>& rates) const {
      std::vector<double> xi(p.size());
      energy_.convolve_interaction(p, xi);
      if (flux_ == Flux::scharfetter_gummel)
        for (std::size_t i = 0; i < xi.size(); ++i) xi[i] += potential_[i];
      const double floor = k_empty * *std::ranges::max_element(p);
      for (index_t axis = 0; axis < spec_.n_axes(); ++axis) {
        Rates& own = rates[static_cast<std::size_t>(axis)];
        own.up.assign(p.size(), 0.0);
        own.down.assign(p.size(), 0.0);
        const double h = spec_.width(axis);
        for_each_face(axis, [&](std::size_t i, std::size_t j) {
          double d = xi[j] - xi[i];
          if (flux_ == Flux::chang_cooper) d += h * face_slope_[static_cast<std::size_t>(axis)][i];
          const double diffusion = diffusion_between(p[i], p[j], floor);
          // D B(d / D) tends to max(-d, 0) as D tends to 0
          const bool none = !(diffusion > 1e-12 * std::abs(d));
          own.up[i] = (none ? std::max(-d, 0.0) : diffusion * bernoulli(d / diffusion)) / (h * h);
          own.down[j] = (none ? std::max(d, 0.0) : diffusion * bernoulli(-d / diffusion)) / (h * h);
        });
      }
    }

    /// p after dt: (1 - theta dt A) p+ = (1 + (1 - theta) dt A) p along each axis.
    void step(const std::vector<Rates>& rates, double dt, double theta, std::vector<double>& p) const {
      if (spec_.n_axes() == 1) return sweep(0, rates[0], dt, theta, p);
      const double first = theta < 1 ? 0.5 * dt : dt;
      sweep(0, rates[0], first, theta, p);
      sweep(1, rates[1], dt, theta, p);
      if (theta < 1) sweep(0, rates[0], first, theta, p);
    }

   private:
    index_t stride(index_t axis) const { return axis + 1 < spec_.n_axes() ? spec_.n_cells[1] : 1; }

    /// look(lower cell, upper cell) for every face across an axis.
    template <class Look>
    void for_each_face(index_t axis, Look&& look) const {
      const index_t step = stride(axis), length = spec_.n_cells[static_cast<std::size_t>(axis)];
      for (index_t i = 0; i < spec_.size(); ++i)
        if (i / step % length + 1 < length)
          look(static_cast<std::size_t>(i), static_cast<std::size_t>(i + step));
    }

    double diffusion_between(double a, double b, double floor) const {
      const double diffusion = energy_.diffusion(), m = energy_.power();
      if (m == 1 || diffusion == 0) return diffusion;
      if (a > floor && b > floor && std::abs(a - b) > 1e-6 * (a + b))
        return diffusion * m / (m - 1) * (std::pow(b, m - 1) - std::pow(a, m - 1)) / std::log(b / a);
      return diffusion * m * std::pow(0.5 * (a + b), m - 1);
    }

    /// Tridiagonal solves along all lines of an axis (Thomas). The matrix is an M-matrix with column sums 1: positive, and
    /// mass exact to rounding.
    void sweep(index_t axis, const Rates& rates, double dt, double theta, std::vector<double>& p) const {
      const auto step = static_cast<std::size_t>(stride(axis));
      const auto length = static_cast<std::size_t>(spec_.n_cells[static_cast<std::size_t>(axis)]);
      std::vector<double> right(length), upper(length);
      const double implicit = theta * dt, explicit_part = (1 - theta) * dt;
      for (std::size_t line = 0; line < p.size() / length; ++line) {
        const std::size_t first = line / step * step * length + line % step;
        const auto at = [&](std::size_t i) { return first + i * step; };
        for (std::size_t i = 0; i < length; ++i) {
          double flow = -(rates.up[at(i)] + rates.down[at(i)]) * p[at(i)];
          if (i > 0) flow += rates.up[at(i - 1)] * p[at(i - 1)];
          if (i + 1 < length) flow += rates.down[at(i + 1)] * p[at(i + 1)];
          right[i] = p[at(i)] + explicit_part * flow;
        }
        double pivot = 1 + implicit * (rates.up[at(0)] + rates.down[at(0)]);
        right[0] /= pivot;
        for (std::size_t i = 1; i < length; ++i) {
          upper[i] = implicit * rates.down[at(i)] / pivot;
          const double lower = implicit * rates.up[at(i - 1)];
          pivot = 1 + implicit * (rates.up[at(i)] + rates.down[at(i)]) - lower * upper[i];
          right[i] = (right[i] + lower * right[i - 1]) / pivot;
        }
        for (std::size_t i = length - 1; i-- > 0;) right[i] += upper[i + 1] * right[i + 1];
        for (std::size_t i = 0; i < length; ++i) p[at(i)] = right[i];
      }
    }

    const borel::GridObjective& energy_;
    const borel::GridSpec& spec_;
    Flux flux_;
    std::vector<double> potential_;
    std::vector<std::vector<double>> face_slope_;  // per axis: V' at the upper face of each cell
  };

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, FokkerPlanck>(
      "fokker_planck",
      {.summary =
           "Finite volumes for Fokker-Planck and aggregation-diffusion equations: positive, mass exact",
       .formula = "F = D/h (B(d/D) p_i - B(-d/D) p_(i+1)),  B(x) = x / (e^x - 1)",
       .source = "Scharfetter, Gummel, IEEE Trans. Electron Devices 16 (1969); Chang, Cooper, J. Comput. "
                 "Phys. 6 (1970); "
                 "Bessemoulin-Chatard, Numer. Math. 121 (2012)",
       .complexity = "O(cells) per step, O(cells^2) with interaction; memory O(cells)",
       .notes = "Crank-Nicolson is not positive by itself: steps that would leave a cell negative are made "
                "again by "
                "implicit Euler, and the outcome says how many"});
}
