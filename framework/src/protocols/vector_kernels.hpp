// Plain loops that compilers vectorise without leave to reorder sums: eight partial sums, always in the same
// order.
#pragma once

#include <array>
#include <cstddef>

namespace borel {

inline double dot(const double* x, const double* y, std::size_t n) {
  std::array<double, 8> sum{};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (std::size_t lane = 0; lane < 8; ++lane) sum[lane] += x[i + lane] * y[i + lane];
  double rest = 0;
  for (; i < n; ++i) rest += x[i] * y[i];
  return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7])) + rest;
}

/// y += a x
inline void add_scaled(double a, const double* x, double* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] += a * x[i];
}

}  // namespace borel
