// Maximum likelihood of a logspline for given knots, and deletion of knots by BIC.
#pragma once

#include <string>
#include <vector>

#include "borel/density.hpp"

struct LogsplineFit {
  std::vector<double> knots, values;  ///< g at the knots; the constant is free
  double mean_log_likelihood = 0;     ///< of the standardised points
  borel::index_t iterations = 0;      ///< Newton steps
  bool converged = false;
};

/// Newton steps for a concave likelihood, with the points' moments per interval as sufficient statistics: O(n + K^3) per
/// set of knots. From the widest set, the knot with the smallest Wald statistic goes, until 3 are left; the best
/// -2 log L + penalty (K - 1) is returned.
/// @param knots ascending, at least 3   @param penalty log n for BIC   @throws borel::MethodError, borel::Stopped
LogsplineFit fit_logspline(const borel::StandardPoints& points, std::vector<double> knots, double penalty,
                           bool delete_knots, const borel::FitContext& context);
