// How concentrated a row of an attention matrix is. All measures take signed, unnormalised rows.
#pragma once

#include <span>

#include "borel/tensor.hpp"

namespace borel {

struct Concentration {
  double sparsity = 0;           ///< S = E|a| / sqrt(E a^2) in (0, 1]; small = concentrated, 1 = all equal
  double entropy_nats = 0;       ///< of |a| / sum |a|
  double effective_support = 0;  ///< exp(entropy): number of keys that count
  double max_weight = 0;         ///< max |a| / sum |a|
};

/// One row; a row of zeros gives S = 1, entropy log n (nothing is concentrated). O(n), sums in double.
Concentration concentration_of(std::span<const float> row);

/// Singular values above max(m, n) * eps * the largest one, with eps of float32. LAPACK dgesdd, O(min(m, n)^2 max(m, n)).
index_t numerical_rank(TensorView<const float, 2> matrix);

}  // namespace borel
