// Softmax attention and its gradients in float64 from float64 inputs, pair by pair: for checks of whole networks,
// where inputs rounded to float would hide what central differences can see.
#pragma once

#include "borel/attention.hpp"

namespace borel::reference {

/// Any plan without maps and ensembles. Shapes [h, n, d]; o is overwritten. O(h n^2 d).
void softmax_forward(TensorView<const double, 3> q, TensorView<const double, 3> k,
                     TensorView<const double, 3> v, const PositionPlan& plan, bool causal,
                     TensorView<double, 3> o);

/// d_q, d_k, d_v are added to.
void softmax_backward(TensorView<const double, 3> q, TensorView<const double, 3> k,
                      TensorView<const double, 3> v, const PositionPlan& plan, bool causal,
                      TensorView<const double, 3> d_o, TensorView<double, 3> d_q, TensorView<double, 3> d_k,
                      TensorView<double, 3> d_v);

}  // namespace borel::reference
