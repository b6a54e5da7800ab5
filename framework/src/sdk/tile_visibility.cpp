// Which pairs of a tile count, and which band each belongs to.
#include <algorithm>
#include <array>

#include "tile_pass.hpp"

namespace borel::tile {

TileBox TilePass::box(index_t r0, index_t r1, index_t tile) const {
  return {r0 + call_.query_offset, r1 + call_.query_offset, tile * k_keys,
          std::min(call_.n_k(), (tile + 1) * k_keys), call_.causal};
}

std::pair<index_t, index_t> TilePass::tiles(index_t r0, index_t r1) const {
  TileBox all = box(r0, r1, 0);
  all.j1 = call_.n_k();
  const ColumnRange keys = visible_columns(all);
  if (keys.size() <= 0) return {0, 0};
  return {keys.lo / k_keys, (keys.hi - 1) / k_keys + 1};
}

/// Keys, relative to j0, between the first and the last that some row of the box may see. Documents are left to mask().
ColumnRange TilePass::visible_columns(const TileBox& area) const {
  const index_t j1 = area.causal ? std::min(area.j1, area.i1) : area.j1;
  if (j1 <= area.j0) return {};
  if (!plan_ || plan_->visible.empty()) return {0, j1 - area.j0};
  index_t first = j1, last = area.j0;
  for (const PairRegion& region : plan_->visible) {
    if (cover(region, area) == Cover::none) continue;
    const index_t q0 = std::max(area.i0, region.query.begin), q1 = std::min(area.i1, region.query.end) - 1;
    const auto [begin, end_of_first] = row_keys(region, q0, area);
    const auto [begin_of_last, end] = row_keys(region, q1, area);
    // Both ends grow with the row. An empty row says nothing about them.
    first = std::min(first, begin < end_of_first ? begin : std::max(area.j0, region.key.begin));
    last = std::max(last, begin_of_last < end ? end : std::min(j1, region.key.end));
  }
  return first < last ? ColumnRange{first - area.j0, std::min(last, j1) - area.j0} : ColumnRange{};
}

void TilePass::parts(const TileBox& area, std::vector<Part>& out) const {
  out.clear();
  std::size_t plain = variants_.size();
  for (std::size_t v = 0; v < variants_.size(); ++v) {
    const Cover held = variants_[v].band ? cover(variants_[v].band->region, area) : Cover::none;
    if (held == Cover::all) {
      out.assign(1, {v, Cover::all});
      return;
    }
    if (held == Cover::part) out.push_back({v, held});
    if (!variants_[v].band) plain = v;
  }
  if (plain == variants_.size()) return;
  if (out.empty()) return out.push_back({plain, Cover::all});
  index_t uncovered = count_pairs(PairRegion(), area);
  for (const Part& part : out) uncovered -= count_pairs(variants_[part.variant].band->region, area);
  // First, so that the bands can be written over it.
  if (uncovered > 0) out.insert(out.begin(), {plain, Cover::part});
}

std::optional<std::size_t> TilePass::only_variant(const TileBox& area) const {
  thread_local std::vector<Part> at_work;  // keeps its memory from tile to tile
  parts(area, at_work);
  if (at_work.size() == 1 && at_work[0].held == Cover::all) return at_work[0].variant;
  return std::nullopt;
}

bool TilePass::holds(const Part& part, index_t i, index_t j) const {
  if (const Band* band = variants_[part.variant].band) return band->region.contains(i, j);
  for (const Variant& variant : variants_)
    if (variant.band && variant.band->region.contains(i, j)) return false;
  return true;
}

Cover TilePass::visibility(const TileBox& area) const {
  if (area.j0 >= area.j1 || (area.causal && area.j0 > area.i1 - 1)) return Cover::none;
  Cover result = area.causal && area.j1 - 1 > area.i0 ? Cover::part : Cover::all;
  if (!plan_) return result;
  if (!plan_->visible.empty()) {
    Cover best = Cover::none;
    for (const PairRegion& region : plan_->visible) best = std::max(best, cover(region, area));
    if (best == Cover::none) return best;
    result = std::min(result, best);
  }
  if (plan_->documents) {
    const std::vector<index_t>& number = *plan_->documents;
    const auto at = [&](index_t t) { return number[static_cast<std::size_t>(t)]; };
    if (at(area.i1 - 1) < at(area.j0) || at(area.i0) > at(area.j1 - 1)) return Cover::none;
    if (at(area.i0) != at(area.i1 - 1) || at(area.j0) != at(area.j1 - 1))
      result = std::min(result, Cover::part);
  }
  return result;
}

/// -infinity beside the columns of each group, and for the pairs inside them that do not see each other.
void TilePass::hide(const QueryBlock& block, index_t tile, const ActiveColumns& active, float* out,
                    index_t ld) const {
  const index_t height = active.n_groups == 1 ? block.n_rows() : k_group_rows;
  for (index_t g = 0; g < active.n_groups; ++g) {
    const index_t first = g * height, last = std::min(block.n_rows(), first + height);
    ColumnRange columns = active.groups[static_cast<std::size_t>(g)];
    if (columns.size() == 0) columns = {active.all.lo, active.all.lo};
    for (index_t r = first; r < last; ++r) {
      std::fill(out + r * ld + active.all.lo, out + r * ld + columns.lo, k_masked);
      std::fill(out + r * ld + columns.hi, out + r * ld + active.all.hi, k_masked);
    }
    const TileBox area = box(block.r0 + first, block.r0 + last, tile);
    mask(area, {columns.lo, std::min(columns.hi, area.j1 - area.j0)}, out + first * ld, ld);
  }
}

/// -infinity for the pairs that do not see each other.
void TilePass::mask(const TileBox& area, const ColumnRange& columns, float* out, index_t ld) const {
  const index_t j0 = area.j0 + columns.lo, j1 = area.j0 + columns.hi;
  const bool by_region = plan_ && !plan_->visible.empty();
  std::array<char, k_keys> sees{};
  for (index_t i = area.i0; i < area.i1; ++i) {
    float* row = out + (i - area.i0) * ld - area.j0;  // indexed by key
    const auto hide = [&](index_t begin, index_t end) {
      begin = std::max(begin, j0), end = std::min(end, j1);
      if (begin < end) std::fill(row + begin, row + end, k_masked);
    };
    if (by_region && plan_->visible.size() == 1 && plan_->visible[0].distance_stride == 1) {
      const auto [begin, end] = row_keys(plan_->visible[0], i, area);
      hide(j0, begin), hide(end, j1);
      if (begin >= end) hide(j0, j1);
    } else if (by_region) {
      sees.fill(0);
      for (const PairRegion& region : plan_->visible) {
        const auto [begin, end] = row_keys(region, i, area);
        for (index_t j = begin; j < end; ++j)
          if (region.distance_stride == 1 || region.contains(i, j))
            sees[static_cast<std::size_t>(j - area.j0)] = 1;
      }
      for (index_t j = j0; j < j1; ++j)
        if (!sees[static_cast<std::size_t>(j - area.j0)]) row[j] = k_masked;
    }
    if (plan_ && plan_->documents) {
      const std::vector<index_t>& number = *plan_->documents;
      const auto same =
          std::equal_range(number.begin() + j0, number.begin() + j1, number[static_cast<std::size_t>(i)]);
      hide(j0, same.first - number.begin()), hide(same.second - number.begin(), j1);
    }
    if (area.causal) hide(i + 1, j1);
  }
}

}  // namespace borel::tile
