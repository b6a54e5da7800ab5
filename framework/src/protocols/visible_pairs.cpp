#include "protocols/visible_pairs.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "sdk/tile_geometry.hpp"

namespace borel {
namespace {

/// What query i may see without a plan.
TileBox row_of(const AttentionCall& call, index_t i) {
  return {i, i + 1, 0, call.causal ? std::min(call.n_k(), i + 1) : call.n_k(), call.causal};
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
    ranges.clear();
    for (const PairRegion& region : plan.visible) ranges.push_back(row_keys(region, i, row_of(call, i)));
    const index_t in_intervals = union_size(ranges);
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
    n += static_cast<double>(row_of(call, i).j1);
  return n;
}

}  // namespace borel
