#include "fourier_held.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "borel/draft/dense_kernels.hpp"
#include "borel/parallel.hpp"
#include "fourier_kernel.hpp"

using borel::index_t;
using std::numbers::pi;

namespace {

constexpr index_t k_grain = 4096;
constexpr std::size_t k_most_frequencies = 256;  // Newton steps cost (2 N)^3 / 3
/// Damping at the start, below which it is left out, and beyond which nothing helps.
constexpr double k_first_damping = 1e-2, k_least_damping = 1e-14, k_most_damping = 1e12;
/// Differences of losses below this are rounding; then the gradient must fall instead.
constexpr double k_rounding = 1e-13;
constexpr int k_patience = 10;  // steps that must gain something together

double norm_of(std::span<const double> v) { return std::sqrt(borel::dense::dot(v, v)); }

struct Point {
  std::vector<double> values, gradient, curvature;
  double loss = 0;
};

Point point_at(const HeldProblem& problem, std::vector<double> values) {
  const double norm = norm_of(values);
  for (double& value : values) value /= norm;
  Point point{std::move(values), {}, {}};
  point.gradient.resize(point.values.size());
  point.curvature.resize(2 * (point.values.size() - 1));
  point.loss = problem.loss(point.values, point.gradient, point.curvature);
  return point;
}

/// Lower triangle of the Hessian at |a| = 1. The directions that change nothing, the common factor a and the common phase
/// (-im a, re a), have curvature 4 instead of 0: that makes the matrix regular and leaves steps across them as they are.
void write_hessian(const Point& at, std::vector<double>& out) {
  const std::size_t n = at.values.size() / 2, n_sums = 2 * n - 1;
  const double* const re = at.values.data();
  const double* const im = re + n;
  for (std::size_t k = 0; k < n; ++k)
    for (std::size_t l = 0; l < n; ++l) {
      const double s_re = 2 * at.curvature[k + l], s_im = 2 * at.curvature[n_sums + k + l];
      const double diagonal =
          k == l ? 2.0 : 0.0;  // of log |a|^2, whose -4 a a' the factor's curvature takes away
      if (l <= k) {
        out[k * 2 * n + l] = s_re + diagonal + 4 * im[k] * im[l];
        out[(n + k) * 2 * n + n + l] = -s_re + diagonal + 4 * re[k] * re[l];
      }
      out[(n + k) * 2 * n + l] = s_im - 4 * re[k] * im[l];
    }
}

}  // namespace

double map_to_unit(FourierMap map, double v) { return map == FourierMap::tanh ? std::tanh(v) : v; }

/// gamma pi^2 sum_n n^2 |c_n|^2 / c_0^2 = gamma int p'^2: the paper's eq. 10 for the normalised density. Adds
/// the gradient.
double add_fourier_penalty(double gamma, std::span<const std::complex<double>> a,
                           std::span<double> gradient) {
  const std::size_t n_frequencies = a.size();
  double c0 = 0;
  for (const auto& value : a) c0 += std::norm(value);
  std::vector<std::complex<double>> c(n_frequencies);
  double sum = 0;
  for (std::size_t n = 1; n < n_frequencies; ++n) {
    for (std::size_t k = 0; k + n < n_frequencies; ++k) c[n] += a[k] * std::conj(a[k + n]);
    sum += static_cast<double>(n * n) * std::norm(c[n]);
  }
  const double factor = gamma * pi * pi / (c0 * c0);
  for (std::size_t m = 0; m < n_frequencies; ++m) {
    double d_re = 0, d_im = 0;
    for (std::size_t n = 1; n < n_frequencies; ++n) {
      const std::complex<double> up = m + n < n_frequencies ? std::conj(a[m + n]) : 0.0,
                                 down = m >= n ? a[m - n] : 0.0;
      const double weight = 2 * static_cast<double>(n * n);
      d_re += weight * (std::conj(c[n]) * (up + down)).real();
      d_im += weight * (std::conj(c[n]) * std::complex<double>(0, 1) * (up - down)).real();
    }
    gradient[m] += factor * (d_re - 4 * sum / c0 * a[m].real());
    gradient[n_frequencies + m] += factor * (d_im - 4 * sum / c0 * a[m].imag());
  }
  return factor * sum;
}

HeldProblem::HeldProblem(const FourierProblem& problem) : penalty_(problem.penalty) {
  const std::size_t n = problem.v.size(), padded = (n + k_fourier_pad - 1) / k_fourier_pad * k_fourier_pad;
  z_re_.assign(padded, 1.0), z_im_.assign(padded, 0.0), w_.assign(padded, 0.0);
  borel::parallel_for(static_cast<index_t>(n), k_grain, [&](index_t begin, index_t end) {
    for (std::size_t j = static_cast<std::size_t>(begin); j < static_cast<std::size_t>(end); ++j) {
      const double x = pi * map_to_unit(problem.map, problem.v[j]);
      z_re_[j] = std::cos(x), z_im_[j] = std::sin(x), w_[j] = problem.w[j];
    }
  });
}

double HeldProblem::loss(std::span<const double> values, std::span<double> gradient,
                         std::span<double> curvature) const {
  using Sums = std::vector<double>;  // re, im of the gradient, loss, curvature
  const std::size_t n_frequencies = values.size() / 2, n_sums = values.size() + 1 + curvature.size();
  const Sums sums = borel::deterministic_reduce(
      static_cast<index_t>(w_.size()), k_grain, Sums(n_sums),
      [&](index_t begin, index_t end) {
        Sums part(n_sums);
        const auto at = static_cast<std::size_t>(begin);
        add_fourier_sums(
            {z_re_.data() + at, z_im_.data() + at, w_.data() + at, static_cast<std::size_t>(end) - at},
            values.data(), values.data() + n_frequencies, n_frequencies, part.data(),
            curvature.empty() ? nullptr : part.data() + values.size() + 1);
        return part;
      },
      [](Sums a, const Sums& b) {
        for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
        return a;
      });
  const double norm = borel::dense::dot(values, values);
  for (std::size_t k = 0; k < values.size(); ++k) gradient[k] = sums[k] + 2 * values[k] / norm;
  std::copy_n(sums.begin() + static_cast<std::ptrdiff_t>(values.size()) + 1, curvature.size(),
              curvature.begin());
  double total = sums[values.size()] + std::log(2 * norm);
  if (penalty_ > 0) {
    std::vector<std::complex<double>> a;
    for (std::size_t k = 0; k < n_frequencies; ++k) a.emplace_back(values[k], values[n_frequencies + k]);
    total += add_fourier_penalty(penalty_, a, gradient);
  }
  return total;
}

bool HeldProblem::has_curvature(std::size_t n_frequencies) const {
  return penalty_ == 0 && n_frequencies <= k_most_frequencies;
}

borel::LbfgsResult minimise_newton(const HeldProblem& problem, std::vector<double> values, double tolerance,
                                   index_t max_iterations, const borel::StopToken& stop) {
  const std::size_t m = values.size();
  Point at = point_at(problem, std::move(values));
  std::vector<double> hessian(m * m), factor(m * m), step(m);
  const borel::TensorView<double, 2> factor_view(factor.data(),
                                                 {static_cast<index_t>(m), static_cast<index_t>(m)});
  double damping = k_first_damping;
  double too_small = -1;  // damping at which the Hessian at this point had no factors, or its model failed
  borel::LbfgsResult result;
  bool is_new = true;
  double last_loss = std::numeric_limits<double>::infinity();  // some accepted steps ago
  int n_accepted = 0;
  while (result.iterations < max_iterations && damping <= k_most_damping) {
    stop.throw_if_stopped();
    if (std::exchange(is_new, false)) {
      write_hessian(at, hessian);
      too_small = -1;
    }
    factor = hessian;
    for (std::size_t i = 0; i < m; ++i) factor[i * m + i] += damping;
    if (!borel::dense::cholesky(factor_view)) {
      too_small = damping;
      damping = std::max(4 * damping, k_least_damping);
      continue;
    }
    for (std::size_t i = 0; i < m; ++i) step[i] = -at.gradient[i];
    borel::dense::cholesky_solve(factor_view, step);
    const double promised =
        -0.5 * borel::dense::dot(at.gradient, step) + 0.5 * damping * borel::dense::dot(step, step);
    if (promised <= 1e-3 * tolerance) {
      // A damped step promises little anywhere: less damping first, while the Hessian allows it.
      const double less = damping / 16 < k_least_damping ? 0 : damping / 16;
      if (less < damping && less > too_small) {
        damping = less;
        continue;
      }
      result.converged = true;
      break;
    }
    ++result.iterations;
    for (std::size_t i = 0; i < m; ++i) step[i] += at.values[i];
    Point trial = point_at(problem, step);
    const double gain = at.loss - trial.loss;
    const bool rounding = promised <= k_rounding && norm_of(trial.gradient) < norm_of(at.gradient);
    const double at_damping = damping;
    if (gain > 0.75 * promised || rounding) damping = damping / 8 < k_least_damping ? 0 : damping / 8;
    if (!(gain > 0.25 * promised) && !rounding) damping = std::max(4 * damping, 1e-8);
    if (rounding || gain > 1e-4 * promised) {
      at = std::move(trial);
      is_new = true;
      if (++n_accepted % k_patience == 0 && std::exchange(last_loss, at.loss) - at.loss <= 1e-3 * tolerance) {
        result.converged = true;  // what is promised is not there: where A is near 0 the model holds nowhere
        break;
      }
    } else if (promised <= k_rounding) {
      break;
    } else {
      too_small = at_damping;
    }
  }
  result.x = std::move(at.values);
  result.value = at.loss;
  return result;
}
