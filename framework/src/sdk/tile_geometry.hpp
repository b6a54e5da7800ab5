// Which pairs of a tile lie in a region, found from the tile's corners.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "borel/position.hpp"

namespace borel {

/// Queries at absolute positions [i0, i1), keys [j0, j1); with causal, only pairs with j <= i count.
struct TileBox {
  index_t i0, i1, j0, j1;
  bool causal;
  index_t min_distance() const { return causal ? std::max<index_t>(0, i0 - (j1 - 1)) : i0 - (j1 - 1); }
  index_t max_distance() const { return i1 - 1 - j0; }
};

enum class Cover { none, part, all };

inline Cover cover(const Interval& interval, index_t first, index_t last) {
  if (last < interval.begin || first >= interval.end) return Cover::none;
  return interval.begin <= first && last < interval.end ? Cover::all : Cover::part;
}

inline Cover cover(const PairRegion& region, const TileBox& box) {
  const Cover by_query = cover(region.query, box.i0, box.i1 - 1),
              by_key = cover(region.key, box.j0, box.j1 - 1),
              by_distance = cover(region.distance, box.min_distance(), box.max_distance());
  if (by_query == Cover::none || by_key == Cover::none || by_distance == Cover::none) return Cover::none;
  const bool all = by_query == Cover::all && by_key == Cover::all && by_distance == Cover::all;
  return all && region.distance_stride == 1 ? Cover::all : Cover::part;
}

/// Keys [first, second) of row i inside the box that the region's intervals allow (its stride is left to the
/// caller).
inline std::pair<index_t, index_t> row_keys(const PairRegion& region, index_t i, const TileBox& box) {
  if (!region.query.contains(i)) return {box.j0, box.j0};
  const auto minus = [](index_t a, index_t b) {  // a - b without overflow at the open ends of an interval
    index_t result;
    return __builtin_sub_overflow(a, b, &result)
               ? (a < 0 ? std::numeric_limits<index_t>::min() : std::numeric_limits<index_t>::max())
               : result;
  };
  // distance.begin <= i - j < distance.end   <=>   i - distance.end < j <= i - distance.begin
  index_t begin = std::max({box.j0, region.key.begin});
  index_t end = std::min({box.j1, region.key.end});
  const index_t below = minus(i, region.distance.end), last = minus(i, region.distance.begin);
  if (below >= begin) begin = below + 1;
  if (last < end) end = last + 1;
  if (box.causal) end = std::min(end, i + 1);
  return begin < end ? std::pair{begin, end} : std::pair{box.j0, box.j0};
}

/// How many keys some of the ranges [first, second) hold; sorts them. Complexity O(r log r)
inline index_t union_size(std::vector<std::pair<index_t, index_t>>& ranges) {
  std::sort(ranges.begin(), ranges.end());
  index_t n = 0, covered = 0;
  for (const auto& [from, to] : ranges) {
    n += std::max<index_t>(0, to - std::max(from, covered));
    covered = std::max(covered, to);
  }
  return n;
}

/// How many pairs of the box the region holds. Complexity O(rows), O(pairs) with a stride.
inline index_t count_pairs(const PairRegion& region, const TileBox& box) {
  index_t count = 0;
  for (index_t i = box.i0; i < box.i1; ++i) {
    const auto [begin, end] = row_keys(region, i, box);
    if (region.distance_stride == 1)
      count += end - begin;
    else
      for (index_t j = begin; j < end; ++j) count += region.contains(i, j);
  }
  return count;
}

}  // namespace borel
