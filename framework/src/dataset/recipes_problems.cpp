// Problems over the simplex with certified optima.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>

#include "borel/rng.hpp"
#include "dataset/certified_optimum.hpp"
#include "dataset/problem_parts.hpp"
#include "dataset/published_values.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

// Gaussian design, a sparse target mixture plus noise: the optimum lies on a face of some hundred vertices.
void simplex_least_squares(DatasetWriter& writer) {
  constexpr std::size_t m = 500, n = 1000, n_true = 100;
  constexpr double noise_sd = 0.05;
  const Seed seed{1000500};
  std::vector<float> draws(m * n);
  Rng(seed.derive("a")).fill_normal(draws);
  const std::vector<double> a(draws.begin(), draws.end());
  Rng rng(seed.derive("b"));
  std::vector<double> target(n, 0.0), b(m);
  double mass = 0;
  for (std::size_t j = 0; j < n_true; ++j) mass += target[j * (n / n_true)] = -std::log(rng.uniform_open());
  for (std::size_t i = 0; i < m; ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += a[i * n + j] * target[j] / mass;
    b[i] = rounded_draw(sum + noise_sd * rng.normal());
  }
  std::vector<double> gram(n * n, 0.0), linear(n, 0.0);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const double left = a[i * n + j];
      linear[j] -= left * b[i];
      for (std::size_t k = 0; k <= j; ++k) gram[j * n + k] += left * a[i * n + k];
    }
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t k = 0; k < j; ++k) gram[k * n + j] = gram[j * n + k];
  long double half_norm = 0;
  const auto gradient = [&](std::span<const long double> p) {
    std::vector<long double> g(n, 0);
    half_norm = 0;
    for (std::size_t i = 0; i < m; ++i) {
      long double residual = -static_cast<long double>(b[i]);
      for (std::size_t j = 0; j < n; ++j) residual += a[i * n + j] * p[j];
      half_norm += residual * residual / 2;
      for (std::size_t j = 0; j < n; ++j) g[j] += residual * a[i * n + j];
    }
    return g;
  };
  CertifiedPoint point = certified_quadratic(gram, linear, gradient);
  put_problem(writer, "least_squares", "F(p) = 1/2 |A p - b|^2");
  writer.array("a", a, {m, n});
  writer.array("b", b, {m});
  put_optimum(writer, std::move(point), static_cast<double>(half_norm),
              "Newton on the active face, long double");
}

// argmin 1/2 |p - x|^2: p = max(x - tau, 0), tau from the sorted values (Held, Wolfe, Crowder 1974).
void projection(DatasetWriter& writer, std::size_t n, Seed seed) {
  std::vector<double> x(n);
  Rng(seed).fill_normal(x);
  for (double& value : x) value = rounded_draw(0.1 * value);
  std::vector<double> sorted = x;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  long double sum = 0, tau = 0;
  for (std::size_t k = 0; k < n; ++k) {
    sum += sorted[k];
    const long double candidate = (sum - 1) / static_cast<long double>(k + 1);
    if (sorted[k] > candidate) tau = candidate;
  }
  CertifiedPoint point;
  long double value = 0;
  for (double given : x) {
    const long double p = std::max<long double>(given - tau, 0);
    value += (p - given) * (p - given) / 2;
    point.p.push_back(static_cast<double>(p));
  }
  point.gap = exact_gap(point.p, [&](std::span<const long double> p) {
    std::vector<long double> g(p.begin(), p.end());
    for (std::size_t i = 0; i < n; ++i) g[i] -= x[i];
    return g;
  });
  put_problem(writer, "projection", "F(p) = 1/2 |p - x|^2");
  writer.array("x", std::move(x), {static_cast<std::int64_t>(n)});
  put_optimum(writer, std::move(point), static_cast<double>(value), "closed form: sparsemax");
}
void sparsemax(DatasetWriter& writer) { projection(writer, 1000, Seed{1602}); }
void large_projection(DatasetWriter& writer) { projection(writer, 1000000, Seed{1603}); }

void linear_entropy(DatasetWriter& writer) {
  constexpr std::size_t n = 1000;
  constexpr double epsilon = 0.1;
  std::vector<double> c(n);
  Rng(Seed{10289}).fill_normal(c);
  for (double& value : c) value = rounded_draw(value);
  const double least = *std::min_element(c.begin(), c.end());
  std::vector<long double> weight(n);
  for (std::size_t i = 0; i < n; ++i)
    weight[i] = std::exp(-(static_cast<long double>(c[i]) - least) / epsilon);
  const long double mass = std::accumulate(weight.begin(), weight.end(), 0.0L);
  CertifiedPoint point;
  for (long double w : weight) point.p.push_back(static_cast<double>(w / mass));
  point.gap = exact_gap(point.p, [&](std::span<const long double> p) {
    std::vector<long double> g(n);
    for (std::size_t i = 0; i < n; ++i) g[i] = c[i] + epsilon * (std::log(p[i]) + 1);
    return g;
  });
  put_problem(writer, "linear_entropy", "F(p) = c.p + epsilon sum p log p");
  writer.attribute("", "epsilon", epsilon);
  writer.array("c", c, {n});
  put_optimum(writer, std::move(point), static_cast<double>(least - epsilon * std::log(mass)),
              "closed form: p = softmax(-c / epsilon), F* = -epsilon log sum exp(-c / epsilon)");
}

// Mixture proportions of N(grid_j, sd^2) on n equal steps from the least to the largest observation (Kiefer-Wolfowitz NPMLE
// on a grid).
void npmle(DatasetWriter& writer, const char* formula, const std::vector<double>& x, double sd, std::size_t n,
           std::optional<double> published) {
  const std::size_t m = x.size();
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  std::vector<double> grid(n), likelihood;
  for (std::size_t j = 0; j < n; ++j)
    grid[j] = *low + (*high - *low) * static_cast<double>(j) / (static_cast<double>(n) - 1.0);
  for (double value : x)
    for (double atom : grid) {
      const double z = (value - atom) / sd;
      // In long double, then once to double: the same digits from every mathematics library.
      likelihood.push_back(static_cast<double>(std::exp(-0.5L * z * z) /
                                               (sd * std::sqrt(2 * std::numbers::pi_v<long double>))));
    }
  put_problem(writer, "mixture", formula);
  if (published) {
    writer.attribute("", "optimum", *published);
    writer.attribute("", "optimum_gap", 1e-11);
    writer.attribute("", "certificate", std::string("interior point in numpy, duality gap 2e-11; 12 digits"));
  } else {
    CertifiedPoint point =
        certified_mixture(likelihood, static_cast<std::int64_t>(m), static_cast<std::int64_t>(n));
    long double value = 0;
    for (std::size_t i = 0; i < m; ++i) {
      long double fit = 0;
      for (std::size_t j = 0; j < n; ++j) fit += static_cast<long double>(likelihood[i * n + j]) * point.p[j];
      value -= std::log(fit) / static_cast<long double>(m);
    }
    put_optimum(writer, std::move(point), static_cast<double>(value), "interior point, long double");
  }
  writer.array("likelihood", std::move(likelihood),
               {static_cast<std::int64_t>(m), static_cast<std::int64_t>(n)});
  writer.array("grid", std::move(grid), {static_cast<std::int64_t>(n)});
}
void npmle_galaxies(DatasetWriter& writer) {
  std::vector<double> x = published_table("galaxies").values;
  for (double& value : x) value /= 1000;
  npmle(writer, "F(p) = -1/m sum_i log (L p)_i, L_ij = N(x_i; grid_j, 1)", x, 1, 1000, std::nullopt);
}
void npmle_acidity(DatasetWriter& writer) {
  npmle(writer, "F(p) = -1/m sum_i log (L p)_i, L_ij = N(x_i; grid_j, 0.25^2)",
        published_table("acidity").values, 0.25, 300, std::nullopt);
}
// The problem of density-optimizer benchmarks elsewhere: values by three programs agree to 12 digits.
void npmle_draws(DatasetWriter& writer) {
  npmle(writer, "F(p) = -1/m sum_i log (L p)_i, L_ij = N(x_i; grid_j, 1)",
        published_table("npmle_draws").values, 1, 1000, 1.942377989970);
}

// Legendre polynomials P_0 .. P_degree at t.
std::vector<long double> legendre(long double t, int degree) {
  std::vector<long double> p{1, t};
  for (int k = 1; k < degree; ++k) p.push_back(((2 * k + 1) * t * p[k] - k * p[k - 1]) / (k + 1));
  return p;
}

// Zeros of (1 - t^2) P_degree'(t): Newton from the Chebyshev points, with P' = n (t P_n - P_(n-1)) / (t^2 - 1) and
// Legendre's equation for P''.
std::vector<double> gauss_lobatto(int degree) {
  std::vector<double> points{-1};
  for (int k = degree - 1; k >= 1; --k) {
    long double t = std::cos(std::numbers::pi_v<long double> * k / degree);
    for (int round = 0; round < 50; ++round) {
      const std::vector<long double> p = legendre(t, degree);
      const long double slope =
          degree * (t * p[static_cast<std::size_t>(degree)] - p[static_cast<std::size_t>(degree) - 1]) /
          (t * t - 1);
      const long double bend =
          (2 * t * slope - degree * (degree + 1) * p[static_cast<std::size_t>(degree)]) / (1 - t * t);
      t -= slope / bend;
    }
    points.push_back(std::abs(t) < 1e-18L ? 0 : static_cast<double>(t));
  }
  points.push_back(1);
  return points;
}

// Weights 1 / (d + 1) on the zeros of (1 - t^2) P_d'(t) are optimal for degree d (Guest 1958, Hoel 1958).
void d_optimal(DatasetWriter& writer, int degree) {
  const std::size_t d = static_cast<std::size_t>(degree) + 1, n_grid = 1001;
  const std::vector<double> support = gauss_lobatto(degree);
  std::vector<double> t;
  for (std::size_t i = 0; i < n_grid; ++i) t.push_back(-1 + 2 * static_cast<double>(i) / (n_grid - 1.0));
  for (double point : support)
    if (!std::binary_search(t.begin(), t.end(), point))
      t.insert(std::lower_bound(t.begin(), t.end(), point), point);
  const std::size_t n = t.size();
  std::vector<double> features;
  CertifiedPoint point;
  for (double at : t) {
    for (long double value : legendre(at, degree)) features.push_back(static_cast<double>(value));
    point.p.push_back(std::binary_search(support.begin(), support.end(), at) ? 1.0 / static_cast<double>(d)
                                                                             : 0.0);
  }
  long double log_det = 0;
  // grad_j = -f_j' M^-1 f_j with M = sum p f f'.
  point.gap = exact_gap(point.p, [&](std::span<const long double> p) {
    std::vector<long double> factor(d * d, 0);
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t r = 0; r < d; ++r)
        for (std::size_t c = 0; c < d; ++c)
          factor[r * d + c] += p[j] * static_cast<long double>(features[j * d + r]) * features[j * d + c];
    log_det = 0;
    for (std::size_t c = 0; c < d; ++c)
      for (std::size_t r = c; r < d; ++r) {
        for (std::size_t k = 0; k < c; ++k) factor[r * d + c] -= factor[r * d + k] * factor[c * d + k];
        if (r == c) {
          log_det += std::log(factor[c * d + c]);
          factor[c * d + c] = std::sqrt(factor[c * d + c]);
        } else {
          factor[r * d + c] /= factor[c * d + c];
        }
      }
    std::vector<long double> g(n, 0);
    for (std::size_t j = 0; j < n; ++j) {
      std::vector<long double> y(d);
      for (std::size_t r = 0; r < d; ++r) {
        y[r] = features[j * d + r];
        for (std::size_t k = 0; k < r; ++k) y[r] -= factor[r * d + k] * y[k];
        y[r] /= factor[r * d + r];
        g[j] -= y[r] * y[r];
      }
    }
    return g;
  });
  put_problem(writer, "d_optimal", "F(p) = -log det sum_j p_j f_j f_j'");
  writer.array("features", std::move(features), {static_cast<std::int64_t>(n), static_cast<std::int64_t>(d)});
  writer.array("points", std::move(t), {static_cast<std::int64_t>(n)});
  put_optimum(writer, std::move(point), static_cast<double>(-log_det),
              "closed form: equal weights on the Gauss-Lobatto points (Guest 1958)");
}

void d_optimal_3(DatasetWriter& writer) { d_optimal(writer, 3); }
void d_optimal_5(DatasetWriter& writer) { d_optimal(writer, 5); }
void d_optimal_9(DatasetWriter& writer) { d_optimal(writer, 9); }

void markowitz(DatasetWriter& writer) {
  constexpr double risk_tolerance = 5;
  const CsvTable table = published_table("eu_stock_markets");
  const std::size_t n = table.columns.size(), rows = static_cast<std::size_t>(table.rows), days = rows - 1;
  std::vector<double> returns(days * n), mean(n, 0.0), covariance(n * n, 0.0);  // percent a day
  for (std::size_t t = 0; t < days; ++t)
    for (std::size_t j = 0; j < n; ++j) {
      returns[t * n + j] =
          rounded_draw(100 * std::log(table.values[(t + 1) * n + j] / table.values[t * n + j]));
      mean[j] += returns[t * n + j] / static_cast<double>(days);
    }
  for (std::size_t t = 0; t < days; ++t)
    for (std::size_t j = 0; j < n; ++j)
      for (std::size_t k = 0; k < n; ++k)
        covariance[j * n + k] +=
            (returns[t * n + j] - mean[j]) * (returns[t * n + k] - mean[k]) / static_cast<double>(days - 1);
  std::vector<double> linear;
  for (double m : mean) linear.push_back(-risk_tolerance * m);
  long double value = 0;
  const auto gradient = [&](std::span<const long double> p) {
    std::vector<long double> g(n);
    value = 0;
    for (std::size_t j = 0; j < n; ++j) {
      g[j] = linear[j];
      long double product = 0;
      for (std::size_t k = 0; k < n; ++k) product += covariance[j * n + k] * p[k];
      value += p[j] * (product / 2 + g[j]);
      g[j] += product;
    }
    return g;
  };
  CertifiedPoint point = certified_quadratic(covariance, linear, gradient);
  put_problem(writer, "markowitz", "F(p) = 1/2 p' S p - risk_tolerance m' p, daily log-returns in percent");
  writer.attribute("", "risk_tolerance", risk_tolerance);
  writer.attribute("", "assets", table.columns);
  const auto size = static_cast<std::int64_t>(n);
  writer.array("covariance", std::move(covariance), {size, size});
  writer.array("mean", std::move(mean), {size});
  put_optimum(writer, std::move(point), static_cast<double>(value), "active set, long double");
}

}  // namespace

void add_problem_recipes(std::vector<Recipe>& list) {
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
  add("problem_simplex_ls", "Least squares over the simplex, Gaussian design 500 x 1000", "own generator",
      1000500, simplex_least_squares);
  add("problem_sparsemax", "Projection of 1000 numbers onto the simplex (sparsemax)", "own generator", 1602,
      sparsemax);
  add("problem_linear_entropy", "Entropy-regularised linear cost, n = 1000", "own generator", 10289,
      linear_entropy);
  add("problem_npmle_galaxies", "Mixture proportions for the galaxy velocities, 1000 atoms",
      "Postman, Huchra, Geller (1986); problem as in Koenker and Mizera (2014), JASA 109, 674", 0,
      npmle_galaxies, "published numbers (facts, no copyright)");
  add("problem_npmle_acidity", "Mixture proportions for the acidity of 155 lakes, 300 atoms",
      "Crawford (1994), JASA 89, 171; problem as in Koenker and Mizera (2014), JASA 109, 674", 0,
      npmle_acidity, "published numbers (facts, no copyright)");
  add("problem_npmle_draws", "Mixture proportions of 1000 draws, 1000 atoms",
      "numpy's default_rng(7), see values/npmle_draws.csv", 7, npmle_draws);
  add("problem_projection_large", "Projection of a million numbers onto the simplex", "own generator", 1603,
      large_projection);
  add("problem_d_optimal_3", "D-optimal design for polynomials of degree 3 on [-1, 1]",
      "Guest (1958), Ann. Math. Statist. 29, 294", 0, d_optimal_3);
  add("problem_d_optimal_9", "D-optimal design for polynomials of degree 9 on [-1, 1]",
      "Guest (1958), Ann. Math. Statist. 29, 294", 0, d_optimal_9);
  add("problem_d_optimal_5", "D-optimal design for polynomials of degree 5 on [-1, 1]",
      "Guest (1958), Ann. Math. Statist. 29, 294", 0, d_optimal_5);
  add("problem_markowitz", "Portfolio of four European stock indices, 1991-1998",
      "Erste Bank AG, Vienna; values as in R's datasets (EuStockMarkets)", 0, markowitz,
      "published numbers (facts, no copyright)");
}

}  // namespace borel
