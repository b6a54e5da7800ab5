// Register blocks of products, for the kernels that multiply; compiled once per instruction set: include only from files
// under foreach_target.h. Per-target include guard as Highway's own -inl headers have it.
#if defined(BOREL_PRODUCT_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef BOREL_PRODUCT_INL_HPP_
#undef BOREL_PRODUCT_INL_HPP_
#else
#define BOREL_PRODUCT_INL_HPP_
#endif

#include <type_traits>

#include <hwy/highway.h>

#include "attention_kernels.hpp"

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

using Floats = hwy::HWY_NAMESPACE::CappedTag<float, k_row_pad>;
using Vec = hwy::HWY_NAMESPACE::Vec<Floats>;
constexpr auto k_lanes = static_cast<index_t>(hwy::HWY_NAMESPACE::MaxLanes(Floats()));

// A block of Rows x Vectors sums, the vectors of b and one broadcast fill most of the register file (32 with AVX-512, 16
// with AVX2). Few rows, as every row is a stream of memory and an address of its own: 12 x 2 takes 6 % more time than 6 x 4.
#if HWY_TARGET <= HWY_AVX3
constexpr int k_block_vectors = 4;
constexpr int block_rows(int vectors) { return vectors == k_block_vectors ? 6 : 8; }
#else
constexpr int k_block_vectors = 2;
constexpr int block_rows(int) { return 6; }
#endif

template <int Rows, int Vectors>
struct Sums {
  Vec at[Rows][Vectors];
};

/// Where vector number v of a block of columns starts, given the panel stride.
HWY_INLINE index_t vector_offset(int v, index_t panel) {
  return v * k_lanes / k_row_pad * panel + v * k_lanes % k_row_pad;
}

/// sums += a b for the block's first rows and columns. Loops over registers are unrolled early, or the compiler keeps the
/// sums in memory as well.
template <int Rows, int Vectors>
HWY_INLINE void add_products(const Left& a, const Right& b, index_t n_inner, Sums<Rows, Vectors>& sums) {
  namespace hn = hwy::HWY_NAMESPACE;
  const Floats f;
  const float *HWY_RESTRICT left = a.data, *HWY_RESTRICT from = b.data;
  const index_t row = a.row, left_step = a.inner, step = b.row, panel = b.panel;
  for (index_t k = 0; k < n_inner; ++k) {
    Vec right[Vectors];
    HWY_UNROLL(16)
    for (int v = 0; v < Vectors; ++v) right[v] = hn::LoadU(f, from + vector_offset(v, panel));
    HWY_UNROLL(16)
    for (int r = 0; r < Rows; ++r) {
      const Vec factor = hn::Set(f, left[r * row]);
      HWY_UNROLL(16)
      for (int v = 0; v < Vectors; ++v) sums.at[r][v] = hn::MulAdd(factor, right[v], sums.at[r][v]);
    }
    left += left_step;
    from += step;
  }
}

template <int Rows, int Vectors, bool Accumulate>
HWY_NOINLINE void multiply_block_as(const Left& a, const Right& b, float* out, index_t ldo, index_t n_inner) {
  namespace hn = hwy::HWY_NAMESPACE;
  const Floats f;
  Sums<Rows, Vectors> sums;
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < Vectors; ++v)
      sums.at[r][v] = Accumulate ? hn::LoadU(f, out + r * ldo + v * k_lanes) : hn::Zero(f);
  }
  add_products(a, b, n_inner, sums);
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < Vectors; ++v) hn::StoreU(sums.at[r][v], f, out + r * ldo + v * k_lanes);
  }
}

/// out = a b, or out += a b, for one block.
template <int Rows, int Vectors>
HWY_INLINE void multiply_block(const Left& a, const Right& b, float* out, index_t ldo, index_t n_inner,
                               bool accumulate) {
  if (accumulate)
    multiply_block_as<Rows, Vectors, true>(a, b, out, ldo, n_inner);
  else
    multiply_block_as<Rows, Vectors, false>(a, b, out, ldo, n_inner);
}

/// Calls body(integral constant: rows, first row) until all rows are done, most of them `Most` at a time.
template <int Most, class Body>
HWY_INLINE void for_row_blocks(index_t n_rows, Body&& body) {
  index_t r = 0;
  const auto blocks = [&]<int Rows>(std::integral_constant<int, Rows> rows) {
    for (; r + Rows <= n_rows; r += Rows) body(rows, r);
  };
  blocks(std::integral_constant<int, Most>());
  blocks(std::integral_constant<int, 4>());
  blocks(std::integral_constant<int, 2>());
  blocks(std::integral_constant<int, 1>());
}

/// Calls body(integral constant: vectors, first column) until all columns are done, most of them `Most` vectors at a time.
/// Five vectors are three and two: a block of one multiplies once for every broadcast.
template <int Most = k_block_vectors, class Body>
HWY_INLINE void for_column_blocks(index_t n_cols, Body&& body) {
  index_t c = 0;
  const auto block = [&]<int Vectors>(std::integral_constant<int, Vectors> vectors) {
    body(vectors, c);
    c += Vectors * k_lanes;
  };
  if constexpr (Most == 4) {
    while (n_cols - c == 4 * k_lanes || n_cols - c > 5 * k_lanes) block(std::integral_constant<int, 4>());
    if (n_cols - c >= 3 * k_lanes) block(std::integral_constant<int, 3>());
  }
  while (n_cols - c >= 2 * k_lanes) block(std::integral_constant<int, 2>());
  if (c < n_cols) block(std::integral_constant<int, 1>());
}

/// The operands from row r and from column c on.
HWY_INLINE Left from_row(const Left& a, index_t r) { return {a.data + r * a.row, a.row, a.inner}; }
HWY_INLINE Right from_column(const Right& b, index_t c) {
  return {b.data + c / k_row_pad * b.panel + c % k_row_pad, b.row, b.panel};
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#endif
