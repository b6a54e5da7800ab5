// A strictly convex quadratic program on the simplex, by exchanging sets of coordinates: the Newton step of the
// active-set method.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "borel/draft/dense_kernels.hpp"

namespace {

/// argmin 1/2 (q - p)' H (q - p) + g'(q - p) over q >= 0, sum q = 1, warm-started at the support of p.
/// Block principal pivoting (Portugal, Judice, Vicente, Math. Comp. 63 (1994); Kim, Park, SIAM J. Sci. Comput. 33
/// (2011), algorithm 2), with the multiplier of the sum eliminated: on the free coordinates H q = H p - g - lambda 1.
/// H: lower triangle, [k, k]. @param relative_ridge added to the diagonal, relative to its largest entry: collinear columns
/// need it. @return false when H is not positive definite even so, or the exchanges do not end
inline bool solve_on_face(borel::TensorView<const double, 2> h, const std::vector<double>& p,
                          const std::vector<double>& g, double relative_ridge, std::vector<double>& q) {
  using borel::index_t;
  constexpr int k_full_exchanges = 3, k_max_exchanges = 300;
  const std::size_t k = p.size();
  const auto entry = [&](std::size_t i, std::size_t j) {
    return i >= j ? h(static_cast<index_t>(i), static_cast<index_t>(j))
                  : h(static_cast<index_t>(j), static_cast<index_t>(i));
  };
  double scale = 0;
  for (std::size_t i = 0; i < k; ++i) scale = std::max(scale, entry(i, i));
  const double ridge = scale > 0 ? relative_ridge * scale : 1;
  std::vector<double> target(k);  // (H + ridge) p - g
  for (std::size_t i = 0; i < k; ++i) {
    target[i] = ridge * p[i] - g[i];
    for (std::size_t j = 0; j < k; ++j) target[i] += entry(i, j) * p[j];
  }

  std::vector<char> is_free(k);
  for (std::size_t i = 0; i < k; ++i) is_free[i] = p[i] > 0;
  std::vector<std::size_t> free, swap;
  std::vector<double> factor, solution, ones;
  std::size_t fewest = k + 1;
  int patience = k_full_exchanges;
  for (int exchange = 0; exchange < k_max_exchanges; ++exchange) {
    free.clear();
    for (std::size_t i = 0; i < k; ++i)
      if (is_free[i]) free.push_back(i);
    const auto size = static_cast<index_t>(free.size());
    factor.resize(free.size() * free.size());
    const borel::TensorView<double, 2> l(factor.data(), {size, size});
    solution.resize(free.size());
    for (index_t i = 0; i < size; ++i) {
      const std::size_t at = free[static_cast<std::size_t>(i)];
      for (index_t j = 0; j <= i; ++j) l(i, j) = entry(at, free[static_cast<std::size_t>(j)]);
      l(i, i) += ridge;
      solution[static_cast<std::size_t>(i)] = target[at];
    }
    if (!borel::dense::cholesky(l)) return false;
    borel::dense::cholesky_solve(l, solution);
    ones.assign(free.size(), 1.0);
    borel::dense::cholesky_solve(l, ones);
    const double lambda = (std::accumulate(solution.begin(), solution.end(), 0.0) - 1) /
                          std::accumulate(ones.begin(), ones.end(), 0.0);
    std::ranges::fill(q, 0.0);
    for (std::size_t i = 0; i < free.size(); ++i) q[free[i]] = solution[i] - lambda * ones[i];

    swap.clear();
    for (std::size_t i = 0; i < k; ++i) {
      if (is_free[i]) {
        if (q[i] < 0) swap.push_back(i);
        continue;
      }
      double reduced = lambda - target[i];
      for (std::size_t j : free) reduced += entry(i, j) * q[j];
      if (reduced < -1e-14 * (std::abs(lambda) + std::abs(target[i]))) swap.push_back(i);
    }
    if (swap.empty()) return true;
    if (swap.size() < fewest) {
      fewest = swap.size();
      patience = k_full_exchanges;
    } else if (--patience < 0) {
      swap = {swap.back()};  // Murty's rule: the last one alone, which cannot cycle
    }
    std::size_t n_free = free.size();
    for (std::size_t i : swap) n_free = is_free[i] ? n_free - 1 : n_free + 1;
    if (n_free == 0) swap.pop_back();
    for (std::size_t i : swap) is_free[i] = !is_free[i];
  }
  return false;
}

}  // namespace
