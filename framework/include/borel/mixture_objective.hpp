// The likelihood of a mixture of fixed components as an objective: -sum_i w_i log (L p)_i over the simplex. Any density
// with a fixed basis (histogram, Bernstein, mixture on a grid of atoms) is this problem, and any optimizer solves it:
//
//   auto f = mixture_objective("bernstein", DenseLikelihood{values, n_rows, n_columns});
//   auto result = registry.make<Optimizer>(spec)->minimize(*f, start, stop, seed, trace);
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "borel/objective.hpp"

namespace borel {

/// L_ij = density of component j at sample i, row-major [n_rows, n_columns]; >= 0, a positive entry in each row.
struct DenseLikelihood {
  std::vector<double> values;
  index_t n_rows = 0, n_columns = 0;
};

/// The same by columns: entries of column j are row[k], value[k] for k in [begin[j], begin[j + 1]), rows ascending.
struct SparseLikelihood {
  std::vector<index_t> begin, row;
  std::vector<double> value;
  index_t n_rows = 0;
};

/// F(p) = -sum_i w_i log (L p)_i with exact line search, curvature products and MixtureLikelihood.
/// A gradient costs two passes over L. @param row_weight w [n_rows], >= 0 with a positive sum, scaled to sum 1; empty =
/// all 1 / n_rows. @param optimum known minimum, for reports
/// @throws MethodError when sizes do not fit, an entry is negative or not finite, or a row has no positive entry (it
/// names problem, row and column)
BOREL_EXPORT std::unique_ptr<SimplexObjective> mixture_objective(std::string name, DenseLikelihood likelihood,
                                                                 std::vector<double> row_weight = {},
                                                                 std::optional<double> optimum = {});
BOREL_EXPORT std::unique_ptr<SimplexObjective> mixture_objective(std::string name,
                                                                 SparseLikelihood likelihood,
                                                                 std::vector<double> row_weight = {},
                                                                 std::optional<double> optimum = {});

}  // namespace borel
