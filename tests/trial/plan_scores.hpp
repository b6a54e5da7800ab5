// Position plans read straight from the definitions in borel/position.hpp, in double: one pair at a time.
#pragma once

#include <vector>

#include "borel/attention.hpp"

namespace borel::trial {

/// Random tensors of one call, owned.
class RandomCall {
 public:
  RandomCall(index_t h_q, index_t h_kv, index_t n_q, index_t n_k, index_t d_k, index_t d_v, Seed seed);
  /// q, k, v and, for causal calls, the last query on the last key.
  AttentionCall call(bool causal = true) const;
  TensorView<float, 3> q() { return {q_.data(), q_shape_}; }
  TensorView<float, 3> k() { return {k_.data(), k_shape_}; }
  TensorView<float, 3> v() { return {v_.data(), v_shape_}; }

 private:
  TensorView<float, 3>::Shape q_shape_, k_shape_, v_shape_;
  std::vector<float> q_, k_, v_;
};

/// q . k of query row `row` and key j under the plan, with query scale but without the mechanism's scale and
/// without bias.
/// @pre the plan is no ensemble
double plan_product(const PositionPlan& plan, const AttentionCall& call, index_t head, index_t row,
                    index_t j);

/// sum_m Re[q_m conj(k_m) e^(I theta_m distance)] for pairs (m, m + d / 2), theta_m = base^(-2 m / d).
double turned_product(std::span<const float> q, std::span<const float> k, double base, double distance);

/// Softmax attention under the plan, [h_q, n_q, d_v]; rows that see nothing are zero.
std::vector<double> softmax_by_definition(const PositionPlan& plan, const AttentionCall& call);

PositionContext context_of(const AttentionCall& call);

}  // namespace borel::trial
