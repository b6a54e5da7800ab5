#include "dataset/certified_optimum.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "borel/error.hpp"

namespace borel {
namespace {

// Lower Cholesky factor in place; false when the matrix is not positive definite.
template <class Real>
bool factorise(std::vector<Real>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    Real pivot = a[j * n + j];
    for (std::size_t k = 0; k < j; ++k) pivot -= a[j * n + k] * a[j * n + k];
    if (!(pivot > 0)) return false;
    a[j * n + j] = std::sqrt(pivot);
    for (std::size_t i = j + 1; i < n; ++i) {
      Real sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = sum / a[j * n + j];
    }
  }
  return true;
}

template <class Real>
void solve(const std::vector<Real>& factor, std::size_t n, std::vector<Real>& x) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) x[i] -= factor[i * n + k] * x[k];
    x[i] /= factor[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) x[i] -= factor[k * n + i] * x[k];
    x[i] /= factor[i * n + i];
  }
}

// Pairwise Frank-Wolfe with the exact step; the gradient is updated by two columns a step.
std::vector<double> pairwise_steps(std::span<const double> q, std::span<const double> c, double tolerance) {
  const std::size_t n = c.size();
  std::vector<double> p(n, 0.0), g(n);
  p[static_cast<std::size_t>(std::min_element(c.begin(), c.end()) - c.begin())] = 1;
  for (int step = 0; step < 200000; ++step) {
    if (step % 2000 == 0)
      for (std::size_t i = 0; i < n; ++i)
        g[i] = std::inner_product(p.begin(), p.end(), q.begin() + static_cast<std::ptrdiff_t>(i * n), c[i]);
    std::size_t to = 0, from = n;
    for (std::size_t i = 0; i < n; ++i) {
      if (g[i] < g[to]) to = i;
      if (p[i] > 0 && (from == n || g[i] > g[from])) from = i;
    }
    if (g[from] - g[to] <= tolerance) break;
    const double curvature = q[to * n + to] - 2 * q[to * n + from] + q[from * n + from];
    const double t = std::min(p[from], (g[from] - g[to]) / std::max(curvature, 1e-300));
    p[to] += t;
    p[from] = t == p[from] ? 0 : p[from] - t;
    for (std::size_t i = 0; i < n; ++i) g[i] += t * (q[to * n + i] - q[from * n + i]);
  }
  return p;
}

// Newton iteration on the support with the sum kept at one.
void polish(std::span<const double> q, const std::vector<std::size_t>& support, std::vector<long double>& p,
            const ExactGradient& gradient) {
  const std::size_t n = p.size(), s = support.size();
  std::vector<long double> factor(s * s);
  for (std::size_t i = 0; i < s; ++i)
    for (std::size_t j = 0; j < s; ++j) factor[i * s + j] = q[support[i] * n + support[j]];
  if (!factorise(factor, s))
    throw DatasetError("certified optimum: the quadratic is not definite on its support; choose other data");
  std::vector<long double> ones(s, 1);
  solve(factor, s, ones);
  const long double ones_sum = std::accumulate(ones.begin(), ones.end(), 0.0L);
  for (int round = 0; round < 4; ++round) {
    const auto g = gradient(p);
    std::vector<long double> step(s);
    long double mass = 0;
    for (std::size_t i = 0; i < s; ++i) {
      step[i] = -g[support[i]];
      mass += p[support[i]];
    }
    solve(factor, s, step);
    const long double lambda = (std::accumulate(step.begin(), step.end(), 0.0L) - (1 - mass)) / ones_sum;
    for (std::size_t i = 0; i < s; ++i) p[support[i]] += step[i] - lambda * ones[i];
  }
}

}  // namespace

double exact_gap(std::span<const double> p, const ExactGradient& gradient) {
  const std::vector<long double> exact(p.begin(), p.end());
  const auto g = gradient(exact);
  const long double least = *std::min_element(g.begin(), g.end());
  long double gap = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) gap += exact[i] * (g[i] - least);
  return static_cast<double>(gap);
}

CertifiedPoint certified_quadratic(std::span<const double> q, std::span<const double> c,
                                   const ExactGradient& gradient) {
  const std::size_t n = c.size();
  const std::vector<double> start = pairwise_steps(q, c, 1e-11);
  std::vector<std::size_t> support;
  for (std::size_t i = 0; i < n; ++i)
    if (start[i] > 0) support.push_back(i);
  for (int round = 0; round < 50; ++round) {
    std::vector<long double> p(n, 0);
    for (std::size_t i : support) p[i] = start[i] > 0 ? start[i] : 1e-12L;
    polish(q, support, p, gradient);
    std::vector<std::size_t> kept;
    for (std::size_t i : support)
      if (p[i] > 0) kept.push_back(i);
    const auto g = gradient(p);
    long double level = 0;
    for (std::size_t i : support) level += p[i] * g[i];
    const auto lowest = static_cast<std::size_t>(std::min_element(g.begin(), g.end()) - g.begin());
    if (kept.size() < support.size()) {
      support = std::move(kept);
    } else if (g[lowest] < level - 1e-15L && !std::binary_search(support.begin(), support.end(), lowest)) {
      support.insert(std::lower_bound(support.begin(), support.end(), lowest), lowest);
    } else {
      CertifiedPoint result;
      for (long double value : p) result.p.push_back(static_cast<double>(value));
      result.gap = exact_gap(result.p, gradient);
      return result;
    }
  }
  throw DatasetError("certified optimum: the active set did not settle in 50 rounds; choose other data");
}

CertifiedPoint certified_mixture(std::span<const double> likelihood, std::int64_t m_rows,
                                 std::int64_t n_columns) {
  const auto m = static_cast<std::size_t>(m_rows), n = static_cast<std::size_t>(n_columns);
  // long double: near the end the weights of the unused columns reach 1e-16 of the others.
  const std::vector<long double> l(likelihood.begin(), likelihood.end());
  const auto count = static_cast<long double>(m);
  std::vector<long double> w(n, 1.0L / static_cast<long double>(n)), z(n, 1);
  std::vector<long double> fit(m), g(n);
  const auto evaluate = [&] {
    for (std::size_t i = 0; i < m; ++i) fit[i] = std::inner_product(w.begin(), w.end(), &l[i * n], 0.0L);
    std::fill(g.begin(), g.end(), 1.0L);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) g[j] -= l[i * n + j] / (count * fit[i]);
  };
  for (int iteration = 0; iteration < 80; ++iteration) {
    evaluate();
    const long double complementarity = std::inner_product(w.begin(), w.end(), z.begin(), 0.0L);
    if (complementarity < 1e-17L) break;
    const long double mu = 0.15L * complementarity / static_cast<long double>(n);
    // (L' D L + Z/W) dw = mu/w - g, with D = 1 / (m fit^2).
    std::vector<long double> scale(n), right(n), small(m * m), inner(m);
    for (std::size_t j = 0; j < n; ++j) {
      scale[j] = w[j] / z[j];
      right[j] = mu / w[j] - g[j];
    }
    std::vector<long double> scaled(n);
    for (std::size_t i = 0; i < m; ++i) {
      inner[i] = 0;
      for (std::size_t j = 0; j < n; ++j) {
        scaled[j] = l[i * n + j] * scale[j];
        inner[i] += scaled[j] * right[j];
      }
      for (std::size_t k = 0; k <= i; ++k)
        small[i * m + k] = std::inner_product(scaled.begin(), scaled.end(), &l[k * n], 0.0L);
      small[i * m + i] += count * fit[i] * fit[i];
    }
    if (!factorise(small, m)) break;
    solve(small, m, inner);
    long double primal = 1, dual = 1;
    std::vector<long double> dw(n), dz(n);
    for (std::size_t j = 0; j < n; ++j) {
      long double pull = 0;
      for (std::size_t i = 0; i < m; ++i) pull += l[i * n + j] * inner[i];
      dw[j] = scale[j] * (right[j] - pull);
      dz[j] = mu / w[j] - z[j] - z[j] / w[j] * dw[j];
      if (dw[j] < 0) primal = std::min(primal, -0.99L * w[j] / dw[j]);
      if (dz[j] < 0) dual = std::min(dual, -0.99L * z[j] / dz[j]);
    }
    for (std::size_t j = 0; j < n; ++j) {
      w[j] += primal * dw[j];
      z[j] += dual * dz[j];
    }
  }
  const long double mass = std::accumulate(w.begin(), w.end(), 0.0L);
  CertifiedPoint result;
  for (long double value : w) result.p.push_back(static_cast<double>(value / mass));
  result.gap = exact_gap(result.p, [&](std::span<const long double> p) {
    w.assign(p.begin(), p.end());
    evaluate();
    return g;
  });
  return result;
}

}  // namespace borel
