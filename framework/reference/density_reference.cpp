#include "reference/density_reference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

namespace borel::reference {

double NormalMixture::pdf(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight.size(); ++k) {
    const double z = (x - mean[k]) / sd[k];
    sum += weight[k] * std::exp(-0.5 * z * z) / (sd[k] * std::sqrt(2 * std::numbers::pi));
  }
  return sum;
}

double NormalMixture::cdf(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight.size(); ++k)
    sum += weight[k] * 0.5 * std::erfc(-(x - mean[k]) / (sd[k] * std::numbers::sqrt2));
  return sum;
}

double kde_pdf(std::span<const double> samples, std::span<const double> weights, Kernel kernel, double h,
               double x) {
  double sum = 0, total = 0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double w = weights.empty() ? 1.0 : weights[i], u = (x - samples[i]) / h;
    const double k = kernel == Kernel::gaussian ? std::exp(-0.5 * u * u) / std::sqrt(2 * std::numbers::pi)
                                                : 0.75 * std::max(0.0, 1 - u * u);
    sum += w * k;
    total += w;
  }
  return sum / (h * total);
}

double fourier_pdf(std::span<const std::complex<double>> a, double x) {
  const auto autocorrelation = [&](std::size_t n) {
    std::complex<double> c = 0;
    for (std::size_t k = 0; k + n < a.size(); ++k) c += a[k] * std::conj(a[k + n]);
    return c;
  };
  const double c0 = autocorrelation(0).real();
  double p = 0.5;
  for (std::size_t n = 1; n < a.size(); ++n)
    p += (autocorrelation(n) / c0 * std::polar(1.0, static_cast<double>(n) * std::numbers::pi * x)).real();
  return p;
}

double integrate(const std::function<double(double)>& f, double low, double high, int n_panels) {
  constexpr std::array<double, 4> k_node{0.1834346424956498, 0.5255324099163290, 0.7966664774136267,
                                         0.9602898564975363};
  constexpr std::array<double, 4> k_weight{0.3626837833783620, 0.3137066458778873, 0.2223810344533745,
                                           0.1012285362903763};
  double sum = 0;
  const double half = 0.5 * (high - low) / n_panels;
  for (int panel = 0; panel < n_panels; ++panel) {
    const double middle = low + (2 * panel + 1) * half;
    for (std::size_t i = 0; i < k_node.size(); ++i)
      sum += half * k_weight[i] * (f(middle - half * k_node[i]) + f(middle + half * k_node[i]));
  }
  return sum;
}

double ks_distance(std::span<const double> cdf_at_sorted_samples) {
  const double n = static_cast<double>(cdf_at_sorted_samples.size());
  double distance = 0;
  for (std::size_t i = 0; i < cdf_at_sorted_samples.size(); ++i) {
    const double f = cdf_at_sorted_samples[i];
    if (std::isnan(f)) return f;
    distance = std::max({distance, f - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - f});
  }
  return distance;
}

double ks_p_value(double distance, double n) {
  const double x = distance * (std::sqrt(n) + 0.12 + 0.11 / std::sqrt(n));
  if (!(x > 0.2)) return std::isnan(x) ? 0.0 : 1.0;
  double p = 0;
  for (int k = 1; k <= 100; ++k) p += (k % 2 ? 2 : -2) * std::exp(-2.0 * k * k * x * x);
  return std::clamp(p, 0.0, 1.0);
}

}  // namespace borel::reference
