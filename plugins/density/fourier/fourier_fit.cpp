#include "fourier_fit.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "borel/draft/lbfgs.hpp"
#include "fourier_held.hpp"

using borel::index_t;
using std::numbers::pi;

namespace {

constexpr index_t k_grain = 4096;
constexpr index_t k_first_steps =
    60;  // of L-BFGS, which finds the basin; Newton's method then finds its floor
constexpr std::size_t k_block = 128;  // samples whose powers are in L1 together

/// Sums over samples: loss and gradient, [2 N + 3].
using Sums = std::vector<double>;

Sums add(Sums a, const Sums& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

/// -sum w log|A|^2 (and the map's Jacobian when it is trained) over samples [begin, end).
Sums data_sums(const FourierProblem& problem, const FourierModel& model, std::size_t begin, std::size_t end) {
  const std::size_t n_frequencies = model.a.size();
  Sums sums(2 * n_frequencies + 3);
  const double sigma = std::exp(model.log_sigma);
  std::array<double, k_block> zr, zi, pr, pi_, ar, ai, dr, di, ir, ii, x, u;
  for (std::size_t first = begin; first < end; first += k_block) {
    const std::size_t n = std::min(k_block, end - first);
    const double* const w = problem.w.data() + first;
    for (std::size_t j = 0; j < n; ++j) {
      u[j] = (problem.v[first + j] - model.tau) / sigma;
      x[j] = problem.map == FourierMap::tanh ? std::tanh(u[j]) : u[j];
      zr[j] = std::cos(pi * x[j]), zi[j] = std::sin(pi * x[j]);
      pr[j] = 1, pi_[j] = 0, ar[j] = ai[j] = dr[j] = di[j] = 0;
    }
    // A = sum_k conj(a_k) z^k and, for the placement, sum_k k conj(a_k) z^k
    for (std::size_t k = 0; k < n_frequencies; ++k) {
      const double re = model.a[k].real(), im = model.a[k].imag(), order = static_cast<double>(k);
      for (std::size_t j = 0; j < n; ++j) {
        const double tr = re * pr[j] + im * pi_[j], ti = re * pi_[j] - im * pr[j];
        ar[j] += tr, ai[j] += ti;
        dr[j] += order * tr, di[j] += order * ti;
        const double next = pr[j] * zr[j] - pi_[j] * zi[j];
        pi_[j] = pr[j] * zi[j] + pi_[j] * zr[j];
        pr[j] = next;
      }
    }
    for (std::size_t j = 0; j < n; ++j) {
      const double square = ar[j] * ar[j] + ai[j] * ai[j];
      sums[2 * n_frequencies + 2] -= w[j] * std::log(square);
      ir[j] = ar[j] / square, ii[j] = -ai[j] / square;  // 1 / A
      pr[j] = 1, pi_[j] = 0;
    }
    if (problem.train_placement)
      for (std::size_t j = 0; j < n; ++j) {
        // d log|A|^2 / dx = 2 Re(i pi D / A); log(1 - x^2) = log sech^2 u has derivative -2 x in u
        const double d_log_p = -2 * pi * (dr[j] * ii[j] + di[j] * ir[j]);
        const double d_u = d_log_p * (1 - x[j] * x[j]) - 2 * x[j];
        const double log_sech2 =
            std::log(4.0) - 2 * std::abs(u[j]) - 2 * std::log1p(std::exp(-2 * std::abs(u[j])));
        sums[2 * n_frequencies + 2] -= w[j] * log_sech2;
        sums[2 * n_frequencies] -= w[j] * d_u * (-1 / sigma);
        sums[2 * n_frequencies + 1] -= w[j] * d_u * -u[j];
      }
    for (std::size_t k = 0; k < n_frequencies; ++k) {
      double gr = 0, gi = 0;
      for (std::size_t j = 0; j < n; ++j) {
        gr += w[j] * (pr[j] * ir[j] - pi_[j] * ii[j]);
        gi += w[j] * (pr[j] * ii[j] + pi_[j] * ir[j]);
        const double next = pr[j] * zr[j] - pi_[j] * zi[j];
        pi_[j] = pr[j] * zi[j] + pi_[j] * zr[j];
        pr[j] = next;
      }
      sums[k] -= 2 * gr;
      sums[n_frequencies + k] -= 2 * gi;
    }
  }
  return sums;
}

FourierModel unpack(std::span<const double> values, std::size_t n_frequencies, bool with_placement) {
  FourierModel model;
  for (std::size_t k = 0; k < n_frequencies; ++k) model.a.emplace_back(values[k], values[n_frequencies + k]);
  if (with_placement) model.tau = values[2 * n_frequencies], model.log_sigma = values[2 * n_frequencies + 1];
  return model;
}

std::vector<double> pack(const FourierModel& model, bool with_placement) {
  std::vector<double> values;
  for (const auto& value : model.a) values.push_back(value.real());
  for (const auto& value : model.a) values.push_back(value.imag());
  if (with_placement) values.insert(values.end(), {model.tau, model.log_sigma});
  return values;
}

double norm_of(std::span<const double> v) {
  double square = 0;
  for (const double value : v) square += value * value;
  return std::sqrt(square);
}

}  // namespace

double fourier_loss(const FourierProblem& problem, const FourierModel& model, std::span<double> gradient) {
  const std::size_t n_frequencies = model.a.size();
  const Sums sums = borel::deterministic_reduce(
      static_cast<index_t>(problem.v.size()), k_grain, Sums(2 * n_frequencies + 3),
      [&](index_t begin, index_t end) {
        return data_sums(problem, model, static_cast<std::size_t>(begin), static_cast<std::size_t>(end));
      },
      [](const Sums& a, const Sums& b) { return add(a, b); });
  double norm = 0;
  for (const auto& value : model.a) norm += std::norm(value);
  std::copy_n(sums.begin(), gradient.size(), gradient.begin());
  for (std::size_t k = 0; k < n_frequencies; ++k) {
    gradient[k] += 2 * model.a[k].real() / norm;
    gradient[n_frequencies + k] += 2 * model.a[k].imag() / norm;
  }
  double loss = sums.back() + std::log(2 * norm);
  if (problem.train_placement) {
    loss += model.log_sigma;
    gradient[2 * n_frequencies + 1] += 1;
  }
  if (problem.penalty > 0) loss += add_fourier_penalty(problem.penalty, model.a, gradient);
  return loss;
}

namespace {

FourierFit finished(const FourierProblem& problem, const borel::LbfgsResult& found, std::size_t n_frequencies,
                    index_t iterations) {
  FourierFit fit;
  fit.model = unpack(found.x, n_frequencies, problem.train_placement);
  fit.loss = found.value, fit.iterations = iterations, fit.converged = found.converged;
  double norm = 0;  // coefficients of size 1: their common factor has no meaning
  for (const auto& value : fit.model.a) norm += std::norm(value);
  for (auto& value : fit.model.a) value /= std::sqrt(norm);
  return fit;
}

}  // namespace

FourierFit minimise_fourier_loss(const FourierProblem& problem, FourierModel start, double tolerance,
                                 index_t max_iterations, const borel::StopToken& stop) {
  const std::size_t n_frequencies = start.a.size();
  std::vector<double> values = pack(start, problem.train_placement);
  borel::LbfgsResult found;
  if (problem.train_placement) {
    found = borel::minimise_lbfgs(
        [&](std::span<const double> x, std::span<double> gradient) {
          std::vector<double> d(2 * n_frequencies + 2);
          const double loss = fourier_loss(problem, unpack(x, n_frequencies, true), d);
          std::copy_n(d.begin(), gradient.size(), gradient.begin());
          return loss;
        },
        std::move(values), {tolerance, max_iterations, 20, stop});
  } else {
    const HeldProblem held(problem);
    const bool has_newton = held.has_curvature(n_frequencies);
    found = borel::minimise_lbfgs(
        [&](std::span<const double> x, std::span<double> gradient) { return held.loss(x, gradient); },
        std::move(values),
        {tolerance, has_newton ? std::min(max_iterations, k_first_steps) : max_iterations, 20, stop});
    if (has_newton && found.iterations < max_iterations) {
      const index_t used = found.iterations;
      found = minimise_newton(held, std::move(found.x), tolerance, max_iterations - used, stop);
      found.iterations += used;
    }
  }
  return finished(problem, found, n_frequencies, found.iterations);
}

FourierFit polish_fourier_fit(const FourierProblem& all, const FourierProblem& search, FourierModel start,
                              double tolerance, index_t max_iterations, const borel::StopToken& stop) {
  const HeldProblem exact(all);
  if (exact.has_curvature(start.a.size())) {
    const borel::LbfgsResult found =
        minimise_newton(exact, pack(start, false), tolerance, max_iterations, stop);
    return finished(all, found, start.a.size(), found.iterations);
  }
  constexpr int k_rounds = 12;
  constexpr double k_gain = 1e-11;  // nats per sample; a round multiplies what is missing by a small factor
  const std::size_t n_frequencies = start.a.size();
  const HeldProblem grouped(search);
  std::vector<double> values = pack(start, false), gradient(values.size()), correction(values.size());
  borel::LbfgsResult found;
  index_t iterations = 0;
  double last_value = std::numeric_limits<double>::infinity();
  for (int round = 0; round < k_rounds; ++round) {
    stop.throw_if_stopped();
    found.value = exact.loss(values, gradient);
    const double norm = norm_of(gradient);
    // With many frequencies the likelihood has flat directions, where the gradient says less than the gain.
    found.converged =
        norm <= tolerance * std::max(1.0, norm_of(values)) || std::abs(last_value - found.value) <= k_gain;
    if (found.converged || !(found.value < last_value)) break;
    last_value = found.value;
    grouped.loss(values, correction);
    for (std::size_t k = 0; k < values.size(); ++k) correction[k] = gradient[k] - correction[k];
    const double size = norm_of(values);
    // The losses do not depend on |a|, the linear term must not either: it is taken at a size / |a|.
    const borel::LbfgsResult run = borel::minimise_lbfgs(
        [&](std::span<const double> x, std::span<double> g) {
          double loss = grouped.loss(x, g), along = 0;
          const double length = norm_of(x), factor = size / length;
          for (std::size_t k = 0; k < x.size(); ++k) along += correction[k] * x[k];
          for (std::size_t k = 0; k < x.size(); ++k)
            g[k] += factor * (correction[k] - along * x[k] / (length * length));
          return loss + factor * along;
        },
        values, {std::max(0.1 * tolerance, 0.02 * norm / std::max(1.0, size)), max_iterations, 20, stop});
    iterations += run.iterations;
    values = run.x;
    const double length = norm_of(values);
    for (double& value : values) value *= size / length;
  }
  if (!found.converged) {  // the groups were too coarse to steer by: all samples in every step
    found = borel::minimise_lbfgs(
        [&](std::span<const double> x, std::span<double> g) { return exact.loss(x, g); }, values,
        {tolerance, max_iterations, 20, stop});
    iterations += found.iterations;
  } else {
    found.x = values;
  }
  return finished(all, found, n_frequencies, iterations);
}

double fourier_mean_loss(const FourierProblem& problem, const FourierModel& model) {
  const std::vector<double> values = pack(model, false);
  std::vector<double> gradient(values.size());
  FourierProblem plain = problem;
  plain.penalty = 0;
  return HeldProblem(plain).loss(values, gradient);
}

namespace {

/// A with the logarithm of its modulus given at equal cells of x, cut to n frequencies, |a| = 1. O(cells^2).
FourierModel minimum_phase(std::span<const double> log_modulus, std::size_t n_frequencies) {
  const std::size_t n_cells = log_modulus.size();
  // exp(i pi t / n_cells): powers of z at the centres x_j = (2 j + 1) / n_cells - 1 are entries of this table.
  std::vector<std::complex<double>> turn(2 * n_cells);
  for (std::size_t t = 0; t < turn.size(); ++t)
    turn[t] = std::polar(1.0, pi * static_cast<double>(t) / static_cast<double>(n_cells));
  const auto power = [&](std::size_t m, std::size_t cell) {
    const std::complex<double> value = turn[m * (2 * cell + 1) % turn.size()];
    return m % 2 == 0 ? value : -value;
  };
  // Fourier coefficients of log |A|, and A = exp of their causal part
  const double scale = 1 / static_cast<double>(n_cells);
  std::vector<std::complex<double>> exponent(n_cells);
  for (std::size_t m = 0; m < n_cells / 2; ++m) {
    std::complex<double> sum = 0;
    for (std::size_t cell = 0; cell < n_cells; ++cell) sum += log_modulus[cell] * std::conj(power(m, cell));
    for (std::size_t cell = 0; cell < n_cells; ++cell)
      exponent[cell] += (m == 0 ? scale : 2 * scale) * sum * power(m, cell);
  }
  for (auto& value : exponent) value = std::exp(value);
  FourierModel model;
  double norm = 0;
  for (std::size_t k = 0; k < n_frequencies; ++k) {
    std::complex<double> sum = 0;
    for (std::size_t cell = 0; cell < n_cells; ++cell) sum += exponent[cell] * std::conj(power(k, cell));
    model.a.push_back(std::conj(sum));
    norm += std::norm(sum);
  }
  for (auto& value : model.a) value /= std::sqrt(norm);
  return model;
}

}  // namespace

FourierModel spectral_start(const FourierProblem& problem, std::size_t n_frequencies) {
  // Cells of half the shortest wavelength's quarter: fine enough for the frequencies, coarse enough to be
  // smooth.
  const std::size_t n_cells = std::max<std::size_t>(16, 4 * n_frequencies);
  std::vector<double> mass(n_cells);
  for (std::size_t j = 0; j < problem.v.size(); ++j) {
    const double at = 0.5 * (map_to_unit(problem.map, problem.v[j]) + 1) * static_cast<double>(n_cells);
    mass[std::min(static_cast<std::size_t>(std::max(at, 0.0)), n_cells - 1)] += problem.w[j];
  }
  for (double& value : mass) value = 0.5 * std::log(value + 1e-4 / static_cast<double>(n_cells));
  return minimum_phase(mass, n_frequencies);
}

FourierModel random_start(std::size_t n_frequencies, borel::Rng& rng) {
  const std::size_t n_cells = std::max<std::size_t>(16, 4 * n_frequencies);
  std::vector<std::complex<double>> a;
  for (std::size_t k = 0; k < n_frequencies; ++k) {
    const double re = rng.normal(), im = rng.normal();
    a.emplace_back(re, im);
  }
  std::vector<double> log_modulus(n_cells);
  for (std::size_t cell = 0; cell < n_cells; ++cell) {
    const std::complex<double> z =
        std::polar(1.0, pi * ((2 * static_cast<double>(cell) + 1) / static_cast<double>(n_cells) - 1));
    std::complex<double> value = 0;
    for (std::size_t k = n_frequencies; k > 0; --k) value = value * z + a[k - 1];
    log_modulus[cell] = 0.5 * std::log(std::norm(value) + 1e-4);
  }
  return minimum_phase(log_modulus, n_frequencies);
}
