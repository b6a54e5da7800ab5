// Bootstrap intervals that are the same on every machine and for every number of threads.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "borel/rng.hpp"

namespace borel {

/// lower = upper = NaN: no interval can be given.
struct ConfidenceInterval {
  double lower = std::numeric_limits<double>::quiet_NaN(), upper = std::numeric_limits<double>::quiet_NaN();
  bool known() const { return lower <= upper; }
};

/// Percentile interval of the mean of the means of the strata, made for the few repetitions that a study has:
/// bootknife resampling within strata (each resample leaves one value out at random, then draws with
/// replacement) corrects the variance, and the percentiles are moved out to where Student's t would put them
/// (Hesterberg, 2004 and 2015). Never reaches outside the values: with 3 repetitions it is close to their
/// range. A stratum of one value stays fixed. values [n] finite, strata [n] any integers (equal = same
/// stratum; equal ones stand together), level in (0, 1). Unknown interval when no stratum has two values.
/// O(n_resamples n). Deterministic in (values, strata, seed). Accuracy: covers a normal mean within 0.025 of
/// `level` for n >= 10.
ConfidenceInterval bootstrap_mean(std::span<const double> values, std::span<const std::int64_t> strata,
                                  double level, Seed seed, int n_resamples = 2000);

/// One stratum.
ConfidenceInterval bootstrap_mean(std::span<const double> values, double level, Seed seed,
                                  int n_resamples = 2000);

/// Linear interpolation between order statistics (R type 7). @pre ascending, not empty, 0 <= share <= 1
double quantile_of_sorted(std::span<const double> ascending, double share);

}  // namespace borel
