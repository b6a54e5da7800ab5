// DRAFT. From a row of scores to weights, vectorised with the instruction set chosen at run time, for tile methods.
// Every function works in place, gives weight 0 to a score of -infinity, and turns a row with a NaN into NaN.
// @pre some score of the row is finite (the engine leaves out rows that see no key)
#pragma once

#include <span>

#include "borel/export.hpp"
#include "borel/tensor.hpp"

namespace borel {

/// max(0, x_j - tau) with sum 1: the Euclidean projection onto the simplex (Martins and Astudillo 2016,
/// arXiv:1602.02068, equation 2). tau is exact in double: Newton's method on the piecewise linear sum, from max - 1 up
/// (Michelot's method with the best start), over the scores above max - 1 only; others cannot be in the support.
/// Complexity O(n) and a few passes over those. Absolute error of a weight <= 1e-6.
BOREL_EXPORT void sparsemax(std::span<float> row);

/// max(0, x_j / 2 - tau)^2 with sum 1: Tsallis entmax with alpha = 1.5 (Peters, Niculae and Martins 2019,
/// arXiv:1905.05702, equation 11). Newton's method on the root of the sum of squares, over the scores above max - 2, then
/// the closed form on the support that it found. Absolute error of a weight <= 1e-6.
BOREL_EXPORT void entmax15(std::span<float> row);

/// Softmax over the scores that are at least the k-th largest: ties with it are all kept, so the order of the keys does
/// not matter; rows with at most k finite scores keep all. Complexity O(n) for k much smaller than n: a buffer of 4 k
/// candidates is cut back to k when full, by counting above a bisected level (exact, and without a branch that the
/// processor has to guess).
BOREL_EXPORT void top_k_softmax(std::span<float> row, index_t k);

/// cap tanh(x / cap), elementwise; relative error <= 5e-7. Infinite scores stay as they are: a masked pair stays masked.
/// @pre cap > 0
BOREL_EXPORT void softcap(std::span<float> x, float cap);

/// 1 / (1 + exp(-(x + shift))), elementwise; relative error <= 5e-7 and 0 for x + shift <= -88.
BOREL_EXPORT void sigmoid(std::span<float> x, float shift);

}  // namespace borel
