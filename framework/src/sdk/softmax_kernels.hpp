// Softmax of tiles of scores, forward and back; compiled for several instruction sets and chosen at run time.
#pragma once

#include "attention_kernels.hpp"

namespace borel::kernels {

/// How far the exponent of a weight may grow before its row is shifted anew: weights up to 2^60, whose sums and products
/// with values are far from overflow, and nothing is lost beside them that a weight of 1 would have kept.
inline constexpr float k_headroom = 60;

/// One step of the online softmax on a tile (Milakov and Gimelshein 2018, algorithm 3). Per row r: the first maximum m goes to
/// row_max[r]; a later one only when it lies more than k_headroom powers of two above (the "lazy" rescaling of
/// FlashAttention-4), and row_sum[r] and o[r, :] are scaled to it. Scores become
/// exp2(score * k_log2_e - fl(row_max * k_log2_e)) and their sum is added to row_sum[r]. The rounding of the shift is the
/// same for a whole row, so it cancels. Relative error of a weight <= 3e-7 besides that of its score. Masked scores
/// hold -infinity and become 0; a NaN among the scores makes row_sum and the weight NaN.
/// @pre n_cols and d_o are multiples of k_row_pad; row_max starts at -infinity
void online_softmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_max,
                    double* row_sum, float* o, index_t ldo, index_t d_o);

inline constexpr index_t k_most_fused_rows = 48;

/// The scores of a tile without masked pairs and their weights in one go: out [n_rows, n_cols] and row_sum become what
/// multiply(), bias and online_softmax() make of a b, to the bit, where no row is shifted anew. Otherwise, for a NaN,
/// and where the instruction set gains nothing by it: false, row_sum as it was, out with anything.
/// @param bias  null, or what is added to score (r, c) at bias[c - r]
/// @pre n_rows <= k_most_fused_rows, n_cols is a multiple of k_row_pad; every row_max is finite
bool score_softmax(const Left& a, const Right& b, index_t n_inner, const float* row_max, const float* bias,
                   double* row_sum, float* out, index_t ldo, index_t n_rows, index_t n_cols);

/// The way back through the softmax of a tile: weights = exp2(score * k_log2_e - fl(row_max * k_log2_e)) * row_inverse,
/// d_scores: in d loss / d weight, out weights * (d_scores - row_mean[r]). Rows with row_inverse 0 become 0.
void softmax_backward(const float* scores, float* weights, float* d_scores, index_t ld, index_t n_rows,
                      index_t n_cols, const float* row_max, const float* row_inverse, const float* row_mean);

/// weights *= row_inverse[r];  d_scores = slope * (d_scores - row_mean[r]) * row_inverse[r].
void weigh_backward(const float* slope, float* weights, float* d_scores, index_t ld, index_t n_rows,
                    index_t n_cols, const float* row_inverse, const float* row_mean);

}  // namespace borel::kernels
