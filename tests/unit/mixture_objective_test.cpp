// Mixtures of fixed components, dense and by columns, and the kernels below them.
#include "borel/mixture_objective.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "borel/rng.hpp"

namespace {

using borel::index_t;
using testing::HasSubstr;

std::vector<double> positives(std::size_t n, std::uint64_t seed) {
  std::vector<double> x(n);
  borel::Rng rng(borel::Seed{seed});
  for (double& v : x) v = -std::log(rng.uniform_open());
  return x;
}

/// The same matrix both ways, a third of it zero.
struct Pair {
  std::unique_ptr<borel::SimplexObjective> dense, sparse;
  Pair(index_t m, index_t n) {
    std::vector<double> values = positives(static_cast<std::size_t>(m * n), 1);
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j)
        if ((i + 2 * j) % 3 == 1) values[static_cast<std::size_t>(i * n + j)] = 0;
    borel::SparseLikelihood columns;
    columns.n_rows = m;
    columns.begin.push_back(0);
    for (index_t j = 0; j < n; ++j) {
      for (index_t i = 0; i < m; ++i)
        if (const double v = values[static_cast<std::size_t>(i * n + j)]; v > 0) {
          columns.row.push_back(i);
          columns.value.push_back(v);
        }
      columns.begin.push_back(static_cast<index_t>(columns.row.size()));
    }
    const std::vector<double> weight = positives(static_cast<std::size_t>(m), 2);
    dense = borel::mixture_objective("dense", borel::DenseLikelihood{values, m, n}, weight);
    sparse = borel::mixture_objective("sparse", columns, weight);
  }
};

TEST(MixtureObjective, SparseAndDenseAgree) {
  const Pair pair(37, 11);
  std::vector<double> p = positives(11, 3), v = positives(11, 4), g1(11), g2(11);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  const double f1 = pair.dense->value_and_gradient(p, g1), f2 = pair.sparse->value_and_gradient(p, g2);
  EXPECT_NEAR(f1, f2, 1e-13);
  EXPECT_NEAR(pair.dense->value(p), f1, 1e-13);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_NEAR(g1[i], g2[i], 1e-12);
  pair.dense->curvature_product(p, v, g1);
  pair.sparse->curvature_product(p, v, g2);
  for (std::size_t i = 0; i < 11; ++i) EXPECT_NEAR(g1[i], g2[i], 1e-11);
  EXPECT_NE(pair.sparse->mixture()->sparse(), nullptr);
  EXPECT_EQ(pair.dense->mixture()->sparse(), nullptr);
  std::vector<double> c1(37), c2(37);
  pair.dense->mixture()->column(5, c1);
  pair.sparse->mixture()->column(5, c2);
  EXPECT_EQ(c1, c2);
}

TEST(MixtureObjective, IsLogHomogeneous) {
  const Pair pair(20, 6);
  const std::vector<double> p{0.1, 0.2, 0.3, 0.1, 0.2, 0.1};
  std::vector<double> g(6);
  pair.dense->value_and_gradient(p, g);
  // d/dc F(c p) at 1 = p.g = -k
  EXPECT_NEAR(borel::dense::dot(p, g), -*pair.dense->log_homogeneity(), 1e-13);
}

TEST(MixtureObjective, NamesRowAndColumnOfBadEntries) {
  const auto text_of = [](borel::DenseLikelihood likelihood) {
    try {
      borel::mixture_objective("bad", std::move(likelihood));
    } catch (const borel::MethodError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(text_of({{1, 2, -3, 4}, 2, 2}), HasSubstr("row 1, column 0 is -3"));
  EXPECT_THAT(text_of({{1, 2, 0, 0}, 2, 2}), HasSubstr("row 1 of the likelihood has no positive entry"));
  EXPECT_THAT(text_of({{1, 2, 3}, 2, 2}), HasSubstr("3 numbers, must be 2 rows x 2 columns"));
  borel::SparseLikelihood unsorted{{0, 2}, {1, 0}, {1, 1}, 2};
  EXPECT_THROW(borel::mixture_objective("bad", unsorted), borel::MethodError);
  // A bound beyond the values: the rows there are not looked at.
  borel::SparseLikelihood beyond{{0, 1 << 20, 2}, {0, 1}, {1, 1}, 1 << 21};
  EXPECT_THROW(borel::mixture_objective("bad", beyond), borel::MethodError);
}

TEST(DenseKernels, AgreeWithPlainLoopsForEverySize) {
  for (const index_t n : {1, 2, 3, 5, 8, 17, 63, 130})
    for (const index_t m : {1, 2, 4, 7, 50}) {
      const auto rows = static_cast<std::size_t>(m), columns = static_cast<std::size_t>(n);
      const std::vector<double> a = positives(rows * columns, 5), x = positives(columns, 6),
                                y = positives(rows, 7);
      std::vector<double> image(rows), back(columns, 1.0), gram(rows * rows, 0.0);
      borel::dense::multiply({a.data(), {m, n}}, x, image);
      borel::dense::add_transposed({a.data(), {m, n}}, y, back);
      borel::dense::add_gram({a.data(), {m, n}}, {gram.data(), {m, m}});
      for (std::size_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (std::size_t i = 0; i < columns; ++i) sum += a[r * columns + i] * x[i];
        EXPECT_NEAR(image[r], sum, 1e-12 * sum);
        for (std::size_t s = 0; s <= r; ++s) {
          double product = 0;
          for (std::size_t i = 0; i < columns; ++i) product += a[r * columns + i] * a[s * columns + i];
          EXPECT_NEAR(gram[r * rows + s], product, 1e-12 * product);
        }
      }
      for (std::size_t i = 0; i < columns; ++i) {
        double sum = 1;
        for (std::size_t r = 0; r < rows; ++r) sum += a[r * columns + i] * y[r];
        EXPECT_NEAR(back[i], sum, 1e-12 * sum);
      }
    }
}

TEST(DenseKernels, ManyTransposedProductsHaveTheBitsOfEach) {
  for (const index_t n : {1, 3, 4, 9, 130, 512, 513, 1101})
    for (const index_t m : {1, 2, 3, 5, 8})
      for (const index_t k : {1, 3, 4, 9}) {
        const auto row = static_cast<std::size_t>(n);
        const std::vector<double> a = positives(static_cast<std::size_t>(m) * row, 5),
                                  y = positives(static_cast<std::size_t>(k * m), 6),
                                  start = positives(static_cast<std::size_t>(k) * row, 7);
        std::vector<double> together = start, each = start;
        borel::dense::add_transposed({a.data(), {m, n}}, borel::TensorView<const double, 2>(y.data(), {k, m}),
                                     {together.data(), {k, n}});
        for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i)
          borel::dense::add_transposed(
              {a.data(), {m, n}},
              std::span(y).subspan(i * static_cast<std::size_t>(m), static_cast<std::size_t>(m)),
              std::span(each).subspan(i * row, row));
        EXPECT_EQ(together, each) << n << ' ' << m << ' ' << k;
      }
}

TEST(DenseKernels, ExtremesAreTheFirstOfEqualsAndNeverNan) {
  constexpr double k_nan = std::numeric_limits<double>::quiet_NaN(),
                   k_infinity = std::numeric_limits<double>::infinity();
  for (const std::size_t n : {1, 2, 3, 4, 5, 8, 11, 16, 33, 100})
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      borel::Rng rng(borel::Seed{seed});
      std::vector<double> p(n), g(n);
      for (double& x : p) x = rng.uniform_open() < 0.5 ? 0.0 : 1.0;
      for (double& x : g) {  // few values, so that many are equal
        const double u = rng.uniform_open();
        x = u < 0.1 ? k_nan : u < 0.2 ? k_infinity : std::floor(8 * u) - 4;
      }
      borel::dense::Extremes expected;
      double lowest = k_infinity, lowest_used = k_infinity, highest_used = -k_infinity;
      for (std::size_t i = 0; i < n; ++i) {
        const auto at = static_cast<index_t>(i);
        if (g[i] < lowest) lowest = g[i], expected.lowest = at;
        if (p[i] > 0 && g[i] < lowest_used) lowest_used = g[i], expected.lowest_used = at;
        if (p[i] > 0 && g[i] > highest_used) highest_used = g[i], expected.highest_used = at;
      }
      const borel::dense::Extremes found = borel::dense::extremes(p, g);
      EXPECT_EQ(found.lowest, expected.lowest) << n << ' ' << seed;
      EXPECT_EQ(found.lowest_used, expected.lowest_used) << n << ' ' << seed;
      EXPECT_EQ(found.highest_used, expected.highest_used) << n << ' ' << seed;
    }
  const borel::dense::Extremes none = borel::dense::extremes({}, {});
  EXPECT_EQ(none.lowest, -1);
}

TEST(DenseKernels, CholeskySolvesAndRefusesIndefiniteMatrices) {
  for (const index_t n : {1, 3, 47, 48, 49, 130}) {
    const auto size = static_cast<std::size_t>(n);
    const std::vector<double> b = positives(size * size, 8);
    std::vector<double> m(size * size, 0.0), solution = positives(size, 9), right(size, 0.0);
    borel::dense::add_gram({b.data(), {n, n}}, {m.data(), {n, n}});
    for (std::size_t i = 0; i < size; ++i) m[i * size + i] += 1;
    for (std::size_t i = 0; i < size; ++i)
      for (std::size_t j = 0; j < size; ++j)
        right[i] += m[std::max(i, j) * size + std::min(i, j)] * solution[j];
    ASSERT_TRUE(borel::dense::cholesky({m.data(), {n, n}}));
    borel::dense::cholesky_solve({m.data(), {n, n}}, right);
    for (std::size_t i = 0; i < size; ++i) EXPECT_NEAR(right[i], solution[i], 1e-8);
  }
  std::vector<double> indefinite{1, 0, 2, 1};
  EXPECT_FALSE(borel::dense::cholesky({indefinite.data(), {2, 2}}));
}

TEST(DenseKernels, ExponentialsAreAccurateAndSummed) {
  for (const std::size_t n : {1UL, 3UL, 8UL, 21UL}) {
    std::vector<double> x(n);
    for (std::size_t i = 0; i < n; ++i) x[i] = 5 - 17.3 * static_cast<double>(i * i);
    std::vector<double> out = x;
    const double sum = borel::dense::exp_and_sum(out, 5);
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double exact = x[i] - 5 < -708 ? 0 : std::exp(x[i] - 5);
      EXPECT_NEAR(out[i], exact, 2e-15 * exact);
      expected += out[i];
    }
    EXPECT_NEAR(sum, expected, 1e-15 * expected);
  }
}

}  // namespace
