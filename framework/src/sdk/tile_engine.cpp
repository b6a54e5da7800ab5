#include "borel/draft/tile_engine.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "attention_kernels.hpp"
#include "borel/error.hpp"
#include "rotation.hpp"
#include "tile_geometry.hpp"

namespace borel {

TileMethod::~TileMethod() = default;
double TileMethod::row_scale(const AttentionCall&, index_t, index_t) const { return 1; }
void TileMethod::transform(const AttentionCall&, ScoreTile&) const {}
float TileMethod::sink(const AttentionCall&, index_t, index_t) const {
  return -std::numeric_limits<float>::infinity();
}

void TileMethod::weigh(const AttentionCall&, ScoreTile&) const {
  throw MethodError("this tile method has a statistic that needs weigh(), but does not implement it");
}
void TileMethod::weigh_row(const AttentionCall&, ScoreTile&) const {
  throw MethodError("this tile method asks for whole rows, but does not implement weigh_row()");
}

namespace {

// 48 x 128 scores (24 KB) and the packed keys of a tile (32 KB at d = 64) stay in the first two cache levels;
// 48 is a multiple of the kernels' register blocks.
constexpr index_t k_rows = 48, k_keys = 128;
// Plans with more bands than this (one per query row at the extreme) get their keys rotated tile by tile:
// packed keys of every band would need memory of order n_q n_k.
constexpr std::size_t k_max_packed = 8;
constexpr float k_masked = -std::numeric_limits<float>::infinity();

/// One way to compute a score: a band, or the plain product.
struct Variant {
  const Band* band = nullptr;
  index_t band_number = -1;
  float* keys = nullptr;                         ///< [h_kv, n_tiles, d_k, k_keys], zeros beyond n_k
  float *cosine_q = nullptr, *sine_q = nullptr;  ///< [n_q, n_rot_dims / 2]
  float *cosine_k = nullptr, *sine_k = nullptr;  ///< [n_k, n_rot_dims / 2]
};

/// The rows of q of one block, rotated for every variant that was asked for.
struct QueryBlock {
  QueryBlock(index_t n_packed, index_t d)
      : rows(n_packed * k_rows * d), ready(n_packed), amplified(k_rows * d) {}
  index_t head = 0, r0 = 0, r1 = 0;
  Scratch<float> rows;
  Scratch<char> ready;
  Scratch<float> amplified;
};

/// What is prepared once per call and plan, then read by all blocks.
class TilePass {
 public:
  /// @param only_head  -1, or the only query head that will be asked for
  TilePass(const TileMethod& method, const AttentionCall& call, bool with_values, index_t only_head)
      : method_(method),
        call_(call),
        plan_(call.position),
        n_tiles_((call.n_k() + k_keys - 1) / k_keys),
        d_o_(kernels::padded(call.d_v())) {
    choose_variants();
    packed_ = variants_.size() <= k_max_packed;
    lay_out(with_values);
    const index_t kv_begin = only_head < 0 ? 0 : call.kv_head(only_head);
    const index_t kv_end = only_head < 0 ? call.h_kv() : kv_begin + 1;
    if (with_values) pack_values();
    if (!packed_) return;
    for (Variant& variant : variants_) make_tables(variant);
    parallel_for((kv_end - kv_begin) * n_tiles_, 1, [&](index_t begin, index_t) {
      call.stop.throw_if_stopped();
      const index_t kv = kv_begin + begin / n_tiles_, tile = begin % n_tiles_;
      for (Variant& variant : variants_)
        pack_keys(variant, kv, tile, variant.keys + (kv * n_tiles_ + tile) * call_.d_k() * k_keys);
    });
  }

  index_t d_o() const { return d_o_; }
  const float* values(index_t head, index_t tile) const {
    return values_ + (call_.kv_head(head) * n_tiles_ + tile) * k_keys * d_o_;
  }
  QueryBlock block() const { return {packed_ ? static_cast<index_t>(variants_.size()) : 0, call_.d_k()}; }
  void load(QueryBlock& block, index_t head, index_t r0, index_t r1) const {
    block.head = head, block.r0 = r0, block.r1 = r1;
    std::ranges::fill(block.ready.span(), char{0});
  }

  /// Tiles [first, last) that hold the visible keys of rows [r0, r1); tiles between may still be empty.
  std::pair<index_t, index_t> tiles(index_t r0, index_t r1) const {
    index_t first = n_tiles_, last = 0;
    for (index_t tile = 0; tile < n_tiles_; ++tile)
      if (visibility(box(r0, r1, tile)) != Cover::none) first = std::min(first, tile), last = tile + 1;
    return {std::min(first, last), last};
  }

  TileBox box(index_t r0, index_t r1, index_t tile) const {
    return {r0 + call_.query_offset, r1 + call_.query_offset, tile * k_keys,
            std::min(call_.n_k(), (tile + 1) * k_keys), call_.causal};
  }

  /// Transformed scores of one tile, [r1 - r0, k_keys]: masked pairs and columns beyond n_k hold -infinity.
  /// @return false when the tile sees nothing; then nothing is written
  bool scores(QueryBlock& block, index_t tile, float* out, index_t ld) const {
    const TileBox area = box(block.r0, block.r1, tile);
    const Cover visible = visibility(area);
    if (visible == Cover::none) return false;
    raw_scores(block, tile, area, out, ld);
    const index_t n_rows = block.r1 - block.r0, n_cols = area.j1 - area.j0;
    if (plan_ && plan_->bias) add_bias(block.head, area, out, ld);
    if (visible == Cover::part) mask(area, out, ld);
    ScoreTile view{out, n_rows, n_cols, ld, block.head, block.r0, area.j0, visible == Cover::part};
    method_.transform(call_, view);
    for (index_t r = 0; r < n_rows && n_cols < k_keys; ++r)
      std::fill(out + r * ld + n_cols, out + r * ld + k_keys, k_masked);
    return true;
  }

  ScoreTile tile_view(const QueryBlock& block, index_t tile, float* scores, index_t ld) const {
    const TileBox area = box(block.r0, block.r1, tile);
    return {scores, block.r1 - block.r0, area.j1 - area.j0, ld, block.head, block.r0, area.j0, true};
  }

 private:
  /// The bands that hold for some pair, and the plain product if some pair is in no band.
  void choose_variants() {
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

  bool rotates(const Variant& variant) const { return packed_ && variant.band && variant.band->angle; }

  /// One piece of scratch memory for everything that lives as long as the pass.
  void lay_out(bool with_values) {
    const index_t key_size = packed_ ? call_.h_kv() * n_tiles_ * call_.d_k() * k_keys : 0;
    const index_t value_size = with_values ? call_.h_kv() * n_tiles_ * k_keys * d_o_ : 0;
    const index_t table_q = kernels::padded(call_.n_q() * n_pairs()),
                  table_k = kernels::padded(call_.n_k() * n_pairs());
    index_t size = value_size + static_cast<index_t>(variants_.size()) * key_size;
    for (const Variant& variant : variants_) size += rotates(variant) ? 2 * (table_q + table_k) : 0;
    memory_.emplace(size);
    float* next = memory_->data();
    const auto take = [&](index_t n) { return std::exchange(next, next + n); };
    values_ = take(value_size);
    for (Variant& variant : variants_) {
      variant.keys = take(key_size);
      if (!rotates(variant)) continue;
      variant.cosine_q = take(table_q), variant.sine_q = take(table_q);
      variant.cosine_k = take(table_k), variant.sine_k = take(table_k);
    }
  }

  void make_tables(Variant& variant) const {
    if (!rotates(variant)) return;
    const Band& band = *variant.band;
    const auto make = [&](const PositionTable& positions, index_t n, float* cosine, float* sine) {
      parallel_for(n, 256, [&](index_t begin, index_t end) {
        rotation_table(*plan_, band, rows_of(positions, band, begin, end - begin), cosine + begin * n_pairs(),
                       sine + begin * n_pairs());
      });
    };
    make(band.key_position, call_.n_k(), variant.cosine_k, variant.sine_k);
    if (band.query_position == band.key_position)
      variant.cosine_q = variant.cosine_k, variant.sine_q = variant.sine_k;
    else
      make(band.query_position, call_.n_q(), variant.cosine_q, variant.sine_q);
  }

  index_t n_pairs() const { return plan_ ? plan_->n_rot_dims / 2 : 0; }
  static std::span<const double> rows_of(const PositionTable& positions, const Band& band, index_t first,
                                         index_t n) {
    return std::span(*positions)
        .subspan(static_cast<std::size_t>(first * band.n_axes), static_cast<std::size_t>(n * band.n_axes));
  }

  /// Applies the band of a variant to rows that start at row `first` of q (sign +1) or k (sign -1), in place.
  void rotate(const Variant& variant, index_t first, int sign, double origin,
              TensorView<float, 2> rows) const {
    if (!variant.band) return;
    const Band& band = *variant.band;
    const auto positions =
        rows_of(sign > 0 ? band.query_position : band.key_position, band, first, rows.shape(0));
    if (!packed_) return rotate_rows(*plan_, band, positions, sign, origin, rows, rows);
    const float* cosine = sign > 0 ? variant.cosine_q : variant.cosine_k;
    const float* sine = sign > 0 ? variant.sine_q : variant.sine_k;
    const index_t at = first * n_pairs();
    apply_rotation(*plan_, band, positions, cosine ? cosine + at : nullptr, sine ? sine + at : nullptr, sign,
                   origin, rows, rows);
  }

  static double first_position(const PositionTable& table, const Band& band, index_t row) {
    return (*table)[static_cast<std::size_t>(row * band.n_axes)];
  }

  /// Keys of a tile, rotated, transposed to [d_k, k_keys].
  void pack_keys(const Variant& variant, index_t kv, index_t tile, float* packed) const {
    const index_t d = call_.d_k(), j0 = tile * k_keys, n = std::min(call_.n_k() - j0, k_keys);
    const Scratch<float> storage(n * d);
    const TensorView<float, 2> rows(storage.data(), {n, d});
    for (index_t t = 0; t < n; ++t) std::ranges::copy(call_.k.row(kv, j0 + t), rows.row(t).begin());
    if (plan_ && plan_->key_map) plan_->key_map->apply(kv, j0, rows);
    rotate(variant, j0, -1, variant.band ? first_position(variant.band->key_position, *variant.band, j0) : 0,
           rows);
    for (index_t c = 0; c < d; ++c) {
      for (index_t t = 0; t < n; ++t) packed[c * k_keys + t] = storage[t * d + c];
      std::fill(packed + c * k_keys + n, packed + (c + 1) * k_keys, 0.0f);
    }
  }

  void pack_values() const {
    parallel_for(call_.h_kv() * n_tiles_, 1, [&](index_t begin, index_t) {
      const index_t kv = begin / n_tiles_, j0 = begin % n_tiles_ * k_keys;
      for (index_t t = 0; t < k_keys; ++t) {
        float* const out = values_ + (begin * k_keys + t) * d_o_;
        float* end = out;
        if (j0 + t < call_.n_k()) end = std::ranges::copy(call_.v.row(kv, j0 + t), out).out;
        std::fill(end, out + d_o_, 0.0f);
      }
    });
  }

  /// Rows [r0, r1) of q for a variant, with every factor on the product folded in: [r1 - r0, d_k]. Amplitudes
  /// are centred at the first row.
  void make_queries(const Variant& variant, index_t head, index_t r0, index_t r1, float* out) const {
    const TensorView<float, 2> rows(out, {r1 - r0, call_.d_k()});
    for (index_t r = r0; r < r1; ++r) std::ranges::copy(call_.q.row(head, r), rows.row(r - r0).begin());
    if (plan_ && plan_->query_map) plan_->query_map->apply(head, r0 + call_.query_offset, rows);
    rotate(variant, r0, +1,
           variant.band ? first_position(variant.band->query_position, *variant.band, r0) : 0, rows);
    const double scale = method_.scale(call_) * (variant.band ? variant.band->logit_scale : 1);
    for (index_t r = r0; r < r1; ++r) {
      double factor = scale * method_.row_scale(call_, head, r + call_.query_offset);
      if (plan_ && plan_->query_scale)
        factor *= static_cast<double>((*plan_->query_scale)[static_cast<std::size_t>(r)]);
      for (float& x : rows.row(r - r0)) x *= static_cast<float>(factor);
    }
  }

  /// Queries are centred at their first row and keys at their tile, so neither overflows; the distance
  /// between the two centres is applied here, where it can only vanish or be as large as the score itself.
  const float* amplify(const Band& band, index_t r0, index_t n, index_t tile, const float* q,
                       float* out) const {
    const index_t d = call_.d_k();
    const double distance = first_position(band.query_position, band, r0) -
                            first_position(band.key_position, band, tile * k_keys);
    if (out != q) std::copy(q, q + n * d, out);
    for (index_t m = 0; m < n_pairs(); ++m) {
      const auto factor =
          static_cast<float>(std::exp((*band.log_amplitude)[static_cast<std::size_t>(m)] * distance));
      const bool interleaved = plan_->pairing == Pairing::interleaved;
      const index_t first = interleaved ? 2 * m : m, second = interleaved ? 2 * m + 1 : m + n_pairs();
      for (index_t r = 0; r < n; ++r) out[r * d + first] *= factor, out[r * d + second] *= factor;
    }
    return out;
  }

  /// q k^T of one variant, for the rows of the block whose absolute positions are in `queries`, into out
  /// [rows, k_keys].
  void multiply(QueryBlock& block, std::size_t v, index_t tile, float* out, index_t ld,
                const Interval& queries = {}) const {
    const Variant& variant = variants_[v];
    const index_t d = call_.d_k(), n_block = block.r1 - block.r0;
    const index_t begin =
        std::max(block.r0, std::max(queries.begin, call_.query_offset) - call_.query_offset);
    const index_t end = std::min(block.r1, std::max(queries.end, call_.query_offset) - call_.query_offset);
    if (begin >= end) return;
    out += (begin - block.r0) * ld;
    if (!packed_) {
      const Scratch<float> q((end - begin) * d), keys(d * k_keys);
      make_queries(variant, block.head, begin, end, q.data());
      pack_keys(variant, call_.kv_head(block.head), tile, keys.data());
      if (variant.band && variant.band->log_amplitude)
        amplify(*variant.band, begin, end - begin, tile, q.data(), q.data());
      return kernels::multiply(q.data(), d, keys.data(), k_keys, out, ld, end - begin, d, k_keys, false);
    }
    const float* q = block.rows.data() + static_cast<index_t>(v) * k_rows * d;
    char& ready = block.ready[static_cast<index_t>(v)];
    if (!ready)
      make_queries(variant, block.head, block.r0, block.r1,
                   block.rows.data() + static_cast<index_t>(v) * k_rows * d);
    ready = 1;
    if (variant.band && variant.band->log_amplitude)
      q = amplify(*variant.band, block.r0, n_block, tile, q, block.amplified.data());
    const float* keys = variant.keys + (call_.kv_head(block.head) * n_tiles_ + tile) * d * k_keys;
    kernels::multiply(q + (begin - block.r0) * d, d, keys, k_keys, out, ld, end - begin, d, k_keys, false);
  }

  /// One product where one variant holds for the whole tile; else one per variant that holds for some pair.
  void raw_scores(QueryBlock& block, index_t tile, const TileBox& area, float* out, index_t ld) const {
    const Scratch<std::size_t> part_storage(static_cast<index_t>(variants_.size()));
    index_t n_parts = 0;
    std::size_t plain = variants_.size();
    for (std::size_t v = 0; v < variants_.size(); ++v) {
      const Cover held = variants_[v].band ? cover(variants_[v].band->region, area) : Cover::none;
      if (held == Cover::all) return multiply(block, v, tile, out, ld);
      if (held == Cover::part) part_storage[n_parts++] = v;
      if (!variants_[v].band) plain = v;
    }
    const std::span<const std::size_t> parts = part_storage.span().first(static_cast<std::size_t>(n_parts));
    if (plain < variants_.size()) {
      index_t uncovered = count_pairs(PairRegion(), area);
      for (std::size_t v : parts) uncovered -= count_pairs(variants_[v].band->region, area);
      if (uncovered > 0) multiply(block, plain, tile, out, ld);
    }
    const Scratch<float> other(k_rows * k_keys);
    for (std::size_t v : parts) {
      const PairRegion& region = variants_[v].band->region;
      multiply(block, v, tile, other.data(), k_keys, region.query);
      for (index_t i = area.i0; i < area.i1; ++i) {
        const auto [begin, end] = row_keys(region, i, area);
        const float* from = other.data() + (i - area.i0) * k_keys - area.j0;
        float* to = out + (i - area.i0) * ld - area.j0;
        for (index_t j = begin; j < end; ++j)
          if (region.distance_stride == 1 || region.contains(i, j)) to[j] = from[j];
      }
    }
  }

  void add_bias(index_t head, const TileBox& area, float* out, index_t ld) const {
    const float* bias = plan_->bias->data() + head * plan_->bias_width;
    for (index_t i = area.i0; i < area.i1; ++i) {
      const index_t shift = plan_->bias_zero - i;  // column of key j is j + shift; masked pairs may have none
      const index_t begin = std::max(area.j0, -shift), end = std::min(area.j1, plan_->bias_width - shift);
      float* row = out + (i - area.i0) * ld - area.j0;
      for (index_t j = begin; j < end; ++j) row[j] += bias[j + shift];
    }
  }

  Cover visibility(const TileBox& area) const {
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

  void mask(const TileBox& area, float* out, index_t ld) const {
    std::array<char, k_keys> sees{};
    for (index_t i = area.i0; i < area.i1; ++i) {
      float* row = out + (i - area.i0) * ld;
      const index_t n_cols = area.j1 - area.j0;
      if (plan_ && (!plan_->visible.empty() || plan_->documents)) {
        sees.fill(plan_->visible.empty());
        for (const PairRegion& region : plan_->visible) {
          const auto [begin, end] = row_keys(region, i, area);
          for (index_t j = begin; j < end; ++j)
            if (region.distance_stride == 1 || region.contains(i, j))
              sees[static_cast<std::size_t>(j - area.j0)] = 1;
        }
        for (index_t c = 0; c < n_cols; ++c) {
          const bool same_document =
              !plan_->documents || (*plan_->documents)[static_cast<std::size_t>(i)] ==
                                       (*plan_->documents)[static_cast<std::size_t>(area.j0 + c)];
          if (!sees[static_cast<std::size_t>(c)] || !same_document) row[c] = k_masked;
        }
      }
      if (area.causal)
        std::fill(row + std::clamp<index_t>(i + 1 - area.j0, 0, n_cols), row + n_cols, k_masked);
    }
  }

  const TileMethod& method_;
  const AttentionCall& call_;
  const PositionPlan* plan_;
  index_t n_tiles_, d_o_;
  bool packed_ = true;
  std::vector<Variant> variants_;
  std::optional<Scratch<float>> memory_;
  float* values_ = nullptr;  ///< [h_kv, n_tiles, k_keys, d_o], zeros beyond n_k and d_v
};

void clear_beyond(const ScoreTile& tile) {
  for (index_t r = 0; r < tile.n_rows && tile.n_cols < k_keys; ++r)
    std::fill(tile.scores + r * tile.ld + tile.n_cols, tile.scores + r * tile.ld + k_keys, 0.0f);
}

double row_sum(const float* row, index_t n) {
  float sum[8] = {};  // independent chains, so that the compiler may use vectors
  index_t c = 0;
  for (; c + 8 <= n; c += 8)
    for (index_t lane = 0; lane < 8; ++lane) sum[lane] += row[c + lane];
  double total = 0;
  for (float part : sum) total += static_cast<double>(part);
  for (; c < n; ++c) total += static_cast<double>(row[c]);
  return total;
}

/// Output of one block of query rows: accumulators, and how they end.
class BlockOutput {
 public:
  BlockOutput(const TileMethod& method, const AttentionCall& call, const TilePass& pass)
      : method_(method),
        call_(call),
        pass_(pass),
        tile_(k_rows * k_keys),
        o_(k_rows * pass.d_o()),
        max_(k_rows),
        sum_(k_rows) {}

  void run(QueryBlock& block, TensorView<float, 3> o) {
    const index_t n = block.r1 - block.r0;
    std::fill_n(o_.data(), n * pass_.d_o(), 0.0f);
    std::fill_n(max_.data(), n, k_masked);
    std::fill_n(sum_.data(), n, 0.0);
    const RowStatistic statistic = method_.statistic();
    if (statistic == RowStatistic::whole_row)
      whole_rows(block);
    else
      for (auto [tile, last] = pass_.tiles(block.r0, block.r1); tile < last; ++tile) {
        if (!pass_.scores(block, tile, tile_.data(), k_keys)) continue;
        take(block, tile, statistic);
        kernels::multiply(tile_.data(), k_keys, pass_.values(block.head, tile), pass_.d_o(), o_.data(),
                          pass_.d_o(), n, k_keys, pass_.d_o(), true);
      }
    for (index_t r = 0; r < n; ++r) finish(block, r, statistic, o.row(block.head, block.r0 + r));
  }

 private:
  void take(const QueryBlock& block, index_t tile, RowStatistic statistic) {
    const index_t n = block.r1 - block.r0;
    if (statistic == RowStatistic::online_max)
      return kernels::online_softmax(tile_.data(), k_keys, n, k_keys, max_.data(), sum_.data(), o_.data(),
                                     pass_.d_o(), pass_.d_o());
    ScoreTile view = pass_.tile_view(block, tile, tile_.data(), k_keys);
    method_.weigh(call_, view);
    clear_beyond(view);
    if (statistic == RowStatistic::sum)
      for (index_t r = 0; r < n; ++r) sum_[r] += row_sum(tile_.data() + r * k_keys, view.n_cols);
  }

  void whole_rows(QueryBlock& block) {
    const auto [first, last] = pass_.tiles(block.r0, block.r1);
    const index_t n = block.r1 - block.r0, ld = (last - first) * k_keys;
    if (ld == 0) return;
    const Scratch<float> rows(n * ld);
    for (index_t tile = first; tile < last; ++tile) {
      float* scores = rows.data() + (tile - first) * k_keys;
      if (!pass_.scores(block, tile, scores, ld))
        for (index_t r = 0; r < n; ++r) std::fill_n(scores + r * ld, k_keys, k_masked);
    }
    const index_t n_cols = std::min(call_.n_k() - first * k_keys, ld);
    for (index_t r = 0; r < n; ++r) {
      ScoreTile row{rows.data() + r * ld, 1, n_cols, ld, block.head, block.r0 + r, first * k_keys, true};
      // A row without keys keeps its zeros: no method has to define a projection of nothing.
      if (std::all_of(row.scores, row.scores + n_cols, [](float s) { return s == k_masked; }))
        std::fill_n(row.scores, n_cols, 0.0f);
      else
        method_.weigh_row(call_, row);
      std::fill(row.scores + n_cols, row.scores + ld, 0.0f);
    }
    for (index_t tile = first; tile < last; ++tile)
      kernels::multiply(rows.data() + (tile - first) * k_keys, ld, pass_.values(block.head, tile),
                        pass_.d_o(), o_.data(), pass_.d_o(), n, k_keys, pass_.d_o(), true);
  }

  void finish(const QueryBlock& block, index_t r, RowStatistic statistic, std::span<float> out) const {
    double factor = 1;
    if (statistic == RowStatistic::sum) {
      const double denominator = sum_[r] + method_.epsilon();
      factor = denominator == 0 ? 0 : 1 / denominator;
    } else if (statistic == RowStatistic::online_max) {
      const double sink = static_cast<double>(method_.sink(call_, block.head, block.r0 + r));
      const double top = static_cast<double>(max_[r]);
      if (sum_[r] == 0)
        factor = 0;
      else if (sink > top)
        factor = std::exp(top - sink) / (sum_[r] * std::exp(top - sink) + 1);
      else
        factor = 1 / (sum_[r] + std::exp(sink - top));
    }
    for (std::size_t c = 0; c < out.size(); ++c)
      out[c] = factor == 0 ? 0.0f
                           : static_cast<float>(
                                 static_cast<double>(o_[r * pass_.d_o() + static_cast<index_t>(c)]) * factor);
  }

  const TileMethod& method_;
  const AttentionCall& call_;
  const TilePass& pass_;
  Scratch<float> tile_, o_, max_;
  Scratch<double> sum_;
};

void forward_one_plan(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o) {
  if (call.n_q() == 0) return;
  const TilePass pass(method, call, true, -1);
  const index_t n_blocks = (call.n_q() + k_rows - 1) / k_rows;
  parallel_for(call.h_q() * n_blocks, 1, [&](index_t begin, index_t) {
    call.stop.throw_if_stopped();
    // The last blocks of a causal call are the longest: start with them, so that no thread is left with one
    // at the end.
    const index_t b = n_blocks - 1 - begin / call.h_q(), head = begin % call.h_q();
    QueryBlock block = pass.block();
    pass.load(block, head, b * k_rows, std::min(call.n_q(), (b + 1) * k_rows));
    BlockOutput(method, call, pass).run(block, o);
  });
}

/// Transformed scores -> final weights of one row, in place.
void finish_weights(const TileMethod& method, const AttentionCall& call, index_t head, index_t row,
                    std::span<float> w) {
  const float top = std::ranges::max(w);
  if (std::ranges::all_of(w, [](float x) { return x == k_masked; })) {
    std::ranges::fill(w, 0.0f);
    return;
  }
  const auto n = static_cast<index_t>(w.size());
  ScoreTile view{w.data(), 1, n, n, head, row, 0, true};
  const RowStatistic statistic = method.statistic();
  if (statistic == RowStatistic::whole_row) return method.weigh_row(call, view);
  double denominator = 1;
  if (statistic == RowStatistic::online_max) {
    const float shift = std::max(top, method.sink(call, head, row));
    denominator = std::exp(static_cast<double>(method.sink(call, head, row)) - static_cast<double>(shift));
    for (float& x : w) x = std::exp(x - shift);
  } else {
    method.weigh(call, view);
    if (statistic == RowStatistic::none) return;
    denominator = method.epsilon();
  }
  for (float x : w) denominator += static_cast<double>(x);
  for (float& x : w) x = denominator == 0 ? 0.0f : static_cast<float>(static_cast<double>(x) / denominator);
}

void weights_one_plan(const TileMethod& method, const AttentionCall& call, index_t head, index_t begin,
                      index_t end, TensorView<float, 2> weights) {
  if (begin == end || call.n_k() == 0) return;
  const TilePass pass(method, call, false, head);
  parallel_for(end - begin, k_rows, [&](index_t first, index_t last) {
    call.stop.throw_if_stopped();
    QueryBlock block = pass.block();
    pass.load(block, head, begin + first, begin + last);
    const Scratch<float> tile_scores(k_rows * k_keys);
    for (index_t j0 = 0; j0 < call.n_k(); j0 += k_keys) {
      const index_t n_cols = std::min(k_keys, call.n_k() - j0);
      const bool seen = pass.scores(block, j0 / k_keys, tile_scores.data(), k_keys);
      for (index_t r = first; r < last; ++r) {
        float* out = weights.row(r).data() + j0;
        if (seen)
          std::copy_n(tile_scores.data() + (r - first) * k_keys, n_cols, out);
        else
          std::fill_n(out, n_cols, k_masked);
      }
    }
    for (index_t r = first; r < last; ++r) finish_weights(method, call, head, begin + r, weights.row(r));
  });
}

/// The mean over the members of an ensemble. evaluate(call, out) fills out.
template <class Evaluate>
void average(const AttentionCall& call, std::span<float> out, Evaluate&& evaluate) {
  const Scratch<float> member(static_cast<index_t>(out.size()));
  std::ranges::fill(out, 0.0f);
  const auto share = 1 / static_cast<float>(call.position->ensemble.size());
  for (const PositionPlan& plan : call.position->ensemble) {
    AttentionCall part = call;
    part.position = &plan;
    evaluate(part, member.data());
    for (std::size_t x = 0; x < out.size(); ++x) out[x] += share * member[static_cast<index_t>(x)];
  }
}

}  // namespace

void tile_forward(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o) {
  if (!call.position || call.position->ensemble.empty()) return forward_one_plan(method, call, o);
  const Scratch<float> mean(o.size());
  average(call, mean.span(), [&](const AttentionCall& part, float* out) {
    forward_one_plan(method, part, TensorView<float, 3>(out, o.shape()));
  });
  for (index_t h = 0; h < o.shape(0); ++h)
    for (index_t r = 0; r < o.shape(1); ++r)
      std::copy_n(mean.data() + (h * o.shape(1) + r) * o.shape(2), o.shape(2), o.row(h, r).data());
}

void tile_weights(const TileMethod& method, const AttentionCall& call, index_t head, index_t begin,
                  index_t end, TensorView<float, 2> weights) {
  if (!call.position || call.position->ensemble.empty())
    return weights_one_plan(method, call, head, begin, end, weights);
  const Scratch<float> mean(weights.size());
  average(call, mean.span(), [&](const AttentionCall& part, float* out) {
    weights_one_plan(method, part, head, begin, end, TensorView<float, 2>(out, weights.shape()));
  });
  for (index_t r = 0; r < weights.shape(0); ++r)
    std::copy_n(mean.data() + r * weights.shape(1), weights.shape(1), weights.row(r).data());
}

}  // namespace borel
