// Energies on grids and particles. Sums over cells and pairs are plain loops: these are the definitions;
// methods that need speed (convolutions, tables) bring their own.
#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/draft/dense_kernels.hpp"
#include "borel/objective.hpp"

namespace borel {

index_t GridSpec::size() const {
  index_t product = n_cells.empty() ? 0 : 1;
  for (index_t n : n_cells) product *= n;
  return product;
}

double GridSpec::cell_volume() const {
  double volume = 1;
  for (index_t axis = 0; axis < n_axes(); ++axis) volume *= width(axis);
  return volume;
}

std::vector<double> GridSpec::centres() const {
  const index_t axes = n_axes();
  std::vector<double> x(static_cast<std::size_t>(size() * axes));
  for (index_t cell = 0; cell < size(); ++cell)
    for (index_t axis = axes, rest = cell; axis-- > 0;) {
      const auto a = static_cast<std::size_t>(axis);
      x[static_cast<std::size_t>(cell * axes + axis)] =
          begin[a] + (static_cast<double>(rest % n_cells[a]) + 0.5) * width(axis);
      rest /= n_cells[a];
    }
  return x;
}

bool FreeEnergy::potential_hessian(TensorView<const double, 2>, TensorView<double, 3>) const { return false; }

void FreeEnergy::interaction(TensorView<const double, 2>, std::span<double> out) const {
  std::ranges::fill(out, 0.0);
}

void FreeEnergy::interaction_gradient(TensorView<const double, 2>, TensorView<double, 2> out) const {
  for (index_t i = 0; i < out.shape(0); ++i) std::ranges::fill(out.row(i), 0.0);
}

bool FreeEnergy::stationary_log_density(TensorView<const double, 2>, std::span<double>) const {
  return false;
}

bool FreeEnergy::exact_density(double, TensorView<const double, 2>, std::span<double>) const { return false; }

namespace {

/// U(p) and U'(p) of FreeEnergy. At p = 0 the derivative of p log p is -infinity; the logarithm of the
/// smallest normal number stands for it, so that velocities stay finite.
double internal_energy(double p, double diffusion, double power) {
  if (p <= 0 || diffusion == 0) return 0;
  return power == 1 ? diffusion * p * std::log(p) : diffusion * std::pow(p, power) / (power - 1);
}

double internal_derivative(double p, double diffusion, double power) {
  if (diffusion == 0) return 0;
  if (power == 1) return diffusion * (std::log(std::max(p, std::numeric_limits<double>::min())) + 1);
  return p <= 0 ? 0 : diffusion * power / (power - 1) * std::pow(p, power - 1);
}

double grid_energy(const GridObjective& objective, std::span<const double> p, std::span<double> derivative) {
  const GridSpec& grid = objective.grid();
  const std::vector<double> x = grid.centres();
  std::vector<double> potential(p.size());
  objective.potential({x.data(), {grid.size(), grid.n_axes()}}, potential);
  std::vector<double> interaction(p.size());
  objective.convolve_interaction(p, interaction);
  const double diffusion = objective.diffusion(), power = objective.power();
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += (potential[i] + 0.5 * interaction[i]) * p[i] + internal_energy(p[i], diffusion, power);
    if (!derivative.empty())
      derivative[i] = potential[i] + interaction[i] + internal_derivative(p[i], diffusion, power);
  }
  return sum * grid.cell_volume();
}

}  // namespace

// The differences of a regular grid are few: W is called once for each. W is even, so the table at j - i serves i - j,
// and both the table and p are read forwards.
void GridObjective::convolve_interaction(std::span<const double> p, std::span<double> out) const {
  std::ranges::fill(out, 0.0);
  if (!has_interaction()) return;
  const GridSpec& spec = grid();
  const bool two = spec.n_axes() == 2;
  const index_t n_slow = two ? spec.n_cells[0] : 1;
  const index_t n_fast = spec.n_cells.back();
  const index_t table_slow = 2 * n_slow - 1, table_fast = 2 * n_fast - 1;
  std::vector<double> z;
  for (index_t a = 0; a < table_slow; ++a)
    for (index_t b = 0; b < table_fast; ++b) {
      if (two) z.push_back(static_cast<double>(a - n_slow + 1) * spec.width(0));
      z.push_back(static_cast<double>(b - n_fast + 1) * spec.width(two ? 1 : 0));
    }
  std::vector<double> table(static_cast<std::size_t>(table_slow * table_fast));
  interaction({z.data(), {table_slow * table_fast, spec.n_axes()}}, table);
  const double volume = spec.cell_volume();
  const auto length = static_cast<std::size_t>(n_fast);
  for (index_t i0 = 0; i0 < n_slow; ++i0)
    for (index_t i1 = 0; i1 < n_fast; ++i1) {
      double sum = 0;
      for (index_t j0 = 0; j0 < n_slow; ++j0)
        sum += dense::dot(
            std::span(table).subspan(
                static_cast<std::size_t>((j0 - i0 + n_slow - 1) * table_fast - i1 + n_fast - 1), length),
            p.subspan(static_cast<std::size_t>(j0 * n_fast), length));
      out[static_cast<std::size_t>(i0 * n_fast + i1)] = sum * volume;
    }
}

double GridObjective::value(std::span<const double> p) const {
  count(Oracle::value);
  return grid_energy(*this, p, {});
}

double GridObjective::value_and_derivative(std::span<const double> p, std::span<double> derivative) const {
  count(Oracle::gradient);
  return grid_energy(*this, p, derivative);
}

// A point does not act on itself: W may be singular at 0, and its gradient there is 0 by evenness.
double ParticleObjective::value(TensorView<const double, 2> x) const {
  count(Oracle::value);
  const index_t n = x.shape(0), d = x.shape(1);
  std::vector<double> energy(static_cast<std::size_t>(n));
  potential(x, energy);
  double sum = 0;
  for (double v : energy) sum += v;
  const auto count_of = static_cast<double>(n);
  double pairs = 0;
  if (has_interaction()) {
    std::vector<double> z(static_cast<std::size_t>(n * d));
    for (index_t i = 1; i < n; ++i) {
      for (index_t j = 0; j < i; ++j)
        for (index_t c = 0; c < d; ++c) z[static_cast<std::size_t>(j * d + c)] = x(i, c) - x(j, c);
      interaction({z.data(), {i, d}}, std::span(energy).first(static_cast<std::size_t>(i)));
      for (index_t j = 0; j < i; ++j) pairs += energy[static_cast<std::size_t>(j)];
    }
  }
  return n == 0 ? 0 : sum / count_of + pairs / (count_of * count_of);
}

void ParticleObjective::gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const {
  count(Oracle::gradient);
  const index_t n = x.shape(0), d = x.shape(1);
  potential_gradient(x, out);
  if (!has_interaction()) return;
  std::vector<double> z(static_cast<std::size_t>(n * d)), force(z.size());
  const auto count_of = static_cast<double>(n);
  for (index_t i = 0; i < n; ++i) {
    for (index_t j = 0; j < n; ++j)
      for (index_t c = 0; c < d; ++c) z[static_cast<std::size_t>(j * d + c)] = x(i, c) - x(j, c);
    interaction_gradient({z.data(), {n, d}}, {force.data(), {n, d}});
    for (index_t j = 0; j < n; ++j)
      if (j != i)
        for (index_t c = 0; c < d; ++c) out(i, c) += force[static_cast<std::size_t>(j * d + c)] / count_of;
  }
}

}  // namespace borel
