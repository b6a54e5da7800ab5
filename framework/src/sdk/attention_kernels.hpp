// Inner loops of the attention engines, compiled for several instruction sets and chosen at run time.
#pragma once

#include "borel/tensor.hpp"

namespace borel::kernels {

/// Rows that kernels read and write are padded to a multiple of this many floats, so that no kernel has a
/// tail.
inline constexpr index_t k_row_pad = 16;
inline index_t padded(index_t n) { return (n + k_row_pad - 1) / k_row_pad * k_row_pad; }

/// out[r, c] = (accumulate ? out[r, c] : 0) + sum_k a[r, k] b[k, c].   a [n_rows, n_inner], b [n_inner,
/// n_cols], out [n_rows, n_cols], each with its own row stride. @pre n_cols is a multiple of k_row_pad
void multiply(const float* a, index_t lda, const float* b, index_t ldb, float* out, index_t ldo,
              index_t n_rows, index_t n_inner, index_t n_cols, bool accumulate);

/// One step of the online softmax on a tile (Milakov and Gimelshein 2018, algorithm 3). Per row r: takes the
/// new maximum into row_max[r]; when it moved, scales row_sum[r] and o[r, :] to it; scores become exp(score -
/// maximum) and their sum is added to row_sum[r]. Masked scores hold -infinity and become 0; a NaN
/// among the scores makes row_sum NaN.
/// @pre n_cols and d_o are multiples of k_row_pad; row_max starts at -infinity
void online_softmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_max,
                    double* row_sum, float* o, index_t ldo, index_t d_o);

/// Cosine and sine of n angles in radians. Absolute error <= 1e-7 for |angle| <= 1e8: turns are removed in
/// double.
void sine_cosine(const double* angles, index_t n, float* cosine, float* sine);

/// Name of the instruction set that is used ("AVX3", "AVX2", ...), for reports.
const char* instruction_set();

}  // namespace borel::kernels
