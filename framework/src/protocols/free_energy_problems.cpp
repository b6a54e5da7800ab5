#include "protocols/free_energy_problems.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

double log_normal(double z, double sd) {
  return -0.5 * z * z / (sd * sd) - std::log(sd) - 0.5 * std::log(2 * std::numbers::pi);
}

/// Profile (c - kappa y^2)_+^(1 / (m - 1)) of mass 1.
struct Parabola {
  double c, kappa, exponent;
  Parabola(double curvature, double m) : c(0), kappa(curvature), exponent(1 / (m - 1)) {
    // int (c - kappa y^2)^e dy = c^(e + 1/2) kappa^(-1/2) B(1/2, e + 1)
    c = std::pow(std::sqrt(kappa) / std::beta(0.5, exponent + 1), 1 / (exponent + 0.5));
  }
  double operator()(double y) const { return std::pow(std::max(c - kappa * y * y, 0.0), exponent); }
};

class Energies {
 public:
  explicit Energies(FreeEnergySpec spec) : s_(std::move(spec)) {
    const auto d = static_cast<std::size_t>(s_.n_dims);
    const auto require = [&](bool holds, std::string_view rule) {
      if (!holds) throw DatasetError(fmt::format("problem '{}': {}", s_.name, rule));
    };
    require(s_.n_dims >= 1, "it needs at least 1 dimension");
    require(s_.diffusion >= 0 && std::isfinite(s_.diffusion), "diffusion must be >= 0");
    require(s_.power >= 1 && std::isfinite(s_.power), "power must be >= 1");
    if (s_.potential == PotentialKind::quadratic)
      require(s_.centre.size() == d && s_.precision.size() == d * d,
              "a quadratic potential needs potential/centre [d] and potential/precision [d d]");
    if (s_.potential == PotentialKind::mixture) {
      require(
          !s_.weight.empty() && s_.mean.size() == s_.weight.size() * d && s_.sd.size() == s_.weight.size(),
          "a mixture needs potential/weight [k], potential/mean [k d], potential/sd [k]");
      double sum = 0;
      for (double w : s_.weight) sum += w;
      for (double& w : s_.weight) w /= sum;
      require(*std::ranges::min_element(s_.weight) > 0 && *std::ranges::min_element(s_.sd) > 0,
              "weights and standard deviations of the mixture must be > 0");
    }
    if (s_.exact == ExactFlow::gaussian)
      require(s_.power == 1 && isotropic() && s_.interaction != InteractionKind::quadratic_repulsion &&
                  s_.start_sd > 0,
              "an exact gaussian flow needs power 1, a quadratic potential k I or none, at most a quadratic "
              "interaction, "
              "start_sd > 0");
    if (s_.exact == ExactFlow::barenblatt)
      require(
          s_.n_dims == 1 && s_.power > 1 && s_.potential == PotentialKind::none && s_.diffusion > 0 &&
              s_.interaction == InteractionKind::none && s_.start_time > 0,
          "Barenblatt's flow needs one dimension, power > 1, diffusion > 0, no potential, no interaction");
    if (s_.exact == ExactFlow::repulsion)
      require(s_.n_dims == 1 && s_.potential == PotentialKind::none && s_.diffusion == 0 && s_.start_sd > 0 &&
                  s_.interaction == InteractionKind::quadratic_repulsion,
              "the exact repulsion flow needs one dimension and the interaction quadratic_repulsion alone");
    if (s_.potential == PotentialKind::double_well && s_.diffusion > 0 && s_.power == 1) {
      // per dimension: int exp(-(x^2 - 1)^2 / D) dx by the trapezoidal rule, exact to rounding for this decay
      double sum = 0;
      const double reach = std::sqrt(1 + std::sqrt(750 * s_.diffusion)), h = reach / 20000;
      for (int i = -20000; i <= 20000; ++i) {
        const double x = i * h;
        sum += std::exp(-(x * x - 1) * (x * x - 1) / s_.diffusion) * h;
      }
      log_mass_ = std::log(sum);
    }
  }

  const FreeEnergySpec& spec() const { return s_; }

  /// k of V = k/2 |x - centre|^2; 0 without potential.
  double stiffness() const { return s_.potential == PotentialKind::quadratic ? s_.precision[0] : 0; }
  bool isotropic() const {
    if (s_.potential == PotentialKind::none) return true;
    if (s_.potential != PotentialKind::quadratic) return false;
    const auto d = static_cast<std::size_t>(s_.n_dims);
    for (std::size_t r = 0; r < d; ++r)
      for (std::size_t c = 0; c < d; ++c)
        if (s_.precision[r * d + c] != (r == c ? s_.precision[0] : 0)) return false;
    return true;
  }
  double centre(std::size_t axis) const { return s_.centre.empty() ? 0 : s_.centre[axis]; }

  double potential(std::span<const double> x) const {
    switch (s_.potential) {
      case PotentialKind::none:
        return 0;
      case PotentialKind::quadratic: {
        double sum = 0;
        for (std::size_t r = 0; r < x.size(); ++r)
          for (std::size_t c = 0; c < x.size(); ++c)
            sum += 0.5 * (x[r] - s_.centre[r]) * s_.precision[r * x.size() + c] * (x[c] - s_.centre[c]);
        return sum;
      }
      case PotentialKind::double_well: {
        double sum = 0;
        for (double v : x) sum += (v * v - 1) * (v * v - 1);
        return sum;
      }
      case PotentialKind::mixture:
        return -mixture(x, {});
    }
    return 0;
  }
  void potential_gradient(std::span<const double> x, std::span<double> out) const {
    std::ranges::fill(out, 0.0);
    if (s_.potential == PotentialKind::quadratic)
      for (std::size_t r = 0; r < x.size(); ++r)
        for (std::size_t c = 0; c < x.size(); ++c)
          out[r] +=
              0.5 * (s_.precision[r * x.size() + c] + s_.precision[c * x.size() + r]) * (x[c] - s_.centre[c]);
    if (s_.potential == PotentialKind::double_well)
      for (std::size_t r = 0; r < x.size(); ++r) out[r] = 4 * x[r] * (x[r] * x[r] - 1);
    if (s_.potential == PotentialKind::mixture) mixture(x, out);
  }
  /// False where there is no formula (mixtures).
  bool potential_hessian(std::span<const double> x, double* out) const {
    const std::size_t d = x.size();
    std::fill(out, out + d * d, 0.0);
    if (s_.potential == PotentialKind::quadratic)
      for (std::size_t r = 0; r < d; ++r)
        for (std::size_t c = 0; c < d; ++c)
          out[r * d + c] = 0.5 * (s_.precision[r * d + c] + s_.precision[c * d + r]);
    if (s_.potential == PotentialKind::double_well)
      for (std::size_t r = 0; r < d; ++r) out[r * (d + 1)] = 12 * x[r] * x[r] - 4;
    return s_.potential != PotentialKind::mixture;
  }

  double interaction(std::span<const double> z) const {
    double square = 0;
    for (double v : z) square += v * v;
    if (s_.interaction == InteractionKind::none) return 0;
    return s_.strength *
           (0.5 * square - (s_.interaction == InteractionKind::quadratic ? 0 : std::sqrt(square)));
  }
  void interaction_gradient(std::span<const double> z, std::span<double> out) const {
    double square = 0;
    for (double v : z) square += v * v;
    const bool repels = s_.interaction == InteractionKind::quadratic_repulsion;
    const double factor = s_.interaction == InteractionKind::none ? 0
                          : repels && square > 0                  ? s_.strength * (1 - 1 / std::sqrt(square))
                                                                  : s_.strength;
    for (std::size_t i = 0; i < z.size(); ++i) out[i] = square > 0 ? factor * z[i] : 0;
  }

  /// log of the minimiser, where it is known.
  std::optional<double> stationary_log_density(std::span<const double> x) const {
    const auto d = static_cast<double>(s_.n_dims);
    if (s_.interaction == InteractionKind::quadratic_repulsion) {
      if (s_.exact != ExactFlow::repulsion) return std::nullopt;
      return std::abs(x[0] - s_.start_mean) <= 1 ? std::log(0.5) : -k_infinity;
    }
    if (!(s_.diffusion > 0)) return std::nullopt;
    if (s_.power > 1) {
      if (s_.n_dims != 1 || s_.potential != PotentialKind::quadratic ||
          s_.interaction != InteractionKind::none)
        return std::nullopt;
      const Parabola profile(stiffness() * (s_.power - 1) / (2 * s_.diffusion * s_.power), s_.power);
      return std::log(profile(x[0] - centre(0)));
    }
    if (s_.interaction == InteractionKind::quadratic) {
      if (!isotropic() || stiffness() <= 0) return std::nullopt;
      const double sd = std::sqrt(s_.diffusion / (stiffness() + s_.strength));
      double sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i) sum += log_normal(x[i] - centre(i), sd);
      return sum;
    }
    switch (s_.potential) {
      case PotentialKind::quadratic: {
        if (!isotropic() || stiffness() <= 0) return std::nullopt;
        const double sd = std::sqrt(s_.diffusion / stiffness());
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) sum += log_normal(x[i] - centre(i), sd);
        return sum;
      }
      case PotentialKind::double_well:
        return -potential(x) / s_.diffusion - d * log_mass_;
      case PotentialKind::mixture:
        if (s_.diffusion == 1) return -potential(x);
        return std::nullopt;
      case PotentialKind::none:
        break;
    }
    return std::nullopt;
  }

  std::optional<double> exact_density(double t, std::span<const double> x) const {
    switch (s_.exact) {
      case ExactFlow::none:
        return std::nullopt;
      case ExactFlow::gaussian: {
        const double k = stiffness(),
                     all = k + (s_.interaction == InteractionKind::quadratic ? s_.strength : 0);
        const double rest = all > 0 ? s_.diffusion / all : 0, decay = std::exp(-2 * all * t);
        const double start = s_.start_sd * s_.start_sd;
        const double variance = all > 0 ? rest + (start - rest) * decay : start + 2 * s_.diffusion * t;
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const double c = centre(i), mean = c + (s_.start_mean - c) * std::exp(-k * t);
          sum += log_normal(x[i] - mean, std::sqrt(variance));
        }
        return std::exp(sum);
      }
      case ExactFlow::barenblatt: {
        const double m = s_.power, alpha = 1 / (m + 1), time = s_.diffusion * t + s_.start_time;
        const Parabola profile(alpha * (m - 1) / (2 * m), m);
        return std::pow(time, -alpha) * profile(x[0] * std::pow(time, -alpha));
      }
      case ExactFlow::repulsion: {
        // X(u, t) = (2u - 1) (1 - e^-t) + (X(u, 0) - mean) e^-t + mean, time in units of the strength; u from its inverse
        const double decay = std::exp(-s_.strength * t), y = x[0] - s_.start_mean;
        const auto cdf = [](double v) { return 0.5 * std::erfc(-v / std::numbers::sqrt2); };
        double low = -40, high = 40;  // v = standardised start
        for (int i = 0; i < 200 && high - low > 1e-15 * (1 + std::abs(low)); ++i) {
          const double v = 0.5 * (low + high);
          (((2 * cdf(v) - 1) * (1 - decay) + s_.start_sd * v * decay) < y ? low : high) = v;
        }
        const double v = 0.5 * (low + high);
        const double density = std::exp(-0.5 * v * v) / std::sqrt(2 * std::numbers::pi);
        return density / (2 * density * (1 - decay) + s_.start_sd * decay);
      }
    }
    return std::nullopt;
  }

 private:
  /// log of the mixture density; minus its gradient into `minus_gradient` when given.
  double mixture(std::span<const double> x, std::span<double> minus_gradient) const {
    const std::size_t k = s_.weight.size(), d = x.size();
    std::vector<double> part(k);
    double largest = -k_infinity;
    for (std::size_t c = 0; c < k; ++c) {
      part[c] = std::log(s_.weight[c]);
      for (std::size_t i = 0; i < d; ++i) part[c] += log_normal(x[i] - s_.mean[c * d + i], s_.sd[c]);
      largest = std::max(largest, part[c]);
    }
    double sum = 0;
    for (double& value : part) sum += value = std::exp(value - largest);
    if (!minus_gradient.empty())
      for (std::size_t c = 0; c < k; ++c)
        for (std::size_t i = 0; i < d; ++i)
          minus_gradient[i] += part[c] / sum * (x[i] - s_.mean[c * d + i]) / (s_.sd[c] * s_.sd[c]);
    return largest + std::log(sum);
  }

  FreeEnergySpec s_;
  double log_mass_ = 0;
};

/// The members of FreeEnergy for both domains.
template <class Base>
class EnergyObjective : public Base {
 public:
  explicit EnergyObjective(FreeEnergySpec spec) : energies_(std::move(spec)) {}

  std::string_view name() const override { return energies_.spec().name; }
  bool convex() const override { return energies_.spec().potential != PotentialKind::double_well; }
  void potential(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out[static_cast<std::size_t>(i)] = energies_.potential(x.row(i));
  }
  void potential_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) energies_.potential_gradient(x.row(i), out.row(i));
  }
  bool potential_hessian(TensorView<const double, 2> x, TensorView<double, 3> out) const override {
    bool known = true;
    for (index_t i = 0; i < x.shape(0) && known; ++i)
      known = energies_.potential_hessian(x.row(i), out.row(i, 0).data());
    return known;
  }
  bool has_interaction() const override { return energies_.spec().interaction != InteractionKind::none; }
  void interaction(TensorView<const double, 2> z, std::span<double> out) const override {
    for (index_t i = 0; i < z.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = energies_.interaction(z.row(i));
  }
  void interaction_gradient(TensorView<const double, 2> z, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < z.shape(0); ++i) energies_.interaction_gradient(z.row(i), out.row(i));
  }
  double diffusion() const override { return energies_.spec().diffusion; }
  double power() const override { return energies_.spec().power; }
  bool stationary_log_density(TensorView<const double, 2> x, std::span<double> out) const override {
    return fill(x, out, [&](std::span<const double> at) { return energies_.stationary_log_density(at); });
  }
  bool exact_density(double t, TensorView<const double, 2> x, std::span<double> out) const override {
    return fill(x, out, [&](std::span<const double> at) { return energies_.exact_density(t, at); });
  }

 protected:
  Energies energies_;

 private:
  template <class Look>
  static bool fill(TensorView<const double, 2> x, std::span<double> out, Look&& look) {
    for (index_t i = 0; i < x.shape(0); ++i) {
      const std::optional<double> value = look(x.row(i));
      if (!value) return false;
      out[static_cast<std::size_t>(i)] = *value;
    }
    return true;
  }
};

class OnGrid final : public EnergyObjective<GridObjective> {
 public:
  OnGrid(FreeEnergySpec spec, GridSpec grid, std::vector<double> start)
      : EnergyObjective(std::move(spec)), grid_(std::move(grid)), start_(std::move(start)) {
    const FreeEnergySpec& s = energies_.spec();
    if (grid_.n_axes() != s.n_dims || grid_.n_axes() > 2 || grid_.begin.size() != grid_.n_cells.size() ||
        grid_.end.size() != grid_.n_cells.size())
      throw DatasetError(fmt::format("problem '{}': the grid has {} axes, must be {} and at most 2", s.name,
                                     grid_.n_axes(), s.n_dims));
    for (index_t axis = 0; axis < grid_.n_axes(); ++axis)
      if (grid_.n_cells[static_cast<std::size_t>(axis)] < 1 || !(grid_.width(axis) > 0))
        throw DatasetError(fmt::format(
            "problem '{}': axis {} of the grid must have cells and end after it begins", s.name, axis));
    const std::vector<double> x = grid_.centres();
    if (start_.empty()) {
      start_.assign(static_cast<std::size_t>(grid_.size()), 1.0);
      exact_density(0, {x.data(), {grid_.size(), grid_.n_axes()}}, start_);
    }
    if (static_cast<index_t>(start_.size()) != grid_.size())
      throw DatasetError(fmt::format("problem '{}': the start has {} cells, the grid {}", s.name,
                                     start_.size(), grid_.size()));
    long double mass = 0;
    for (double v : start_) mass += v;
    for (double& v : start_) v = static_cast<double>(v / (mass * grid_.cell_volume()));
    if (s.diffusion > 0 && s.power == 1 && s.interaction == InteractionKind::none) {
      // minimum over cell densities: -D log sum exp(-V / D) volume
      std::vector<double> v(start_.size());
      potential({x.data(), {grid_.size(), grid_.n_axes()}}, v);
      const double least = *std::ranges::min_element(v);
      double sum = 0;
      for (double value : v) sum += std::exp((least - value) / s.diffusion);
      optimum_ = least - s.diffusion * std::log(sum * grid_.cell_volume());
    }
  }
  const GridSpec& grid() const override { return grid_; }
  std::vector<double> start(Seed) const override { return start_; }
  std::optional<double> optimum() const override { return optimum_; }

 private:
  GridSpec grid_;
  std::vector<double> start_;
  std::optional<double> optimum_;
};

class OnParticles final : public EnergyObjective<ParticleObjective> {
 public:
  OnParticles(FreeEnergySpec spec, std::vector<double> particles, index_t n_drawn)
      : EnergyObjective(std::move(spec)), particles_(std::move(particles)), n_(n_drawn) {
    const FreeEnergySpec& s = energies_.spec();
    if (particles_.empty() && (n_ < 1 || s.exact == ExactFlow::none || s.exact == ExactFlow::barenblatt))
      throw DatasetError(
          fmt::format("problem '{}': particles are drawn for gaussian and repulsion flows only, and at "
                      "least 1; otherwise store /particles",
                      s.name));
    if (!particles_.empty()) {
      if (static_cast<index_t>(particles_.size()) % s.n_dims != 0)
        throw DatasetError(fmt::format("problem '{}': {} numbers are not points of dimension {}", s.name,
                                       particles_.size(), s.n_dims));
      n_ = static_cast<index_t>(particles_.size()) / s.n_dims;
    }
  }
  index_t n_particles() const override { return n_; }
  index_t n_dims() const override { return energies_.spec().n_dims; }
  std::vector<double> start(Seed seed) const override {
    if (!particles_.empty()) return particles_;
    std::vector<double> x(static_cast<std::size_t>(size()));
    Rng(seed.derive("particles")).fill_normal(x);
    for (double& v : x) v = energies_.spec().start_mean + energies_.spec().start_sd * v;
    return x;
  }

 private:
  std::vector<double> particles_;
  index_t n_;
};

}  // namespace

std::unique_ptr<GridObjective> grid_problem(FreeEnergySpec spec, GridSpec grid, std::vector<double> start) {
  return std::make_unique<OnGrid>(std::move(spec), std::move(grid), std::move(start));
}

std::unique_ptr<ParticleObjective> particle_problem(FreeEnergySpec spec, std::vector<double> particles) {
  return std::make_unique<OnParticles>(std::move(spec), std::move(particles), 0);
}

std::unique_ptr<ParticleObjective> particle_problem(FreeEnergySpec spec, index_t n_particles) {
  return std::make_unique<OnParticles>(std::move(spec), std::vector<double>(), n_particles);
}

}  // namespace borel
