// DRAFT. Biases that depend on head and distance only (ALiBi, KERPLE, Sandwich, T5).
#pragma once

#include "borel/parallel.hpp"
#include "borel/position.hpp"

namespace borel {

/// Columns of PositionPlan::bias for one call: column c holds distance r = zero - c.
struct BiasColumns {
  index_t zero = 0, width = 0;
  index_t distance(index_t column) const { return zero - column; }
};

/// All distances between a query and a key of the call; with a causal mask those >= 0 only.
BOREL_EXPORT BiasColumns bias_columns(const PositionContext& context);

/// A plan with bias(head, r) in nats for every distance of the call. O(n_heads (n_q + n_k)) calls of `bias`.
BOREL_EXPORT PositionPlan bias_plan(const PositionContext& context,
                                    FunctionRef<double(index_t head, index_t r)> bias);

/// visit(head, r, d loss / d bias(head, r)) for every entry of a bias gradient: what backward() of such an encoding sums.
BOREL_EXPORT void for_each_bias_gradient(const PositionContext& context, std::span<const float> d_bias,
                                         FunctionRef<void(index_t head, index_t r, double gradient)> visit);

}  // namespace borel
