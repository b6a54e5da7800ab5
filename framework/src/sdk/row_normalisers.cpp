#include "borel/draft/row_normalisers.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "row_normalisers.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include "exp-inl.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention_kernels.hpp"
#include "borel/parallel.hpp"

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using RowFloats = hn::CappedTag<float, k_row_pad>;
using RowVec = hn::Vec<RowFloats>;
constexpr auto k_row_lanes = static_cast<index_t>(hn::MaxLanes(RowFloats()));
constexpr float k_no_score = -std::numeric_limits<float>::infinity();

/// Calls body(pointer) for every full vector of the row, then for a copy of the rest, filled up with `fill` and written
/// back.
template <class Body>
HWY_INLINE void for_vectors(float* row, index_t n, float fill, Body&& body) {
  index_t c = 0;
  for (; c + k_row_lanes <= n; c += k_row_lanes) body(row + c);
  if (c == n) return;
  float rest[k_row_pad];
  std::fill(std::copy(row + c, row + n, rest), rest + k_row_pad, fill);
  body(rest);
  std::copy(rest, rest + (n - c), row + c);
}

/// Largest score; NaN when one of them is.
float LargestOrNaN(float* row, index_t n) {
  const RowFloats f;
  RowVec largest = hn::Set(f, k_no_score), zero_or_nan = hn::Zero(f);
  for_vectors(row, n, k_no_score, [&](const float* at) {
    const RowVec x = hn::LoadU(f, at);
    largest = hn::Max(largest, x);
    zero_or_nan = hn::IfThenElse(hn::Eq(x, x), zero_or_nan, x);
  });
  const float nan = hn::GetLane(hn::SumOfLanes(f, zero_or_nan));
  return std::isnan(nan) ? nan : hn::GetLane(hn::MaxOfLanes(f, largest));
}

/// Copies the scores above a bound; `out` has room for n + k_row_pad. @return how many
index_t ScoresAbove(float* row, index_t n, float bound, float* out) {
  const RowFloats f;
  const RowVec limit = hn::Set(f, bound);
  index_t count = 0;
  for_vectors(row, n, k_no_score, [&](const float* at) {
    const RowVec x = hn::LoadU(f, at);
    const auto above = hn::Gt(x, limit);
    if (!hn::AllFalse(f, above)) count += static_cast<index_t>(hn::CompressStore(x, above, f, out + count));
  });
  return count;
}

/// weight = max(0, (x - largest) * factor - tau), squared if asked for.
void Threshold(float* row, index_t n, float largest, float factor, float tau, bool squared) {
  const RowFloats f;
  const RowVec top = hn::Set(f, largest), by = hn::Set(f, factor), level = hn::Set(f, tau),
               zero = hn::Zero(f);
  for_vectors(row, n, k_no_score, [&](float* at) {
    const RowVec w = hn::Max(zero, hn::MulSub(hn::Sub(hn::LoadU(f, at), top), by, level));
    hn::StoreU(squared ? hn::Mul(w, w) : w, f, at);
  });
}

/// The k-th largest of `count` >= k numbers: bisection of the level that k of them reach; it ends at a level that parts
/// exactly k of them from the rest, or where no float lies between its ends. `numbers` is filled up with a vector of
/// -infinity behind its end.
float SelectLargest(float* HWY_RESTRICT numbers, index_t count, index_t k) {
  const RowFloats f;
  hn::StoreU(hn::Set(f, k_no_score), f, numbers + count);
  RowVec least = hn::LoadU(f, numbers), most = least;
  for (index_t c = 0; c < count; c += k_row_lanes) {
    const RowVec x = hn::LoadU(f, numbers + c);
    most = hn::Max(most, x);
    least = hn::Min(least, hn::IfThenElse(hn::Eq(x, hn::Set(f, k_no_score)), least, x));
  }
  // least may hold -infinity from the first vector when count < lanes: then it is only a lower start.
  float low = std::max(hn::GetLane(hn::MinOfLanes(f, least)), -std::numeric_limits<float>::max());
  float high = hn::GetLane(hn::MaxOfLanes(f, most));
  const auto reach = [&](float level) {
    const RowVec limit = hn::Set(f, level);
    index_t n = 0;
    for (index_t c = 0; c < count; c += k_row_lanes)
      n += static_cast<index_t>(hn::CountTrue(f, hn::Ge(hn::LoadU(f, numbers + c), limit)));
    return n;
  };
  for (;;) {  // at least k reach low; fewer reach high, or it is the largest of all
    const float middle = 0.5f * low + 0.5f * high;
    if (!(middle > low && middle < high)) return reach(high) >= k ? high : low;
    const index_t n = reach(middle);
    if (n == k) {
      RowVec smallest = hn::Set(f, high);
      const RowVec limit = hn::Set(f, middle);
      for (index_t c = 0; c < count; c += k_row_lanes) {
        const RowVec x = hn::LoadU(f, numbers + c);
        smallest = hn::Min(smallest, hn::IfThenElse(hn::Ge(x, limit), x, smallest));
      }
      return hn::GetLane(hn::MinOfLanes(f, smallest));
    }
    (n > k ? low : high) = middle;
  }
}

/// The k-th largest score, or -infinity when there are fewer finite ones. `buffer` has room for capacity + k_row_pad.
float KthLargest(float* row, index_t n, index_t k, float* buffer, index_t capacity) {
  const RowFloats f;
  float bound = k_no_score;
  index_t count = 0;
  const auto cut = [&] {
    bound = SelectLargest(buffer, count, k);
    const index_t n_before = count;
    count = 0;
    for (index_t c = 0; c < n_before;
         c += k_row_lanes) {  // what is written lies behind what is still to be read
      const RowVec x = hn::LoadU(f, buffer + c);
      count += static_cast<index_t>(hn::CompressStore(x, hn::Gt(x, hn::Set(f, bound)), f, buffer + count));
    }
    std::fill(buffer + count, buffer + k, bound);
    count = k;
  };
  for_vectors(row, n, k_no_score, [&](const float* at) {
    const RowVec x = hn::LoadU(f, at);
    const auto above = hn::Gt(x, hn::Set(f, bound));
    if (hn::AllFalse(f, above)) return;
    count += static_cast<index_t>(hn::CompressStore(x, above, f, buffer + count));
    if (count + k_row_lanes > capacity) cut();
  });
  if (count < k) return k_no_score;
  cut();
  return bound;
}

/// Softmax of the scores from `bound` up, 0 below.
void SoftmaxFrom(float* row, index_t n, float bound, float largest) {
  const RowFloats f;
  const RowVec limit = hn::Set(f, bound), top = hn::Set(f, largest), log2_e = hn::Set(f, k_log2_e);
  RowVec sum = hn::Zero(f);
  for_vectors(row, n, k_no_score, [&](float* at) {
    const RowVec x = hn::LoadU(f, at);
    const auto kept = hn::Ge(x, limit);
    if (hn::AllFalse(f, kept)) return hn::StoreU(hn::Zero(f), f, at);  // most vectors, when k is small
    const RowVec w = hn::IfThenElseZero(kept, exp2(f, hn::Mul(hn::Sub(x, top), log2_e)));
    sum = hn::Add(sum, w);
    hn::StoreU(w, f, at);
  });
  const RowVec inverse = hn::Set(f, 1 / hn::GetLane(hn::SumOfLanes(f, sum)));
  for_vectors(row, n, 0, [&](float* at) { hn::StoreU(hn::Mul(inverse, hn::LoadU(f, at)), f, at); });
}

/// tanh of t >= 0. Near 0, where 1 - exp(-2 t) would lose digits, the odd polynomial of Cephes' tanhf (|t| < 0.625,
/// relative error 1.3e-7).
HWY_INLINE RowVec tanh_of_positive(RowVec t) {
  const RowFloats f;
  const RowVec one = hn::Set(f, 1), square = hn::Mul(t, t);
  RowVec p = hn::Set(f, -5.70498872745e-3f);
  p = hn::MulAdd(p, square, hn::Set(f, 2.06390887954e-2f));
  p = hn::MulAdd(p, square, hn::Set(f, -5.37397155531e-2f));
  p = hn::MulAdd(p, square, hn::Set(f, 1.33314422036e-1f));
  p = hn::MulAdd(p, square, hn::Set(f, -3.33332819422e-1f));
  const RowVec near = hn::MulAdd(hn::Mul(p, square), t, t);
  const RowVec e = exp2(f, hn::Mul(t, hn::Set(f, -2 * k_log2_e)));
  const RowVec far = hn::Div(hn::Sub(one, e), hn::Add(one, e));
  return hn::IfThenElse(hn::Lt(t, hn::Set(f, 0.625f)), near, far);
}

void Softcap(float* x, index_t n, float cap) {
  const RowFloats f;
  const RowVec height = hn::Set(f, cap), infinite = hn::Set(f, std::numeric_limits<float>::infinity());
  for_vectors(x, n, 0, [&](float* at) {
    const RowVec s = hn::LoadU(f, at), size = hn::Abs(s);
    const RowVec bent = hn::CopySignToAbs(hn::Mul(height, tanh_of_positive(hn::Div(size, height))), s);
    hn::StoreU(hn::IfThenElse(hn::Eq(size, infinite), s, bent), f, at);
  });
}

void Sigmoid(float* x, index_t n, float shift) {
  const RowFloats f;
  const RowVec by = hn::Set(f, shift), log2_e = hn::Set(f, -k_log2_e), one = hn::Set(f, 1),
               zero = hn::Zero(f);
  for_vectors(x, n, 0, [&](float* at) {
    const RowVec t = hn::Add(hn::LoadU(f, at), by);
    const RowVec e = exp2(f, hn::Mul(hn::Abs(t), log2_e));  // of the side that cannot overflow
    hn::StoreU(hn::Div(hn::IfThenElse(hn::Lt(t, zero), e, one), hn::Add(one, e)), f, at);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(LargestOrNaN);
HWY_EXPORT(ScoresAbove);
HWY_EXPORT(Threshold);
HWY_EXPORT(KthLargest);
HWY_EXPORT(SoftmaxFrom);
HWY_EXPORT(Softcap);
HWY_EXPORT(Sigmoid);

}  // namespace borel::kernels

namespace borel {
namespace {

using kernels::k_row_pad;

/// tau with sum of max(0, y - tau) = 1, for y = x - max in (-1, 0].
double sparsemax_threshold(std::span<const double> y) {
  double tau = -1;
  for (;;) {
    double sum = 0, count = 0;
    for (double x : y)
      if (x > tau) sum += x, count += 1;
    const double next =
        (sum - 1) / count;  // the root of the line that holds while the support does not change
    if (!(next > tau)) return tau;
    tau = next;
  }
}

/// tau with sum of max(0, y - tau)^2 = 1, for y = (x - max) / 2 in (-1, 0].
double entmax15_threshold(std::span<const double> y) {
  double tau = -1, sum = 0, squares = 0, count = 0;
  const auto support = [&] {
    sum = squares = count = 0;
    for (double x : y)
      if (x > tau) sum += x, squares += x * x, count += 1;
  };
  // |max(0, y - tau)| is convex in tau, and linear where all entries are alike: Newton from the left never jumps over
  // the root.
  for (int iteration = 0; iteration < 100; ++iteration) {
    support();
    const double first = sum - count * tau,
                 norm = std::sqrt(std::max(0.0, squares - 2 * tau * sum + count * tau * tau));
    const double step = (norm - 1) * norm / first;
    if (!(step > 1e-14)) break;
    tau += step;
  }
  support();
  // count (tau - mean)^2 + (squares - sum^2 / count) = 1 on the support
  const double mean = sum / count, spread = squares - sum * mean;
  return mean - std::sqrt(std::max(0.0, (1 - spread) / count));
}

/// Scores within `margin` of the largest to their threshold, then the row to weights.
void project(std::span<float> row, float factor, double (*threshold)(std::span<const double>), bool squared) {
  const auto n = static_cast<index_t>(row.size());
  const float largest = HWY_DYNAMIC_DISPATCH(kernels::LargestOrNaN)(row.data(), n);
  if (std::isnan(largest)) {
    std::ranges::fill(row, largest);
    return;
  }
  const Scratch<float> above(n + k_row_pad);
  const float margin = 1 / factor;
  // Rounded down, so that no score of the support is lost to the subtraction.
  const float bound = std::nextafter(largest - margin, -std::numeric_limits<float>::infinity());
  const index_t count = HWY_DYNAMIC_DISPATCH(kernels::ScoresAbove)(row.data(), n, bound, above.data());
  const Scratch<double> shifted(count);
  for (index_t c = 0; c < count; ++c)
    shifted[c] = (static_cast<double>(above[c]) - static_cast<double>(largest)) * static_cast<double>(factor);
  const double tau = threshold(shifted.span());
  HWY_DYNAMIC_DISPATCH(kernels::Threshold)(row.data(), n, largest, factor, static_cast<float>(tau), squared);
}

}  // namespace

void sparsemax(std::span<float> row) {
  if (!row.empty()) project(row, 1, sparsemax_threshold, false);
}

void entmax15(std::span<float> row) {
  if (!row.empty()) project(row, 0.5f, entmax15_threshold, true);
}

void top_k_softmax(std::span<float> row, index_t k) {
  const auto n = static_cast<index_t>(row.size());
  if (n == 0) return;
  const float largest = HWY_DYNAMIC_DISPATCH(kernels::LargestOrNaN)(row.data(), n);
  if (std::isnan(largest)) {
    std::ranges::fill(row, largest);
    return;
  }
  float bound = -std::numeric_limits<float>::infinity();
  if (k < n) {
    const index_t capacity = std::max<index_t>(4 * k, 64) + k_row_pad;
    const Scratch<float> buffer(capacity + k_row_pad);
    bound = HWY_DYNAMIC_DISPATCH(kernels::KthLargest)(row.data(), n, k, buffer.data(), capacity);
  }
  HWY_DYNAMIC_DISPATCH(kernels::SoftmaxFrom)(row.data(), n, bound, largest);
}

void softcap(std::span<float> x, float cap) {
  HWY_DYNAMIC_DISPATCH(kernels::Softcap)(x.data(), static_cast<index_t>(x.size()), cap);
}

void sigmoid(std::span<float> x, float shift) {
  HWY_DYNAMIC_DISPATCH(kernels::Sigmoid)(x.data(), static_cast<index_t>(x.size()), shift);
}

}  // namespace borel
#endif
