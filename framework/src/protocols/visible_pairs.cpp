#include "protocols/visible_pairs.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace borel {
namespace {

/// One past the last key that the causal rule leaves query i.
index_t end_of_row(const AttentionCall& call, index_t i) {
  return call.causal ? std::min(call.n_k(), i + 1) : call.n_k();
}

/// Keys of row i within the regions: the length of a union of intervals.
index_t keys_in_regions(const std::vector<PairRegion>& regions, index_t i, index_t end,
                        std::vector<std::pair<index_t, index_t>>& ranges) {
  constexpr Interval k_all;
  ranges.clear();
  for (const PairRegion& region : regions) {
    if (!region.query.contains(i)) continue;
    const Interval& r = region.distance;  // r.begin <= i - j < r.end
    const index_t first = r.end == k_all.end ? 0 : i - r.end + 1,
                  last = r.begin == k_all.begin ? end : i - r.begin + 1;
    ranges.emplace_back(std::max({index_t{0}, region.key.begin, first}),
                        std::min({end, region.key.end, last}));
  }
  std::sort(ranges.begin(), ranges.end());
  index_t n = 0, covered = 0;
  for (const auto& [from, to] : ranges) {
    n += std::max<index_t>(0, to - std::max(from, covered));
    covered = std::max(covered, to);
  }
  return n;
}

double pairs_of_plan(const AttentionCall& call, const PositionPlan& plan) {
  double n = 0;
  if (!plan.ensemble.empty()) {
    for (const PositionPlan& member : plan.ensemble) n += pairs_of_plan(call, member);
    return n;
  }
  if (plan.visible.empty()) return all_pairs(call);
  const bool strided =
      std::ranges::any_of(plan.visible, [](const PairRegion& region) { return region.distance_stride != 1; });
  std::vector<std::pair<index_t, index_t>> ranges;
  for (index_t i = call.query_offset; i < call.query_offset + call.n_q(); ++i) {
    const index_t end = end_of_row(call, i);
    const index_t in_intervals = keys_in_regions(plan.visible, i, end, ranges);
    if (!strided) {
      n += static_cast<double>(in_intervals);
      continue;
    }
    // Only a union with a stride has to be counted key by key, inside the regions' intervals.
    index_t counted = 0;
    for (const auto& [from, to] : ranges) {
      for (index_t j = std::max(from, counted); j < to; ++j)
        n += std::ranges::any_of(plan.visible,
                                 [&](const PairRegion& region) { return region.contains(i, j); });
      counted = std::max(counted, to);
    }
  }
  return n;
}

}  // namespace

double visible_pairs(const AttentionCall& call) {
  return call.position ? pairs_of_plan(call, *call.position) : all_pairs(call);
}

double all_pairs(const AttentionCall& call) {
  double n = 0;
  for (index_t i = call.query_offset; i < call.query_offset + call.n_q(); ++i)
    n += static_cast<double>(end_of_row(call, i));
  return n;
}

}  // namespace borel
