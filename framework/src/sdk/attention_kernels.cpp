#include "attention_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, k_row_pad>;
using Vec = hn::Vec<Floats>;

// Register block: accumulators, the vectors of b and one broadcast must fit the register file.
#if HWY_TARGET <= HWY_AVX3
constexpr int k_block_rows = 12;  // 32 registers
#else
constexpr int k_block_rows = 6;  // 16 registers
#endif

template <int Rows, int Vectors>
HWY_INLINE void multiply_block(const float* HWY_RESTRICT a, index_t lda, const float* HWY_RESTRICT b,
                               index_t ldb, float* HWY_RESTRICT out, index_t ldo, index_t n_inner,
                               bool accumulate) {
  const Floats f;
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  Vec sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c)
      sum[r][c] = accumulate ? hn::LoadU(f, out + r * ldo + c * lanes) : hn::Zero(f);
  for (index_t k = 0; k < n_inner; ++k) {
    Vec row[Vectors];
    for (int c = 0; c < Vectors; ++c) row[c] = hn::LoadU(f, b + k * ldb + c * lanes);
    for (int r = 0; r < Rows; ++r) {
      const Vec factor = hn::Set(f, a[r * lda + k]);
      for (int c = 0; c < Vectors; ++c) sum[r][c] = hn::MulAdd(factor, row[c], sum[r][c]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Vectors; ++c) hn::StoreU(sum[r][c], f, out + r * ldo + c * lanes);
}

template <int Rows>
HWY_INLINE void multiply_rows(const float* a, index_t lda, const float* b, index_t ldb, float* out,
                              index_t ldo, index_t n_inner, index_t n_cols, bool accumulate) {
  const auto lanes = static_cast<index_t>(hn::Lanes(Floats()));
  index_t c = 0;
  for (; c + 2 * lanes <= n_cols; c += 2 * lanes)
    multiply_block<Rows, 2>(a, lda, b + c, ldb, out + c, ldo, n_inner, accumulate);
  if (c < n_cols) multiply_block<Rows, 1>(a, lda, b + c, ldb, out + c, ldo, n_inner, accumulate);
}

void Multiply(const float* a, index_t lda, const float* b, index_t ldb, float* out, index_t ldo,
              index_t n_rows, index_t n_inner, index_t n_cols, bool accumulate) {
  index_t r = 0;
  for (; r + k_block_rows <= n_rows; r += k_block_rows)
    multiply_rows<k_block_rows>(a + r * lda, lda, b, ldb, out + r * ldo, ldo, n_inner, n_cols, accumulate);
  for (; r + 4 <= n_rows; r += 4)
    multiply_rows<4>(a + r * lda, lda, b, ldb, out + r * ldo, ldo, n_inner, n_cols, accumulate);
  for (; r < n_rows; ++r)
    multiply_rows<1>(a + r * lda, lda, b, ldb, out + r * ldo, ldo, n_inner, n_cols, accumulate);
}

void OnlineSoftmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_max, double* row_sum,
                   float* o, index_t ldo, index_t d_o) {
  const Floats f;
  const auto lanes = static_cast<index_t>(hn::Lanes(f));
  for (index_t r = 0; r < n_rows; ++r) {
    float* HWY_RESTRICT row = scores + r * ld;
    Vec largest = hn::Set(f, -std::numeric_limits<float>::infinity());
    Vec not_a_number = hn::Zero(f);
    for (index_t c = 0; c < n_cols; c += lanes) {
      const Vec x = hn::LoadU(f, row + c);
      largest = hn::Max(largest, x);
      not_a_number = hn::IfThenElse(hn::Eq(x, x), not_a_number, x);
    }
    // Maximum and Highway's exp both lose NaN, which would hide a broken input.
    if (const float sum = hn::GetLane(hn::SumOfLanes(f, not_a_number)); std::isnan(sum))
      row_sum[r] = static_cast<double>(sum);
    const float maximum = std::max(row_max[r], hn::GetLane(hn::MaxOfLanes(f, largest)));
    if (maximum == -std::numeric_limits<float>::infinity()) {  // nothing seen so far
      for (index_t c = 0; c < n_cols; c += lanes) hn::StoreU(hn::Zero(f), f, row + c);
      continue;
    }
    if (maximum > row_max[r]) {
      const float factor = std::exp(row_max[r] - maximum);  // 0 at the first tile
      row_sum[r] *= static_cast<double>(factor);
      const Vec factors = hn::Set(f, factor);
      for (index_t c = 0; c < d_o; c += lanes)
        hn::StoreU(hn::Mul(factors, hn::LoadU(f, o + r * ldo + c)), f, o + r * ldo + c);
      row_max[r] = maximum;
    }
    const Vec shift = hn::Set(f, maximum);
    Vec sum = hn::Zero(f);
    for (index_t c = 0; c < n_cols; c += lanes) {
      const Vec x = hn::Sub(hn::LoadU(f, row + c), shift);
      const Vec weight = hn::Exp(f, x);
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, f, row + c);
    }
    row_sum[r] += static_cast<double>(hn::GetLane(hn::SumOfLanes(f, sum)));
  }
}

void SineCosine(const double* angles, index_t n, float* cosine, float* sine) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> f;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  constexpr double k_turn = 6.283185307179586, k_turn_rest = 2.4492935982947064e-16;
  const auto one = [&](const double* in, float* out_cosine, float* out_sine) {
    const auto x = hn::LoadU(d, in);
    const auto turns = hn::Round(hn::Mul(x, hn::Set(d, 1 / k_turn)));
    const auto rest =
        hn::NegMulAdd(turns, hn::Set(d, k_turn_rest), hn::NegMulAdd(turns, hn::Set(d, k_turn), x));
    hn::StoreU(hn::DemoteTo(f, hn::Cos(d, rest)), f, out_cosine);
    hn::StoreU(hn::DemoteTo(f, hn::Sin(d, rest)), f, out_sine);
  };
  index_t t = 0;
  for (; t + lanes <= n; t += lanes) one(angles + t, cosine + t, sine + t);
  if (t < n) {
    double in[HWY_MAX_BYTES / sizeof(double)] = {};
    float out_cosine[HWY_MAX_BYTES / sizeof(double)], out_sine[HWY_MAX_BYTES / sizeof(double)];
    std::copy(angles + t, angles + n, in);
    one(in, out_cosine, out_sine);
    std::copy(out_cosine, out_cosine + (n - t), cosine + t);
    std::copy(out_sine, out_sine + (n - t), sine + t);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(OnlineSoftmax);
HWY_EXPORT(SineCosine);

void multiply(const float* a, index_t lda, const float* b, index_t ldb, float* out, index_t ldo,
              index_t n_rows, index_t n_inner, index_t n_cols, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, lda, b, ldb, out, ldo, n_rows, n_inner, n_cols, accumulate);
}

void online_softmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_max,
                    double* row_sum, float* o, index_t ldo, index_t d_o) {
  HWY_DYNAMIC_DISPATCH(OnlineSoftmax)(scores, ld, n_rows, n_cols, row_max, row_sum, o, ldo, d_o);
}

void sine_cosine(const double* angles, index_t n, float* cosine, float* sine) {
  HWY_DYNAMIC_DISPATCH(SineCosine)(angles, n, cosine, sine);
}

const char* instruction_set() {
  const std::int64_t supported = hwy::SupportedTargets();
  return hwy::TargetName(supported & -supported);  // the lowest bit is the best
}

}  // namespace borel::kernels
#endif
