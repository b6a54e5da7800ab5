#include "spline.hpp"

#include <algorithm>
#include <numeric>

namespace {

constexpr double k_least_height = 1e-6;
constexpr double k_slope_bound = 3;  // of |log d - log s|: a factor of 20

void add_to(std::vector<double>& a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
}

}  // namespace

RationalQuadraticSpline::RationalQuadraticSpline(std::vector<double> x, std::vector<double> y,
                                                 std::vector<double> slope)
    : x_(std::move(x)), y_(std::move(y)), slope_(std::move(slope)) {}

void RationalQuadraticSpline::Gradient::add(const Gradient& other) {
  add_to(x, other.x), add_to(width, other.width), add_to(y, other.y);
  add_to(height, other.height), add_to(slope, other.slope);
}

RationalQuadraticSpline::Value RationalQuadraticSpline::at(double u) const {
  if (u < x_.front()) return {y_.front() + slope_.front() * (u - x_.front()), std::log(slope_.front()), 0};
  if (!(u <= x_.back())) return {y_.back() + slope_.back() * (u - x_.back()), std::log(slope_.back()), 0};
  const auto above = std::upper_bound(x_.begin() + 1, x_.end() - 1, u);
  const auto k = static_cast<std::size_t>(above - x_.begin()) - 1;
  const double w = x_[k + 1] - x_[k], h = y_[k + 1] - y_[k], s = h / w, d0 = slope_[k], d1 = slope_[k + 1];
  const double t = (u - x_[k]) / w, q = t * (1 - t), bottom = s + (d1 + d0 - 2 * s) * q;
  const double m = d1 * t * t + 2 * s * q + d0 * (1 - t) * (1 - t);
  const double d_m = 2 * d1 * t + 2 * s * (1 - 2 * t) - 2 * d0 * (1 - t),
               d_bottom = (d1 + d0 - 2 * s) * (1 - 2 * t);
  return {y_[k] + h * (s * t * t + d0 * q) / bottom, 2 * std::log(s) + std::log(m) - 2 * std::log(bottom),
          (d_m / m - 2 * d_bottom / bottom) / w};
}

/// Eqs. 6 to 8: the root of the quadratic in t that lies in [0, 1], in the form without cancellation.
double RationalQuadraticSpline::inverse(double z) const {
  if (z < y_.front()) return x_.front() + (z - y_.front()) / slope_.front();
  if (!(z <= y_.back())) return x_.back() + (z - y_.back()) / slope_.back();
  const auto above = std::upper_bound(y_.begin() + 1, y_.end() - 1, z);
  const auto k = static_cast<std::size_t>(above - y_.begin()) - 1;
  const double w = x_[k + 1] - x_[k], h = y_[k + 1] - y_[k], s = h / w, d0 = slope_[k], d1 = slope_[k + 1];
  const double rise = z - y_[k], bend = rise * (d1 + d0 - 2 * s);
  const double a = h * (s - d0) + bend, b = h * d0 - bend, c = -s * rise;
  const double t = -2 * c / (b + std::sqrt(std::max(b * b - 4 * a * c, 0.0)));
  return x_[k] + w * std::clamp(t, 0.0, 1.0);
}

RationalQuadraticSpline SplineParameters::spline(std::span<const double> raw) const {
  const std::size_t n = n_bins;
  const double largest = *std::max_element(raw.begin(), raw.begin() + static_cast<std::ptrdiff_t>(n));
  double sum = 0;
  for (std::size_t k = 0; k < n; ++k) sum += std::exp(raw[k] - largest);
  std::vector<double> x{begin}, y{raw[n]}, slope(n + 1), log_s(n);
  const double free = width - static_cast<double>(n) * least_width;
  for (std::size_t k = 0; k < n; ++k) {
    const double w = least_width + free * std::exp(raw[k] - largest) / sum,
                 h = k_least_height + std::exp(raw[n + 1 + k]);
    x.push_back(x.back() + w);
    y.push_back(y.back() + h);
    log_s[k] = std::log((y[k + 1] - y[k]) / (x[k + 1] - x[k]));
  }
  for (std::size_t k = 0; k <= n; ++k) {
    const double middle = 0.5 * (log_s[k == 0 ? 0 : k - 1] + log_s[k == n ? n - 1 : k]);
    slope[k] = std::exp(middle + k_slope_bound * std::tanh(raw[2 * n + 1 + k] / k_slope_bound));
  }
  return {std::move(x), std::move(y), std::move(slope)};
}

void SplineParameters::chain(std::span<const double> raw, const RationalQuadraticSpline& spline,
                             RationalQuadraticSpline::Gradient gradient, std::span<double> out) const {
  const std::size_t n = n_bins;
  const auto x = spline.x(), y = spline.y(), slope = spline.slope();
  for (std::size_t k = 0; k <= n; ++k) {
    const double by_log = gradient.slope[k] * slope[k], t = std::tanh(raw[2 * n + 1 + k] / k_slope_bound);
    out[2 * n + 1 + k] = by_log * (1 - t * t);
    for (const std::size_t bin : {k == 0 ? 0 : k - 1, k == n ? n - 1 : k}) {
      gradient.height[bin] += 0.5 * by_log / (y[bin + 1] - y[bin]);
      gradient.width[bin] -= 0.5 * by_log / (x[bin + 1] - x[bin]);
    }
  }
  // A width moves all knots to its right, a height all values.
  double later_x = 0, later_y = gradient.y[n];
  for (std::size_t k = n; k-- > 0;) {
    gradient.width[k] += later_x, gradient.height[k] += later_y;
    later_x += gradient.x[k], later_y += gradient.y[k];
  }
  out[n] = later_y;
  for (std::size_t k = 0; k < n; ++k) out[n + 1 + k] = gradient.height[k] * std::exp(raw[n + 1 + k]);
  const double free = width - static_cast<double>(n) * least_width;
  double mean = 0;
  std::vector<double> share(n);
  for (std::size_t k = 0; k < n; ++k) {
    share[k] = (x[k + 1] - x[k] - least_width) / free;
    mean += share[k] * gradient.width[k];
  }
  for (std::size_t k = 0; k < n; ++k) out[k] = free * share[k] * (gradient.width[k] - mean);
}

std::vector<double> SplineParameters::through(std::span<const double> x, std::span<const double> y) const {
  constexpr double k_least_share = 1e-6;
  const std::size_t n = n_bins;
  const double free = width - static_cast<double>(n) * least_width;
  std::vector<double> raw(size(), 0.0);
  raw[n] = y[0];
  for (std::size_t k = 0; k < n; ++k) {
    raw[k] = std::log(std::max((x[k + 1] - x[k] - least_width) / free, k_least_share));
    raw[n + 1 + k] = std::log(std::max(y[k + 1] - y[k] - k_least_height, k_least_height));
  }
  return raw;
}
