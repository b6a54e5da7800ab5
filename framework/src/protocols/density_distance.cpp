#include "protocols/density_distance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>

namespace borel {

DensityDistance distance_to_truth(const FittedDensity& density, const GaussianMixture& truth) {
  constexpr int k_panels = 8192;
  constexpr std::array<double, 4> k_node{-0.8611363115940526, -0.3399810435848563, 0.3399810435848563,
                                         0.8611363115940526};
  constexpr std::array<double, 4> k_weight{0.3478548451374538, 0.6521451548625461, 0.6521451548625461,
                                           0.3478548451374538};
  const auto [low, high] = truth.bulk();
  const double half = 0.5 * (high - low) / k_panels;
  std::vector<double> x;
  x.reserve(4 * k_panels + 2);
  for (int panel = 0; panel < k_panels; ++panel)
    for (const double node : k_node) x.push_back(low + (2 * panel + 1 + node) * half);
  std::vector<double> log_q(x.size()), f(x.size() + 2);
  density.log_pdf(TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), log_q);
  x.insert(x.end(), {low, high});
  density.cdf(x, f);

  DensityDistance distance;
  for (std::size_t i = 0; i < log_q.size(); ++i) {
    const double dx = half * k_weight[i % 4], log_p = truth.log_pdf(x[i]), p = std::exp(log_p);
    if (p > 0) distance.kl += dx * p * (log_p - log_q[i]);
    distance.l1 += dx * std::abs(p - std::exp(log_q[i]));
    distance.w1 += dx * std::abs(truth.cdf(x[i]) - f[i]);
  }
  distance.l1 += f[log_q.size()] + (1 - f[log_q.size() + 1]);
  return distance;
}

ModeRecovery match_modes(std::span<const double> found, std::span<const double> true_modes,
                         double tolerance) {
  std::vector<std::tuple<double, std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < found.size(); ++i)
    for (std::size_t j = 0; j < true_modes.size(); ++j)
      if (const double d = std::abs(found[i] - true_modes[j]); d <= tolerance) pairs.emplace_back(d, i, j);
  std::sort(pairs.begin(), pairs.end());
  std::vector<bool> found_used(found.size()), true_used(true_modes.size());
  ModeRecovery recovery;
  for (const auto& [d, i, j] : pairs) {
    if (found_used[i] || true_used[j]) continue;
    found_used[i] = true_used[j] = true;
    ++recovery.matched;
  }
  recovery.missed = static_cast<index_t>(true_modes.size()) - recovery.matched;
  recovery.spurious = static_cast<index_t>(found.size()) - recovery.matched;
  return recovery;
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
  if (std::isnan(x)) return x;
  if (x < 0.2) return 1;  // the alternating series is not usable there, and 1 to 12 digits
  double p = 0;
  for (int k = 1; k <= 100; ++k) p += (k % 2 ? 2 : -2) * std::exp(-2.0 * k * k * x * x);
  return std::clamp(p, 0.0, 1.0);
}

namespace {

/// Walks the steps of two empirical cdfs: visit(length of the step, difference of the cdfs on it).
template <class Visit>
void walk(std::span<const double> a, std::span<const double> b, Visit visit) {
  std::size_t i = 0, j = 0;
  const double n_a = static_cast<double>(a.size()), n_b = static_cast<double>(b.size());
  while (i < a.size() || j < b.size()) {
    const double at = j == b.size() || (i < a.size() && a[i] <= b[j]) ? a[i] : b[j];
    while (i < a.size() && a[i] == at) ++i;
    while (j < b.size() && b[j] == at) ++j;
    const double next = std::min(i < a.size() ? a[i] : std::numeric_limits<double>::infinity(),
                                 j < b.size() ? b[j] : std::numeric_limits<double>::infinity());
    visit(std::isfinite(next) ? next - at : 0.0,
          std::abs(static_cast<double>(i) / n_a - static_cast<double>(j) / n_b));
  }
}

}  // namespace

double ks_distance(std::span<const double> a, std::span<const double> b) {
  double distance = 0;
  walk(a, b, [&](double, double difference) { distance = std::max(distance, difference); });
  return distance;
}

double w1_distance(std::span<const double> a, std::span<const double> b) {
  double distance = 0;
  walk(a, b, [&](double length, double difference) { distance += length * difference; });
  return distance;
}

}  // namespace borel
