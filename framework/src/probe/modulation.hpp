// A norm that is told something about its sequence: y = (1 + scale) * u + shift, u the norm, scale and shift one for every
// sequence. adaLN in Peebles and Xie 2022, arXiv:2212.09748, section 3.2, after FiLM (Perez et al. 2018, arXiv:1709.07871).
#pragma once

#include "probe/dense_layer.hpp"

namespace borel::probe {

/// In place. @param y [n_sequences n, d] holds u; @param scale_shift [n_sequences, 2 d]
template <class T>
void modulate(MatrixView<T> y, index_t n, MatrixView<const T> scale_shift) {
  const index_t d = y.n_columns;
  for (index_t r = 0; r < y.n_rows; ++r) {
    T* row = y.row(r);
    const T* scale = scale_shift.row(r / n);
    for (index_t c = 0; c < d; ++c) row[c] = (1 + scale[c]) * row[c] + scale[d + c];
  }
}

/// d_y becomes d_u. u = x gain inverse_rms is made again from what rms_norm() kept.
/// @param d_scale_shift [n_sequences, 2 d], added to
template <class T>
void modulate_backward(MatrixView<const T> x, const T* gain, const T* inverse_rms, index_t n,
                       MatrixView<const T> scale_shift, MatrixView<T> d_y, MatrixView<T> d_scale_shift) {
  const index_t d = d_y.n_columns;
  for (index_t r = 0; r < d_y.n_rows; ++r) {
    const T* in = x.row(r);
    const T* scale = scale_shift.row(r / n);
    T* row = d_y.row(r);
    T* d_scale = d_scale_shift.row(r / n);
    for (index_t c = 0; c < d; ++c) {
      d_scale[c] += row[c] * in[c] * inverse_rms[r] * gain[c];
      d_scale[d + c] += row[c];
      row[c] *= 1 + scale[c];
    }
  }
}

}  // namespace borel::probe
