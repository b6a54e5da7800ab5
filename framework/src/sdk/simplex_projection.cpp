// Euclidean projection onto the simplex: x_i -> max(x_i - tau, 0) with tau such that the sum is 1.
// Condat, Math. Prog. 158 (2016), algorithm 1, in blocks that suit vector units: one pass collects the entries above
// a running lower bound of tau, then passes over the collected entries alone raise the bound (Michelot, J. Optim.
// Theory Appl. 50 (1986)). Differs from the paper in four ways. The maximum is found and subtracted first, so that
// no entry is lost to rounding when x is large. The bound is raised once per block, and the list is weeded out
// whenever it has doubled. When the passes remove little (inputs made for that exist, with O(n) passes), pivots from
// the list halve it instead: expected O(n) for every input. And tau is computed anew from the final support, in
// twice the precision, because running updates drift.
#include "borel/optimizer.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "simplex_projection.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/rng.hpp"

HWY_BEFORE_NAMESPACE();
namespace borel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::ScalableTag<double>;
using Vec = hn::Vec<Doubles>;

constexpr index_t k_block = 1024;

/// Largest entry; NaN when an entry is not finite.
double MaximumOfFinite(const double* x, index_t n) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  double largest = x[0], fault = 0;
  index_t i = 0;
  if (n >= 4 * lanes) {
    Vec top[4], bad[4];
    for (int k = 0; k < 4; ++k) {
      top[k] = hn::Set(d, x[0]);
      bad[k] = hn::Zero(d);
    }
    for (; i + 4 * lanes <= n; i += 4 * lanes)
      for (index_t k = 0; k < 4; ++k) {
        const Vec v = hn::LoadU(d, x + i + k * lanes);
        top[k] = hn::Max(top[k], v);
        bad[k] = hn::MulAdd(v, hn::Zero(d), bad[k]);  // NaN exactly when v is not finite
      }
    largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(top[0], top[1]), hn::Max(top[2], top[3]))));
    fault = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(bad[0], bad[1]), hn::Add(bad[2], bad[3]))));
  }
  for (; i < n; ++i) {
    largest = std::max(largest, x[i]);
    fault += 0 * x[i];
  }
  return largest + fault;
}

/// Appends x[i] - shift where it exceeds bound to list, in order; may write a vector beyond the end.
/// @return how many; their sum is added to `sum`
HWY_INLINE index_t AppendAbove(const double* x, index_t n, double shift, double bound, double* list,
                               double* sum) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec offset = hn::Set(d, shift), limit = hn::Set(d, bound);
  Vec total = hn::Zero(d);
  index_t count = 0, i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    Vec z[4];
    for (index_t k = 0; k < 4; ++k) z[k] = hn::Sub(hn::LoadU(d, x + i + k * lanes), offset);
    const Vec top = hn::Max(hn::Max(z[0], z[1]), hn::Max(z[2], z[3]));
    if (hn::AllFalse(d, hn::Gt(top, limit))) continue;  // the usual case once the bound is good
    const Vec low = hn::Min(hn::Min(z[0], z[1]), hn::Min(z[2], z[3]));
    if (hn::AllTrue(d, hn::Gt(low, limit))) {
      for (index_t k = 0; k < 4; ++k) hn::StoreU(z[k], d, list + count + k * lanes);
      total = hn::Add(total, hn::Add(hn::Add(z[0], z[1]), hn::Add(z[2], z[3])));
      count += 4 * lanes;
      continue;
    }
    for (const Vec& v : z) {  // no branch per vector: with a mixed input none of them can be foreseen
      const auto above = hn::Gt(v, limit);
      total = hn::Add(total, hn::IfThenElseZero(above, v));
      count += static_cast<index_t>(hn::CompressStore(v, above, d, list + count));
    }
  }
  double rest = 0;
  for (; i < n; ++i)
    if (const double z = x[i] - shift; z > bound) {
      list[count++] = z;
      rest += z;
    }
  *sum += hn::GetLane(hn::SumOfLanes(d, total)) + rest;
  return count;
}

/// Keeps the entries of list in (low, high]; those above high are added to *above_sum, *above_count.
index_t KeepBetween(double* list, index_t n, double low, double high, double* above_sum,
                    index_t* above_count) {
  index_t kept = 0;
  for (index_t i = 0; i < n; ++i) {
    const double z = list[i];
    if (z > high) {
      *above_sum += z;
      ++*above_count;
    } else {
      list[kept] = z;
      kept += z > low;
    }
  }
  return kept;
}

/// A lower bound of tau - maximum so good that the support is exactly the entries above it, up to rounding.
/// @param list [n + 16], overwritten
double Threshold(const double* x, index_t n, double maximum, double* list) {
  double bound = -1, sum = 0;
  index_t count = 0, weeded = k_block / 2;  // the list is weeded out again when it is twice as long as then
  const auto weed = [&] {
    double all = 0;
    count = AppendAbove(list, count, 0, bound, list, &all);  // in place: it writes behind what it reads
    sum = all;
    bound = std::max(bound, (sum - 1) / static_cast<double>(count));
  };
  for (index_t begin = 0; begin < n; begin += k_block) {
    count += AppendAbove(x + begin, std::min(k_block, n - begin), maximum, bound, list + count, &sum);
    // sum and count belong to entries that were all above the bound of their time, so this is a lower bound (the
    // threshold of any subset is one).
    if (count > 0) bound = std::max(bound, (sum - 1) / static_cast<double>(count));
    if (count >= 2 * weeded) {
      index_t before = 0;
      do {
        before = count;
        weed();
      } while (4 * count < 3 * before);
      weeded = std::max(count, k_block / 2);
    }
  }
  // Michelot passes while they pay, then pivots. Entries above `high` are in the support for certain.
  int idle = 0;
  for (index_t before = -1; idle < 8;) {
    weed();
    if (count == before) return bound;
    idle = 2 * count > before && before >= 0 ? idle + 1 : 0;
    before = count;
  }
  double high = 0, sure_sum = 0;
  index_t sure = 0;
  Rng rng(Seed{static_cast<std::uint64_t>(n)});
  while (count > 0) {
    const double pivot = list[rng.below(static_cast<std::uint64_t>(count))];
    double above_sum = sure_sum;
    index_t above = sure;
    for (index_t i = 0; i < count; ++i) {
      above_sum += list[i] > pivot ? list[i] : 0;
      above += list[i] > pivot;
    }
    // f(pivot) = sum of (z - pivot)+ decides on which side tau lies.
    if (above_sum - static_cast<double>(above) * pivot < 1) {
      high = pivot;  // tau < pivot: the pivot and all above it are in the support
      index_t kept = 0;
      for (index_t i = 0; i < count; ++i) {
        if (list[i] >= high) {
          sure_sum += list[i];
          ++sure;
        } else {
          list[kept++] = list[i];
        }
      }
      count = kept;
    } else {
      bound = std::max(bound, pivot);
      count = KeepBetween(list, count, bound, 0, &sure_sum, &sure);
    }
  }
  return std::max(bound, (sure_sum - 1) / static_cast<double>(sure));
}

/// Sum of the entries above `limit`, as high + low (two-sum per lane), and their number.
index_t AccurateSumAbove(const double* x, index_t n, double limit, double* high, double* low) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec bound = hn::Set(d, limit);
  Vec sum[2] = {hn::Zero(d), hn::Zero(d)}, lost[2] = {hn::Zero(d), hn::Zero(d)};
  index_t i = 0, count = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes)
    for (index_t k = 0; k < 2; ++k) {
      const Vec v = hn::LoadU(d, x + i + k * lanes);
      const auto above = hn::Gt(v, bound);
      if (hn::AllFalse(d, above)) continue;
      count += static_cast<index_t>(hn::CountTrue(d, above));
      const Vec add = hn::IfThenElseZero(above, v);
      const Vec next = hn::Add(sum[k], add);
      const Vec back = hn::Sub(next, sum[k]);
      lost[k] = hn::Add(lost[k], hn::Add(hn::Sub(sum[k], hn::Sub(next, back)), hn::Sub(add, back)));
      sum[k] = next;
    }
  double parts[4 * HWY_MAX_BYTES / sizeof(double)];
  for (index_t k = 0; k < 2; ++k) {
    hn::StoreU(sum[k], d, parts + k * lanes);
    hn::StoreU(lost[k], d, parts + (2 + k) * lanes);
  }
  double total = 0, rest = 0;
  const auto add = [&](double v) {
    const double next = total + v, back = next - total;
    rest += (total - (next - back)) + (v - back);
    total = next;
  };
  for (index_t k = 0; k < 2 * lanes; ++k) add(parts[k]);
  for (; i < n; ++i)
    if (x[i] > limit) {
      add(x[i]);
      ++count;
    }
  for (index_t k = 2 * lanes; k < 4 * lanes; ++k) rest += parts[k];
  *high = total + rest;
  *low = (total - *high) + rest;
  return count;
}

/// x_i = max((x_i - high) - low, 0). @return the sum of the results
double SubtractAndClip(double* x, index_t n, double high, double low) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec first = hn::Set(d, high), second = hn::Set(d, low);
  Vec sum[2] = {hn::Zero(d), hn::Zero(d)};
  index_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes)
    for (index_t k = 0; k < 2; ++k) {
      double* at = x + i + k * lanes;
      const Vec v = hn::Max(hn::Sub(hn::Sub(hn::LoadU(d, at), first), second), hn::Zero(d));
      hn::StoreU(v, d, at);
      sum[k] = hn::Add(sum[k], v);
    }
  double rest = 0;
  for (; i < n; ++i) rest += x[i] = std::max((x[i] - high) - low, 0.0);
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum[0], sum[1]))) + rest;
}

}  // namespace HWY_NAMESPACE
}  // namespace borel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel {

HWY_EXPORT(MaximumOfFinite);
HWY_EXPORT(Threshold);
HWY_EXPORT(AccurateSumAbove);
HWY_EXPORT(SubtractAndClip);

double project_onto_simplex(std::span<double> x) {
  if (x.empty())
    throw MethodError("project_onto_simplex: the vector is empty; the simplex needs at least 1 coordinate");
  const auto n = static_cast<index_t>(x.size());
  const double maximum = HWY_DYNAMIC_DISPATCH(MaximumOfFinite)(x.data(), n);
  if (!std::isfinite(maximum)) {
    const auto bad = std::find_if(x.begin(), x.end(), [](double v) { return !std::isfinite(v); });
    if (bad != x.end())
      throw MethodError(
          fmt::format("project_onto_simplex: coordinate {} is {}, it must be finite", bad - x.begin(), *bad));
  }
  const Scratch<double> list(n + 16);
  const double bound = HWY_DYNAMIC_DISPATCH(Threshold)(x.data(), n, maximum, list.data());

  // tau = (sum of the support - 1) / count as high + low.
  double sum_high = 0, sum_low = 0;
  double limit = maximum + bound;
  if (!(limit < maximum)) limit = std::nextafter(maximum, -1.0 / 0.0);  // x so large that 1 is lost beside it
  const index_t count = HWY_DYNAMIC_DISPATCH(AccurateSumAbove)(x.data(), n, limit, &sum_high, &sum_low);
  const auto size = static_cast<double>(count);
  const double less_one = sum_high - 1, back = less_one - sum_high;
  const double lost = (sum_high - (less_one - back)) + (-1 - back) + sum_low;
  const double high = (less_one + lost) / size;
  const double low = (std::fma(-high, size, less_one) + lost) / size;

  const double sum = HWY_DYNAMIC_DISPATCH(SubtractAndClip)(x.data(), n, high, low);
  constexpr double k_good_sum = 1e-13;
  if (!(std::abs(sum - 1) <= k_good_sum))
    for (double& value : x) value /= sum;
  return high + low;
}

}  // namespace borel
#endif
