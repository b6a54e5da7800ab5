// Exact answers for small problems on the simplex, by enumeration and sorting: slow and obvious.
#pragma once

#include <span>
#include <vector>

namespace borel::reference {

struct SimplexSolution {
  std::vector<double> p;
  double value = 0;
};

/// argmin 1/2 p'Qp + b'p over the simplex. Every support is tried: the stationary point on it solves a linear
/// system with one multiplier; the best non-negative one is the answer. O(2^n n^3). @param q [n, n]
/// row-major, positive semidefinite  @pre 1 <= n <= 16
SimplexSolution simplex_quadratic_program(std::span<const double> q, std::span<const double> b);

/// Threshold tau of the Euclidean projection, by sorting, in long double. O(n log n). Duchi et al., ICML
/// 2008, fig. 1.
double projection_threshold(std::span<const double> x);

/// argmin c.p + epsilon sum p log p = softmax(-c / epsilon). @pre epsilon > 0
SimplexSolution entropy_regularised_linear(std::span<const double> c, double epsilon);

}  // namespace borel::reference
