#include "attention_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include "product-inl.hpp"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// All rows of a block of columns before the next: its panels stay in the first cache levels.
void Multiply(const Left& a, const Right& b, float* out, index_t ldo, index_t n_rows, index_t n_inner,
              index_t n_cols, bool accumulate) {
  for_column_blocks(n_cols, [&]<int Vectors>(std::integral_constant<int, Vectors>, index_t c) {
    const Right right = from_column(b, c);
    for_row_blocks<block_rows(Vectors)>(n_rows, [&]<int Rows>(std::integral_constant<int, Rows>, index_t r) {
      multiply_block<Rows, Vectors>(from_row(a, r), right, out + r * ldo + c, ldo, n_inner, accumulate);
    });
  });
}

void PackTransposed(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed) {
  for (index_t t0 = 0; t0 < n_padded; t0 += k_row_pad, packed += k_row_pad * d) {
#if HWY_TARGET == HWY_SCALAR
    const index_t n_full = 0, d_full = 0;
#else
    const hn::CappedTag<float, 4> f;
    const index_t n_full = std::clamp<index_t>((n - t0) / 4 * 4, 0, k_row_pad), d_full = d / 4 * 4;
    for (index_t t = 0; t < n_full; t += 4)
      for (index_t c = 0; c < d_full; c += 4) {
        const float* from = rows + (t0 + t) * ld + c;
        const auto r0 = hn::LoadU(f, from), r1 = hn::LoadU(f, from + ld), r2 = hn::LoadU(f, from + 2 * ld),
                   r3 = hn::LoadU(f, from + 3 * ld);
        const auto low02 = hn::InterleaveLower(f, r0, r2), low13 = hn::InterleaveLower(f, r1, r3),
                   high02 = hn::InterleaveUpper(f, r0, r2), high13 = hn::InterleaveUpper(f, r1, r3);
        float* to = packed + c * k_row_pad + t;
        hn::StoreU(hn::InterleaveLower(f, low02, low13), f, to);
        hn::StoreU(hn::InterleaveUpper(f, low02, low13), f, to + k_row_pad);
        hn::StoreU(hn::InterleaveLower(f, high02, high13), f, to + 2 * k_row_pad);
        hn::StoreU(hn::InterleaveUpper(f, high02, high13), f, to + 3 * k_row_pad);
      }
#endif
    for (index_t c = 0; c < d; ++c)
      for (index_t t = c < d_full ? n_full : 0; t < k_row_pad; ++t)
        packed[c * k_row_pad + t] = t0 + t < n ? rows[(t0 + t) * ld + c] : 0.0f;
  }
}

// Row by row, so that memory is read front to back; a panel gets whole cache lines.
void PackRows(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed) {
  const Floats f;
  const index_t d_full = d / k_row_pad * k_row_pad, panel = k_row_pad * n_padded;
  for (index_t t = 0; t < n; ++t, rows += ld, packed += k_row_pad) {
    float* to = packed;
    for (index_t c = 0; c < d_full; c += k_row_pad, to += panel)
      for (index_t lane = 0; lane < k_row_pad; lane += k_lanes)
        hn::StoreU(hn::LoadU(f, rows + c + lane), f, to + lane);
    if (d_full < d) std::fill(std::copy(rows + d_full, rows + d, to), to + k_row_pad, 0.0f);
  }
  for (index_t c = 0; c < d; c += k_row_pad, packed += panel)
    std::fill_n(packed, (n_padded - n) * k_row_pad, 0.0f);
}

void ScoreRow(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys, index_t ld, index_t n, index_t d,
              float* HWY_RESTRICT scores) {
  const Floats f;
  constexpr int k_keys = 4;  // independent sums, so that their latencies overlap
  const index_t d_full = d / k_lanes * k_lanes;
  index_t j = 0;
  for (; j + k_keys <= n; j += k_keys) {
    Vec sum[k_keys] = {hn::Zero(f), hn::Zero(f), hn::Zero(f), hn::Zero(f)};
    for (index_t c = 0; c < d_full; c += k_lanes) {
      const Vec x = hn::LoadU(f, q + c);
      for (int t = 0; t < k_keys; ++t) sum[t] = hn::MulAdd(x, hn::LoadU(f, keys + (j + t) * ld + c), sum[t]);
    }
    for (int t = 0; t < k_keys; ++t) {
      float total = hn::GetLane(hn::SumOfLanes(f, sum[t]));
      for (index_t c = d_full; c < d; ++c) total += q[c] * keys[(j + t) * ld + c];
      scores[j + t] = total;
    }
  }
  for (; j < n; ++j) {
    Vec sum = hn::Zero(f);
    for (index_t c = 0; c < d_full; c += k_lanes)
      sum = hn::MulAdd(hn::LoadU(f, q + c), hn::LoadU(f, keys + j * ld + c), sum);
    float total = hn::GetLane(hn::SumOfLanes(f, sum));
    for (index_t c = d_full; c < d; ++c) total += q[c] * keys[j * ld + c];
    scores[j] = total;
  }
}

template <int Vectors>
HWY_INLINE void add_weighted_block(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT rows,
                                   index_t ld, index_t n, float* HWY_RESTRICT out) {
  const Floats f;
  Vec sum[Vectors];
  for (int c = 0; c < Vectors; ++c) sum[c] = hn::LoadU(f, out + c * k_lanes);
  for (index_t j = 0; j < n; ++j) {
    const Vec w = hn::Set(f, weights[j]);
    for (int c = 0; c < Vectors; ++c)
      sum[c] = hn::MulAdd(w, hn::LoadU(f, rows + j * ld + c * k_lanes), sum[c]);
  }
  for (int c = 0; c < Vectors; ++c) hn::StoreU(sum[c], f, out + c * k_lanes);
}

void AddWeightedRows(const float* weights, const float* rows, index_t ld, index_t n, index_t d, float* out) {
  index_t c = 0;
  for (; c + 8 * k_lanes <= d; c += 8 * k_lanes) add_weighted_block<8>(weights, rows + c, ld, n, out + c);
  for (; c + 2 * k_lanes <= d; c += 2 * k_lanes) add_weighted_block<2>(weights, rows + c, ld, n, out + c);
  for (; c + k_lanes <= d; c += k_lanes) add_weighted_block<1>(weights, rows + c, ld, n, out + c);
  for (; c < d; ++c) {
    float sum = out[c];
    for (index_t j = 0; j < n; ++j) sum += weights[j] * rows[j * ld + c];
    out[c] = sum;
  }
}

double Dot(const float* x, const float* y, index_t n) {
  const hn::CappedTag<double, 4> d;  // AVX2 and AVX-512 machines add in the same order
  const hn::Rebind<float, decltype(d)> f;
  constexpr auto lanes = static_cast<index_t>(hn::MaxLanes(d));
  constexpr int k_sums = 4;  // so that their latencies overlap
  hn::Vec<decltype(d)> sum[k_sums] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  index_t c = 0;
  for (; c + k_sums * lanes <= n; c += k_sums * lanes)
    for (int s = 0; s < k_sums; ++s)
      sum[s] = hn::MulAdd(hn::PromoteTo(d, hn::LoadU(f, x + c + s * lanes)),
                          hn::PromoteTo(d, hn::LoadU(f, y + c + s * lanes)), sum[s]);
  double total = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(sum[0], sum[1]), hn::Add(sum[2], sum[3]))));
  for (; c < n; ++c) total += static_cast<double>(x[c]) * static_cast<double>(y[c]);
  return total;
}

double RowSum(const float* row, index_t n) {
  const Floats f;
  Vec sum = hn::Zero(f);
  for (index_t c = 0; c < n; c += k_lanes) sum = hn::Add(sum, hn::LoadU(f, row + c));
  return static_cast<double>(hn::GetLane(hn::SumOfLanes(f, sum)));
}

void ScaleRow(const float* row, float factor, index_t n, float* out) {
  const Floats f;
  const Vec by = hn::Set(f, factor);
  index_t c = 0;
  for (; c + k_lanes <= n; c += k_lanes) hn::StoreU(hn::Mul(by, hn::LoadU(f, row + c)), f, out + c);
  for (; c < n; ++c) out[c] = factor * row[c];
}

void AddRow(float* HWY_RESTRICT row, const float* HWY_RESTRICT bias, index_t n) {
  const Floats f;
  index_t c = 0;
  for (; c + k_lanes <= n; c += k_lanes)
    hn::StoreU(hn::Add(hn::LoadU(f, row + c), hn::LoadU(f, bias + c)), f, row + c);
  for (; c < n; ++c) row[c] += bias[c];
}

void RotateHalves(const float* in, index_t ldi, const float* cosine, const float* sine, index_t n,
                  index_t n_pairs, float* out, index_t ldo) {
  const Floats f;
  for (index_t t = 0; t < n; ++t) {
    const float *x = in + t * ldi, *y = x + n_pairs;
    float *to_x = out + t * ldo, *to_y = to_x + n_pairs;
    const float *HWY_RESTRICT c = cosine + t * n_pairs, *HWY_RESTRICT s = sine + t * n_pairs;
    index_t m = 0;
    for (; m + k_lanes <= n_pairs; m += k_lanes) {
      const Vec real = hn::LoadU(f, x + m), imaginary = hn::LoadU(f, y + m);
      const Vec turn_c = hn::LoadU(f, c + m), turn_s = hn::LoadU(f, s + m);
      hn::StoreU(hn::NegMulAdd(imaginary, turn_s, hn::Mul(real, turn_c)), f, to_x + m);
      hn::StoreU(hn::MulAdd(real, turn_s, hn::Mul(imaginary, turn_c)), f, to_y + m);
    }
    for (; m < n_pairs; ++m) {
      const float real = x[m], imaginary = y[m];
      to_x[m] = real * c[m] - imaginary * s[m];
      to_y[m] = real * s[m] + imaginary * c[m];
    }
  }
}

using Doubles = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<Doubles>;
constexpr auto k_double_lanes = static_cast<index_t>(hn::MaxLanes(Doubles()));

HWY_INLINE void sine_cosine_of(DoubleVec x, DoubleVec& cosine, DoubleVec& sine) {
  constexpr double k_turn = 6.283185307179586, k_turn_rest = 2.4492935982947064e-16;
  const Doubles d;
  const DoubleVec turns = hn::Round(hn::Mul(x, hn::Set(d, 1 / k_turn)));
  const DoubleVec rest =
      hn::NegMulAdd(turns, hn::Set(d, k_turn_rest), hn::NegMulAdd(turns, hn::Set(d, k_turn), x));
  cosine = hn::Cos(d, rest);
  sine = hn::Sin(d, rest);
}

/// Calls body(column, lanes that exist) for every vector of n columns.
template <class Body>
HWY_INLINE void for_double_vectors(index_t n, Body&& body) {
  for (index_t m = 0; m < n; m += k_double_lanes) body(m, std::min(k_double_lanes, n - m));
}

HWY_INLINE DoubleVec load_some(const double* from, index_t n) {
  const Doubles d;
  if (n == k_double_lanes) return hn::LoadU(d, from);
  double padded_values[k_double_lanes] = {};
  std::copy(from, from + n, padded_values);
  return hn::LoadU(d, padded_values);
}

HWY_INLINE void store_some(DoubleVec values, index_t n, float* to) {
  const hn::Rebind<float, Doubles> f;
  const auto narrow = hn::DemoteTo(f, values);
  if (n == k_double_lanes) return hn::StoreU(narrow, f, to);
  float padded_values[k_double_lanes];
  hn::StoreU(narrow, f, padded_values);
  std::copy(padded_values, padded_values + n, to);
}

void SineCosine(const double* angles, index_t n, float* cosine, float* sine) {
  for_double_vectors(n, [&](index_t m, index_t lanes) {
    DoubleVec c, s;
    sine_cosine_of(load_some(angles + m, lanes), c, s);
    store_some(c, lanes, cosine + m);
    store_some(s, lanes, sine + m);
  });
}

void TurnRows(const double* first, const double* step, index_t n_rows, index_t n_pairs, float* cosine,
              float* sine) {
  for_double_vectors(n_pairs, [&](index_t m, index_t lanes) {
    DoubleVec c, s, step_c, step_s;
    sine_cosine_of(load_some(first + m, lanes), c, s);
    sine_cosine_of(load_some(step + m, lanes), step_c, step_s);
    for (index_t t = 0; t < n_rows; ++t) {
      store_some(c, lanes, cosine + t * n_pairs + m);
      store_some(s, lanes, sine + t * n_pairs + m);
      const DoubleVec next = hn::NegMulAdd(s, step_s, hn::Mul(c, step_c));
      s = hn::MulAdd(s, step_c, hn::Mul(c, step_s));
      c = next;
    }
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(PackTransposed);
HWY_EXPORT(PackRows);
HWY_EXPORT(ScoreRow);
HWY_EXPORT(AddWeightedRows);
HWY_EXPORT(Dot);
HWY_EXPORT(RowSum);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(RotateHalves);
HWY_EXPORT(SineCosine);
HWY_EXPORT(TurnRows);

void multiply(const Left& a, const Right& b, float* out, index_t ldo, index_t n_rows, index_t n_inner,
              index_t n_cols, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, b, out, ldo, n_rows, n_inner, n_cols, accumulate);
}
void pack_transposed(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackTransposed)(rows, ld, n, d, n_padded, packed);
}
void pack_rows(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackRows)(rows, ld, n, d, n_padded, packed);
}
void score_row(const float* q, const float* keys, index_t ld, index_t n, index_t d, float* scores) {
  HWY_DYNAMIC_DISPATCH(ScoreRow)(q, keys, ld, n, d, scores);
}
void add_weighted_rows(const float* weights, const float* rows, index_t ld, index_t n, index_t d,
                       float* out) {
  HWY_DYNAMIC_DISPATCH(AddWeightedRows)(weights, rows, ld, n, d, out);
}
double dot(const float* x, const float* y, index_t n) { return HWY_DYNAMIC_DISPATCH(Dot)(x, y, n); }
double row_sum(const float* row, index_t n) { return HWY_DYNAMIC_DISPATCH(RowSum)(row, n); }
void scale_row(const float* row, float factor, index_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRow)(row, factor, n, out);
}
void add_row(float* row, const float* bias, index_t n) { HWY_DYNAMIC_DISPATCH(AddRow)(row, bias, n); }
void rotate_halves(const float* in, index_t ldi, const float* cosine, const float* sine, index_t n,
                   index_t n_pairs, float* out, index_t ldo) {
  HWY_DYNAMIC_DISPATCH(RotateHalves)(in, ldi, cosine, sine, n, n_pairs, out, ldo);
}
void sine_cosine(const double* angles, index_t n, float* cosine, float* sine) {
  HWY_DYNAMIC_DISPATCH(SineCosine)(angles, n, cosine, sine);
}

void turn_rows(const double* first, const double* step, index_t n_rows, index_t n_pairs, float* cosine,
               float* sine) {
  HWY_DYNAMIC_DISPATCH(TurnRows)(first, step, n_rows, n_pairs, cosine, sine);
}

const char* instruction_set() {
  const std::int64_t supported = hwy::SupportedTargets();
  return hwy::TargetName(supported & -supported);  // the lowest bit is the best
}

}  // namespace borel::kernels
#endif
