#include "reference/optimizer_reference.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>

namespace borel::reference {
namespace {

using Row = std::vector<long double>;

/// Gauss elimination with partial pivoting; nothing for a singular matrix (another support then has the
/// answer).
std::optional<Row> solve(std::vector<Row> a, Row rhs) {
  const std::size_t n = rhs.size();
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (std::abs(a[i][k]) > std::abs(a[pivot][k])) pivot = i;
    if (std::abs(a[pivot][k]) < 1e-14L) return std::nullopt;
    std::swap(a[k], a[pivot]);
    std::swap(rhs[k], rhs[pivot]);
    for (std::size_t i = k + 1; i < n; ++i) {
      const long double factor = a[i][k] / a[k][k];
      for (std::size_t j = k; j < n; ++j) a[i][j] -= factor * a[k][j];
      rhs[i] -= factor * rhs[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) rhs[k] -= a[k][j] * rhs[j];
    rhs[k] /= a[k][k];
  }
  return rhs;
}

}  // namespace

SimplexSolution simplex_quadratic_program(std::span<const double> q, std::span<const double> b) {
  const std::size_t n = b.size();
  SimplexSolution best{{}, std::numeric_limits<double>::infinity()};
  for (std::size_t subset = 1; subset < (std::size_t{1} << n); ++subset) {
    std::vector<std::size_t> support;
    for (std::size_t i = 0; i < n; ++i)
      if (subset >> i & 1) support.push_back(i);
    const std::size_t m = support.size();
    // Q_SS p + lambda 1 = -b_S, 1'p = 1
    std::vector<Row> a(m + 1, Row(m + 1, 0));
    Row rhs(m + 1, 0);
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < m; ++j) a[i][j] = q[support[i] * n + support[j]];
      a[i][m] = a[m][i] = 1;
      rhs[i] = -b[support[i]];
    }
    rhs[m] = 1;
    const std::optional<Row> solution = solve(std::move(a), std::move(rhs));
    if (!solution || std::any_of(solution->begin(), solution->end() - 1, [](long double v) { return v < 0; }))
      continue;
    std::vector<double> p(n, 0.0);
    for (std::size_t i = 0; i < m; ++i) p[support[i]] = static_cast<double>((*solution)[i]);
    long double value = 0;
    for (std::size_t i = 0; i < n; ++i) {
      long double product = 0;
      for (std::size_t j = 0; j < n; ++j) product += static_cast<long double>(q[i * n + j]) * p[j];
      value += (product / 2 + b[i]) * p[i];
    }
    if (static_cast<double>(value) < best.value) best = {std::move(p), static_cast<double>(value)};
  }
  return best;
}

double projection_threshold(std::span<const double> x) {
  std::vector<double> sorted(x.begin(), x.end());
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  long double sum = 0, threshold = 0;
  for (std::size_t k = 0; k < sorted.size(); ++k) {
    sum += sorted[k];
    const long double candidate = (sum - 1) / static_cast<long double>(k + 1);
    if (sorted[k] > candidate) threshold = candidate;
  }
  return static_cast<double>(threshold);
}

SimplexSolution entropy_regularised_linear(std::span<const double> c, double epsilon) {
  const long double smallest = *std::min_element(c.begin(), c.end());
  long double sum = 0;
  for (double v : c) sum += std::exp((smallest - v) / epsilon);
  SimplexSolution solution;
  for (double v : c) solution.p.push_back(static_cast<double>(std::exp((smallest - v) / epsilon) / sum));
  solution.value = static_cast<double>(smallest - epsilon * std::log(sum));
  return solution;
}

}  // namespace borel::reference
