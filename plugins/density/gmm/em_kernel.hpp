// The hot loop of EM, one version per instruction set.
#pragma once

#include <cstddef>

struct EmPoints {
  const double* u;         ///< [n] ascending
  const double* weight;    ///< [n]
  const double* variance;  ///< [n] or null: within each point
  std::size_t n;
};

struct EmComponents {
  const double* log_weight;  ///< [K] log(w / sd) - log(2 pi) / 2
  const double* mean;        ///< [K]
  const double* inverse_sd;  ///< [K]
  std::size_t n;
};

/// Adds to sums [3 K + 1]: per component the responsibility, and its first and second moment about the old mean; last the
/// log-likelihood. Components whose share of a block of points is below exp(-40) are left out of it.
void add_em_sums(const EmPoints& points, const EmComponents& components, double* sums);
