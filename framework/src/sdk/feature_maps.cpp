#include "borel/draft/feature_maps.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "feature_maps.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "exp-inl.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace borel::feature_maps {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using In = TensorView<const float, 2>;
using Out = TensorView<float, 2>;

/// Calls map(d, x) on every vector of a row, the last one through a padded copy.
template <class Map>
HWY_INLINE void for_every_vector(const float* x, float* y, index_t n, Map&& map) {
  const Floats f;
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  index_t c = 0;
  for (; c + lanes <= n; c += lanes) hn::StoreU(map(hn::LoadU(f, x + c)), f, y + c);
  if (c == n) return;
  HWY_ALIGN float rest[16] = {};
  std::copy(x + c, x + n, rest);
  hn::StoreU(map(hn::LoadU(f, rest)), f, rest);
  std::copy_n(rest, n - c, y + c);
}

/// Highway's exp loses NaN, and its exponent wraps around to finite values far above ln(largest float).
HWY_INLINE hn::Vec<Floats> exp_of(hn::Vec<Floats> x) {
  const Floats f;
  const auto power = hn::IfThenElse(hn::Gt(x, hn::Set(f, 88.7228f)),
                                    hn::Set(f, std::numeric_limits<float>::infinity()), hn::Exp(f, x));
  return hn::IfThenElse(hn::Eq(x, x), power, x);
}

void Scale(In in, float factor, Out out) {
  const auto factors = hn::Set(Floats(), factor);
  for (index_t t = 0; t < in.shape(0); ++t)
    for_every_vector(&in(t, 0), &out(t, 0), in.shape(1), [&](auto x) { return hn::Mul(factors, x); });
}

/// exp2 loses relative accuracy with |x|, but where it is taken here the value is below 1: absolute error 3e-8.
void Elu1(In in, Out out) {
  const Floats f;
  for (index_t t = 0; t < in.shape(0); ++t)
    for_every_vector(&in(t, 0), &out(t, 0), in.shape(1), [&](auto x) {
      const auto power = kernels::HWY_NAMESPACE::exp2(f, hn::Mul(x, hn::Set(f, 1.44269504f)));
      return hn::IfThenElse(hn::Gt(x, hn::Zero(f)), hn::Add(x, hn::Set(f, 1.0f)), power);
    });
}

void Exp(In in, float factor, std::span<const float> shift, Out out) {
  const Floats f;
  const auto factors = hn::Set(f, factor);
  for (index_t t = 0; t < in.shape(0); ++t) {
    const auto shifts = hn::Set(f, shift.empty() ? 0.0f : shift[static_cast<std::size_t>(t)]);
    for_every_vector(&in(t, 0), &out(t, 0), in.shape(1),
                     [&](auto x) { return exp_of(hn::MulSub(factors, x, shifts)); });
  }
}

/// out[r, c] (+)= sum_k a[r, k] b[k, c], element (r, k) of a at a[r * row + k * inner]; any n_cols.
void Multiply(const float* a, index_t row, index_t inner, const float* b, index_t ldb, float* out,
              index_t ldo, index_t n_rows, index_t n_inner, index_t n_cols, bool accumulate) {
  const Floats f;
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  constexpr index_t k_rows = 8;
  for (index_t c = 0; c < n_cols; c += lanes) {
    const bool whole = c + lanes <= n_cols;
    const auto width = static_cast<std::size_t>(std::min(lanes, n_cols - c));
    for (index_t r0 = 0; r0 < n_rows; r0 += k_rows) {
      const index_t n = std::min(k_rows, n_rows - r0);
      const auto at = [&](index_t r) { return out + (r0 + r) * ldo + c; };
      hn::Vec<Floats> sum[k_rows];
      for (index_t r = 0; r < k_rows; ++r) {
        sum[r] = hn::Zero(f);
        if (!accumulate || r >= n) continue;
        HWY_ALIGN float partial[16] = {};
        std::copy_n(at(r), width, partial);
        sum[r] = hn::Load(f, partial);
      }
      HWY_ALIGN float rest[16] = {};
      for (index_t k = 0; k < n_inner; ++k) {
        if (!whole) std::copy_n(b + k * ldb + c, width, rest);
        const auto right = whole ? hn::LoadU(f, b + k * ldb + c) : hn::Load(f, rest);
        if (n == k_rows)
          for (index_t r = 0; r < k_rows; ++r)
            sum[r] = hn::MulAdd(hn::Set(f, a[(r0 + r) * row + k * inner]), right, sum[r]);
        else
          for (index_t r = 0; r < n; ++r)
            sum[r] = hn::MulAdd(hn::Set(f, a[(r0 + r) * row + k * inner]), right, sum[r]);
      }
      for (index_t r = 0; r < n; ++r) {
        HWY_ALIGN float partial[16];
        hn::Store(sum[r], f, partial);
        std::copy_n(partial, width, at(r));
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::feature_maps
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "chunk_kernels.hpp"

namespace borel {
namespace feature_maps {
HWY_EXPORT(Scale);
HWY_EXPORT(Elu1);
HWY_EXPORT(Exp);
HWY_EXPORT(Multiply);
}  // namespace feature_maps

void scale_rows(TensorView<const float, 2> in, float factor, TensorView<float, 2> out) {
  using namespace feature_maps;
  HWY_DYNAMIC_DISPATCH(Scale)(in, factor, out);
}

void elu1_rows(TensorView<const float, 2> in, TensorView<float, 2> out) {
  using namespace feature_maps;
  HWY_DYNAMIC_DISPATCH(Elu1)(in, out);
}

void exp_rows(TensorView<const float, 2> in, float factor, std::span<const float> shift,
              TensorView<float, 2> out) {
  using namespace feature_maps;
  HWY_DYNAMIC_DISPATCH(Exp)(in, factor, shift, out);
}

void multiply_rows(TensorView<const float, 2> in, TensorView<const float, 2> matrix_transposed,
                   bool accumulate, TensorView<float, 2> out) {
  using namespace feature_maps;
  if (out.shape(1) % kernels::k_row_pad == 0)
    return kernels::product(kernels::as_is(in.data(), in.stride(0)), matrix_transposed.data(),
                            matrix_transposed.stride(0), out.data(), out.stride(0), in.shape(0), in.shape(1),
                            out.shape(1), accumulate);
  HWY_DYNAMIC_DISPATCH(Multiply)
  (in.data(), in.stride(0), 1, matrix_transposed.data(), matrix_transposed.stride(0), out.data(),
   out.stride(0), in.shape(0), in.shape(1), out.shape(1), accumulate);
}

void add_rows(TensorView<const float, 2> in, float factor, TensorView<float, 2> out) {
  for (index_t t = 0; t < in.shape(0); ++t)
    std::transform(in.row(t).begin(), in.row(t).end(), out.row(t).begin(), out.row(t).begin(),
                   [factor](float x, float y) { return y + factor * x; });
}

namespace {
double root_of_square(std::span<const float> x, double epsilon) {
  double sum = epsilon;
  for (float a : x) sum += static_cast<double>(a) * static_cast<double>(a);
  return std::sqrt(sum);
}
}  // namespace

void unit_rows(TensorView<const float, 2> in, double epsilon, TensorView<float, 2> out) {
  for (index_t t = 0; t < in.shape(0); ++t) {
    const auto factor = static_cast<float>(1 / root_of_square(in.row(t), epsilon));
    std::ranges::transform(in.row(t), out.row(t).begin(), [factor](float x) { return factor * x; });
  }
}

void unit_rows_backward(TensorView<const float, 2> in, double epsilon, TensorView<const float, 2> out,
                        TensorView<const float, 2> d_out, TensorView<float, 2> d_in) {
  for (index_t t = 0; t < in.shape(0); ++t) {
    double inner = 0;
    for (index_t c = 0; c < in.shape(1); ++c) inner += static_cast<double>(out(t, c) * d_out(t, c));
    const double factor = 1 / root_of_square(in.row(t), epsilon);
    for (index_t c = 0; c < in.shape(1); ++c)
      d_in(t, c) += static_cast<float>(
          factor * (static_cast<double>(d_out(t, c)) - inner * static_cast<double>(out(t, c))));
  }
}

void add_outer_products(TensorView<const float, 2> a, TensorView<const float, 2> b,
                        TensorView<float, 2> out) {
  using namespace feature_maps;
  HWY_DYNAMIC_DISPATCH(Multiply)
  (a.data(), 1, a.stride(0), b.data(), b.stride(0), out.data(), out.stride(0), out.shape(0), a.shape(0),
   out.shape(1), true);
}

}  // namespace borel
#endif
