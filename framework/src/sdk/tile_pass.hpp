// What the tile engine prepares once per call and plan, and how it gets the scores of one tile: operands packed for the
// kernels, bands, bias, mask. Shared by the forward pass, the weights and the way back.
//
// Columns of a tile are keys j0 .. j0 + k_keys - 1; rows are query rows of one head. Only the columns that some row may
// see are computed, rounded to panels of 16, and per group of 12 rows where the mask cuts through the tile.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "attention_kernels.hpp"
#include "bf16_kernels.hpp"
#include "borel/draft/tile_engine.hpp"
#include "softmax_kernels.hpp"
#include "tile_geometry.hpp"

namespace borel::tile {

using kernels::Bf16Pair;

// 48 x 128 scores (24 KB) stay in the first cache levels beside a few panels of keys; 48 and 12 are multiples of the 6 rows of
// the widest register blocks.
inline constexpr index_t k_rows = 48, k_keys = 128, k_group_rows = 12, k_max_groups = k_rows / k_group_rows;
static_assert(k_rows <= kernels::k_most_fused_rows);
// Rows handed over whole: 24 of them stay in the second cache level up to a few thousand keys.
inline constexpr index_t k_whole_rows = 24;
// A task that packs for itself takes rows for this many times the tiles that it holds: a third is packed twice.
inline constexpr index_t k_runs_of_held = 3;
// Of these it takes so many of all heads before the next ones.
inline constexpr index_t k_rows_together = 3 * k_rows;
inline constexpr float k_masked = -std::numeric_limits<float>::infinity();

/// Positions of n rows from `first` on, all axes.
inline std::span<const double> band_positions(const PositionTable& positions, const Band& band, index_t first,
                                              index_t n) {
  return std::span(*positions)
      .subspan(static_cast<std::size_t>(first * band.n_axes), static_cast<std::size_t>(n * band.n_axes));
}

/// One way to compute a score: a band, or the plain product.
struct Variant {
  const Band* band = nullptr;
  index_t band_number = -1;
  float* turned = nullptr;  ///< [h_kv, n_k, d_k], where query heads that share keys read them in place
  float *cosine_q = nullptr, *sine_q = nullptr;  ///< [n_q, n_rot_dims / 2]
  float *cosine_k = nullptr,
        *sine_k = nullptr;  ///< [n_k, n_rot_dims / 2], rows of the tiles where it is at work
};

/// The packed operands of one tile: offsets in floats or, where the products take them, in pairs of bf16.
struct TileRecord {
  index_t key_size = 0;  ///< transposed panels [k_keys / 16][d_k][16]; of the first variant, the second, ...
  index_t key_rows = 0;  ///< the same as panels [d_pad / 16][k_keys][16]; for the way back
  index_t values = 0;    ///< panels [d_o / 16][k_keys][16]
  index_t transposed = 0;  ///< panels [k_keys / 16][d_v][16]; for the way back
  index_t size = 0;
};

/// Where a walk through rows of some heads has come to; heads of a row before the next row.
struct RowCursor {
  index_t row = 0, end = 0, first_head = 0, end_head = 0, head = first_head;
};

/// Rows that the next blocks will read or write.
struct RowsAhead {
  const TensorView<float, 3>* o = nullptr;
  RowCursor queries = {};  ///< of q and o
  RowCursor keys = {};     ///< of k and v
  index_t n_before =
      0;  ///< products until then: what is fetched too early has left the cache when its turn comes
};

/// The rows of q of one block, rotated for every variant that was asked for, and the tiles that a task packed for itself.
struct QueryBlock {
  /// @param n_pairs  of a row of q, where the products take pairs; else 0
  /// @param n_held   tiles that it packs for itself, of `tile_floats` floats and `tile_pairs` pairs each
  QueryBlock(index_t n_variants, index_t d_pad, index_t n_pairs, index_t n_held, index_t tile_floats,
             index_t tile_pairs)
      : rows(n_variants * k_rows * d_pad),
        ready(n_variants),
        amplified(k_rows * d_pad),
        pairs(n_variants * k_rows * n_pairs),
        pairs_ready(n_variants),
        held(n_held),
        held_floats(n_held * tile_floats),
        held_pairs(n_held * tile_pairs) {
    std::ranges::fill(held.span(), index_t{-1});
  }
  index_t head = 0, r0 = 0, r1 = 0;
  Scratch<float> rows;  ///< [n_variants, k_rows, d_pad], every factor on the product folded in
  Scratch<char> ready;
  Scratch<float> amplified;
  Scratch<Bf16Pair> pairs;  ///< [n_variants, k_rows, n_pairs], `rows` rounded
  Scratch<char> pairs_ready;
  Scratch<index_t>
      held;  ///< [h_kv, tiles of a head]: tile t, if anywhere, at t modulo their number; -1: none yet
  Scratch<float> held_floats;
  Scratch<Bf16Pair> held_pairs;
  RowsAhead ahead;
  index_t n_rows() const { return r1 - r0; }
};

struct ColumnRange {
  index_t lo = 0, hi = 0;
  index_t size() const { return hi - lo; }
};

/// Which columns of a tile are computed. hi may go beyond the last key; those columns hold -infinity.
struct ActiveColumns {
  ColumnRange all = {};  ///< empty: the tile sees nothing
  bool has_masked = false;
  index_t n_groups = 0;                               ///< of k_group_rows rows; 1 = all rows alike
  std::array<ColumnRange, k_max_groups> groups = {};  ///< inside `all`; may be empty
  static ActiveColumns whole(index_t n_cols) {
    return {.all = {0, n_cols}, .n_groups = 1, .groups = {ColumnRange{0, n_cols}}};
  }
};

enum class Packing { scores, forward, forward_bf16, backward };

class TilePass {
 public:
  /// @param only_head  -1, or the only query head that will be asked for
  TilePass(const TileMethod& method, const AttentionCall& call, Packing packing, index_t only_head);

  const AttentionCall& call() const { return call_; }
  index_t n_tiles() const { return n_tiles_; }
  index_t d_pad() const { return d_pad_; }
  index_t d_o() const { return d_o_; }
  const std::vector<Variant>& variants() const { return variants_; }
  bool keys_are_packed() const { return packed_; }
  /// Whether tasks pack tiles for themselves: then a task should take all heads of many blocks, the last rows first.
  bool packs_by_task() const { return n_held_ > 0; }
  /// Rows that a task should take so that few tiles are packed twice.
  index_t rows_per_task() const { return k_runs_of_held * n_held_ * k_keys; }

  QueryBlock block() const {
    const index_t size = n_held_ == 0 ? 0 : record_.size;
    return {packed_ ? static_cast<index_t>(variants_.size()) : 0,
            d_pad_,
            bf16_ ? kernels::n_bf16_pairs(call_.d_k()) : 0,
            call_.h_kv() * n_held_,
            bf16_ ? 0 : size,
            bf16_ ? size : 0};
  }
  void load(QueryBlock& block, index_t head, index_t r0, index_t r1) const;
  /// What comes next is fetched bit by bit, beside the products. After rows [r1, r2) of all heads, with the tiles that the
  /// task packs for itself, come rows [r0, r1).
  void foresee(QueryBlock& block, index_t r0, index_t r1, index_t r2, const TensorView<float, 3>& o) const;
  /// After the block come rows [r0, r1) of the same head.
  void foresee(QueryBlock& block, index_t r0, index_t r1, const TensorView<float, 3>& o) const;
  /// Tiles [first, last) that hold the visible keys of rows [r0, r1); tiles between may still be empty.
  std::pair<index_t, index_t> tiles(index_t r0, index_t r1) const;
  TileBox box(index_t r0, index_t r1, index_t tile) const;
  /// Whether some query of the call may need a tile's keys as the variant reads them; only then they are packed, and only
  /// then its rows of the tables of a rotation exist.
  bool is_at_work(const Variant& variant, index_t tile) const;
  index_t n_keys(index_t tile) const { return std::min(k_keys, call_.n_k() - tile * k_keys); }

  /// Transformed scores of the active columns, [rows, k_keys] with row stride ld: -infinity where masked and beyond n_k.
  /// Other columns are not written.
  ActiveColumns scores(QueryBlock& block, index_t tile, float* out, index_t ld) const;
  /// Weights of a tile of which all pairs are visible, made in one go with their product, out [rows, k_keys]; row_sum
  /// becomes what it would by scores() and online_softmax(). Of those two bit for bit the same; false, and row_sum as it
  /// was, where they are needed.
  bool softmax_weights(QueryBlock& block, index_t tile, const float* row_shift, double* row_sum, float* out,
                       index_t ld) const;
  /// The active columns that exist, as methods see them.
  ScoreTile view(const QueryBlock& block, index_t tile, const ActiveColumns& active, float* scores,
                 index_t ld) const;
  /// o [rows, d_o] += weights of the active columns times values.
  void add_values(QueryBlock& block, index_t tile, const ActiveColumns& active, const float* weights,
                  index_t ld, float* o) const;

  // For the way back; keys must be packed with Packing::backward.
  /// out [rows, k_keys] = d_o [rows, d_o] times values, in the active columns.
  void multiply_values(const QueryBlock& block, index_t tile, const ActiveColumns& active, const float* d_o,
                       float* out, index_t ld) const;
  struct Part {
    std::size_t variant;
    Cover held;  ///< part: only the pairs of the variant's region (of no region, for the plain product)
  };
  /// The variants at work in a tile. Either one that holds for all pairs, or several that hold for parts.
  void parts(const TileBox& area, std::vector<Part>& out) const;
  /// Whether a pair belongs to a part.
  bool holds(const Part& part, index_t i, index_t j) const;
  /// Rows of the block as they entered the scores of this tile for a variant, [rows, d_pad].
  const float* queries(QueryBlock& block, std::size_t variant, index_t tile) const;
  /// out [rows, d_pad] += d_scores [rows, k_keys] times the keys of a variant.
  void multiply_keys(const QueryBlock& block, std::size_t variant, index_t tile, const float* d_scores,
                     index_t ld, const ColumnRange& columns, float* out) const;
  /// Multiplies rotated components by what `queries` applied for the distance of block and tile.
  void amplify(const Band& band, index_t r0, index_t n_rows, index_t tile, const float* in, float* out) const;
  /// Rotates rows by a variant, centred at the first row; inverse: the transposed map. out may be in.
  void rotate(const Variant& variant, bool query_side, index_t first, bool inverse,
              TensorView<const float, 2> in, TensorView<float, 2> out) const;
  /// Rows of q or k from row `first` (query_side: head is a query head) as a variant reads them, without factors.
  void turned_rows(const Variant& variant, bool query_side, index_t head, index_t first,
                   TensorView<float, 2> out) const;
  /// Factor on the product of query row r, without the plan's query scale.
  double factor(const Variant& variant, index_t head, index_t r) const;
  float query_scale(index_t r) const {
    return plan_ && plan_->query_scale ? (*plan_->query_scale)[static_cast<std::size_t>(r)] : 1.0f;
  }

 private:
  void choose_variants();
  void choose_held();
  void lay_out(Packing packing);
  void pack(index_t only_head);
  void pack_tile(index_t kv, index_t tile, float* floats, Bf16Pair* pairs) const;
  /// Packs a tile into the block's own memory, unless it is there or packed for all blocks.
  void hold(QueryBlock& block, index_t tile) const;
  /// Asks for the next few of the rows that were foreseen.
  void fetch_some(QueryBlock& block) const;
  /// Which of the packed tiles of its memory this one is.
  index_t packed_number(const QueryBlock& block, index_t tile) const {
    const index_t kv = call_.kv_head(block.head);
    return n_held_ > 0 ? kv * n_held_ + tile % n_held_ : kv * n_tiles_ + tile;
  }
  const float* packed_floats(const QueryBlock& block, index_t tile) const {
    return (n_held_ > 0 ? block.held_floats.data() : floats_) + packed_number(block, tile) * record_.size;
  }
  const Bf16Pair* packed_pairs(const QueryBlock& block, index_t tile) const {
    return (n_held_ > 0 ? block.held_pairs.data() : pair_memory_->data()) +
           packed_number(block, tile) * record_.size;
  }
  bool turns(const Variant& variant) const { return variant.band || (plan_ && plan_->key_map); }
  /// Rows of q or k from row `first` (query_side: head is a query head), mapped but not rotated.
  void copy_rows(bool query_side, index_t head, index_t first, TensorView<float, 2> rows) const;
  bool rotates(const Variant& variant) const {
    return rotate_by_table_ && variant.band && variant.band->angle;
  }
  void make_tables(Variant& variant) const;
  index_t n_pairs() const { return plan_ ? plan_->n_rot_dims / 2 : 0; }
  void pack_keys(const Variant& variant, index_t kv, index_t tile, float* transposed, float* rows,
                 Bf16Pair* pairs) const;
  const Bf16Pair* query_pairs(QueryBlock& block, std::size_t v, index_t tile) const;
  void make_queries(const Variant& variant, index_t head, index_t r0, index_t r1, float* out) const;
  void multiply(QueryBlock& block, std::size_t v, index_t tile, index_t first_row, index_t last_row,
                const ColumnRange& columns, float* out, index_t ld) const;
  void raw_scores(QueryBlock& block, index_t tile, const TileBox& area, const ActiveColumns& active,
                  float* out, index_t ld) const;
  void add_bias(index_t head, const TileBox& area, const ColumnRange& columns, float* out, index_t ld) const;
  /// The variant that holds for all pairs of the area, if one does.
  std::optional<std::size_t> only_variant(const TileBox& area) const;
  Cover visibility(const TileBox& area) const;
  ColumnRange visible_columns(const TileBox& area) const;
  void hide(const QueryBlock& block, index_t tile, const ActiveColumns& active, float* out, index_t ld) const;
  void mask(const TileBox& area, const ColumnRange& columns, float* out, index_t ld) const;

  const TileMethod& method_;
  const AttentionCall& call_;
  const PositionPlan* plan_;
  double scale_;
  index_t n_tiles_, d_pad_, d_o_;
  // Keys are packed when they are used often enough to pay for it. Few query rows (decoding) read k and v in place;
  // plans with many bands get their keys rotated tile by tile, as packed keys of every band would need memory of order
  // n_q n_k.
  bool packed_ = true, in_place_ = false, rotate_by_table_ = true;
  bool bf16_ = false;  // packed keys and values are pairs
  // Where every block sees few of the tiles (windows), tasks pack what they need into memory of a few tiles, which stays
  // in the second cache level; else all tiles are packed once, for all blocks.
  index_t n_held_ = 0;
  TileRecord record_;
  std::vector<Variant> variants_;
  std::optional<Scratch<float>> memory_;
  std::optional<Scratch<Bf16Pair>> pair_memory_;  ///< [h_kv, n_tiles] records
  float* floats_ = nullptr;                       ///< [h_kv, n_tiles] records
};

/// Scores of all keys from the block's first tile on, [rows, ld]; ld = k_keys times the number of its tiles.
void whole_row_scores(const TilePass& pass, QueryBlock& block, float* rows, index_t ld);
/// Row r of the block from scores to weights, in place; n columns from key first_key on.
void whole_row_weights(const TileMethod& method, const TilePass& pass, const QueryBlock& block, index_t r,
                       index_t first_key, float* row, index_t n);

}  // namespace borel::tile
