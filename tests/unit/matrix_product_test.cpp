// Products of matrices against sums in double: sizes around every block, both transposes, rows with gaps.
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "borel/draft/matrix_product.hpp"
#include "borel/rng.hpp"
#include "contract/attention_subject.hpp"
#include "fused_bits.hpp"

namespace {

using borel::index_t;
using borel::MatrixFactor;
using borel::TensorView;

constexpr float k_gap = 7e7F;  // between rows: nobody may read or write it
constexpr index_t k_gap_size = 3;

struct Matrix {
  Matrix(index_t n_rows, index_t n_columns, std::uint64_t seed)
      : values(static_cast<std::size_t>(n_rows * (n_columns + k_gap_size)), k_gap),
        view(values.data(), {n_rows, n_columns}, {n_columns + k_gap_size, 1}) {
    borel::Rng rng(borel::Seed{seed});
    for (index_t r = 0; r < n_rows; ++r) rng.fill_normal(view.row(r));
  }
  Matrix(const Matrix&) = delete;
  std::vector<float> values;
  TensorView<float, 2> view;
};

struct Product {
  Product(index_t m, index_t n, index_t n_inner, bool transpose_a, bool transpose_b)
      : a(transpose_a ? n_inner : m, transpose_a ? m : n_inner, 1),
        b(transpose_b ? n : n_inner, transpose_b ? n_inner : n, 2),
        left(transpose_a ? borel::transposed(a.view) : MatrixFactor(a.view)),
        right(transpose_b ? borel::transposed(b.view) : MatrixFactor(b.view)) {}
  static float at(const MatrixFactor& factor, index_t r, index_t c) {
    return factor.is_transposed ? factor.stored(c, r) : factor.stored(r, c);
  }
  Matrix a, b;
  MatrixFactor left, right;
};

/// Empty when the product on one instruction set is right; out keeps what it is.
std::string difference(const Product& product, bool accumulate, const Matrix& before, Matrix& out) {
  const index_t m = out.view.shape(0), n = out.view.shape(1), n_inner = product.left.n_columns();
  borel::matrix_product(product.left, product.right, accumulate, out.view);
  for (index_t r = 0; r < m; ++r) {
    for (index_t c = 0; c < n; ++c) {
      double sum = accumulate ? static_cast<double>(before.view(r, c)) : 0, size = std::abs(sum);
      for (index_t k = 0; k < n_inner; ++k) {
        const double term = static_cast<double>(Product::at(product.left, r, k)) *
                            static_cast<double>(Product::at(product.right, k, c));
        sum += term, size += std::abs(term);
      }
      const double bound = std::ldexp(static_cast<double>(n_inner + 1), -24) * size;
      if (!(std::abs(static_cast<double>(out.view(r, c)) - sum) <= bound))
        return "element " + std::to_string(r) + ", " + std::to_string(c) + " is " +
               std::to_string(out.view(r, c)) + ", not " + std::to_string(sum);
    }
    for (index_t gap = 0; gap < k_gap_size; ++gap)
      if (out.values[static_cast<std::size_t>(r * (n + k_gap_size) + n + gap)] != k_gap)
        return "the gap after row " + std::to_string(r) + " was written";
  }
  return {};
}

class MatrixProduct : public testing::TestWithParam<std::tuple<index_t, index_t, index_t>> {};

TEST_P(MatrixProduct, IsTheSum) {
  const auto [m, n, n_inner] = GetParam();
  for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) {
    const bool accumulate = (flags & 4) != 0;
    const Product product(m, n, n_inner, (flags & 1) != 0, (flags & 2) != 0);
    borel::test::FusedBits bits;
    const std::string failure =
        borel::contract::on_every_instruction_set([&](std::string_view target) -> std::string {
          const Matrix before(m, n, 3);
          Matrix out(m, n, 3);
          if (std::string wrong = difference(product, accumulate, before, out); !wrong.empty())
            return std::string(target) + ": " + wrong;
          return bits.agree(target, out.values) ? std::string()
                                                : std::string(target) + ": other bits than before";
        });
    EXPECT_EQ(failure, "") << "transposed: " << (flags & 1) << (flags & 2) << ", accumulate: " << accumulate;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, MatrixProduct,
                         testing::Combine(testing::Values<index_t>(1, 33, 135),
                                          testing::Values<index_t>(5, 48, 531),
                                          testing::Values<index_t>(0, 1, 257)));
// Few rows read b where it lies: several blocks of columns and of the inner index, and the last such number of rows.
INSTANTIATE_TEST_SUITE_P(FewRows, MatrixProduct,
                         testing::Combine(testing::Values<index_t>(0, 32), testing::Values<index_t>(528),
                                          testing::Values<index_t>(257)));

TEST(MatrixProductOfNothing, ChangesNothing) {
  Matrix out(2, 0, 1);
  const Matrix a(2, 4, 1), b(4, 0, 1);
  borel::matrix_product(MatrixFactor(a.view), MatrixFactor(b.view), false, out.view);
  EXPECT_EQ(out.values, Matrix(2, 0, 1).values);
}

// What stands before a row decides nothing about it: batches may be cut anywhere.
TEST(MatrixProductOfRows, DoesNotDependOnTheOtherRows) {
  const Product all(200, 70, 300, false, false);
  Matrix out(200, 70, 3), some(50, 70, 3);
  borel::matrix_product(all.left, all.right, false, out.view);
  borel::matrix_product(MatrixFactor(all.a.view.slice(0, 97, 147)), all.right, false, some.view);
  for (index_t r = 0; r < 50; ++r)
    for (index_t c = 0; c < 70; ++c) ASSERT_EQ(some.view(r, c), out.view(97 + r, c)) << r << ", " << c;
}

// A gradient summed over two halves of a batch has the bits of the sum over the whole.
TEST(MatrixProductOfHalves, AddsInTheOrderOfTheInnerIndex) {
  const Product all(70, 90, 300, true, false);
  Matrix whole(70, 90, 3), halves(70, 90, 3);
  borel::matrix_product(all.left, all.right, true, whole.view);
  for (const auto& [begin, end] : {std::pair<index_t, index_t>(0, 101), {101, 300}})
    borel::matrix_product(borel::transposed(all.a.view.slice(0, begin, end)),
                          MatrixFactor(all.b.view.slice(0, begin, end)), true, halves.view);
  EXPECT_EQ(halves.values, whole.values);
}

TEST(MatrixProductOfNaN, ShowsIt) {
  Product product(40, 40, 40, false, false);
  product.a.view(39, 39) = std::numeric_limits<float>::quiet_NaN();
  Matrix out(40, 40, 3);
  borel::matrix_product(product.left, product.right, false, out.view);
  for (index_t c = 0; c < 40; ++c) {
    EXPECT_TRUE(std::isnan(out.view(39, c)));
    EXPECT_FALSE(std::isnan(out.view(38, c)));
  }
}

}  // namespace
