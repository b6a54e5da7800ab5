// One-dimensional densities by their definitions, plain loops in double: the truth for tests and contract
// rules.
#pragma once

#include <complex>
#include <functional>
#include <span>
#include <vector>

namespace borel::reference {

/// Normal mixture. All spans of equal length; weights sum to 1.
struct NormalMixture {
  std::vector<double> weight, mean, sd;
  double pdf(double x) const;
  double cdf(double x) const;
};

enum class Kernel { gaussian, epanechnikov };
/// sum_i w_i K((x - x_i) / h) / (h sum_i w_i); weights empty = equal. O(n).
double kde_pdf(std::span<const double> samples, std::span<const double> weights, Kernel kernel, double h,
               double x);

/// Fourier density on [-1, 1] from the autocorrelation c_n = sum_k a_k conj(a_{k+n}): the form of arXiv
/// 2402.15345, not the squared-modulus form that the plugin uses. O(N^2).
double fourier_pdf(std::span<const std::complex<double>> a, double x);

/// Integral of f over [low, high] by composite 8-point Gauss-Legendre on n_panels equal panels. Independent
/// of the adaptive rule inside libborel.
double integrate(const std::function<double(double)>& f, double low, double high, int n_panels);

/// Kolmogorov-Smirnov distance of sorted samples to a cdf given at them.
double ks_distance(std::span<const double> cdf_at_sorted_samples);
/// P(sqrt(n) D_n > x) by Kolmogorov's limit with Stephens's finite-n correction (1970).
double ks_p_value(double distance, double n);

}  // namespace borel::reference
