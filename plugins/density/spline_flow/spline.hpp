// Monotone rational-quadratic splines and their gradients (Gregory and Delbourgo 1982; Durkan et al. 2019, arXiv
// 1906.04032, section 3.1).
#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

/// z = f(u): between the knots (x_k, y_k), k = 0 .. K, a quotient of two quadratics with the slopes d_k at its ends, beyond
/// them straight lines with the slopes d_0 and d_K. Increasing, continuously differentiable.
class RationalQuadraticSpline {
 public:
  /// @param x, y [K + 1] strictly ascending, K >= 1   @param slope [K + 1] > 0
  RationalQuadraticSpline(std::vector<double> x, std::vector<double> y, std::vector<double> slope);

  struct Value {
    double z, log_slope;   ///< f(u), log f'(u)
    double log_curvature;  ///< d log f'(u) / du
  };
  Value at(double u) const;
  double inverse(double z) const;

  std::size_t n_bins() const { return x_.size() - 1; }
  std::span<const double> x() const { return x_; }
  std::span<const double> y() const { return y_; }
  std::span<const double> slope() const { return slope_; }
  /// Bin of u, from a bin at or before it: for points in ascending order.
  std::size_t bin_after(std::size_t bin, double u) const {
    while (bin + 1 < n_bins() && u >= x_[bin + 1]) ++bin;
    return bin;
  }

  /// Derivatives by what makes a bin: its left knot, width and height [K each], and the values and slopes at the knots [K + 1].
  struct Gradient {
    std::vector<double> x, width, height, y, slope;
    explicit Gradient(std::size_t n_bins)
        : x(n_bins), width(n_bins), height(n_bins), y(n_bins + 1), slope(n_bins + 1) {}
    void add(const Gradient& other);
  };
  /// Adds weight times the gradient of log b(f(u)) + log f'(u), u within bin `bin`, or beyond the first or last one. The
  /// first and the last knot do not move.
  /// @param log_base (z, d) -> log b(z), and its derivative in d   @return that sum
  template <class LogBase>
  double add_gradient(double u, std::size_t bin, double weight, LogBase log_base, Gradient& gradient) const;

 private:
  std::vector<double> x_, y_, slope_;
};

/// The free numbers of a spline over [begin, begin + width]: 3 K + 1 of them, any values.
///   widths   w_k = least + (width - K least) softmax(r)_k, K numbers (K - 1 degrees of freedom)
///   values   y_0 = r, y_(k+1) = y_k + height_least + exp r, K + 1 numbers
///   slopes   log d_k = mean of log s of the bins beside it + bound tanh(r / bound), s = height / width, K + 1 numbers
/// The last one differs from the paper's softplus: a slope stays near those of its bins, so that the likelihood cannot grow
/// without limit by a slope that grows at one sample.
struct SplineParameters {
  double begin = 0, width = 1, least_width = 0;
  std::size_t n_bins = 1;

  std::size_t size() const { return 3 * n_bins + 2; }
  std::size_t degrees_of_freedom() const { return 3 * n_bins + 1; }
  /// Of free numbers or of their gradient: the part that belongs to the bins' heights, [K].
  template <class T>
  std::span<T> heights(std::span<T> raw) const {
    return raw.subspan(n_bins + 1, n_bins);
  }
  RationalQuadraticSpline spline(std::span<const double> raw) const;
  /// d loss / d raw from the gradient by the bins.
  void chain(std::span<const double> raw, const RationalQuadraticSpline& spline,
             RationalQuadraticSpline::Gradient gradient, std::span<double> out) const;
  /// Free numbers of the spline through the knots (x_k, y_k) with slopes r = 0. @param x, y [K + 1]
  std::vector<double> through(std::span<const double> x, std::span<const double> y) const;
};

template <class LogBase>
double RationalQuadraticSpline::add_gradient(double u, std::size_t bin, double weight, LogBase log_base,
                                             Gradient& gradient) const {
  double slope_of_base = 0;
  if (u < x_.front() || u > x_.back()) {
    const std::size_t k = u < x_.front() ? 0 : n_bins();
    const double value = log_base(y_[k] + slope_[k] * (u - x_[k]), slope_of_base);
    gradient.y[k] += weight * slope_of_base;
    gradient.slope[k] += weight * (slope_of_base * (u - x_[k]) + 1 / slope_[k]);
    return value + std::log(slope_[k]);
  }
  const double w = x_[bin + 1] - x_[bin], h = y_[bin + 1] - y_[bin], s = h / w;
  const double d0 = slope_[bin], d1 = slope_[bin + 1], t = (u - x_[bin]) / w, q = t * (1 - t);
  // Eqs. 4 and 5: z = y + h N / D, f' = s^2 M / D^2.
  const double top = s * t * t + d0 * q, bottom = s + (d1 + d0 - 2 * s) * q;
  const double m = d1 * t * t + 2 * s * q + d0 * (1 - t) * (1 - t);
  const double z = y_[bin] + h * top / bottom, value = log_base(z, slope_of_base);
  const double log_slope = 2 * std::log(s) + std::log(m) - 2 * std::log(bottom);
  const auto combine = [&](double d_top, double d_bottom, double d_m) {  // through N, D and M
    return slope_of_base * h * (d_top - top * d_bottom / bottom) / bottom + d_m / m - 2 * d_bottom / bottom;
  };
  const double by_s = combine(t * t, 1 - 2 * q, 2 * q) + 2 / s;
  const double by_t = combine(2 * s * t + d0 * (1 - 2 * t), (d1 + d0 - 2 * s) * (1 - 2 * t),
                              2 * d1 * t + 2 * s * (1 - 2 * t) - 2 * d0 * (1 - t));
  gradient.x[bin] -= weight * by_t / w;
  gradient.width[bin] -= weight * (by_t * t + by_s * s) / w;
  gradient.y[bin] += weight * slope_of_base;
  gradient.height[bin] += weight * (slope_of_base * top / bottom + by_s / w);
  gradient.slope[bin] += weight * combine(q, q, (1 - t) * (1 - t));
  gradient.slope[bin + 1] += weight * combine(0, q, t * t);
  return value + log_slope;
}
