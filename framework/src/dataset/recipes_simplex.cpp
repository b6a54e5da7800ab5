// More problems over the simplex: closed forms, real data, and a pair for convergence rates.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>

#include "borel/rng.hpp"
#include "dataset/problem_parts.hpp"
#include "dataset/published_values.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

using Real = long double;

std::vector<double> column_of(const char* table, const char* column) {
  const CsvTable all = published_table(table);
  const std::size_t at = all.column(column, table);
  std::vector<double> x;
  for (std::int64_t row = 0; row < all.rows; ++row)
    x.push_back(all.values[static_cast<std::size_t>(row) * all.columns.size() + at]);
  return x;
}

/// All weights positive, multiples of 2^-20, sum 1: A target is exact in long double. @param up  which are larger than 1/n
std::vector<double> uneven_weights(std::size_t n, const std::function<bool(std::size_t)>& up) {
  std::vector<double> target(n);
  std::size_t left = 1 << 20;
  const std::size_t even = left / n, change = even / 4;
  for (std::size_t j = 0; j + 1 < n; ++j) {
    const std::size_t part = up(j) ? even + change : even - change;
    target[j] = static_cast<double>(part) / (1 << 20);
    left -= part;
  }
  target[n - 1] = static_cast<double>(left) / (1 << 20);
  return target;
}

/// Least squares with b = A target: F* = 0, and the target is a minimiser.
void consistent_least_squares(DatasetWriter& writer, std::vector<double> a, std::vector<double> target) {
  const std::size_t n = target.size(), m = a.size() / n;
  std::vector<double> b(m, 0.0);
  for (std::size_t i = 0; i < m; ++i) {
    Real sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += static_cast<Real>(a[i * n + j]) * target[j];
    b[i] = static_cast<double>(sum);
  }
  CertifiedPoint point{target, 0};
  Real value = 0;
  point.gap = exact_gap(target, [&](std::span<const Real> p) {
    std::vector<Real> g(n, 0);
    value = 0;
    for (std::size_t i = 0; i < m; ++i) {
      Real residual = -static_cast<Real>(b[i]);
      for (std::size_t j = 0; j < n; ++j) residual += a[i * n + j] * p[j];
      value += residual * residual / 2;
      for (std::size_t j = 0; j < n; ++j) g[j] += residual * a[i * n + j];
    }
    return g;
  });
  put_problem(writer, "least_squares", "F(p) = 1/2 |A p - b|^2, b = A p* with p* inside the simplex");
  writer.array("a", std::move(a), {static_cast<std::int64_t>(m), static_cast<std::int64_t>(n)});
  writer.array("b", std::move(b), {static_cast<std::int64_t>(m)});
  put_optimum(writer, std::move(point), static_cast<double>(value),
              "b = A p*, so F* = 0 up to the rounding of b");
}
void gaussian_least_squares(DatasetWriter& writer, std::size_t m, std::size_t n, Seed seed) {
  std::vector<double> a(m * n);
  Rng(seed).fill_normal(a);
  for (double& value : a) value = rounded_draw(0.1 * value);
  consistent_least_squares(writer, std::move(a), uneven_weights(n, [](std::size_t j) { return j % 2 == 0; }));
}
void strongly_convex(DatasetWriter& writer) { gaussian_least_squares(writer, 300, 60, Seed{4101}); }
void wide_least_squares(DatasetWriter& writer) { gaussian_least_squares(writer, 6, 1000000, Seed{4103}); }

/// Eigenvalues of A'A from 1 to 1e-8, evenly spaced in their logarithms, on cosines that sum to 0. A step p - g leaves
/// (1 - lambda)^k of each part of the error, and the sum of lambda (1 - lambda)^2k over such a spectrum is proportional to
/// 1/k; with momentum, to 1/k^2. So the rates that theory promises to all convex functions are reached, not surpassed.
void merely_convex(DatasetWriter& writer) {
  constexpr std::size_t n = 200, m = n - 1;
  constexpr double k_decades = 8;
  std::vector<double> a(m * n);
  for (std::size_t j = 0; j < m; ++j) {
    const double lambda = std::pow(10, -k_decades * static_cast<double>(j) / static_cast<double>(m - 1));
    for (std::size_t i = 0; i < n; ++i)
      a[j * n + i] = rounded_draw(std::sqrt(2 * lambda / n) *
                                  std::cos(std::numbers::pi * static_cast<double>((j + 1) * (2 * i + 1)) /
                                           static_cast<double>(2 * n)));
  }
  Rng rng(Seed{4102});
  consistent_least_squares(writer, std::move(a),
                           uneven_weights(n, [&](std::size_t) { return rng.uniform() < 0.5; }));
}

// The point of a triangle nearest to one outside of it: a path that can be drawn.
void triangle(DatasetWriter& writer) {
  const std::vector<double> a{0, 1, 0.5, 0, 0, 0.75}, b{0.375, -0.25};
  CertifiedPoint point{{0.625, 0.375, 0}, 0};
  point.gap = exact_gap(point.p, [&](std::span<const Real> p) {
    const Real x = p[1] + p[2] / 2 - b[0], y = 0.75L * p[2] - b[1];
    return std::vector<Real>{0, x, x / 2 + 0.75L * y};
  });
  put_problem(writer, "least_squares",
              "F(p) = 1/2 |sum_i p_i a_i - b|^2, corners (0, 0), (1, 0), (1/2, 3/4), b below an edge");
  writer.array("a", a, {2, 3});
  writer.array("b", b, {2});
  put_optimum(writer, std::move(point), 0.03125, "closed form: the foot of the perpendicular");
}

// Histogram of real data as a cross entropy: the minimum is the histogram itself.
void cross_entropy_rivers(DatasetWriter& writer) {
  constexpr std::size_t n = 24;
  const std::vector<double> x = column_of("rivers", "length_miles");
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::vector<double> target(n, 0.0);
  for (double value : x) {
    const auto bin = static_cast<std::size_t>((value - *low) / (*high - *low) * n);
    target[std::min(bin, n - 1)] += 1;
  }
  CertifiedPoint point;
  Real value = 0;
  for (double& t : target) {
    t /= static_cast<double>(x.size());
    point.p.push_back(t);
    if (t > 0) value -= static_cast<Real>(t) * std::log(static_cast<Real>(t));
  }
  put_problem(writer, "cross_entropy", "F(p) = -sum target_i log p_i, target = histogram of river lengths");
  writer.array("target", std::move(target), {n});
  put_optimum(writer, std::move(point), static_cast<double>(value), "closed form: p = target");
}

// KL to a Gaussian mixture on a grid (claw density): p = target / sum.
void kl_claw(DatasetWriter& writer) {
  constexpr std::size_t n = 200;
  std::vector<double> target;
  for (std::size_t i = 0; i < n; ++i) {
    const Real x = -3 + 6 * (static_cast<Real>(i) + 0.5L) / n;
    Real p = std::exp(-x * x / 2) / 2;
    for (int l = 0; l < 5; ++l) {
      const Real z = (x - (l / 2.0L - 1)) * 10;
      p += std::exp(-z * z / 2);  // weight 1/10, sd 1/10
    }
    target.push_back(rounded_draw(static_cast<double>(p)) + 0x1p-36);
  }
  const Real mass = std::accumulate(target.begin(), target.end(), Real{0});
  CertifiedPoint point;
  for (double t : target) point.p.push_back(static_cast<double>(t / mass));
  point.gap = exact_gap(point.p, [&](std::span<const Real> p) {
    std::vector<Real> g;
    for (std::size_t i = 0; i < n; ++i) g.push_back(std::log(p[i] / target[i]) + 1);
    return g;
  });
  put_problem(writer, "kl", "F(p) = sum p log (p / target), target = claw density on 200 cells");
  writer.array("target", std::move(target), {n});
  put_optimum(writer, std::move(point), static_cast<double>(-std::log(mass)),
              "closed form: p = target / sum");
}

// MMD to real data with the kernel exp(-|x - y|), which is well conditioned: p'Kp - 2 z'p + constant.
void mmd_faithful(DatasetWriter& writer) {
  constexpr std::size_t n = 150;
  const std::vector<double> x = column_of("faithful", "eruptions_min");
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::vector<double> grid(n), kernel(n * n), z(n), twice, linear;
  for (std::size_t j = 0; j < n; ++j) grid[j] = *low + (*high - *low) * static_cast<double>(j) / (n - 1.0);
  const auto k = [](double a, double b) {
    return static_cast<double>(std::exp(-5 * std::abs(static_cast<Real>(a) - b)));
  };
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) kernel[i * n + j] = k(grid[i], grid[j]);
  Real constant = 0;
  for (std::size_t j = 0; j < n; ++j) {
    Real sum = 0;
    for (double value : x) sum += k(grid[j], value);
    z[j] = static_cast<double>(sum / static_cast<Real>(x.size()));
  }
  for (double a : x)
    for (double b : x) constant += k(a, b);
  const double rounded_constant = static_cast<double>(constant / static_cast<Real>(x.size() * x.size()));
  for (double value : kernel) twice.push_back(2 * value);
  for (double value : z) linear.push_back(-2 * value);
  Real value = 0;
  const auto gradient = [&](std::span<const Real> p) {
    std::vector<Real> g(n);
    value = rounded_constant;
    for (std::size_t i = 0; i < n; ++i) {
      Real product = 0;
      for (std::size_t j = 0; j < n; ++j) product += static_cast<Real>(kernel[i * n + j]) * p[j];
      value += p[i] * (product - 2 * z[i]);
      g[i] = 2 * (product - z[i]);
    }
    return g;
  };
  CertifiedPoint point = certified_quadratic(twice, linear, gradient);
  point.gap = exact_gap(point.p, gradient);
  put_problem(writer, "mmd",
              "F(p) = p'Kp - 2 z'p + constant, K = exp(-5 |x - y|), against 272 eruption times");
  writer.attribute("", "constant", rounded_constant);
  writer.array("kernel", std::move(kernel), {n, n});
  writer.array("z", std::move(z), {n});
  writer.array("grid", std::move(grid), {n});
  put_optimum(writer, std::move(point), static_cast<double>(value), "Newton on the active face, long double");
}

// Largest entropy on a grid with the first two moments of real data: p_i = exp(y_1 x_i + y_2 x_i^2) / Z, Newton on the dual.
void max_entropy_waiting(DatasetWriter& writer) {
  constexpr std::size_t n = 101;
  const std::vector<double> x = column_of("faithful", "waiting_min");
  Real mean = 0, square = 0;
  for (double value : x) mean += value / static_cast<Real>(x.size());
  for (double value : x) square += (value - mean) * (value - mean) / static_cast<Real>(x.size());
  std::vector<double> moments(2 * n), b{0.0, 1.0};  // of the standardised waiting times
  for (std::size_t i = 0; i < n; ++i) {
    // 40 .. 100 minutes
    const Real standard = (40 + 60 * static_cast<Real>(i) / (n - 1) - mean) / std::sqrt(square);
    moments[i] = rounded_draw(static_cast<double>(standard));
    moments[n + i] = rounded_draw(static_cast<double>(standard * standard));
  }
  Real y[2] = {0, -0.5L}, log_mass = 0;
  std::vector<Real> p(n);
  for (int round = 0; round < 60; ++round) {
    Real mass = 0, error[2] = {}, bend[3] = {};
    for (std::size_t i = 0; i < n; ++i) mass += p[i] = std::exp(y[0] * moments[i] + y[1] * moments[n + i]);
    log_mass = std::log(mass);
    for (Real& value : p) value /= mass;
    for (std::size_t r = 0; r < 2; ++r) {
      error[r] = -b[r];
      for (std::size_t i = 0; i < n; ++i) error[r] += p[i] * moments[r * n + i];
    }
    for (std::size_t i = 0; i < n; ++i) {
      const Real u = moments[i] - b[0] - error[0], v = moments[n + i] - b[1] - error[1];
      bend[0] += p[i] * u * u;
      bend[1] += p[i] * u * v;
      bend[2] += p[i] * v * v;
    }
    const Real determinant = bend[0] * bend[2] - bend[1] * bend[1];
    y[0] -= (bend[2] * error[0] - bend[1] * error[1]) / determinant;
    y[1] -= (bend[0] * error[1] - bend[1] * error[0]) / determinant;
  }
  CertifiedPoint point;
  for (Real value : p) point.p.push_back(static_cast<double>(value));
  point.gap = 1e-16;  // rounding of p; the dual value is y.b - log Z exactly
  put_problem(writer, "max_entropy_moments",
              "F(p) = sum p log p under the first two moments of 272 waiting times");
  writer.array("moments", std::move(moments), {2, n});
  writer.array("b", b, {2});
  put_optimum(writer, std::move(point), static_cast<double>(y[0] * b[0] + y[1] * b[1] - log_mass),
              "dual Newton in long double: F* = y.b - log Z");
}

// Transport between two histograms of real data, in unit time: eruptions of Old Faithful before and after long waits.
void transport_faithful(DatasetWriter& writer) {
  constexpr std::size_t n = 40;
  constexpr double epsilon = 0.05;
  const std::vector<double> eruptions = column_of("faithful", "eruptions_min"),
                            waits = column_of("faithful", "waiting_min");
  std::vector<double> a(n, 1.0), b(n, 1.0),
      cost(n * n);  // one count in each cell keeps the marginals positive
  for (std::size_t i = 0; i < eruptions.size(); ++i) {
    const auto cell = std::min(n - 1, static_cast<std::size_t>((eruptions[i] - 1.5) / 4.0 * n));
    (waits[i] < 70 ? a : b)[cell] += 1;
  }
  for (std::vector<double>* side : {&a, &b}) {
    const double sum = std::accumulate(side->begin(), side->end(), 0.0);
    for (double& value : *side) value /= sum;
  }
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const double distance = (static_cast<double>(i) - static_cast<double>(j)) * 4.0 / n;
      cost[i * n + j] = distance * distance;
    }
  // Sinkhorn in the log domain, long double
  std::vector<Real> f(n, 0), g(n, 0);
  const auto update = [&](const std::vector<double>& mass, const std::vector<Real>& other,
                          std::vector<Real>& own, bool rows) {
    for (std::size_t i = 0; i < n; ++i) {
      Real largest = -1e300L, sum = 0;
      const auto exponent = [&](std::size_t j) {
        return (other[j] - cost[rows ? i * n + j : j * n + i]) / epsilon;
      };
      for (std::size_t j = 0; j < n; ++j) largest = std::max(largest, exponent(j));
      for (std::size_t j = 0; j < n; ++j) sum += std::exp(exponent(j) - largest);
      own[i] = epsilon * (std::log(static_cast<Real>(mass[i])) - largest - std::log(sum));
    }
  };
  for (int round = 0; round < 3000; ++round) {
    update(a, g, f, true);
    update(b, f, g, false);
  }
  // F* = dual value f.a + g.b - epsilon sum P (sum P = 1)
  Real value = -epsilon, error = 0;
  CertifiedPoint point;
  for (std::size_t i = 0; i < n; ++i) {
    value += f[i] * a[i] + g[i] * b[i];
    Real row = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const Real p = std::exp((f[i] + g[j] - cost[i * n + j]) / epsilon);
      row += p;
      point.p.push_back(static_cast<double>(p));
    }
    error = std::max(error, std::abs(row - a[i]));
  }
  point.gap = static_cast<double>(error * 10);
  put_problem(writer, "transport",
              "F(P) = <C, P> + epsilon sum P (log P - 1), eruption times before and after long waits");
  writer.attribute("", "epsilon", epsilon);
  writer.attribute("", "optimum", static_cast<double>(value));
  writer.attribute("", "optimum_gap", point.gap);
  writer.attribute("", "certificate", std::string("dual value of Sinkhorn potentials, long double"));
  writer.array("a", a, {n});
  writer.array("b", b, {n});
  writer.array("cost", std::move(cost), {n, n});
}

// Hat functions on a grid as a mixture: two entries per row, sparse columns. No closed form; the gap is the certificate.
void hats_treering(DatasetWriter& writer) {
  constexpr std::size_t n = 200;
  const std::vector<double> x = published_table("treering").values;
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const double h = (*high - *low) / (n - 1.0);
  std::vector<std::vector<std::pair<std::int64_t, double>>> columns(n);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = (x[i] - *low) / h;
    const auto left = std::min(n - 2, static_cast<std::size_t>(at));
    const double part = at - static_cast<double>(left);
    const auto density = [&](std::size_t j) { return (j == 0 || j == n - 1 ? 2 : 1) / h; };  // hats of area 1
    if (part < 1) columns[left].emplace_back(i, (1 - part) * density(left));
    if (part > 0) columns[left + 1].emplace_back(i, part * density(left + 1));
  }
  std::vector<std::int64_t> begin{0}, row;
  std::vector<double> value;
  for (const auto& column : columns) {
    for (const auto& [i, v] : column) {
      row.push_back(i);
      value.push_back(v);
    }
    begin.push_back(static_cast<std::int64_t>(row.size()));
  }
  put_problem(writer, "sparse_mixture",
              "F(p) = -1/m sum_i log (L p)_i, L_ij = hat function j at tree ring i");
  writer.attribute("", "n_rows", static_cast<double>(x.size()));
  const auto count = static_cast<std::int64_t>(row.size());
  writer.array("begin", std::move(begin), {n + 1});
  writer.array("row", std::move(row), {count});
  writer.array("value", std::move(value), {count});
}

}  // namespace

void add_simplex_recipes(std::vector<Recipe>& list) {
  const auto add = [&](const char* id, const char* title, const char* source, std::uint64_t seed,
                       void (*make)(DatasetWriter&), const char* licence = k_generated) {
    list.push_back({.id = id,
                    .kind = DatasetKind::problem,
                    .title = title,
                    .licence = licence,
                    .source = source,
                    .seed = seed,
                    .make = make});
  };
  constexpr const char* k_facts = "published numbers (facts, no copyright)";
  add("problem_triangle", "Nearest point of a triangle", "own generator", 0, triangle);
  add("problem_strongly_convex", "Least squares with its minimum inside, condition about 10", "own generator",
      4101, strongly_convex);
  add("problem_merely_convex", "Least squares with eigenvalues from 1 to 1e-8", "own generator", 4102,
      merely_convex);
  add("problem_wide_ls", "Least squares over a million coordinates", "own generator", 4103,
      wide_least_squares);
  add("problem_cross_entropy_rivers", "Cross entropy to the histogram of river lengths",
      "World Almanac (1975)", 0, cross_entropy_rivers, k_facts);
  add("problem_kl_claw", "KL divergence to the claw density on a grid",
      "Marron and Wand (1992), Ann. Statist. 20, 712", 0, kl_claw);
  add("problem_mmd_faithful", "Weights on a grid that match eruption times in MMD",
      "Azzalini and Bowman (1990), Applied Statistics 39, 357", 0, mmd_faithful, k_facts);
  add("problem_max_entropy_waiting", "Largest entropy under two moments of waiting times",
      "Azzalini and Bowman (1990); Jaynes (1957), Phys. Rev. 106, 620", 0, max_entropy_waiting, k_facts);
  add("problem_transport_faithful", "Entropic transport between two histograms of eruption times",
      "Azzalini and Bowman (1990); Cuturi (2013), arXiv:1306.0895", 0, transport_faithful, k_facts);
  add("problem_hats_treering", "Density of tree rings in hat functions, sparse columns",
      "Ferguson and Graybill, Time Series Data Library; values as in R's datasets", 0, hats_treering,
      k_facts);
}

}  // namespace borel
