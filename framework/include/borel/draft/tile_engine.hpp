// DRAFT. Pairwise mechanisms: scores -> position -> mask -> weights -> values, tile by tile, no n x n array.
// A method says how a tile of scores becomes weights; the engine does the rest (bands, bias, masks, grouped heads,
// strides, ragged sizes, parallel work over heads x query blocks, float32 with float64 angles).
#pragma once

#include "borel/attention.hpp"

namespace borel {

/// A block of scores of one query head, row-major with leading dimension ld. Pairs that are masked hold -infinity.
struct ScoreTile {
  float* scores = nullptr;
  index_t n_rows = 0, n_cols = 0, ld = 0;
  index_t head = 0;
  index_t first_query = 0;  ///< row of q of tile row 0
  index_t first_key = 0;    ///< row of k of tile column 0
  bool has_masked = false;  ///< false: no entry is -infinity by masking
};

/// What must be known about a whole row before its weights are final.
enum class RowStatistic {
  none,         ///< weight = f(score) alone (relu^2, sigmoid, identity)
  online_max,   ///< softmax-like: weight = exp(score - max); denominator = sum of weights (+ sink)
  sum,          ///< weight = f(score) / (sum of f + epsilon)
  whole_row     ///< the row is handed over at once (sparsemax, entmax, top-k): memory 64 rows x n_k
};

/// The part of a pairwise mechanism that differs from method to method. One virtual call per tile.
class BOREL_EXPORT TileMethod {
 public:
  virtual ~TileMethod();
  virtual RowStatistic statistic() const = 0;
  /// Factor on q . k (1 / sqrt(d_k) for most).
  virtual double scale(const AttentionCall& call) const = 0;
  /// Scores -> scores, before any statistic: softcap, gates as bias. Masked entries must stay -infinity.
  virtual void transform(const AttentionCall& call, ScoreTile& tile) const;
  /// Scores -> unnormalised weights in place, for statistics `none` and `sum`; masked entries become 0.
  virtual void weigh(const AttentionCall& call, ScoreTile& tile) const;
  /// For `online_max`: logit of an extra key without a value in query row i of head h (softmax1, sinks); none = -infinity.
  virtual float sink(const AttentionCall& call, index_t head, index_t query_row) const;
  /// For `sum`: added to the denominator.
  virtual double epsilon() const { return 0; }
  /// For `whole_row`: scores -> final weights of one row, n_cols = all visible keys of the row.
  virtual void weigh_row(const AttentionCall& call, ScoreTile& row) const;
};

/// @throws Stopped. Complexity O(visible pairs (d_k + d_v)) time, O(n_q d_v) output, no n_q x n_k array.
BOREL_EXPORT void tile_forward(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o);

/// Final weights of rows [begin, end) of one head, [end - begin, n_k].
BOREL_EXPORT void tile_weights(const TileMethod& method, const AttentionCall& call, index_t head, index_t begin,
                               index_t end, TensorView<float, 2> weights);

}  // namespace borel
