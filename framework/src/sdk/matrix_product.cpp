#include "borel/draft/matrix_product.hpp"

#include <algorithm>
#include <cassert>

#include "attention_kernels.hpp"
#include "borel/parallel.hpp"

namespace borel {
namespace {

using kernels::k_row_pad;

// A packed block of b, k_inner x k_columns, and the rows of a and out beside it stay in a second cache level of 1 MB. The
// columns of b that the kernel reads again for every 6 rows are 64 KB with AVX-512 and 16 KB with AVX2: longer sums cost
// less than a first cache level that is too small.
constexpr index_t k_inner = 256, k_columns = 512;
constexpr index_t k_rows = 132;    // a multiple of the register blocks' 6 rows
constexpr index_t k_too_few = 32;  // rows, for packing b to pay

struct Block {
  index_t begin, size;
};

Block block_at(index_t begin, index_t most, index_t end) { return {begin, std::min(most, end - begin)}; }

const float* at(const MatrixFactor& factor, index_t row, index_t column) {
  return factor.stored.data() + (factor.is_transposed ? column * factor.stored.stride(0) + row
                                                      : row * factor.stored.stride(0) + column);
}

kernels::Left left(const MatrixFactor& a, index_t row, index_t inner) {
  const index_t ld = a.stored.stride(0);
  return {at(a, row, inner), a.is_transposed ? 1 : ld, a.is_transposed ? ld : 1};
}

/// Rows of a transposed factor, which are columns in memory: packed[k][row], without the strides of powers of two that
/// share few sets of a cache.
void pack_columns(const MatrixFactor& a, Block rows, Block inner, float* packed) {
  const float* from = at(a, rows.begin, inner.begin);
  for (index_t k = 0; k < inner.size; ++k)
    std::copy_n(from + k * a.stored.stride(0), rows.size, packed + k * k_rows);
}

void pack(const MatrixFactor& b, Block inner, Block columns, float* packed) {
  const float* from = at(b, inner.begin, columns.begin);
  const index_t ld = b.stored.stride(0);
  if (b.is_transposed)
    kernels::pack_transposed(from, ld, columns.size, inner.size, kernels::padded(columns.size), packed);
  else
    kernels::pack_rows(from, ld, inner.size, columns.size, inner.size, packed);
}

/// A block of rows times a block of b. Columns beyond the last full 16 go through memory of their own.
void multiply_rows_of_block(const kernels::Left& a, const kernels::Right& b, float* out, index_t ldo,
                            index_t n_rows, index_t n_inner, index_t n_columns, bool accumulate) {
  const index_t whole = n_columns / k_row_pad * k_row_pad, rest = n_columns - whole;
  if (whole > 0) kernels::multiply(a, b, out, ldo, n_rows, n_inner, whole, accumulate);
  if (rest == 0) return;
  float last[k_rows * k_row_pad];
  if (accumulate)
    for (index_t r = 0; r < n_rows; ++r) {
      std::copy_n(out + r * ldo + whole, rest, last + r * k_row_pad);
      std::fill_n(last + r * k_row_pad + rest, k_row_pad - rest, 0.0F);
    }
  kernels::multiply(a, {b.data + whole / k_row_pad * b.panel, b.row, b.panel}, last, k_row_pad, n_rows,
                    n_inner, k_row_pad, accumulate);
  for (index_t r = 0; r < n_rows; ++r) std::copy_n(last + r * k_row_pad, rest, out + r * ldo + whole);
}

}  // namespace

void matrix_product(const MatrixFactor& a, const MatrixFactor& b, bool accumulate, TensorView<float, 2> out) {
  const index_t m = a.n_rows(), n = b.n_columns(), n_inner = a.n_columns(), ldo = out.stride(0);
  assert(b.n_rows() == n_inner && out.shape(0) == m && out.shape(1) == n);
  if (n_inner == 0 && !accumulate)
    for (index_t r = 0; r < m; ++r) std::ranges::fill(out.row(r), 0.0F);
  if (m == 0 || n == 0) return;
  const bool b_as_is = !b.is_transposed && n % k_row_pad == 0 && m <= k_too_few;
  const index_t most_inner = std::min(k_inner, n_inner);
  const Scratch<float> packed_b(b_as_is ? 0 : most_inner * kernels::padded(std::min(k_columns, n)));
  const Scratch<float> packed_a(a.is_transposed ? most_inner * k_rows : 0);
  for (index_t c = 0; c < n; c += k_columns) {
    const Block columns = block_at(c, k_columns, n);
    for (index_t k = 0; k < n_inner; k += k_inner) {
      const Block inner = block_at(k, k_inner, n_inner);
      kernels::Right right{at(b, k, c), b.stored.stride(0), k_row_pad};
      if (!b_as_is) {
        pack(b, inner, columns, packed_b.data());
        right = {packed_b.data(), k_row_pad, k_row_pad * inner.size};
      }
      for (index_t r = 0; r < m; r += k_rows) {
        const Block rows = block_at(r, k_rows, m);
        float* to = out.data() + r * ldo + c;
        kernels::Left left_rows = left(a, r, k);
        if (a.is_transposed) {
          pack_columns(a, rows, inner, packed_a.data());
          left_rows = {packed_a.data(), 1, k_rows};
        }
        multiply_rows_of_block(left_rows, right, to, ldo, rows.size, inner.size, columns.size,
                               accumulate || k > 0);
      }
    }
  }
}

}  // namespace borel
