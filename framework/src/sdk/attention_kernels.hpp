// Inner loops of the attention engines, compiled for several instruction sets and chosen at run time.
#pragma once

#include "borel/tensor.hpp"

namespace borel::kernels {

/// Rows that kernels read and write are padded to a multiple of this many floats, so that no kernel has a
/// tail. It is also the width of a panel of a packed operand.
inline constexpr index_t k_row_pad = 16;
inline index_t padded(index_t n) { return (n + k_row_pad - 1) / k_row_pad * k_row_pad; }

/// Left operand of a product: element (r, k) at data[r * row + k * inner]. A transposed matrix has row = 1.
struct Left {
  const float* data;
  index_t row, inner;
};

/// Right operand: element (k, c) at data[c / 16 * panel + k * row + c % 16]. Row-major: row = ld, panel = 16.
/// Packed: row = 16, panel = 16 * (inner size), so that a panel is read front to back.
struct Right {
  const float* data;
  index_t row, panel;
};

/// out[r, c] = (accumulate ? out[r, c] : 0) + sum_k a[r, k] b[k, c].   out [n_rows, n_cols] with row stride ldo.
/// @pre n_cols is a multiple of k_row_pad
void multiply(const Left& a, const Right& b, float* out, index_t ldo, index_t n_rows, index_t n_inner,
              index_t n_cols, bool accumulate);

/// The same for row-major a [n_rows, n_inner] and b [n_inner, n_cols].
inline void multiply(const float* a, index_t lda, const float* b, index_t ldb, float* out, index_t ldo,
                     index_t n_rows, index_t n_inner, index_t n_cols, bool accumulate) {
  multiply(Left{a, lda, 1}, Right{b, ldb, k_row_pad}, out, ldo, n_rows, n_inner, n_cols, accumulate);
}

/// Rows [n, d] to panels of 16 rows, transposed: packed[t / 16][c][t % 16], for t < n_padded; zeros beyond n.
/// As right operand of `multiply`: row = 16, panel = 16 d.
void pack_transposed(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed);

/// Rows [n, d] to panels of 16 columns: packed[c / 16][t][c % 16], for t < n_padded, c < padded(d); zeros beyond.
/// As right operand of `multiply`: row = 16, panel = 16 n_padded.
void pack_rows(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed);

/// scores[j] = sum_c q[c] keys[j, c] for keys j = 0 .. n - 1 in place, without packing: one query against a cache.
void score_row(const float* q, const float* keys, index_t ld, index_t n, index_t d, float* scores);

/// out[c] += sum_j weights[j] rows[j, c], rows [n, d] in place.
void add_weighted_rows(const float* weights, const float* rows, index_t ld, index_t n, index_t d, float* out);

/// The factor of 2^x = exp(y) as the kernels use it: x = y * log2(e).
inline constexpr float k_log2_e = 1.44269504f;

/// sum_c x[c] y[c], in double.
double dot(const float* x, const float* y, index_t n);

/// @pre n is a multiple of k_row_pad; meant for one tile's width
double row_sum(const float* row, index_t n);

/// out[c] = factor * row[c]; out may be row
void scale_row(const float* row, float factor, index_t n, float* out);

/// row[c] += bias[c]
void add_row(float* row, const float* bias, index_t n);

/// Rotates rows [n, 2 n_pairs] with components paired (m, m + n_pairs): x' = x c - y s, y' = x s + y c. out may be in.
void rotate_halves(const float* in, index_t ldi, const float* cosine, const float* sine, index_t n,
                   index_t n_pairs, float* out, index_t ldo);

/// Cosine and sine of n angles in radians. Absolute error <= 1e-7 for |angle| <= 1e8: turns are removed in
/// double.
void sine_cosine(const double* angles, index_t n, float* cosine, float* sine);

/// cosine, sine [n_rows, n_pairs] of first[m] + t * step[m], by turning: a product of complex numbers in double per row
/// instead of a sine and a cosine. The error grows by 2e-16 a row: restart after a few hundred.
void turn_rows(const double* first, const double* step, index_t n_rows, index_t n_pairs, float* cosine,
               float* sine);

/// Name of the instruction set that is used ("AVX3", "AVX2", ...), for reports.
const char* instruction_set();

}  // namespace borel::kernels
