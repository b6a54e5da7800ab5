// Attention in float64, O(n_q n_k d), straight from the definitions in position.hpp and from the papers: no
// tiles, no recurrences, no code shared with the engines.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "borel/attention.hpp"
#include "borel/method_spec.hpp"

namespace borel::reference {

/// Row-major matrix of doubles.
struct Matrix {
  index_t n_rows = 0, n_cols = 0;
  std::vector<double> values = {};
  Matrix() = default;
  Matrix(index_t rows, index_t cols, double fill = 0)
      : n_rows(rows), n_cols(cols), values(static_cast<std::size_t>(rows * cols), fill) {}
  double& operator()(index_t r, index_t c) { return values[static_cast<std::size_t>(r * n_cols + c)]; }
  double operator()(index_t r, index_t c) const { return values[static_cast<std::size_t>(r * n_cols + c)]; }
};

/// May query row r (absolute position r + query_offset) see key j?
bool sees(const AttentionCall& call, index_t r, index_t j);

/// The band's score of position.hpp for query row r and key j, or q . k when no band holds. @pre plan is no
/// ensemble
double pair_product(const PositionPlan* plan, const Matrix& q, index_t r, const Matrix& k, index_t j,
                    index_t query_offset);

/// Rows of q of a query head, or of the keys it reads, after the plan's token maps.
Matrix mapped_queries(const AttentionCall& call, index_t head);
Matrix mapped_keys(const AttentionCall& call, index_t head);

/// query_scale * row_factor(i) * scale * product + bias for pairs that see each other, -infinity for the
/// others.
Matrix scores(const AttentionCall& call, index_t head, double scale,
              const std::function<double(index_t i)>& row_factor);

/// Effective weights [n_q, n_k] of one query head.
using AttentionWeightsOf = std::function<Matrix(const AttentionCall& call, index_t head)>;

/// The mechanism with these parameters, or nullopt for an id that has no reference. Handles ensembles.
std::optional<AttentionWeightsOf> attention_weights(const MethodSpec& canonical);

/// Output [n_q, d_v] of one query head: weights times values, then what the mechanism does to the output (norms), where
/// it is not linear in v.
using AttentionOutputOf = std::function<Matrix(const AttentionCall& call, index_t head)>;
std::optional<AttentionOutputOf> attention_output_of(const MethodSpec& canonical);

/// weights times the values that the head reads, [n_q, d_v].
Matrix attention_output(const AttentionCall& call, index_t head, const Matrix& weights);

}  // namespace borel::reference
