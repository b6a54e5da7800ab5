#include "dataset/truth.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss.hpp>
#include <cmath>
#include <numbers>

namespace borel {
namespace {

constexpr double k_log_sqrt_two_pi = 0.918938533204672741780329736406;
constexpr double k_bulk_sds = 7.5;

}  // namespace

GaussianMixture::GaussianMixture(std::vector<double> weight, std::vector<double> mean, std::vector<double> sd)
    : weight_(std::move(weight)), mean_(std::move(mean)), sd_(std::move(sd)) {
  double sum = 0;
  for (double w : weight_) sum += w;
  bool good = !weight_.empty() && mean_.size() == weight_.size() && sd_.size() == weight_.size() &&
              std::abs(sum - 1) <= 1e-9;
  for (std::size_t k = 0; good && k < weight_.size(); ++k) good = weight_[k] >= 0 && sd_[k] > 0;
  if (!good)
    throw DatasetError(
        fmt::format("Gaussian mixture: needs as many weights ({}), means ({}) and standard deviations "
                    "({}), weights that sum to 1 ({}), and sd > 0",
                    weight_.size(), mean_.size(), sd_.size(), sum));
}

std::shared_ptr<const GaussianMixture> GaussianMixture::from(const Dataset& dataset) {
  if (!dataset.has("truth/weight")) return nullptr;
  const auto copy = [&](const char* name) {
    const auto values = dataset.doubles(name);
    return std::vector<double>(values.begin(), values.end());
  };
  return std::make_shared<const GaussianMixture>(copy("truth/weight"), copy("truth/mean"), copy("truth/sd"));
}

double GaussianMixture::log_pdf(double x) const {
  double largest = -INFINITY;
  const auto term = [&](std::size_t k) {
    const double z = (x - mean_[k]) / sd_[k];
    return std::log(weight_[k]) - 0.5 * z * z - std::log(sd_[k]) - k_log_sqrt_two_pi;
  };
  for (std::size_t k = 0; k < weight_.size(); ++k) largest = std::max(largest, term(k));
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k) sum += std::exp(term(k) - largest);
  return largest + std::log(sum);
}

double GaussianMixture::pdf(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k) {
    const double z = (x - mean_[k]) / sd_[k];
    sum += weight_[k] / sd_[k] * std::exp(-0.5 * z * z - k_log_sqrt_two_pi);
  }
  return sum;
}

double GaussianMixture::cdf(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k)
    sum += weight_[k] * 0.5 * std::erfc(-(x - mean_[k]) / (sd_[k] * std::numbers::sqrt2));
  return sum;
}

double GaussianMixture::survival(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k)
    sum += weight_[k] * 0.5 * std::erfc((x - mean_[k]) / (sd_[k] * std::numbers::sqrt2));
  return sum;
}

double GaussianMixture::quantile(double u) const {
  double low = INFINITY, high = -INFINITY;
  for (std::size_t k = 0; k < weight_.size(); ++k) {
    low = std::min(low, mean_[k] - 40 * sd_[k]);
    high = std::max(high, mean_[k] + 40 * sd_[k]);
  }
  // The smaller tail carries the digits.
  const auto excess = [&](double x) { return u <= 0.5 ? cdf(x) - u : (1 - u) - survival(x); };
  double x = 0.5 * (low + high);
  for (int iteration = 0; iteration < 400; ++iteration) {
    const double above = excess(x);
    (above > 0 ? high : low) = x;
    double next = x - above / pdf(x);
    if (!(next > low && next < high)) next = 0.5 * (low + high);
    if (next == x || std::abs(next - x) <= 1e-16 * std::abs(x)) break;
    x = next;
  }
  return x;
}

double GaussianMixture::mean() const {
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k) sum += weight_[k] * mean_[k];
  return sum;
}

double GaussianMixture::variance() const {
  const double centre = mean();
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k)
    sum += weight_[k] * (sd_[k] * sd_[k] + (mean_[k] - centre) * (mean_[k] - centre));
  return sum;
}

std::pair<double, double> GaussianMixture::bulk() const {
  double low = INFINITY, high = -INFINITY;
  for (std::size_t k = 0; k < weight_.size(); ++k) {
    low = std::min(low, mean_[k] - k_bulk_sds * sd_[k]);
    high = std::max(high, mean_[k] + k_bulk_sds * sd_[k]);
  }
  return {low, high};
}

std::vector<double> GaussianMixture::breakpoints() const {
  std::vector<double> points;
  for (std::size_t k = 0; k < weight_.size(); ++k)
    for (double step :
         {-9.0, -7.5, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 9.0})
      points.push_back(mean_[k] + step * sd_[k]);
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

double GaussianMixture::entropy() const {
  const auto integrand = [&](double x) {
    const double log_density = log_pdf(x);
    return -std::exp(log_density) * log_density;
  };
  const std::vector<double> points = breakpoints();
  double sum = 0;
  for (std::size_t i = 0; i + 1 < points.size(); ++i)
    sum += boost::math::quadrature::gauss<double, 30>::integrate(integrand, points[i], points[i + 1]);
  return sum;
}

double GaussianMixture::slope(double x) const {
  double sum = 0;
  for (std::size_t k = 0; k < weight_.size(); ++k) {
    const double z = (x - mean_[k]) / sd_[k];
    sum -= weight_[k] / (sd_[k] * sd_[k]) * z * std::exp(-0.5 * z * z);
  }
  return sum;
}

std::vector<double> GaussianMixture::modes() const {
  // Near a narrow component the grid must follow its scale, elsewhere the widest will do: use every
  // component's own grid.
  std::vector<double> grid;
  for (std::size_t k = 0; k < weight_.size(); ++k)
    for (int i = -100; i <= 100; ++i) grid.push_back(mean_[k] + i * 0.05 * sd_[k]);
  std::sort(grid.begin(), grid.end());
  std::vector<double> found;
  double slope_left = slope(grid.front());
  for (std::size_t i = 0; i + 1 < grid.size(); ++i) {
    const double slope_right = slope(grid[i + 1]);
    // A maximum on a grid point itself has slope zero there: count it with the interval on its left.
    if (slope_left > 0 && slope_right <= 0) {
      double low = grid[i], high = grid[i + 1];
      for (int step = 0; step < 100 && high - low > 1e-12 * (1 + std::abs(low)); ++step) {
        const double middle = 0.5 * (low + high);
        (slope(middle) > 0 ? low : high) = middle;
      }
      found.push_back(0.5 * (low + high));
    }
    slope_left = slope_right;
  }
  return found;
}

double GaussianMixture::sample(Rng& rng) const {
  double u = rng.uniform();
  std::size_t k = 0;
  while (k + 1 < weight_.size() && u >= weight_[k]) u -= weight_[k++];
  return mean_[k] + sd_[k] * rng.normal();
}

}  // namespace borel
