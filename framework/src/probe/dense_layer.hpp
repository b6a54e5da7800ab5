// The row-wise parts of a block and its matrix products, for float and double.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include <cblas.h>

#include "borel/draft/matrix_product.hpp"
#include "borel/tensor.hpp"
#include "probe/activation.hpp"

namespace borel::probe {

/// Row-major matrix with a row stride.
template <class T>
struct MatrixView {
  T* data = nullptr;
  index_t n_rows = 0, n_columns = 0, stride = 0;
  MatrixView(T* values, index_t rows, index_t columns) : MatrixView(values, rows, columns, columns) {}
  MatrixView(T* values, index_t rows, index_t columns, index_t row_stride)
      : data(values), n_rows(rows), n_columns(columns), stride(row_stride) {}
  operator MatrixView<const T>() const requires(!std::is_const_v<T>) {  // NOLINT(google-explicit-constructor)
    return {data, n_rows, n_columns, stride};
  }
  T* row(index_t r) const { return data + r * stride; }
};

/// out = a b, or out += a b, with either factor transposed, on one thread: batches are parallel. In double by OpenBLAS,
/// pinned to one thread by who uses it.
template <class T>
void multiply(MatrixView<const T> a, bool transpose_a, MatrixView<const T> b, bool transpose_b,
              bool accumulate, MatrixView<T> out) {
  if constexpr (std::is_same_v<T, float>) {
    const auto factor = [](const MatrixView<const float>& matrix, bool is_transposed) {
      const TensorView<const float, 2> view(matrix.data, {matrix.n_rows, matrix.n_columns},
                                            {matrix.stride, 1});
      return is_transposed ? transposed(view) : MatrixFactor(view);
    };
    matrix_product(factor(a, transpose_a), factor(b, transpose_b), accumulate,
                   {out.data, {out.n_rows, out.n_columns}, {out.stride, 1}});
  } else {
    const auto size = [](index_t n) { return static_cast<blasint>(n); };
    const auto flag = [](bool is_transposed) { return is_transposed ? CblasTrans : CblasNoTrans; };
    cblas_dgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), size(out.n_rows), size(out.n_columns),
                size(transpose_a ? a.n_rows : a.n_columns), 1, a.data, size(a.stride), b.data, size(b.stride),
                accumulate ? 1 : 0, out.data, size(out.stride));
  }
}

/// out = x W + b, W [x.n_columns, out.n_columns]
template <class T>
void affine(MatrixView<const T> x, const T* weight, const T* bias, MatrixView<T> out) {
  for (index_t r = 0; r < out.n_rows; ++r) std::copy(bias, bias + out.n_columns, out.row(r));
  multiply<T>(x, false, {weight, x.n_columns, out.n_columns}, false, true, out);
}

/// d_weight and d_bias are added to.
template <class T>
void affine_backward(MatrixView<const T> x, MatrixView<const T> d_out, T* d_weight, T* d_bias) {
  multiply<T>(x, true, d_out, false, true, {d_weight, x.n_columns, d_out.n_columns});
  for (index_t r = 0; r < d_out.n_rows; ++r)
    for (index_t c = 0; c < d_out.n_columns; ++c) d_bias[c] += d_out.row(r)[c];
}

/// y = x g / sqrt(mean x^2 + eps), Zhang and Sennrich 2019; inverse_rms [n_rows] is kept for the gradient.
template <class T>
void rms_norm(MatrixView<const T> x, const T* gain, MatrixView<T> y, T* inverse_rms) {
  constexpr T k_epsilon = T(1e-6);
  for (index_t r = 0; r < x.n_rows; ++r) {
    const T* in = x.row(r);
    T* out = y.row(r);
    T partial[8] = {};  // eight sums: a fixed order that compilers turn into vectors
    index_t c = 0;
    for (; c + 8 <= x.n_columns; c += 8)
      for (index_t lane = 0; lane < 8; ++lane) partial[lane] += in[c + lane] * in[c + lane];
    for (; c < x.n_columns; ++c) partial[0] += in[c] * in[c];
    T sum = 0;
    for (T part : partial) sum += part;
    const T inverse = 1 / std::sqrt(sum / static_cast<T>(x.n_columns) + k_epsilon);
    inverse_rms[r] = inverse;
    for (c = 0; c < x.n_columns; ++c) out[c] = in[c] * inverse * gain[c];
  }
}

/// d_x += gradient of rms_norm, d_gain += ...: with u = x / rms,  d_x = (g d_y - u mean(u g d_y)) / rms.
template <class T>
void rms_norm_backward(MatrixView<const T> x, const T* gain, const T* inverse_rms, MatrixView<const T> d_y,
                       MatrixView<T> d_x, T* d_gain) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    const T* in = x.row(r);
    const T* dy = d_y.row(r);
    T* dx = d_x.row(r);
    const T inverse = inverse_rms[r];
    T partial[8] = {};
    index_t c = 0;
    for (; c + 8 <= x.n_columns; c += 8)
      for (index_t lane = 0; lane < 8; ++lane) partial[lane] += in[c + lane] * gain[c + lane] * dy[c + lane];
    for (; c < x.n_columns; ++c) partial[0] += in[c] * gain[c] * dy[c];
    T sum = 0;
    for (T part : partial) sum += part;
    const T along = sum * inverse * inverse / static_cast<T>(x.n_columns);
    for (c = 0; c < x.n_columns; ++c) {
      d_gain[c] += in[c] * inverse * dy[c];
      dx[c] += inverse * (gain[c] * dy[c] - in[c] * along);
    }
  }
}

}  // namespace borel::probe
