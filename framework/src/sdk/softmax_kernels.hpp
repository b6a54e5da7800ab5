// Softmax of tiles of scores, forward and back; compiled for several instruction sets and chosen at run time.
#pragma once

#include "attention_kernels.hpp"

namespace borel::kernels {

/// How many powers of two a score may lie above its row's shift before the row is shifted anew ("lazy" rescaling, as in
/// FlashAttention-4, where it is 8). Weights grow to 2^48 and the sum of their products with values is finite where that
/// of the values is below 2^79; weights below 2^-126 are zeros, at most 2^-78 of the largest. Rows of a causal block
/// take their shift from a few keys; scores that nobody scaled by 1 / sqrt(d) (T5) then grow by 40 powers.
inline constexpr float k_headroom = 48;

/// One step of the online softmax on a tile (Milakov and Gimelshein 2018, algorithm 3). Per row r: the first maximum goes to
/// row_shift[r]; a later one only when it lies more than k_headroom powers of two above, and row_sum[r] and o[r, :] are scaled
/// to it. Scores become exp2(score * k_log2_e - fl(row_shift * k_log2_e)) and their sum is added to row_sum[r]. The
/// rounding of the shift is the same for a whole row, so it cancels. Relative error of a weight <= 3e-7 besides that of
/// its score. Masked scores hold -infinity and become 0; a NaN among the scores makes row_sum and the weight NaN.
/// @pre n_cols and d_o are multiples of k_row_pad; row_shift starts at -infinity
void online_softmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_shift,
                    double* row_sum, float* o, index_t ldo, index_t d_o);

inline constexpr index_t k_most_fused_rows = 48;

/// Whether score_softmax() is faster than what it replaces.
bool score_softmax_pays();

/// The scores of a tile without masked pairs and their weights in one go: out [n_rows, n_cols] and row_sum become what
/// multiply(), bias and online_softmax() make of a b, to the bit, where no row is shifted anew. Otherwise false: row_sum as it
/// was, out with anything.
/// @param bias  null, or what is added to score (r, c) at bias[c - r]
/// @pre n_rows <= k_most_fused_rows, n_cols is a multiple of k_row_pad; every row has a shift
bool score_softmax(const Left& a, const Right& b, index_t n_inner, const float* row_shift, const float* bias,
                   double* row_sum, float* out, index_t ldo, index_t n_rows, index_t n_cols);

/// The way back through the softmax of a tile: weights = exp2(score * k_log2_e - fl(row_shift * k_log2_e)) * row_inverse,
/// d_scores: in d loss / d weight, out weights * (d_scores - row_mean[r]). Rows with row_inverse 0 become 0.
void softmax_backward(const float* scores, float* weights, float* d_scores, index_t ld, index_t n_rows,
                      index_t n_cols, const float* row_shift, const float* row_inverse,
                      const float* row_mean);

/// weights *= row_inverse[r];  d_scores = slope * (d_scores - row_mean[r]) * row_inverse[r].
void weigh_backward(const float* slope, float* weights, float* d_scores, index_t ld, index_t n_rows,
                    index_t n_cols, const float* row_inverse, const float* row_mean);

}  // namespace borel::kernels
