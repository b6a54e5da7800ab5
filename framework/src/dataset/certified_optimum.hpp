// Optima of small problems over the simplex, to the last digits, for the truth that recipes store.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace borel {

/// A point of the simplex with its certificate: F(p) - F* <= gap, for convex F.
struct CertifiedPoint {
  std::vector<double> p;
  double gap = 0;  // p . grad F(p) - min grad F(p), evaluated in long double at the rounded p
};

using ExactGradient = std::function<std::vector<long double>(std::span<const long double> p)>;

/// Frank-Wolfe gap of p with a gradient evaluated in long double.
double exact_gap(std::span<const double> p, const ExactGradient& gradient);

/// argmin 1/2 p' Q p + c' p. Pairwise Frank-Wolfe steps find the support; a Newton iteration on the support
/// (Cholesky of Q there, residuals from `gradient` in long double) gives the digits. Cost about 10^4 n +
/// support^3 / 3.
/// @param q [n, n] row-major, positive definite on the optimal support
/// @throws DatasetError when the active set does not settle
CertifiedPoint certified_quadratic(std::span<const double> q, std::span<const double> c,
                                   const ExactGradient& gradient);

/// argmin -1/m sum_i log (L p)_i for L [m, n] row-major, m small: primal-dual interior point method, whose
/// Newton systems shrink to m x m by the Woodbury identity. Cost about 60 m^2 n.
CertifiedPoint certified_mixture(std::span<const double> likelihood, std::int64_t m, std::int64_t n);

}  // namespace borel
