// DRAFT. Pairwise mechanisms: scores -> position -> mask -> weights -> values, tile by tile, no n x n array.
// A method says how a tile of scores becomes weights; the engine does the rest (bands, bias, masks, grouped
// heads, strides, ragged sizes, parallel work over heads x query blocks, float32 with float64 angles).
#pragma once

#include <limits>

#include "borel/attention.hpp"

namespace borel {

/// A block of scores of one query head, row-major with leading dimension ld. Pairs that are masked hold
/// -infinity.
struct ScoreTile {
  float* scores = nullptr;
  index_t n_rows = 0, n_cols = 0, ld = 0;
  index_t head = 0;
  index_t first_query =
      0;  ///< row of q of tile row 0; its absolute position is first_query + call.query_offset
  index_t first_key = 0;    ///< row of k of tile column 0
  bool has_masked = false;  ///< false: no entry is -infinity by masking
};

/// What must be known about a whole row before its weights are final.
enum class RowStatistic {
  none,        ///< weight = f(score) alone (relu^2, sigmoid, identity)
  online_max,  ///< softmax-like: weight = exp(score - max); denominator = sum of weights (+ sink)
  sum,         ///< weight = f(score) / (sum of f + epsilon)
  whole_row    ///< the row is handed over at once (sparsemax, entmax, top-k): memory 24 rows x n_k per thread
};

/// Gradients of gates that enter the scores as a bias: sums of d loss / d (score after transform). Added to; a view of
/// size 0 is not asked for.
struct TileScoreSums {
  TensorView<float, 2> by_query = {};  ///< [h_q, n_q], summed over keys
  TensorView<float, 2> by_key = {};    ///< [h_q, n_k], summed over queries
};

/// The part of a pairwise mechanism that differs from method to method. One virtual call per tile.
class BOREL_EXPORT TileMethod {
 public:
  virtual ~TileMethod();
  virtual RowStatistic statistic() const = 0;
  /// Factor on q . k (1 / sqrt(d_k) for most).
  virtual double scale(const AttentionCall& call) const = 0;
  /// Further factor of one query row, at the absolute position i (log n, 1 / n); before the bias.
  virtual double row_scale(const AttentionCall& call, index_t head, index_t i) const;
  /// Scores -> scores, before any statistic: softcap, gates as bias. Masked entries must stay -infinity.
  virtual void transform(const AttentionCall& call, ScoreTile& tile) const;
  /// Whether transform() is called. A method that leaves it alone, or knows that it does nothing, says false: softmax then
  /// makes weights while the scores are in registers.
  virtual bool transforms() const;
  /// Scores -> unnormalised weights in place, for statistics `none` and `sum`; masked entries must become 0.
  virtual void weigh(const AttentionCall& call, ScoreTile& tile) const;
  /// For `online_max`: logit of an extra key without a value in query row i of head h (softmax1, sinks); none
  /// = -infinity.
  virtual float sink(const AttentionCall& call, index_t head, index_t query_row) const;
  /// For `sum`: added to the denominator.
  virtual double epsilon() const { return 0; }
  /// For `whole_row`: scores -> final weights of one row (n_rows = 1). The columns are the keys from the
  /// first to the last tile that the row's block may see; masked entries are among them and must become 0.
  virtual void weigh_row(const AttentionCall& call, ScoreTile& row) const;

  /// Whether tile_forward rounds q, k (with every factor and rotation), weights and v to bfloat16, with sums in float32: 1.6 times as
  /// fast where the processor multiplies such pairs. Relative error of a weight and of v 2^-8 each, error
  /// of a score 2^-7 sum_c |q_c k_c| (none for q and k that are bfloat16 numbers and neither scaled nor rotated). Not rounded:
  /// up to 4 query rows (decoding), plans with more than 8 bands, weights(). Such a method offers no backward().
  virtual bool rounds_to_bf16() const;

  // The way back. A method that is differentiable implements the counterparts of what it overrides above; d_scores and
  // slope have the layout of the tile, and masked entries of d_scores are 0.

  /// For `none` and `sum`: as weigh(), and slope = d weight / d score, 0 where masked.
  virtual void weigh_with_slope(const AttentionCall& call, ScoreTile& tile, float* slope) const;
  /// For `whole_row`: d_scores in: d loss / d weight, out: d loss / d score. `row` holds the weights.
  virtual void weigh_row_backward(const AttentionCall& call, const ScoreTile& row, float* d_scores) const;
  /// For transform: d_scores in: d loss / d (score after transform), out: before. `tile` holds the scores after it. The
  /// default leaves d_scores: right for gates as bias, whose own gradients come by TileScoreSums.
  virtual void transform_backward(const AttentionCall& call, const ScoreTile& tile, float* d_scores) const;
  /// Adds to the gradients of what sink() was made of.
  virtual void sink_backward(const AttentionCall& call, index_t head, index_t query_row, double d_sink,
                             const AttentionBackward::Gradients& gradients) const;
  /// Adds to the gradients of what row_scale() was made of.
  virtual void row_scale_backward(const AttentionCall& call, index_t head, index_t i, double d_row_scale,
                                  const AttentionBackward::Gradients& gradients) const;
};

/// Writes o. @throws Stopped. Time O(visible pairs (d_k + d_v)); memory O(n_q d + n_k (d_k bands + d_v)).
BOREL_EXPORT void tile_forward(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o);

/// Final weights of rows [begin, end) of one query head, [end - begin, n_k].
BOREL_EXPORT void tile_weights(const TileMethod& method, const AttentionCall& call, index_t head,
                               index_t begin, index_t end, TensorView<float, 2> weights);

/// Floats that tile_forward_saving keeps per query row: the row's shift (a score of it) and 1 / denominator.
inline constexpr index_t k_tile_saved_per_row = 2;

/// As tile_forward; saved [h_q, n_q, k_tile_saved_per_row] is what tile_backward needs.
BOREL_EXPORT void tile_forward_saving(const TileMethod& method, const AttentionCall& call,
                                      TensorView<float, 3> o, TensorView<float, 3> saved);

/// Adds the gradients of q, k, v, of the plan and of the method's parameters; `sums` for the method's own gates.
/// Scores and weights are made again tile by tile: five products per tile against two of the forward pass. Work is
/// split over key-value heads x at most 8 key ranges; the same bits for any number of threads.
/// Memory O(key ranges * bands * n_q d_k + bands * n_k d_k). @throws Stopped; MethodError for plans with more than 8
/// bands at work, and for d_position of an ensemble.
BOREL_EXPORT void tile_backward(const TileMethod& method, const AttentionCall& call,
                                TensorView<const float, 3> o, TensorView<const float, 3> saved,
                                TensorView<const float, 3> d_o, const AttentionBackward::Gradients& gradients,
                                const TileScoreSums& sums = {});

/// Multiply-adds x 2 of q k^T and w v, causal pairs counted once (the last query meets the last key).
BOREL_EXPORT double tile_flops(const AttentionContext& context, index_t n_q, index_t n_k);

/// An attention mechanism that is a TileMethod: it writes traits, scale, weights; the engine does forward,
/// step (with a cache of keys, values and key-side extra inputs as state), effective weights and every
/// position plan.
class BOREL_EXPORT TileAttention : public Attention,
                                   public TileMethod,
                                   public AttentionStep,
                                   public AttentionWeights,
                                   public AttentionBackward {
 public:
  /// For mechanisms that change q, k or the extra inputs before the scores (normalised keys, cumulated gates): calls
  /// use() once with the call for the engine. They override backward() below as well.
  virtual void prepare(const AttentionCall& call, FunctionRef<void(const AttentionCall&)> use) const;

  /// Every plan is accepted.
  std::string refuses(const PositionPlan& plan) const override;
  void forward(const AttentionCall& call, TensorView<float, 3> o) const override;
  double state_bytes(const AttentionContext& context, index_t n) const override;
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override;

  const AttentionStep* step() const override { return this; }
  index_t state_size(const AttentionContext& context) const override;
  void start(const AttentionContext& context, ParameterValues parameters,
             std::span<float> state) const override;
  void step(const AttentionStep::Token& token, std::span<float> state, TensorView<float, 2> o) const override;

  /// Whether the counterparts of the way back exist; then backward() offers them.
  virtual bool differentiable() const { return false; }
  const AttentionBackward* backward() const override { return differentiable() ? this : nullptr; }
  index_t saved_per_row(const AttentionContext&) const override { return k_tile_saved_per_row; }
  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) const override;
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const AttentionBackward::Gradients& gradients) const override;

  const AttentionWeights* weights() const override { return this; }
  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override;
};

}  // namespace borel
