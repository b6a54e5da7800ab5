// DRAFT. Vectorised maps of rows, for the feature maps of chunk methods. All views have n rows; in and out may be the
// same view. Instruction set chosen at run time; relative error of an exponential at most 4 units of 2^-24.
#pragma once

#include <span>

#include "borel/export.hpp"
#include "borel/tensor.hpp"

namespace borel {

/// out = factor * in
BOREL_EXPORT void scale_rows(TensorView<const float, 2> in, float factor, TensorView<float, 2> out);
/// out = elu(in) + 1, elementwise.
BOREL_EXPORT void elu1_rows(TensorView<const float, 2> in, TensorView<float, 2> out);
/// out[t, c] = exp(factor * in[t, c] - shift[t]); an empty shift is 0.
BOREL_EXPORT void exp_rows(TensorView<const float, 2> in, float factor, std::span<const float> shift,
                           TensorView<float, 2> out);
/// out += factor * in
BOREL_EXPORT void add_rows(TensorView<const float, 2> in, float factor, TensorView<float, 2> out);
/// out = in / sqrt(|in|^2 + epsilon), row by row, and its gradient: d_in += (d_out - out (out . d_out)) / that root.
BOREL_EXPORT void unit_rows(TensorView<const float, 2> in, double epsilon, TensorView<float, 2> out);
BOREL_EXPORT void unit_rows_backward(TensorView<const float, 2> in, double epsilon,
                                     TensorView<const float, 2> out, TensorView<const float, 2> d_out,
                                     TensorView<float, 2> d_in);

}  // namespace borel
