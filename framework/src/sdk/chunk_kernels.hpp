// Inner loops of the chunk engine, compiled for several instruction sets and chosen at run time. Rows that are written
// are padded to a multiple of k_row_pad floats (attention_kernels.hpp).
#pragma once

#include "attention_kernels.hpp"

namespace borel::kernels {

inline Left as_is(const float* data, index_t ld) { return {data, ld, 1}; }
inline Left transposed(const float* data, index_t ld) { return {data, 1, ld}; }

/// What is known about the matrices, to leave out work.
enum class Shape {
  full,
  lower_out,  ///< only out[r, c] with c <= r is wanted; what lies above is undefined or, with accumulate, kept or undefined
  lower_in,  ///< a[r, k] is 0 for k > r
  upper_in   ///< a[r, k] is 0 for k < r
};

/// out[r, c] = (accumulate ? out[r, c] : 0) + sum_{k < n_inner} a[r, k] b[k, c]. @pre n_cols multiple of k_row_pad
void product(const Left& a, const float* b, index_t ldb, float* out, index_t ldo, index_t n_rows,
             index_t n_inner, index_t n_cols, bool accumulate, Shape shape = Shape::full);

/// out[c, r] = in[r, c] for r < n_rows, c < n_cols.
void transpose(const float* in, index_t ld_in, index_t n_rows, index_t n_cols, float* out, index_t ldo);

/// Zeroes columns c > r - (strict ? 1 : 0) of row r up to n_pad; row_sums[r], if asked for, is what remains.
void keep_lower(float* scores, index_t ld, index_t n, index_t n_pad, bool strict, float* row_sums);

/// out[t, c] = x[t, c] exp(sign exponent[t, c]) for c < f; by one number per row when width is 1.
/// The exponent is taken in double and split into a power of two and a rest, so large exponents cost no accuracy.
/// x, out and, unless width is 1, exponent with leading dimension ld. @pre width is 1 or f
void scale_by_exp(const double* exponent, index_t width, double sign, const float* x, index_t n, index_t f,
                  index_t ld, float* out);

/// s[a, :] *= factor[width == 1 ? 0 : a], a < f. A state s + rest of two floats, rest not null, takes what that rounds
/// away into the rest.
void scale_state(float* s, float* rest, index_t lds, index_t f, index_t n_cols, const float* factor,
                 index_t width);

/// s + rest += x, size numbers: s is the float nearest to the sum, rest what it leaves. @pre size multiple of k_row_pad
void add_to_state(const float* x, index_t size, float* s, float* rest);

/// sum[c] = sum_t x[t, c].
void column_sums(const float* x, index_t ld, index_t n, index_t n_cols, float* sum);

/// out[t] = sum_c x[t, c] y[c].
void row_dots(const float* x, index_t ld, const float* y, index_t n, index_t n_cols, float* out);
/// out[t] = sum_c x[t, c] y[t, c].
void paired_row_dots(const float* x, index_t ldx, const float* y, index_t ldy, index_t n, index_t n_cols,
                     float* out);

/// u <- (I + M)^-1 u, M strictly lower triangular, given as -M with zeros elsewhere up to the next k_row_pad.
void solve_unit_lower(const float* minus_m, index_t ldm, float* u, index_t ldu, index_t n, index_t n_cols);
/// u <- (I + M)^-T u.
void solve_unit_lower_transposed(const float* minus_m, index_t ldm, float* u, index_t ldu, index_t n,
                                 index_t n_cols);

/// One token of a state s [f, d_v], gapless, and its reading. decay [width] with width 0 (none), 1 or f; key [f].
/// With a rest [f, d_v] the state is s + rest: sums of any number of tokens keep the accuracy of one.
struct StateStep {
  index_t f, d_v, decay_width;
  const float *decay, *query, *key, *value;
  bool read_before_write = false;
  float* rest = nullptr;  ///< not with the delta rule nor with read_before_write
};
/// With the delta rule first u = strength (v - (decayed s)^T key), else u = v; s <- decay s + key u^T; o = query^T s
/// (before that update when read_before_write). `u` [d_v] is written.
void state_step(const StateStep& step, bool delta_rule, float strength, float* s, float* u, float* o);
/// o = query^T (s + rest) alone, for further queries of a token.
void state_read(const StateStep& step, const float* s, float* o);

}  // namespace borel::kernels
