// How fast a run converged, from its trace.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "borel/optimizer.hpp"

namespace borel {

/// NaN: fewer than five points show a rate.
struct ConvergenceRates {
  double order = std::numeric_limits<double>::quiet_NaN();        ///< q of error ~ k^-q
  double contraction = std::numeric_limits<double>::quiet_NaN();  ///< r of error ~ r^k
};

/// Least squares of log(smallest error so far) against log k, and against k, from iteration 10 on and above rounding. The
/// error is F - F*, or the gap where F* is not known. Points are taken evenly in log k, so that the many last iterations
/// do not outvote the others. Under linear convergence r is stable and q grows with the length of the run; under
/// sublinear convergence q is stable.
ConvergenceRates fit_convergence_rates(const std::vector<Trace::Point>& points,
                                       std::optional<double> optimum);

}  // namespace borel
