// Dense linear algebra in double for methods and objectives, compiled for several instruction sets and chosen at run
// time. Sums have a fixed order: the same bits on every call and for any number of threads (not for every processor).
// No size needs padding; nothing allocates except where it says so.
#pragma once

#include <span>

#include "borel/export.hpp"
#include "borel/tensor.hpp"

namespace borel::dense {

/// sum_i x_i y_i
BOREL_EXPORT double dot(std::span<const double> x, std::span<const double> y);
/// y += a x
BOREL_EXPORT void add_scaled(double a, std::span<const double> x, std::span<double> y);

/// out [m] = A x, A [m, n]. One pass over A.
BOREL_EXPORT void multiply(TensorView<const double, 2> a, std::span<const double> x, std::span<double> out);
/// out [n] += A' y. One pass over A.
BOREL_EXPORT void add_transposed(TensorView<const double, 2> a, std::span<const double> y,
                                 std::span<double> out);
/// out [k, n] += Y A, Y [k, m]: each row of out has the bits of add_transposed with that row of Y, but A is read once
/// for four of them.
BOREL_EXPORT void add_transposed(TensorView<const double, 2> a, TensorView<const double, 2> y,
                                 TensorView<double, 2> out);

/// Lower triangle of out [m, m] += B B', B [m, n]. m^2 n operations, in register tiles.
BOREL_EXPORT void add_gram(TensorView<const double, 2> b, TensorView<double, 2> out);

/// L L' = M in place, lower triangle; the upper one is not touched. n^3 / 3 operations, in tiles.
/// @return false when a pivot is not positive: M is not positive definite to rounding
BOREL_EXPORT bool cholesky(TensorView<double, 2> m);
/// x = (L L')^-1 x, in place; L from cholesky().
BOREL_EXPORT void cholesky_solve(TensorView<const double, 2> l, std::span<double> x);

/// Where g is smallest, and smallest and largest among the i with p_i > 0; of equals the first. -1: no such i (NaN in g
/// is never chosen). One pass.
struct Extremes {
  index_t lowest = -1, lowest_used = -1, highest_used = -1;
};
BOREL_EXPORT Extremes extremes(std::span<const double> p, std::span<const double> g);

/// x_i = exp(x_i - shift), in place; relative error below 1e-15 where the result is normal, 0 below exp(-708).
/// @return the sum of the results. @pre x_i <= shift
BOREL_EXPORT double exp_and_sum(std::span<double> x, double shift);

}  // namespace borel::dense
