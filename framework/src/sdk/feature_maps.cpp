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

}  // namespace HWY_NAMESPACE
}  // namespace borel::feature_maps
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel {
namespace feature_maps {
HWY_EXPORT(Scale);
HWY_EXPORT(Elu1);
HWY_EXPORT(Exp);
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

}  // namespace borel
#endif
