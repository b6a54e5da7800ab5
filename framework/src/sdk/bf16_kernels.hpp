// Products of operands in bfloat16 with sums in float32. A pair holds two neighbours along the inner dimension: the even one
// in the low half. Runs on the processor's own instruction (AVX-512 BF16: twice the multiply-adds of float32) or, elsewhere,
// on float32 arithmetic with the same rounded operands; that saves memory traffic, not time.
#pragma once

#include <cstdint>

#include "attention_kernels.hpp"

namespace borel::kernels {

using Bf16Pair = std::uint32_t;

inline index_t n_bf16_pairs(index_t n) { return (n + 1) / 2; }

/// Rows [n, d] to pairs [n, n_bf16_pairs(d)] with row stride ldo, rounded to nearest, ties to even; zeros beyond d.
/// A NaN stays one. Denormal numbers may become 0.
void to_bf16(const float* rows, index_t ld, index_t n, index_t d, Bf16Pair* out, index_t ldo);

/// Rows [n, d] to panels of 16 rows, transposed: packed[t / 16][pair of c][t % 16], for t < n_padded; zeros beyond n and d.
void pack_transposed_bf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded,
                          Bf16Pair* packed);

/// Rows [n, d] to panels of 16 columns: packed[c / 16][pair of t][c % 16], for t < n_padded, c < padded(d); zeros beyond.
/// @pre n_padded is even
void pack_rows_bf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, Bf16Pair* packed);

/// out[r, c] = (accumulate ? out[r, c] : 0) + sum_k a[r, k] b[k, c], two k to a pair. a [n_rows, n_pairs] with row stride
/// lda; b in panels of 16 columns: b[c / 16 * panel + pair * 16 + c % 16].   @pre n_cols is a multiple of k_row_pad
void multiply_bf16(const Bf16Pair* a, index_t lda, const Bf16Pair* b, index_t panel, float* out, index_t ldo,
                   index_t n_rows, index_t n_pairs, index_t n_cols, bool accumulate);

}  // namespace borel::kernels
