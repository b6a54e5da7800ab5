// A short causal convolution, each channel for itself: what lets a layer bind a token to the one before it, whatever its
// attention. On q, k and v as in Yang et al. 2024, arXiv:2412.06464, figure 1, here without an activation.
//
//   out_t = sum_s w_s * x_{t - s},  s = 0 .. n_taps - 1,   x_t = 0 before the sequence;   w [n_taps, n_columns]
#pragma once

#include <algorithm>

#include "probe/dense_layer.hpp"

namespace borel::probe {

/// @param x, out  sequences of n rows each, one after the other
template <class T>
void short_convolution(MatrixView<const T> x, index_t n, const T* w, index_t n_taps, MatrixView<T> out) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    T* to = out.row(r);
    std::fill(to, to + x.n_columns, T(0));
    for (index_t s = 0; s < std::min(n_taps, r % n + 1); ++s) {
      const T* from = x.row(r - s);
      const T* tap = w + s * x.n_columns;
      for (index_t c = 0; c < x.n_columns; ++c) to[c] += tap[c] * from[c];
    }
  }
}

/// @param d_x  overwritten   @param d_w  [n_taps, n_columns], added to
template <class T>
void short_convolution_backward(MatrixView<const T> x, index_t n, const T* w, index_t n_taps,
                                MatrixView<const T> d_out, MatrixView<T> d_x, T* d_w) {
  for (index_t r = 0; r < x.n_rows; ++r) std::fill(d_x.row(r), d_x.row(r) + x.n_columns, T(0));
  for (index_t r = 0; r < x.n_rows; ++r) {
    const T* d = d_out.row(r);
    for (index_t s = 0; s < std::min(n_taps, r % n + 1); ++s) {
      const T* from = x.row(r - s);
      const T* tap = w + s * x.n_columns;
      T* d_from = d_x.row(r - s);
      T* d_tap = d_w + s * x.n_columns;
      for (index_t c = 0; c < x.n_columns; ++c) {
        d_from[c] += tap[c] * d[c];
        d_tap[c] += from[c] * d[c];
      }
    }
  }
}

}  // namespace borel::probe
