#include "probe/activation.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "probe/activation.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace borel::probe {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vec = hn::Vec<Floats>;
constexpr float k_gelu_scale = 1.5957691216057308F;  // 2 sqrt(2 / pi)
constexpr float k_gelu_cubic = 0.044715F;

// 1 / (1 + e^minus_x), relative error <= 3e-7 with fused multiply-adds, 4e-6 without. Beyond +-87 the result is 0 or 1 to rounding. The exponential is that of
// sdk/exp-inl.hpp with a polynomial of degree 6 (minimax, 1.6e-8 in floats) and log2(e) in two parts: differences of a
// loss see more than one.
HWY_INLINE Vec LogisticOf(Floats f, Vec minus_x) {
  constexpr float k_log2_e = 1.44269502F, k_log2_e_rest = 1.92596303e-8F;
  const hn::RebindToSigned<Floats> bits;
  // x86 min and max give their second argument when one is NaN: NaN passes, so that a diverged network shows.
  const Vec x = hn::Min(hn::Set(f, 87.0F), hn::Max(hn::Set(f, -87.0F), minus_x));
  const Vec magic = hn::Set(f, 12582912.0F + 127.0F);
  const Vec shifted = hn::MulAdd(x, hn::Set(f, k_log2_e), magic);
  Vec rest = hn::MulSub(x, hn::Set(f, k_log2_e), hn::Sub(shifted, magic));
  rest = hn::MulAdd(x, hn::Set(f, k_log2_e_rest), rest);
  Vec p = hn::Set(f, 0.0001534581242594868F);
  for (const float coefficient : {0.0013399930903688073F, 0.009618489071726799F, 0.05550328642129898F,
                                  0.24022646248340607F, 0.6931471824645996F, 1.0F})
    p = hn::MulAdd(p, rest, hn::Set(f, coefficient));
  const Vec e = hn::Mul(p, hn::BitCast(f, hn::ShiftLeft<23>(hn::BitCast(bits, shifted))));
  return hn::Div(hn::Set(f, 1.0F), hn::Add(hn::Set(f, 1.0F), e));
}

HWY_INLINE Vec Logistic(Floats f, Vec x) { return LogisticOf(f, hn::Neg(x)); }

// The logistic function in gelu, c (x + a x^3), given x^2.
HWY_INLINE Vec GeluLogistic(Floats f, Vec x, Vec square) {
  return LogisticOf(
      f, hn::Mul(x, hn::MulAdd(square, hn::Set(f, -k_gelu_scale * k_gelu_cubic), hn::Set(f, -k_gelu_scale))));
}

/// Calls body for full vectors, and for the rest with copies: in[0 .. n_in) are read, out[0 .. n_out) written.
template <int n_in, int n_out, class Body>
HWY_INLINE void Map(const float* const (&in)[n_in], index_t n, float* const (&out)[n_out], Body&& body) {
  const Floats f;
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  Vec x[n_in], y[n_out];
  index_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int s = 0; s < n_in; ++s) x[s] = hn::LoadU(f, in[s] + i);
    body(x, y);
    for (int s = 0; s < n_out; ++s) hn::StoreU(y[s], f, out[s] + i);
  }
  if (i == n) return;
  float rest[16] = {};
  for (int s = 0; s < n_in; ++s) {
    std::copy(in[s] + i, in[s] + n, rest);
    x[s] = hn::LoadU(f, rest);
  }
  body(x, y);
  for (int s = 0; s < n_out; ++s) {
    hn::StoreU(y[s], f, rest);
    std::copy(rest, rest + (n - i), out[s] + i);
  }
}

void Gelu(const float* x, index_t n, float* out) {
  const Floats f;
  Map<1, 1>({x}, n, {out}, [f](const Vec* in, Vec* y) {
    y[0] = hn::Mul(in[0], GeluLogistic(f, in[0], hn::Mul(in[0], in[0])));
  });
}

void GeluBackward(const float* x, const float* d_out, index_t n, float* d_x) {
  const Floats f;
  Map<2, 1>({x, d_out}, n, {d_x}, [f](const Vec* in, Vec* y) {
    const Vec square = hn::Mul(in[0], in[0]);
    const Vec s = GeluLogistic(f, in[0], square);
    const Vec slope =
        hn::MulAdd(hn::Set(f, 3 * k_gelu_cubic * k_gelu_scale), square, hn::Set(f, k_gelu_scale));
    // s + x s (1 - s) slope
    y[0] = hn::Mul(in[1], hn::MulAdd(hn::Mul(in[0], hn::NegMulAdd(s, s, s)), slope, s));
  });
}

void Gated(const float* a, const float* b, index_t n, float* out) {
  const Floats f;
  Map<2, 1>({a, b}, n, {out},
            [f](const Vec* in, Vec* y) { y[0] = hn::Mul(hn::Mul(in[0], Logistic(f, in[0])), in[1]); });
}

void GatedBackward(const float* a, const float* b, const float* d_out, index_t n, float* d_a, float* d_b) {
  const Floats f;
  Map<3, 2>({a, b, d_out}, n, {d_a, d_b}, [f](const Vec* in, Vec* y) {
    const Vec s = Logistic(f, in[0]), one = hn::Set(f, 1.0F);
    y[1] = hn::Mul(in[2], hn::Mul(in[0], s));
    const Vec slope = hn::MulAdd(hn::Mul(in[0], s), hn::Sub(one, s), s);
    y[0] = hn::Mul(hn::Mul(in[2], in[1]), slope);
  });
}

void Silu(const float* x, index_t n, float* out) {
  const Floats f;
  Map<1, 1>({x}, n, {out}, [f](const Vec* in, Vec* y) { y[0] = hn::Mul(in[0], Logistic(f, in[0])); });
}

void SiluBackward(const float* x, const float* d_out, index_t n, float* d_x) {
  const Floats f;
  Map<2, 1>({x, d_out}, n, {d_x}, [f](const Vec* in, Vec* y) {
    const Vec s = Logistic(f, in[0]), one = hn::Set(f, 1.0F);
    y[0] = hn::Mul(in[1], hn::MulAdd(hn::Mul(in[0], s), hn::Sub(one, s), s));
  });
}

// @return the sum of exp(row - shift), which row becomes
float ExpAndSum(float* row, index_t n, float shift) {
  const hn::CappedTag<float, 8> f;  // AVX2 and AVX-512 machines add in the same order
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  auto sum = hn::Zero(f);
  index_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto e = hn::Exp(f, hn::Sub(hn::LoadU(f, row + i), hn::Set(f, shift)));
    hn::StoreU(e, f, row + i);
    sum = hn::Add(sum, e);
  }
  float total = hn::GetLane(hn::SumOfLanes(f, sum));
  for (; i < n; ++i) {
    row[i] = std::exp(row[i] - shift);
    total += row[i];
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::probe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::probe {

HWY_EXPORT(Gelu);
HWY_EXPORT(GeluBackward);
HWY_EXPORT(Gated);
HWY_EXPORT(GatedBackward);
HWY_EXPORT(Silu);
HWY_EXPORT(SiluBackward);
HWY_EXPORT(ExpAndSum);

void gelu(const float* x, index_t n, float* out) { HWY_DYNAMIC_DISPATCH(Gelu)(x, n, out); }
void gelu_backward(const float* x, const float* d_out, index_t n, float* d_x) {
  HWY_DYNAMIC_DISPATCH(GeluBackward)(x, d_out, n, d_x);
}
void gated(const float* a, const float* b, index_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(Gated)(a, b, n, out);
}
void gated_backward(const float* a, const float* b, const float* d_out, index_t n, float* d_a, float* d_b) {
  HWY_DYNAMIC_DISPATCH(GatedBackward)(a, b, d_out, n, d_a, d_b);
}

void silu(const float* x, index_t n, float* out) { HWY_DYNAMIC_DISPATCH(Silu)(x, n, out); }
void silu_backward(const float* x, const float* d_out, index_t n, float* d_x) {
  HWY_DYNAMIC_DISPATCH(SiluBackward)(x, d_out, n, d_x);
}

namespace {
constexpr double k_scale = 1.5957691216057308, k_cubic = 0.044715;
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
}  // namespace

void gelu(const double* x, index_t n, double* out) {
  for (index_t i = 0; i < n; ++i) out[i] = x[i] * logistic(k_scale * (x[i] + k_cubic * x[i] * x[i] * x[i]));
}

void gelu_backward(const double* x, const double* d_out, index_t n, double* d_x) {
  for (index_t i = 0; i < n; ++i) {
    const double s = logistic(k_scale * (x[i] + k_cubic * x[i] * x[i] * x[i]));
    d_x[i] = d_out[i] * (s + x[i] * s * (1 - s) * k_scale * (1 + 3 * k_cubic * x[i] * x[i]));
  }
}

void gated(const double* a, const double* b, index_t n, double* out) {
  for (index_t i = 0; i < n; ++i) out[i] = a[i] * logistic(a[i]) * b[i];
}

void gated_backward(const double* a, const double* b, const double* d_out, index_t n, double* d_a,
                    double* d_b) {
  for (index_t i = 0; i < n; ++i) {
    const double s = logistic(a[i]), d = d_out[i];
    d_b[i] = d * a[i] * s;
    d_a[i] = d * b[i] * (s + a[i] * s * (1 - s));
  }
}

void silu(const double* x, index_t n, double* out) {
  for (index_t i = 0; i < n; ++i) out[i] = x[i] * logistic(x[i]);
}

void silu_backward(const double* x, const double* d_out, index_t n, double* d_x) {
  for (index_t i = 0; i < n; ++i) {
    const double s = logistic(x[i]);
    d_x[i] = d_out[i] * (s + x[i] * s * (1 - s));
  }
}

double cross_entropy(float* row, index_t n, index_t target, float scale) {
  const float largest = *std::max_element(row, row + n), at_target = row[target];
  const float sum = HWY_DYNAMIC_DISPATCH(ExpAndSum)(row, n, largest);
  const float factor = scale / sum;
  for (index_t i = 0; i < n; ++i) row[i] *= factor;
  row[target] -= scale;
  return std::log(static_cast<double>(sum)) + (static_cast<double>(largest) - static_cast<double>(at_target));
}

double cross_entropy(double* row, index_t n, index_t target, double scale) {
  const double largest = *std::max_element(row, row + n), at_target = row[target];
  double sum = 0;
  for (index_t i = 0; i < n; ++i) {
    row[i] = std::exp(row[i] - largest);
    sum += row[i];
  }
  for (index_t i = 0; i < n; ++i) row[i] *= scale / sum;
  row[target] -= scale;
  return std::log(sum) + (largest - at_target);
}

}  // namespace borel::probe
#endif  // HWY_ONCE
