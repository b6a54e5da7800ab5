#include "spline.hpp"

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss.hpp>
#include <cmath>

namespace {

using Rule = boost::math::quadrature::gauss<double, 20>;

}  // namespace

NaturalSpline::NaturalSpline(std::vector<double> knots) : knots_(std::move(knots)) {
  // Second derivatives m: m_0 = m_{K-1} = 0, h_{j-1} m_{j-1} + 2 (h_{j-1} + h_j) m_j + h_j m_{j+1} = 6 (difference of
  // slopes); solved for every unit vector of values (Thomas's algorithm, diagonally dominant).
  const std::size_t n = knots_.size();
  curvature_.assign(n * n, 0.0);
  if (n < 3) return;
  std::vector<double> h(n - 1), diagonal(n), right(n);
  for (std::size_t j = 0; j + 1 < n; ++j) h[j] = knots_[j + 1] - knots_[j];
  for (std::size_t k = 0; k < n; ++k) {
    for (std::size_t j = 1; j + 1 < n; ++j) {
      const auto value = [k](std::size_t i) { return i == k ? 1.0 : 0.0; };
      right[j] = 6 * ((value(j + 1) - value(j)) / h[j] - (value(j) - value(j - 1)) / h[j - 1]);
      diagonal[j] = 2 * (h[j - 1] + h[j]);
    }
    for (std::size_t j = 2; j + 1 < n; ++j) {
      const double factor = h[j - 1] / diagonal[j - 1];
      diagonal[j] -= factor * h[j - 1];
      right[j] -= factor * right[j - 1];
    }
    for (std::size_t j = n - 2; j > 0; --j) {
      const double next = j + 2 < n ? curvature_[(j + 1) * n + k] : 0.0;
      curvature_[j * n + k] = (right[j] - h[j] * next) / diagonal[j];
    }
  }
}

double NaturalSpline::left_slope(std::size_t k) const {
  const double h = knots_[1] - knots_[0], difference = (k == 1 ? 1.0 : 0.0) - (k == 0 ? 1.0 : 0.0);
  return difference / h - h * curvature(1, k) / 6;
}

double NaturalSpline::right_slope(std::size_t k) const {
  const std::size_t n = size();
  const double h = knots_[n - 1] - knots_[n - 2],
               difference = (k == n - 1 ? 1.0 : 0.0) - (k == n - 2 ? 1.0 : 0.0);
  return difference / h + h * curvature(n - 2, k) / 6;
}

void NaturalSpline::cubic(std::size_t j, std::size_t k, std::span<double, 4> powers) const {
  const double h = knots_[j + 1] - knots_[j], y0 = k == j ? 1.0 : 0.0, y1 = k == j + 1 ? 1.0 : 0.0;
  const double m0 = curvature(j, k), m1 = curvature(j + 1, k);
  powers[0] = y0;
  powers[1] = y1 - y0 - h * h * (2 * m0 + m1) / 6;
  powers[2] = h * h * m0 / 2;
  powers[3] = h * h * (m1 - m0) / 6;
}

double NaturalSpline::jump(std::size_t j, std::size_t k) const {
  return (curvature(j + 1, k) - curvature(j, k)) / (knots_[j + 1] - knots_[j]) -
         (curvature(j, k) - curvature(j - 1, k)) / (knots_[j] - knots_[j - 1]);
}

LogSpline::LogSpline(const NaturalSpline& spline, std::span<const double> values)
    : knots_(spline.knots()),
      left_value_(values.front()),
      left_slope_(0),
      right_value_(values.back()),
      right_slope_(0) {
  const std::size_t n = knots_.size();
  powers_.assign(4 * (n - 1), 0.0);
  for (std::size_t k = 0; k < n; ++k) {
    left_slope_ += values[k] * spline.left_slope(k);
    right_slope_ += values[k] * spline.right_slope(k);
    for (std::size_t j = 0; j + 1 < n; ++j) {
      std::array<double, 4> powers;
      spline.cubic(j, k, powers);
      for (std::size_t i = 0; i < 4; ++i) powers_[4 * j + i] += values[k] * powers[i];
    }
  }
  if (!proper()) return;
  // Masses relative to the largest value at a knot or quadrature node never overflow.
  log_z_ = *std::max_element(values.begin(), values.end());
  before_.assign(n, 0.0);
  before_[0] = std::exp(left_value_ - log_z_) / left_slope_;
  for (std::size_t j = 0; j + 1 < n; ++j) before_[j + 1] = before_[j] + integral(j, 0, 1);
  const double total = before_.back() + std::exp(right_value_ - log_z_) / -right_slope_;
  log_z_ += std::log(total);
  for (double& value : before_) value /= total;
}

std::size_t LogSpline::interval(double u) const {
  const auto above = std::upper_bound(knots_.begin() + 1, knots_.end() - 1, u) - knots_.begin();
  return static_cast<std::size_t>(above) - 1;
}

double LogSpline::g(double u) const {
  if (u <= knots_.front()) return left_value_ + left_slope_ * (u - knots_.front());
  if (u >= knots_.back()) return right_value_ + right_slope_ * (u - knots_.back());
  const std::size_t j = interval(u);
  const double t = (u - knots_[j]) / (knots_[j + 1] - knots_[j]);
  const double* const p = powers_.data() + 4 * j;
  return p[0] + t * (p[1] + t * (p[2] + t * p[3]));
}

double LogSpline::slope(double u) const {
  if (u <= knots_.front()) return left_slope_;
  if (u >= knots_.back()) return right_slope_;
  const std::size_t j = interval(u);
  const double h = knots_[j + 1] - knots_[j], t = (u - knots_[j]) / h;
  const double* const p = powers_.data() + 4 * j;
  return (p[1] + t * (2 * p[2] + t * 3 * p[3])) / h;
}

double LogSpline::integral(std::size_t j, double from, double to) const {
  const double* const p = powers_.data() + 4 * j;
  const double half = 0.5 * (to - from), middle = 0.5 * (to + from);
  const auto at = [&](double t) { return std::exp(p[0] + t * (p[1] + t * (p[2] + t * p[3])) - log_z_); };
  double sum = 0;
  for (std::size_t i = 0; i < Rule::abscissa().size(); ++i)
    sum += Rule::weights()[i] *
           (at(middle - half * Rule::abscissa()[i]) + at(middle + half * Rule::abscissa()[i]));
  return sum * half * (knots_[j + 1] - knots_[j]);
}

double LogSpline::quadrature_error() const {
  double error = 0;
  for (std::size_t j = 0; j + 1 < knots_.size(); ++j)
    error += std::abs(integral(j, 0, 0.5) + integral(j, 0.5, 1) - integral(j, 0, 1));
  return error;
}

double LogSpline::cdf(double u) const {
  if (u <= knots_.front()) return std::exp(g(u) - log_z_) / left_slope_;
  if (u >= knots_.back()) return 1 - std::exp(g(u) - log_z_) / -right_slope_;
  const std::size_t j = interval(u);
  return std::min(1.0, before_[j] + integral(j, 0, (u - knots_[j]) / (knots_[j + 1] - knots_[j])));
}
