// Wasserstein gradient flow: mass moves with the velocity v = -grad(V + W * p + U'(p)).
//
// Particles, dx/dt = v(x). The internal energy needs a density:
//   blob:     U is taken of the density smoothed by a Gaussian K, q = K * p; with U = D p^m / (m - 1) or D p log p (m = 1)
//             v_i -= D/N sum_j grad K(x_i - x_j) (q_i^(m - 2) + q_j^(m - 2))
//             Carrillo, Craig, Patacchini, Calc. Var. 58 (2019), arXiv:1709.09195, eq. (14): a true gradient flow
//   score:    v_i -= D m q_i^(m - 1) grad log q_i                   (GFSD; Liu et al., ICML 2019, arXiv:1807.01750)
//   density:  the same with a density estimator, density{...}, fitted to the particles at every step
// Grids, dp/dt = -div(p v): explicit finite volumes with slopes limited by minmod, the upwind side at each face, and steps
// that keep cells positive: dt <= h / (2 n_axes max |v|). Carrillo, Chertock, Huang, Commun. Comput. Phys. 17 (2015).
// Time: euler, or heun (order 2; on grids the strong-stability form).
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "borel/density.hpp"
#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/flow_run.hpp"
#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

enum class Internal { blob, score, density };
enum class Scheme { euler, heun };

constexpr index_t k_block = 16;
/// Densities below this share of the largest one count as this, in logarithms on grids.
constexpr double k_floor = 1e-30;
/// Share of the longest step at which the shortest wave of a diffusing density does not grow.
constexpr double k_damping = 0.9;

class WassersteinFlow final : public borel::Optimizer {
 public:
  struct Params {
    Internal internal = Internal::blob;
    Scheme scheme = Scheme::heun;
    double time_step = 0.01;
    double bandwidth = 0;
    borel::MethodSpec density = {.family = "density"};
    void declare(borel::ParamBinder& p) {
      p.choice("internal", internal,
               {{"blob", Internal::blob}, {"score", Internal::score}, {"density", Internal::density}},
               "Particles: where the internal energy gets its density from.");
      p.choice("scheme", scheme, {{"euler", Scheme::euler}, {"heun", Scheme::heun}}, "Order 1 or 2 in time.");
      p.real("time_step", time_step, borel::Range::greater_than(0), "flow time",
             "Longest step; grids may take shorter ones.");
      p.real("bandwidth", bandwidth, borel::Range::at_least(0), "length",
             "Standard deviation of K; 0 = spread of the particles times N^(-1/(d + 4)).");
      p.method("density", density, "density",
               "With internal=density: the estimator; it must have a gradient, e.g. kde.");
    }
    void check() const {
      if ((internal == Internal::density) != !density.id.empty())
        throw borel::ParamError(
            "internal=density and density=<estimator> must be given together, got one of them");
    }
  };

  WassersteinFlow(const Params& params, const borel::Registry& registry) : params_(params) {
    if (!params.density.id.empty()) density_ = registry.make<borel::DensityEstimator>(params.density);
  }

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.grid = traits.particles = true;
    traits.rate = params_.scheme == Scheme::euler ? "order 1 in time" : "order 2 in time";
    return traits;
  }

  borel::OptimizerResult minimize(borel::Objective& base, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed seed,
                                  borel::Trace& trace) const override {
    borel::FlowRun run("wasserstein_flow", base, start, stop, trace);
    if (base.domain() == borel::Domain::grid)
      return on_grid(run, static_cast<const borel::GridObjective&>(base));
    return on_particles(run, static_cast<const borel::ParticleObjective&>(base), seed);
  }

 private:
  borel::OptimizerResult on_particles(borel::FlowRun& run, const borel::ParticleObjective& energy,
                                      borel::Seed seed) const {
    std::vector<double> x = run.start(), v(x.size()), second(x.size()), middle(x.size());
    while (run.go_on()) {
      const double h = run.next_step(params_.time_step);
      const int stages = params_.scheme == Scheme::heun ? 2 : 1;
      if (!run.may_call(stages)) break;
      find_velocity(energy, seed, x, v);
      if (stages == 2) {
        for (std::size_t c = 0; c < x.size(); ++c) middle[c] = x[c] + h * v[c];
        find_velocity(energy, seed, middle, second);
        for (std::size_t c = 0; c < x.size(); ++c) v[c] = 0.5 * (v[c] + second[c]);
      }
      borel::dense::add_scaled(h, v, x);
      run.advance(h, std::sqrt(borel::dense::dot(v, v) / static_cast<double>(energy.n_particles())), x);
    }
    return run.result(std::move(x));
  }

  void find_velocity(const borel::ParticleObjective& energy, borel::Seed seed, std::vector<double>& x,
                     std::vector<double>& v) const {
    const index_t n = energy.n_particles(), d = energy.n_dims();
    energy.gradient({x.data(), {n, d}}, {v.data(), {n, d}});
    for (double& value : v) value = -value;
    if (!(energy.diffusion() > 0)) return;
    if (density_) return add_estimated(energy, seed, x, v);
    const double sd = params_.bandwidth > 0 ? params_.bandwidth : rule_of_thumb(x, n, d);
    add_kernel_terms(energy, x, sd, v);
  }

  /// Geometric mean of the standard deviations times N^(-1/(d + 4)).
  static double rule_of_thumb(const std::vector<double>& x, index_t n, index_t d) {
    double log_spread = 0;
    for (index_t c = 0; c < d; ++c) {
      double mean = 0, square = 0;
      for (index_t i = 0; i < n; ++i) mean += x[static_cast<std::size_t>(i * d + c)] / static_cast<double>(n);
      for (index_t i = 0; i < n; ++i) {
        const double z = x[static_cast<std::size_t>(i * d + c)] - mean;
        square += z * z / static_cast<double>(n);
      }
      log_spread += 0.5 * std::log(std::max(square, 1e-24)) / static_cast<double>(d);
    }
    return std::exp(log_spread - std::log(static_cast<double>(n)) / static_cast<double>(d + 4));
  }

  void add_kernel_terms(const borel::ParticleObjective& energy, const std::vector<double>& x, double sd,
                        std::vector<double>& v) const {
    const index_t n = energy.n_particles(), d = energy.n_dims();
    const double m = energy.power(), diffusion = energy.diffusion();
    const double peak =
        std::pow(2 * std::acos(-1.0) * sd * sd, -0.5 * static_cast<double>(d)) / static_cast<double>(n);
    std::vector<double> q(static_cast<std::size_t>(n)), weight(q.size());
    // K(x_i - x_j) / N for row i
    const auto kernel_row = [&](index_t i, std::span<double> row) {
      for (index_t j = 0; j < n; ++j) {
        double sum = 0;
        for (index_t c = 0; c < d; ++c) {
          const double z = x[static_cast<std::size_t>(i * d + c)] - x[static_cast<std::size_t>(j * d + c)];
          sum += z * z;
        }
        row[static_cast<std::size_t>(j)] = -0.5 * sum / (sd * sd);
      }
      return peak * borel::dense::exp_and_sum(row, 0);
    };
    borel::parallel_for(n, k_block, [&](index_t begin, index_t end) {
      const borel::Scratch<double> row(n);
      for (index_t i = begin; i < end; ++i) q[static_cast<std::size_t>(i)] = kernel_row(i, row.span());
    });
    for (std::size_t i = 0; i < q.size(); ++i) weight[i] = std::pow(q[i], m - 2);
    const bool blob = params_.internal == Internal::blob;
    borel::parallel_for(n, k_block, [&](index_t begin, index_t end) {
      const borel::Scratch<double> row(n);
      for (index_t i = begin; i < end; ++i) {
        kernel_row(i, row.span());
        const double own = weight[static_cast<std::size_t>(i)];
        for (index_t j = 0; j < n; ++j) {
          // grad K(z) = -z / sd^2 K(z); the score has only the own factor, m q^(m - 2) grad q
          const double factor = peak * row[j] * (blob ? own + weight[static_cast<std::size_t>(j)] : m * own);
          for (index_t c = 0; c < d; ++c) {
            const auto at = static_cast<std::size_t>(i * d + c);
            v[at] += diffusion * factor * (x[at] - x[static_cast<std::size_t>(j * d + c)]) / (sd * sd);
          }
        }
      }
    });
  }

  void add_estimated(const borel::ParticleObjective& energy, borel::Seed seed, const std::vector<double>& x,
                     std::vector<double>& v) const {
    const index_t n = energy.n_particles(), d = energy.n_dims();
    const borel::TensorView<const double, 2> points(x.data(), {n, d});
    const auto fitted = density_->fit({.x = points}, {.seed = seed});
    std::vector<double> score(x.size()), log_p(static_cast<std::size_t>(n), 0.0);
    if (!fitted->log_pdf_gradient(points, {score.data(), {n, d}}))
      throw borel::MethodError(std::string("wasserstein_flow: density=")
                                   .append(params_.density.id)
                                   .append(" has no gradient of log p; use one that has, e.g. density=kde"));
    const double m = energy.power();
    if (m != 1) fitted->log_pdf(points, log_p);
    for (std::size_t c = 0; c < x.size(); ++c)
      v[c] -= energy.diffusion() * m * std::exp((m - 1) * log_p[c / static_cast<std::size_t>(d)]) * score[c];
  }

  borel::OptimizerResult on_grid(borel::FlowRun& run, const borel::GridObjective& energy) const {
    std::vector<double> p = run.start(), rate(p.size()), next(p.size()), second(p.size());
    Faces faces(energy);
    while (run.go_on()) {
      const int stages = params_.scheme == Scheme::heun ? 2 : 1;
      if (!run.may_call(stages)) break;
      const double stable = faces.find_rate(p, rate);
      double h = run.next_step(params_.time_step);
      if (h > stable) h = run.next_step(stable);
      for (std::size_t i = 0; i < p.size(); ++i) next[i] = p[i] + h * rate[i];
      if (stages == 2) {
        faces.find_rate(next, second);
        for (std::size_t i = 0; i < p.size(); ++i) next[i] = 0.5 * (p[i] + next[i] + h * second[i]);
      }
      double speed = 0;
      for (std::size_t i = 0; i < p.size(); ++i) {
        next[i] = std::max(next[i], 0.0);  // rounding; the second stage may use a little more than its share
        speed += std::abs(next[i] - p[i]);
      }
      std::swap(p, next);
      run.advance(h, speed * energy.grid().cell_volume() / h, p);
    }
    return run.result(std::move(p));
  }

  /// Upwind fluxes of the grid.
  class Faces {
   public:
    explicit Faces(const borel::GridObjective& energy) : energy_(energy), spec_(energy.grid()) {
      const std::vector<double> x = spec_.centres();
      potential_.resize(static_cast<std::size_t>(spec_.size()));
      energy.potential({x.data(), {spec_.size(), spec_.n_axes()}}, potential_);
      xi_.resize(potential_.size());
    }

    /// rate = dp/dt. @return the longest stable step: cells stay positive, and diffusion does not overshoot
    double find_rate(const std::vector<double>& p, std::vector<double>& rate) {
      energy_.count_velocity();
      energy_.convolve_interaction(p, xi_);
      const double d = energy_.diffusion(), m = energy_.power(), peak = *std::ranges::max_element(p);
      const double floor = std::max(k_floor * peak, 1e-300);
      for (std::size_t i = 0; i < p.size(); ++i) {
        xi_[i] += potential_[i];
        if (d > 0)
          xi_[i] += m == 1 ? d * std::log(std::max(p[i], floor))
                           : d * m / (m - 1) * std::pow(std::max(p[i], 0.0), m - 1);
      }
      std::ranges::fill(rate, 0.0);
      double fastest = 0;  // max over faces of |v| / h
      double squares = 0;  // sum over axes of 1 / h^2
      for (index_t axis = 0; axis < spec_.n_axes(); ++axis) {
        const index_t step = axis + 1 < spec_.n_axes() ? spec_.n_cells[1] : 1;
        const index_t length = spec_.n_cells[static_cast<std::size_t>(axis)];
        const double h = spec_.width(axis);
        squares += 1 / (h * h);
        for (index_t i = 0; i < spec_.size(); ++i) {
          const index_t place = i / step % length;
          if (place + 1 >= length) continue;
          const auto low = static_cast<std::size_t>(i), high = static_cast<std::size_t>(i + step);
          const double v = -(xi_[high] - xi_[low]) / h;
          const double from_low = p[low] + 0.5 * slope(p, i, step, place, length);
          const double from_high = p[high] - 0.5 * slope(p, i + step, step, place + 1, length);
          const double flux = v > 0 ? v * from_low : v * from_high;
          if (flux != 0) fastest = std::max(fastest, std::abs(v) / h);
          rate[low] -= flux / h;
          rate[high] += flux / h;
        }
      }
      const double positive = 2 * static_cast<double>(spec_.n_axes()) * fastest;
      // Where p is smooth the flux is -d m p^(m - 1) grad p, a heat equation that both schemes damp up to 2 / (4 D / h^2).
      const double diffusive = 2 * d * m * std::pow(peak, m - 1) * squares / k_damping;
      return 1 / std::max({positive, diffusive, 1e-300});
    }

   private:
    static double slope(const std::vector<double>& p, index_t i, index_t step, index_t place,
                        index_t length) {
      if (place == 0 || place + 1 == length) return 0;
      const auto at = static_cast<std::size_t>(i), s = static_cast<std::size_t>(step);
      const double left = p[at] - p[at - s], right = p[at + s] - p[at];
      if (left * right <= 0) return 0;
      return std::abs(left) < std::abs(right) ? left : right;
    }

    const borel::GridObjective& energy_;
    const borel::GridSpec& spec_;
    std::vector<double> potential_, xi_;
  };

  Params params_;
  std::unique_ptr<borel::DensityEstimator> density_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, WassersteinFlow>(
      "wasserstein_flow",
      {.summary = "Wasserstein gradient flow by particles (blob, score or any density estimator) or explicit "
                  "finite volumes",
       .formula = "dp/dt = div(p grad dF/dp),  dx/dt = -grad(V + W * p + U'(p))(x)",
       .source =
           "Carrillo, Craig, Patacchini, Calc. Var. 58 (2019), arXiv:1709.09195; Liu et al., ICML 2019, "
           "arXiv:1807.01750; grids: Carrillo, Chertock, Huang, Commun. Comput. Phys. 17 (2015)",
       .complexity = "particles: O(N^2 d) per step; grids: O(cells) per step, O(cells^2) with interaction",
       .notes = "A kernel of standard deviation s takes part of the diffusion: a Gaussian of variance c "
                "spreads as if the "
                "variance were c + s^2. On grids steps are shortened for stability: h^2 for diffusion"});
}
