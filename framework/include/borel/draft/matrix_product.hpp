// DRAFT. Products of matrices of floats on one thread, for network layers and learned feature maps.
#pragma once

#include "borel/export.hpp"
#include "borel/tensor.hpp"

namespace borel {

/// A factor of a product: a matrix as it is stored, or its transpose, of which no whole copy is made.
struct MatrixFactor {
  TensorView<const float, 2> stored;
  bool is_transposed = false;

  MatrixFactor(TensorView<const float, 2> matrix) : stored(matrix) {}  // NOLINT(google-explicit-constructor)
  MatrixFactor(TensorView<float, 2> matrix) : stored(matrix) {}        // NOLINT(google-explicit-constructor)
  index_t n_rows() const { return stored.shape(is_transposed ? 1 : 0); }
  index_t n_columns() const { return stored.shape(is_transposed ? 0 : 1); }
};

inline MatrixFactor transposed(TensorView<const float, 2> matrix) {
  MatrixFactor factor(matrix);
  factor.is_transposed = true;
  return factor;
}

/// out = a b, or out += a b. Any sizes and row strides; out overlaps neither factor. Every element is one sum over the
/// inner index in its order, with multiply-adds where the machine has them: the bits depend neither on the sizes around
/// it nor on which of AVX2 and AVX-512 is there. The factors are copied into blocks of at most 1 MB beside out.
/// Error of an element <= (inner size + 1) 2^-24 (sum_k |a_ik b_kj|, and what is added to).
/// @pre a.n_columns() == b.n_rows(), out is [a.n_rows(), b.n_columns()]
BOREL_EXPORT void matrix_product(const MatrixFactor& a, const MatrixFactor& b, bool accumulate,
                                 TensorView<float, 2> out);

}  // namespace borel
