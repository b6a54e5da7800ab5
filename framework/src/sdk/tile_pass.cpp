#include "tile_pass.hpp"

#include <algorithm>
#include <cmath>

#include "rotation.hpp"

namespace borel::tile {
namespace {

constexpr std::size_t k_max_packed = 8;  // bands
constexpr index_t k_max_in_place = 4;    // query rows

double first_position(const PositionTable& table, const Band& band, index_t row) {
  return (*table)[static_cast<std::size_t>(row * band.n_axes)];
}

index_t round_down(index_t n) { return n / kernels::k_row_pad * kernels::k_row_pad; }

}  // namespace

TilePass::TilePass(const TileMethod& method, const AttentionCall& call, Packing packing, index_t only_head)
    : method_(method),
      call_(call),
      plan_(call.position),
      scale_(method.scale(call)),
      n_tiles_((call.n_k() + k_keys - 1) / k_keys),
      d_pad_(kernels::padded(call.d_k())),
      d_o_(kernels::padded(call.d_v())) {
  choose_variants();
  const bool many_bands = variants_.size() > k_max_packed;
  const bool forward = packing == Packing::forward || packing == Packing::forward_bf16;
  in_place_ = forward && !many_bands && call.n_q() <= k_max_in_place;
  packed_ = !many_bands && !in_place_;
  bf16_ = packing == Packing::forward_bf16 && packed_;
  rotate_by_table_ = !many_bands;
  if (forward && packed_) choose_held();
  lay_out(packing);
  for (Variant& variant : variants_) make_tables(variant);
  pack(only_head);
}

/// The bands that hold for some pair, and the plain product if some pair is in no band.
void TilePass::choose_variants() {
  const TileBox all{call_.query_offset, call_.query_offset + call_.n_q(), 0, call_.n_k(), call_.causal};
  index_t pairs = count_pairs(PairRegion(), all);
  for (std::size_t b = 0; plan_ && b < plan_->bands.size() && pairs > 0; ++b) {
    const Band& band = plan_->bands[b];
    const index_t held = cover(band.region, all) == Cover::all ? pairs : count_pairs(band.region, all);
    if (held == 0) continue;
    variants_.emplace_back().band = &band;
    variants_.back().band_number = static_cast<index_t>(b);
    pairs -= held;
  }
  if (pairs > 0) variants_.emplace_back();
}

void TilePass::load(QueryBlock& block, index_t head, index_t r0, index_t r1) const {
  block.head = head, block.r0 = r0, block.r1 = r1;
  std::ranges::fill(block.ready.span(), char{0});
  std::ranges::fill(block.pairs_ready.span(), char{0});
}

ActiveColumns TilePass::scores(QueryBlock& block, index_t tile, float* out, index_t ld) const {
  const TileBox area = box(block.r0, block.r1, tile);
  ActiveColumns active;
  const Cover visible = visibility(area);
  if (visible == Cover::none) return active;
  const auto rounded = [&](const ColumnRange& range) {
    return range.size() <= 0 ? ColumnRange{} : ColumnRange{round_down(range.lo), kernels::padded(range.hi)};
  };
  active.has_masked = visible == Cover::part;
  active.all = rounded(active.has_masked ? visible_columns(area) : ColumnRange{0, area.j1 - area.j0});
  if (active.all.size() <= 0) return active;
  active.n_groups = 1;
  active.groups[0] = active.all;
  if (active.has_masked && block.n_rows() > k_group_rows) {
    active.n_groups = (block.n_rows() + k_group_rows - 1) / k_group_rows;
    for (index_t g = 0; g < active.n_groups; ++g) {
      const ColumnRange seen = rounded(visible_columns(
          box(block.r0 + g * k_group_rows, std::min(block.r1, block.r0 + (g + 1) * k_group_rows), tile)));
      // A group's bounds are looser than the block's where its own last row sees nothing; beyond `all` nothing is masked.
      const ColumnRange held{std::max(seen.lo, active.all.lo), std::min(seen.hi, active.all.hi)};
      active.groups[static_cast<std::size_t>(g)] = held.size() > 0 ? held : ColumnRange{};
    }
  }
  hold(block, tile);
  raw_scores(block, tile, area, active, out, ld);
  const ColumnRange held{active.all.lo, std::min(active.all.hi, area.j1 - area.j0)};
  if (plan_ && plan_->bias) add_bias(block.head, area, held, out, ld);
  if (active.has_masked) hide(block, tile, active, out, ld);
  if (method_.transforms()) {
    ScoreTile tile_view = view(block, tile, active, out, ld);
    method_.transform(call_, tile_view);
  }
  for (index_t r = 0; r < block.n_rows() && held.hi < active.all.hi; ++r)
    std::fill(out + r * ld + held.hi, out + r * ld + active.all.hi, k_masked);
  return active;
}

bool TilePass::softmax_weights(QueryBlock& block, index_t tile, const float* row_shift, double* row_sum,
                               float* out, index_t ld) const {
  const index_t n = block.n_rows(), d = call_.d_k(), n_cols = n_keys(tile);
  if (!packed_ || bf16_ || method_.transforms() || n_cols % kernels::k_row_pad != 0 ||
      !kernels::score_softmax_pays())
    return false;
  const TileBox area = box(block.r0, block.r1, tile);
  if (visibility(area) != Cover::all) return false;
  const std::optional<std::size_t> v = only_variant(area);
  if (!v || std::any_of(row_shift, row_shift + n, [](float m) { return m == k_masked; })) return false;
  const float* bias = nullptr;
  if (plan_ && plan_->bias) {
    const index_t at =
        plan_->bias_zero + area.j0 - area.i0;  // of the first pair; the rows after it come before
    if (at < n - 1 || at + n_cols > plan_->bias_width) return false;  // pairs without a bias
    bias = plan_->bias->data() + block.head * plan_->bias_width + at;
  }
  hold(block, tile);
  fetch_some(block);
  const float* keys = packed_floats(block, tile) + static_cast<index_t>(*v) * record_.key_size;
  return kernels::score_softmax({queries(block, *v, tile), d_pad_, 1},
                                {keys, kernels::k_row_pad, kernels::k_row_pad * d}, d, row_shift, bias,
                                row_sum, out, ld, n, n_cols);
}

ScoreTile TilePass::view(const QueryBlock& block, index_t tile, const ActiveColumns& active, float* scores,
                         index_t ld) const {
  return {scores + active.all.lo,
          block.n_rows(),
          std::min(active.all.hi, n_keys(tile)) - active.all.lo,
          ld,
          block.head,
          block.r0,
          tile * k_keys + active.all.lo,
          active.has_masked};
}

void TilePass::copy_rows(bool query_side, index_t head, index_t first, TensorView<float, 2> rows) const {
  const TensorView<const float, 3>& from = query_side ? call_.q : call_.k;
  for (index_t t = 0; t < rows.shape(0); ++t)
    std::ranges::copy(from.row(head, first + t), rows.row(t).begin());
  if (!plan_) return;
  if (query_side && plan_->query_map) plan_->query_map->apply(head, first + call_.query_offset, rows);
  if (!query_side && plan_->key_map) plan_->key_map->apply(head, first, rows);
}

void TilePass::turned_rows(const Variant& variant, bool query_side, index_t head, index_t first,
                           TensorView<float, 2> out) const {
  const bool is_mapped = plan_ && (query_side ? plan_->query_map != nullptr : plan_->key_map != nullptr);
  if (variant.band && !is_mapped && out.shape(0) > 0) {
    const TensorView<const float, 3>& from = query_side ? call_.q : call_.k;
    return rotate(variant, query_side, first, false,
                  {from.row(head, first).data(), out.shape(), {from.stride(1), 1}}, out);
  }
  copy_rows(query_side, head, first, out);
  rotate(variant, query_side, first, false, out, out);
}

void TilePass::rotate(const Variant& variant, bool query_side, index_t first, bool inverse,
                      TensorView<const float, 2> in, TensorView<float, 2> out) const {
  if (!variant.band || in.shape(0) == 0) return;
  const Band& band = *variant.band;
  const PositionTable& table = query_side ? band.query_position : band.key_position;
  auto positions = band_positions(table, band, first, in.shape(0));
  double origin = first_position(table, band, first);
  int sign = query_side ? +1 : -1;
  std::vector<double> negated;
  if (inverse) {  // the transposed map: positions, sign and origin negated
    negated.assign(positions.begin(), positions.end());
    for (double& p : negated) p = -p;
    positions = negated, origin = -origin, sign = -sign;
  }
  if (!rotate_by_table_ || inverse) return rotate_rows(*plan_, band, positions, sign, origin, in, out);
  const float* cosine = query_side ? variant.cosine_q : variant.cosine_k;
  const float* sine = query_side ? variant.sine_q : variant.sine_k;
  const index_t at = first * n_pairs();
  apply_rotation(*plan_, band, positions, cosine ? cosine + at : nullptr, sine ? sine + at : nullptr, sign,
                 origin, in, out);
}

double TilePass::factor(const Variant& variant, index_t head, index_t r) const {
  return scale_ * (variant.band ? variant.band->logit_scale : 1) *
         method_.row_scale(call_, head, r + call_.query_offset);
}

/// Rows [r0, r1) of q for a variant, with every factor on the product folded in: [r1 - r0, d_pad], zeros beyond d_k.
/// Amplitudes are centred at the first row.
void TilePass::make_queries(const Variant& variant, index_t head, index_t r0, index_t r1, float* out) const {
  const TensorView<float, 2> rows(out, {r1 - r0, call_.d_k()}, {d_pad_, 1});
  turned_rows(variant, true, head, r0, rows);
  for (index_t r = r0; r < r1; ++r) {
    const double by = factor(variant, head, r) * static_cast<double>(query_scale(r));
    for (float& x : rows.row(r - r0)) x *= static_cast<float>(by);
    std::fill(out + (r - r0) * d_pad_ + call_.d_k(), out + (r - r0 + 1) * d_pad_, 0.0f);
  }
}

/// Queries are centred at their first row and keys at their tile, so neither overflows; the distance
/// between the two centres is applied here, where it can only vanish or be as large as the score itself.
void TilePass::amplify(const Band& band, index_t r0, index_t n_rows, index_t tile, const float* in,
                       float* out) const {
  const double distance =
      first_position(band.query_position, band, r0) - first_position(band.key_position, band, tile * k_keys);
  if (out != in) std::copy(in, in + n_rows * d_pad_, out);
  const bool interleaved = plan_->pairing == Pairing::interleaved;
  for (index_t m = 0; m < n_pairs(); ++m) {
    const auto by =
        static_cast<float>(std::exp((*band.log_amplitude)[static_cast<std::size_t>(m)] * distance));
    const index_t first = interleaved ? 2 * m : m, second = interleaved ? 2 * m + 1 : m + n_pairs();
    for (index_t r = 0; r < n_rows; ++r) out[r * d_pad_ + first] *= by, out[r * d_pad_ + second] *= by;
  }
}

const float* TilePass::queries(QueryBlock& block, std::size_t v, index_t tile) const {
  const Variant& variant = variants_[v];
  float* rows = block.rows.data() + static_cast<index_t>(v) * k_rows * d_pad_;
  char& ready = block.ready[static_cast<index_t>(v)];
  if (!ready) make_queries(variant, block.head, block.r0, block.r1, rows);
  ready = 1;
  if (!variant.band || !variant.band->log_amplitude) return rows;
  amplify(*variant.band, block.r0, block.n_rows(), tile, rows, block.amplified.data());
  return block.amplified.data();
}

/// Rounded once for all tiles, but where amplitudes follow the distance.
const Bf16Pair* TilePass::query_pairs(QueryBlock& block, std::size_t v, index_t tile) const {
  const index_t n_pairs = kernels::n_bf16_pairs(call_.d_k());
  Bf16Pair* pairs = block.pairs.data() + static_cast<index_t>(v) * k_rows * n_pairs;
  char& ready = block.pairs_ready[static_cast<index_t>(v)];
  if (!ready) kernels::to_bf16(queries(block, v, tile), d_pad_, block.n_rows(), call_.d_k(), pairs, n_pairs);
  ready = !variants_[v].band || !variants_[v].band->log_amplitude;
  return pairs;
}

/// q k^T of one variant for rows [first_row, last_row) of the call and some columns, into out [rows of the block, k_keys].
void TilePass::multiply(QueryBlock& block, std::size_t v, index_t tile, index_t first_row, index_t last_row,
                        const ColumnRange& columns, float* out, index_t ld) const {
  const index_t begin = std::max(block.r0, first_row), end = std::min(block.r1, last_row), d = call_.d_k();
  if (begin >= end || columns.size() <= 0) return;
  const Variant& variant = variants_[v];
  const index_t kv = call_.kv_head(block.head);
  out += (begin - block.r0) * ld + columns.lo;
  const auto by_panels = [&](const float* q, const float* keys) {
    kernels::multiply({q, d_pad_, 1}, {keys + columns.lo * d, kernels::k_row_pad, kernels::k_row_pad * d},
                      out, ld, end - begin, d, columns.size(), false);
  };
  if (bf16_) {
    const index_t n_pairs = kernels::n_bf16_pairs(d);
    const Bf16Pair* q = query_pairs(block, v, tile) + (begin - block.r0) * n_pairs;
    const Bf16Pair* keys =
        packed_pairs(block, tile) + static_cast<index_t>(v) * record_.key_size + columns.lo * n_pairs;
    return kernels::multiply_bf16(q, n_pairs, keys, kernels::k_row_pad * n_pairs, out, ld, end - begin,
                                  n_pairs, columns.size(), false);
  }
  if (packed_)
    return by_panels(queries(block, v, tile) + (begin - block.r0) * d_pad_,
                     packed_floats(block, tile) + static_cast<index_t>(v) * record_.key_size);
  const Scratch<float> q((end - begin) * d_pad_);
  make_queries(variant, block.head, begin, end, q.data());
  if (variant.band && variant.band->log_amplitude)
    amplify(*variant.band, begin, end - begin, tile, q.data(), q.data());
  if (!in_place_) {
    const Scratch<float> keys(d * k_keys);
    pack_keys(variant, kv, tile, keys.data(), nullptr, nullptr);
    return by_panels(q.data(), keys.data());
  }
  const index_t n = n_keys(tile), n_read = std::min(columns.hi, n) - columns.lo;
  const float* keys = call_.k.row(kv, tile * k_keys).data();
  index_t ld_keys = call_.k.stride(1);
  const Scratch<float> storage(n * d);
  if (turns(variant)) {
    if (!variant.turned) turned_rows(variant, false, kv, tile * k_keys, {storage.data(), {n, d}});
    keys = variant.turned ? variant.turned + (kv * call_.n_k() + tile * k_keys) * d : storage.data();
    ld_keys = d;
  }
  for (index_t r = 0; r < end - begin; ++r)
    kernels::score_row(q.data() + r * d_pad_, keys + columns.lo * ld_keys, ld_keys, n_read, d, out + r * ld);
}

/// One product where one variant holds for the whole tile; else one per variant that holds for some pair.
void TilePass::raw_scores(QueryBlock& block, index_t tile, const TileBox& area, const ActiveColumns& active,
                          float* out, index_t ld) const {
  thread_local std::vector<Part> at_work;  // keeps its memory from tile to tile
  parts(area, at_work);
  if (at_work.size() == 1 && at_work[0].held == Cover::all) {
    for (index_t g = 0; g < active.n_groups; ++g) {
      const ColumnRange& columns = active.groups[static_cast<std::size_t>(g)];
      const index_t first = active.n_groups == 1 ? block.r0 : block.r0 + g * k_group_rows,
                    last = active.n_groups == 1 ? block.r1 : std::min(block.r1, first + k_group_rows);
      fetch_some(block);
      multiply(block, at_work[0].variant, tile, first, last, columns, out, ld);
    }
    return;
  }
  const Scratch<float> other(k_rows * k_keys);
  for (const Part& part : at_work) {
    if (!variants_[part.variant].band) {
      multiply(block, part.variant, tile, block.r0, block.r1, active.all, out, ld);
      continue;
    }
    const PairRegion& region = variants_[part.variant].band->region;
    const index_t offset = call_.query_offset;
    multiply(block, part.variant, tile, std::max(region.query.begin, offset) - offset,
             std::max(region.query.end, offset) - offset, active.all, other.data(), k_keys);
    for (index_t i = area.i0; i < area.i1; ++i) {
      auto [begin, end] = row_keys(region, i, area);
      begin = std::max(begin, area.j0 + active.all.lo), end = std::min(end, area.j0 + active.all.hi);
      const float* from = other.data() + (i - area.i0) * k_keys - area.j0;
      float* to = out + (i - area.i0) * ld - area.j0;
      if (region.distance_stride == 1 && begin < end)
        std::copy(from + begin, from + end, to + begin);
      else
        for (index_t j = begin; j < end; ++j)
          if (region.contains(i, j)) to[j] = from[j];
    }
  }
}

void TilePass::add_bias(index_t head, const TileBox& area, const ColumnRange& columns, float* out,
                        index_t ld) const {
  const float* bias = plan_->bias->data() + head * plan_->bias_width;
  for (index_t i = area.i0; i < area.i1; ++i) {
    const index_t shift = plan_->bias_zero - i;  // column of key j is j + shift; masked pairs may have none
    const index_t begin = std::max(area.j0 + columns.lo, -shift),
                  end = std::min(area.j0 + columns.hi, plan_->bias_width - shift);
    if (begin < end)
      kernels::add_row(out + (i - area.i0) * ld + begin - area.j0, bias + begin + shift, end - begin);
  }
}

void TilePass::add_values(QueryBlock& block, index_t tile, const ActiveColumns& active, const float* weights,
                          index_t ld, float* o) const {
  const index_t kv = call_.kv_head(block.head);
  if (in_place_) {
    const index_t n = std::min(active.all.hi, n_keys(tile)) - active.all.lo;
    for (index_t r = 0; r < block.n_rows(); ++r)
      kernels::add_weighted_rows(weights + r * ld + active.all.lo,
                                 call_.v.row(kv, tile * k_keys + active.all.lo).data(), call_.v.stride(1), n,
                                 call_.d_v(), o + r * d_o_);
    return;
  }
  for (index_t g = 0; g < active.n_groups; ++g) {
    const ColumnRange& columns = active.groups[static_cast<std::size_t>(g)];
    const index_t first = g * k_group_rows,
                  n = active.n_groups == 1 ? block.n_rows() : std::min(k_group_rows, block.n_rows() - first);
    if (columns.size() <= 0) continue;
    fetch_some(block);
    if (bf16_) {
      const index_t n_pairs = columns.size() / 2;  // columns begin and end at multiples of 16
      const Scratch<Bf16Pair> w(n * n_pairs);
      kernels::to_bf16(weights + first * ld + columns.lo, ld, n, columns.size(), w.data(), n_pairs);
      const Bf16Pair* pairs =
          packed_pairs(block, tile) + record_.values + columns.lo / 2 * kernels::k_row_pad;
      kernels::multiply_bf16(w.data(), n_pairs, pairs, kernels::k_row_pad * k_keys / 2, o + first * d_o_,
                             d_o_, n, n_pairs, d_o_, true);
    } else {
      kernels::multiply({weights + first * ld + columns.lo, ld, 1},
                        {packed_floats(block, tile) + record_.values + columns.lo * kernels::k_row_pad,
                         kernels::k_row_pad, kernels::k_row_pad * k_keys},
                        o + first * d_o_, d_o_, n, columns.size(), d_o_, true);
    }
  }
}

void TilePass::multiply_values(const QueryBlock& block, index_t tile, const ActiveColumns& active,
                               const float* d_o, float* out, index_t ld) const {
  const index_t d_v = call_.d_v();
  const float* values = packed_floats(block, tile) + record_.transposed;
  kernels::multiply({d_o, d_o_, 1},
                    {values + active.all.lo * d_v, kernels::k_row_pad, kernels::k_row_pad * d_v},
                    out + active.all.lo, ld, block.n_rows(), d_v, active.all.size(), false);
}

void TilePass::multiply_keys(const QueryBlock& block, std::size_t v, index_t tile, const float* d_scores,
                             index_t ld, const ColumnRange& columns, float* out) const {
  const float* keys =
      packed_floats(block, tile) + record_.key_rows + static_cast<index_t>(v) * k_keys * d_pad_;
  kernels::multiply({d_scores + columns.lo, ld, 1},
                    {keys + columns.lo * kernels::k_row_pad, kernels::k_row_pad, kernels::k_row_pad * k_keys},
                    out, d_pad_, block.n_rows(), columns.size(), d_pad_, true);
}

}  // namespace borel::tile
