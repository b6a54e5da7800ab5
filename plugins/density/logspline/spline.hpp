// Natural cubic splines through values at knots, and the log density made of one.
#pragma once

#include <span>
#include <vector>

/// Cubic between knots, a straight line beyond the first and the last: g is linear in its values at the knots.
class NaturalSpline {
 public:
  /// @param knots [K] ascending, K >= 2. O(K^2)
  explicit NaturalSpline(std::vector<double> knots);

  std::size_t size() const { return knots_.size(); }
  const std::vector<double>& knots() const { return knots_; }
  /// d g''(knot j) / d value k.
  double curvature(std::size_t j, std::size_t k) const { return curvature_[j * knots_.size() + k]; }
  /// Derivatives of the slopes of the two tails by value k.
  double left_slope(std::size_t k) const;
  double right_slope(std::size_t k) const;
  /// Cubic on interval j in t = (u - knot j) / width, in [0, 1]: powers of t, of the basis function of value k.
  void cubic(std::size_t j, std::size_t k, std::span<double, 4> powers) const;
  /// Derivative of the jump of g''' at inner knot j by value k: all zero when the knot can be left out.
  double jump(std::size_t j, std::size_t k) const;

 private:
  std::vector<double> knots_, curvature_;
};

/// p(u) = exp(g(u)) / Z for one set of values, ready for evaluation.
class LogSpline {
 public:
  /// @pre the tails fall: g is increasing before the first knot and decreasing after the last
  LogSpline(const NaturalSpline& spline, std::span<const double> values);

  bool proper() const { return left_slope_ > 0 && right_slope_ < 0; }
  double log_pdf(double u) const { return g(u) - log_z_; }
  double slope(double u) const;  ///< d log p / d u
  double cdf(double u) const;
  double log_z() const { return log_z_; }
  /// What the integrals between knots change when every interval is halved; not finite where they overflow.
  double quadrature_error() const;

 private:
  double g(double u) const;
  std::size_t interval(double u) const;
  double integral(std::size_t j, double from, double to) const;  ///< of p over part of interval j, in t

  std::vector<double> knots_, powers_;  ///< powers_ [K - 1, 4]
  double left_value_, left_slope_, right_value_, right_slope_;
  double log_z_ = 0;
  std::vector<double> before_;  ///< cdf at the knots
};
