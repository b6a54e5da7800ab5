#include "softmax_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "softmax_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include "exp-inl.hpp"
#include "product-inl.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Bits = hn::Vec<hn::RebindToSigned<Floats>>;

constexpr float k_minus_infinity = -std::numeric_limits<float>::infinity();

// Four rows at a time, so that their chains of maxima overlap and their lanes fold together.
constexpr int k_folded = 4;
using FourFloats = hn::CappedTag<float, k_folded>;

/// Folds the lanes of each of four vectors by an operation. out: [4]
template <class Operation>
HWY_INLINE void fold_lanes(const Vec (&rows)[k_folded], [[maybe_unused]] Operation&& operation, float* out) {
#if HWY_TARGET == HWY_SCALAR
  for (int r = 0; r < k_folded; ++r) out[r] = hn::GetLane(rows[r]);
#else
  const Floats f;
  const auto pair = [&](Vec a, Vec b) {  // lanes of a and b in turns, two of each folded
    return operation(hn::InterleaveLower(f, a, b), hn::InterleaveUpper(f, a, b));
  };
  // Every block of four lanes holds its part of each row.
  const Vec blocks = pair(pair(rows[0], rows[2]), pair(rows[1], rows[3]));
  const FourFloats four;
  if constexpr (k_lanes == k_folded) {
    hn::StoreU(blocks, f, out);
  } else {
    HWY_ALIGN float lanes[k_lanes];
    hn::Store(blocks, f, lanes);
    auto folded = hn::Load(four, lanes);
    for (index_t c = k_folded; c < k_lanes; c += k_folded)
      folded = operation(folded, hn::Load(four, lanes + c));
    hn::StoreU(folded, four, out);
  }
#endif
}

#if HWY_ARCH_X86
/// Subnormal weights become zeros: they would change nothing, and some processors take a hundred cycles for each product
/// with one.
class FlushSubnormals {
 public:
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON); }
  ~FlushSubnormals() { _mm_setcsr(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  unsigned before_;
};
#else
struct FlushSubnormals {
  FlushSubnormals() {}  // not an unused variable
};
#endif

/// Adds each row's lanes to its sum; the first n of the four.
HWY_INLINE void add_sums(const Vec (&rows)[k_folded], int n, double* row_sum) {
  float sums[k_folded];
  fold_lanes(
      rows, [](auto a, auto b) { return hn::Add(a, b); }, sums);
  for (int r = 0; r < n; ++r) row_sum[r] += static_cast<double>(sums[r]);
}

/// Whether a score lies too far above its row's shift. The arithmetic of softmax_block: what one of the two decides for a
/// row must not depend on the rows beside it.
HWY_INLINE bool leaves_headroom(float score, float row_shift) {
  const Floats f;
  return hn::GetLane(hn::MulSub(hn::Set(f, score), hn::Set(f, k_log2_e), hn::Set(f, row_shift * k_log2_e))) >
         k_headroom;
}

/// Rows [0, n) of four; the last row stands in for those that do not exist, and nothing is written for it twice.
HWY_INLINE void online_softmax_of_four(float* scores, index_t ld, int n, index_t n_cols, float* row_shift,
                                       double* row_sum, float* o, index_t ldo, index_t d_o) {
  const Floats f;
  float* rows[k_folded];
  for (int r = 0; r < k_folded; ++r) rows[r] = scores + std::min(r, n - 1) * ld;
  Vec folded[k_folded];
  for (Vec& largest : folded) largest = hn::Set(f, k_minus_infinity);
  for (index_t c = 0; c < n_cols; c += k_lanes)
    for (int r = 0; r < k_folded; ++r) folded[r] = hn::Max(folded[r], hn::LoadU(f, rows[r] + c));
  // A NaN among the scores may or may not come through the maximum; it does come through exp2 and the sum.
  float found[k_folded];
  fold_lanes(
      folded, [](auto a, auto b) { return hn::Max(a, b); }, found);
  const Vec log2_e = hn::Set(f, k_log2_e);
  for (int r = 0; r < n; ++r) {
    const bool is_first = row_shift[r] == k_minus_infinity;
    if (is_first ? found[r] > row_shift[r] : leaves_headroom(found[r], row_shift[r])) {
      if (!is_first) {
        // Of the rounded shifts, which the weights were made with: in double, so that no product is contracted.
        const auto before = static_cast<double>(row_shift[r] * k_log2_e),
                   now = static_cast<double>(found[r] * k_log2_e);
        const auto factor = static_cast<float>(std::exp2(before - now));
        row_sum[r] *= static_cast<double>(factor);
        const Vec factors = hn::Set(f, factor);
        for (index_t c = 0; c < d_o; c += k_lanes)
          hn::StoreU(hn::Mul(factors, hn::LoadU(f, o + r * ldo + c)), f, o + r * ldo + c);
      }
      row_shift[r] = found[r];
    }
    // Without any key so far every weight is exp2(-infinity) = 0, or NaN.
    const Vec shift = hn::Set(f, row_shift[r] == k_minus_infinity ? 0.0f : row_shift[r] * k_log2_e);
    Vec sum = hn::Zero(f);
    for (index_t c = 0; c < n_cols; c += k_lanes) {
      const Vec weight = exp2(f, hn::MulSub(hn::LoadU(f, rows[r] + c), log2_e, shift));
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, f, rows[r] + c);
    }
    folded[r] = sum;
  }
  add_sums(folded, n, row_sum);
}

void OnlineSoftmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_shift,
                   double* row_sum, float* o, index_t ldo, index_t d_o) {
  const FlushSubnormals flushed;
  for (index_t r = 0; r < n_rows; r += k_folded)
    online_softmax_of_four(scores + r * ld, ld, static_cast<int>(std::min<index_t>(k_folded, n_rows - r)),
                           n_cols, row_shift + r, row_sum + r, o + r * ldo, ldo, d_o);
}

/// Products of a block of rows with a block of columns, and what ScoreSoftmax makes of them while they are in registers.
/// sums: [Rows, k_lanes]; returns the largest exponent as bits, on top of `largest`.
template <int Rows, int Vectors, bool Biased>
HWY_NOINLINE Bits softmax_block(const Left& a, const Right& b, index_t n_inner, const float* row_shift,
                                const float* bias, float* sums, float* out, index_t ldo, Bits largest) {
  const Floats f;
  Sums<Rows, Vectors> scores;
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    HWY_UNROLL(16)
    for (int v = 0; v < Vectors; ++v) scores.at[r][v] = hn::Zero(f);
  }
  add_products(a, b, n_inner, scores);
  const Vec log2_e = hn::Set(f, k_log2_e);
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    const Vec shift = hn::Set(f, row_shift[r] * k_log2_e);
    Vec sum = hn::LoadU(f, sums + r * k_lanes);
    HWY_UNROLL(16)
    for (int v = 0; v < Vectors; ++v) {
      Vec score = scores.at[r][v];
      if constexpr (Biased) score = hn::Add(score, hn::LoadU(f, bias - r + v * k_lanes));
      const Vec exponent = hn::MulSub(score, log2_e, shift);
      // As integers, which every pipe of the processor compares: the order of non-negative floats. NaN comes through sums.
      largest = hn::Max(largest, hn::BitCast(hn::RebindToSigned<Floats>(), exponent));
      const Vec weight = exp2(f, exponent);
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, f, out + r * ldo + v * k_lanes);
    }
    hn::StoreU(sum, f, sums + r * k_lanes);
  }
  return largest;
}

// Without the exponential of AVX-512 and its registers, products and weights are as fast one after the other.
bool ScoreSoftmaxPays() { return HWY_TARGET <= HWY_AVX3; }

bool ScoreSoftmax(const Left& a, const Right& b, index_t n_inner, const float* row_shift, const float* bias,
                  double* row_sum, float* out, index_t ldo, index_t n_rows, index_t n_cols) {
  const FlushSubnormals flushed;
  const hn::RebindToSigned<Floats> bits;
  HWY_ALIGN float sums[k_most_fused_rows * k_lanes] = {};
  Bits largest = hn::Zero(bits);
  for_column_blocks(n_cols, [&]<int Vectors>(std::integral_constant<int, Vectors>, index_t c) {
    const Right right = from_column(b, c);
    for_row_blocks<block_rows(Vectors)>(n_rows, [&]<int Rows>(std::integral_constant<int, Rows>, index_t r) {
      const Left left = from_row(a, r);
      float *const sum = sums + r * k_lanes, *const weights = out + r * ldo + c;
      largest = bias ? softmax_block<Rows, Vectors, true>(left, right, n_inner, row_shift + r, bias + c - r,
                                                          sum, weights, ldo, largest)
                     : softmax_block<Rows, Vectors, false>(left, right, n_inner, row_shift + r, nullptr, sum,
                                                           weights, ldo, largest);
    });
  });
  if (hn::GetLane(hn::MaxOfLanes(bits, largest)) > std::bit_cast<std::int32_t>(k_headroom)) return false;
  for (index_t r = 0; r < n_rows; r += k_folded) {
    const int n = static_cast<int>(std::min<index_t>(k_folded, n_rows - r));
    Vec four[k_folded];
    for (int i = 0; i < k_folded; ++i)
      four[i] = hn::Load(Floats(), sums + (r + std::min(i, n - 1)) * k_lanes);
    add_sums(four, n, row_sum + r);
  }
  return true;
}

void SoftmaxBackward(const float* scores, float* weights, float* d_scores, index_t ld, index_t n_rows,
                     index_t n_cols, const float* row_shift, const float* row_inverse,
                     const float* row_mean) {
  const FlushSubnormals flushed;
  const Floats f;
  const Vec log2_e = hn::Set(f, k_log2_e);
  for (index_t r = 0; r < n_rows; ++r) {
    const float* HWY_RESTRICT score = scores + r * ld;
    float *HWY_RESTRICT weight = weights + r * ld, *HWY_RESTRICT d_score = d_scores + r * ld;
    // A row that saw no key has no maximum; its scores are -infinity and its factor 0.
    const Vec shift = hn::Set(f, row_shift[r] == k_minus_infinity ? 0.0f : row_shift[r] * k_log2_e);
    const Vec inverse = hn::Set(f, row_inverse[r]), mean = hn::Set(f, row_mean[r]);
    for (index_t c = 0; c < n_cols; c += k_lanes) {
      const Vec w = hn::Mul(inverse, exp2(f, hn::MulSub(hn::LoadU(f, score + c), log2_e, shift)));
      hn::StoreU(w, f, weight + c);
      hn::StoreU(hn::Mul(w, hn::Sub(hn::LoadU(f, d_score + c), mean)), f, d_score + c);
    }
  }
}

void WeighBackward(const float* slopes, float* weights, float* d_scores, index_t ld, index_t n_rows,
                   index_t n_cols, const float* row_inverse, const float* row_mean) {
  const Floats f;
  for (index_t r = 0; r < n_rows; ++r) {
    const float* HWY_RESTRICT slope = slopes + r * ld;
    float *HWY_RESTRICT weight = weights + r * ld, *HWY_RESTRICT d_score = d_scores + r * ld;
    const Vec inverse = hn::Set(f, row_inverse[r]), mean = hn::Set(f, row_mean[r]);
    for (index_t c = 0; c < n_cols; c += k_lanes) {
      hn::StoreU(hn::Mul(inverse, hn::LoadU(f, weight + c)), f, weight + c);
      const Vec d = hn::Mul(hn::LoadU(f, slope + c), hn::Sub(hn::LoadU(f, d_score + c), mean));
      hn::StoreU(hn::Mul(inverse, d), f, d_score + c);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(OnlineSoftmax);
HWY_EXPORT(ScoreSoftmaxPays);
HWY_EXPORT(ScoreSoftmax);
HWY_EXPORT(SoftmaxBackward);
HWY_EXPORT(WeighBackward);

void online_softmax(float* scores, index_t ld, index_t n_rows, index_t n_cols, float* row_shift,
                    double* row_sum, float* o, index_t ldo, index_t d_o) {
  HWY_DYNAMIC_DISPATCH(OnlineSoftmax)(scores, ld, n_rows, n_cols, row_shift, row_sum, o, ldo, d_o);
}

bool score_softmax_pays() { return HWY_DYNAMIC_DISPATCH(ScoreSoftmaxPays)(); }
bool score_softmax(const Left& a, const Right& b, index_t n_inner, const float* row_shift, const float* bias,
                   double* row_sum, float* out, index_t ldo, index_t n_rows, index_t n_cols) {
  return HWY_DYNAMIC_DISPATCH(ScoreSoftmax)(a, b, n_inner, row_shift, bias, row_sum, out, ldo, n_rows,
                                            n_cols);
}

void softmax_backward(const float* scores, float* weights, float* d_scores, index_t ld, index_t n_rows,
                      index_t n_cols, const float* row_shift, const float* row_inverse,
                      const float* row_mean) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBackward)
  (scores, weights, d_scores, ld, n_rows, n_cols, row_shift, row_inverse, row_mean);
}

void weigh_backward(const float* slope, float* weights, float* d_scores, index_t ld, index_t n_rows,
                    index_t n_cols, const float* row_inverse, const float* row_mean) {
  HWY_DYNAMIC_DISPATCH(WeighBackward)
  (slope, weights, d_scores, ld, n_rows, n_cols, row_inverse, row_mean);
}

}  // namespace borel::kernels
#endif
