// Memory of a pass: tables of rotations, and keys and values packed for the kernels.
#include <algorithm>
#include <utility>

#include "rotation.hpp"
#include "tile_pass.hpp"

namespace borel::tile {

namespace {
constexpr index_t k_fetched_together = 3;  // rows of what comes next, beside a product
}  // namespace

/// Blocks that see few tiles each leave it to their tasks to pack them, if every thread has some tasks.
void TilePass::choose_held() {
  constexpr index_t k_few = 4;
  if (!plan_ || plan_->visible.empty() || call_.n_q() < k_few * max_threads() * k_rows_together) return;
  index_t longest = 0;
  for (index_t r0 = 0; r0 < call_.n_q() && k_few * longest <= n_tiles_; r0 += k_rows) {
    const auto [first, last] = tiles(r0, std::min(call_.n_q(), r0 + k_rows));
    longest = std::max(longest, last - first);
  }
  // What a task holds must stay in its caches: all key heads of these tiles, keys of every variant and values.
  constexpr index_t k_held_bytes = index_t{4} << 20;
  const index_t of_token = static_cast<index_t>(variants_.size()) * call_.d_k() + d_o_,
                size_bytes = call_.h_kv() * longest * k_keys * of_token * static_cast<index_t>(sizeof(float));
  if (k_few * longest <= n_tiles_ && size_bytes <= k_held_bytes) n_held_ = longest;
}

/// One piece of scratch memory for everything that lives as long as the pass.
void TilePass::lay_out(Packing packing) {
  const bool back = packing == Packing::backward;
  const auto n_variants = static_cast<index_t>(variants_.size());
  const index_t d = bf16_ ? kernels::n_bf16_pairs(call_.d_k()) : call_.d_k();
  record_.key_size = packed_ ? d * k_keys : 0;
  record_.key_rows = n_variants * record_.key_size;
  record_.values = record_.key_rows + (packed_ && back ? n_variants * d_pad_ * k_keys : 0);
  const bool has_values = packing != Packing::scores && !in_place_;
  record_.transposed = record_.values + (has_values ? (bf16_ ? k_keys / 2 : k_keys) * d_o_ : 0);
  record_.size = record_.transposed + (back ? k_keys * call_.d_v() : 0);
  const index_t packed_size = n_held_ > 0 ? 0 : call_.h_kv() * n_tiles_ * record_.size;
  const index_t table_q = kernels::padded(call_.n_q() * n_pairs()),
                table_k = kernels::padded(call_.n_k() * n_pairs());
  index_t size = bf16_ ? 0 : packed_size;
  // Long caches are turned tile by tile, by every query head.
  constexpr index_t k_most_turned = index_t{1} << 23;
  const bool shares_turned = in_place_ && call_.h_q() > call_.h_kv() &&
                             n_variants * call_.h_kv() * call_.n_k() * call_.d_k() <= k_most_turned;
  const auto turned_size = [&](const Variant& variant) {
    return shares_turned && turns(variant) ? call_.h_kv() * call_.n_k() * call_.d_k() : 0;
  };
  for (const Variant& variant : variants_)
    size += turned_size(variant) + (rotates(variant) ? 2 * (table_q + table_k) : 0);
  memory_.emplace(size);
  float* next = memory_->data();
  const auto take = [&](index_t count) { return std::exchange(next, next + count); };
  floats_ = take(bf16_ ? 0 : packed_size);
  for (Variant& variant : variants_) {
    if (turned_size(variant) > 0) variant.turned = take(turned_size(variant));
    if (!rotates(variant)) continue;
    variant.cosine_q = take(table_q), variant.sine_q = take(table_q);
    variant.cosine_k = take(table_k), variant.sine_k = take(table_k);
  }
  if (bf16_) pair_memory_.emplace(packed_size);
}

bool TilePass::is_at_work(const Variant& variant, index_t tile) const {
  if (!variant.band) return true;
  const TileBox area = box(0, call_.n_q(), tile);
  return visibility(area) != Cover::none && cover(variant.band->region, area) != Cover::none;
}

void TilePass::make_tables(Variant& variant) const {
  if (!rotates(variant)) return;
  const Band& band = *variant.band;
  const auto make = [&](const PositionTable& positions, index_t begin, index_t end, float* cosine,
                        float* sine) {
    rotation_table(*plan_, band, band_positions(positions, band, begin, end - begin),
                   cosine + begin * n_pairs(), sine + begin * n_pairs());
  };
  const bool same = band.query_position == band.key_position;
  parallel_for(n_tiles_, 2, [&](index_t first, index_t last) {
    for (index_t t = first; t < last; ++t)
      if (same || is_at_work(variant, t))
        make(band.key_position, t * k_keys, t * k_keys + n_keys(t), variant.cosine_k, variant.sine_k);
  });
  if (same) {
    variant.cosine_q = variant.cosine_k, variant.sine_q = variant.sine_k;
    return;
  }
  parallel_for(call_.n_q(), 2 * k_keys, [&](index_t begin, index_t end) {
    make(band.query_position, begin, end, variant.cosine_q, variant.sine_q);
  });
}

void TilePass::pack(index_t only_head) {
  for (const Variant& variant : variants_)
    if (variant.turned)
      parallel_for(call_.h_kv() * n_tiles_, 1, [&](index_t begin, index_t) {
        const index_t kv = begin / n_tiles_, tile = begin % n_tiles_;
        if (is_at_work(variant, tile))
          turned_rows(variant, false, kv, tile * k_keys,
                      {variant.turned + (kv * call_.n_k() + tile * k_keys) * call_.d_k(),
                       {n_keys(tile), call_.d_k()}});
      });
  if (record_.size == 0 || n_held_ > 0) return;
  const index_t kv_begin = only_head < 0 ? 0 : call_.kv_head(only_head);
  const index_t kv_end = only_head < 0 ? call_.h_kv() : kv_begin + 1;
  parallel_for((kv_end - kv_begin) * n_tiles_, 1, [&](index_t begin, index_t) {
    call_.stop.throw_if_stopped();
    // All heads of a tile before the next tile: their rows are neighbours in the layout [n, h, d].
    const index_t n_kv = kv_end - kv_begin, kv = kv_begin + begin % n_kv, tile = begin / n_kv,
                  at = (kv * n_tiles_ + tile) * record_.size;
    pack_tile(kv, tile, floats_ + at, bf16_ ? pair_memory_->data() + at : nullptr);
  });
}

void TilePass::hold(QueryBlock& block, index_t tile) const {
  if (n_held_ == 0) return;
  const index_t number = packed_number(block, tile), at = number * record_.size;
  if (block.held[number] == tile) return;
  pack_tile(call_.kv_head(block.head), tile, block.held_floats.data() + at, block.held_pairs.data() + at);
  block.held[number] = tile;
}

void TilePass::foresee(QueryBlock& block, index_t r0, index_t r1, index_t r2,
                       const TensorView<float, 3>& o) const {
  // A tile is packed as a whole when a block first sees its last key.
  block.ahead = {&o,
                 {r0, r1, 0, call_.h_q()},
                 {tiles(r0, r1).first * k_keys, tiles(r1, r2).first * k_keys, 0, call_.h_kv()}};
}

void TilePass::foresee(QueryBlock& block, index_t r0, index_t r1, const TensorView<float, 3>& o) const {
  const auto [first, last] = tiles(block.r0, block.r1);
  const index_t n_products = 2 * (last - first),
                n_needed = (r1 - r0 + k_fetched_together - 1) / k_fetched_together;
  block.ahead = {&o, {r0, r1, block.head, block.head + 1}, {}, std::max<index_t>(0, n_products - n_needed)};
}

/// In the layout [n, h, d] the rows of one head lie too far apart for the processor to foresee them, and all rows of a
/// block at once are more than its queue of misses takes.
void TilePass::fetch_some(QueryBlock& block) const {
  constexpr index_t k_line = 64 / sizeof(float);
  const auto fetch = [](const auto& row) {
    for (std::size_t c = 0; c < row.size(); c += k_line) __builtin_prefetch(row.data() + c, 0, 2);
  };
  const auto walk = [](RowCursor& at, auto&& visit) {
    for (index_t i = 0; i < k_fetched_together && at.row < at.end; ++i) {
      visit(at.head, at.row);
      if (++at.head == at.end_head) at.head = at.first_head, ++at.row;
    }
  };
  RowsAhead& ahead = block.ahead;
  if (ahead.n_before-- > 0) return;
  walk(ahead.keys,
       [&](index_t kv, index_t row) { fetch(call_.k.row(kv, row)), fetch(call_.v.row(kv, row)); });
  walk(ahead.queries,
       [&](index_t head, index_t row) { fetch(call_.q.row(head, row)), fetch(ahead.o->row(head, row)); });
}

void TilePass::pack_tile(index_t kv, index_t tile, float* floats, Bf16Pair* pairs) const {
  const float* v = call_.v.row(kv, tile * k_keys).data();
  const index_t ld = call_.v.stride(1), n = n_keys(tile), d_v = call_.d_v();
  if (record_.transposed > record_.values) {
    if (bf16_)
      kernels::pack_rows_bf16(v, ld, n, d_v, k_keys, pairs + record_.values);
    else
      kernels::pack_rows(v, ld, n, d_v, k_keys, floats + record_.values);
  }
  if (record_.size > record_.transposed)
    kernels::pack_transposed(v, ld, n, d_v, k_keys, floats + record_.transposed);
  for (std::size_t i = 0; packed_ && i < variants_.size(); ++i) {
    const auto at = static_cast<index_t>(i);
    float* rows =
        record_.values > record_.key_rows ? floats + record_.key_rows + at * d_pad_ * k_keys : nullptr;
    if (bf16_)
      pack_keys(variants_[i], kv, tile, nullptr, nullptr, pairs + at * record_.key_size);
    else
      pack_keys(variants_[i], kv, tile, floats + at * record_.key_size, rows, nullptr);
  }
}

/// Keys of a tile, rotated, packed as transposed panels (as pairs if those are given, else as floats) and, if rows is
/// given, as row panels.
void TilePass::pack_keys(const Variant& variant, index_t kv, index_t tile, float* transposed, float* rows,
                         Bf16Pair* pairs) const {
  if (!is_at_work(variant, tile)) return;  // nobody asks for them
  const index_t d = call_.d_k(), n = n_keys(tile);
  const float* from = call_.k.row(kv, tile * k_keys).data();
  index_t ld = call_.k.stride(1);
  const Scratch<float> storage(n * d);
  if (turns(variant)) {
    turned_rows(variant, false, kv, tile * k_keys, {storage.data(), {n, d}});
    from = storage.data(), ld = d;
  }
  if (pairs) return kernels::pack_transposed_bf16(from, ld, n, d, k_keys, pairs);
  kernels::pack_transposed(from, ld, n, d, k_keys, transposed);
  if (rows) kernels::pack_rows(from, ld, n, d, k_keys, rows);
}

}  // namespace borel::tile
