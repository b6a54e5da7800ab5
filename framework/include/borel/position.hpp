// The position family: how scores depend on where query and key stand.
//
// i, j   absolute positions of query and key; a call's queries are i = query_offset + (0 .. n_q - 1), its keys
//        j = key_offset + (0 .. n_k - 1)
// r      distance i - j; >= 0 for pairs that a causal mask keeps
// m      frequency pair, 0 .. n_rot_dims / 2 - 1
#pragma once

#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "borel/parameter_tensor.hpp"
#include "borel/trait_list.hpp"

namespace borel {

/// What an encoding may know about a call. All counts >= 1 except n_q and n_k, which may be 0.
struct PositionContext {
  index_t n_q = 0, n_k = 0;
  index_t query_offset =
      0;  ///< absolute position of query 0 (n_k - n_q when the last query meets the last key)
  /// Absolute position of key row 0. A recurrent step asks for the plan of its own token alone: n_q = n_k = 1,
  /// query_offset = key_offset = t, in O(1) for rotations. Calls of Attention::forward have 0.
  index_t key_offset = 0;
  index_t n_heads = 1;                    ///< query heads
  index_t d_head = 64;                    ///< size of a query or key vector (Attention::plan_d_head)
  index_t layer_index = 0, n_layers = 1;  ///< for layer schedules (HWFA)
  index_t train_length = 0;               ///< 0 = unknown; methods that need it refuse with a MethodError
  index_t test_length = 0;                ///< longest context of this evaluation; 0 = n_tokens()
  bool causal = true;
  bool scaled_scores = true;  ///< the mechanism divides q . k by sqrt(d_head): not AttentionTraits::own_scale
  bool training = false;      ///< index rules that differ in training (random positions, PoSE)
  Seed seed = {};             ///< for those; the same for all layers and heads of one training step
  // Per token from 0 on, not per row: query i has those of token i, so every i < n_tokens() when one of them is given.
  TensorView<const double, 2> coordinates =
      {};  ///< [n_tokens, n_axes] token coordinates (2-D images); empty = 1-D, j itself
  std::span<const index_t> documents =
      {};  ///< [n_tokens] document number of each token, ascending; empty = one document

  index_t n_tokens() const { return key_offset + n_k; }
  /// test_length, or the tokens that are here when it is not given.
  index_t longest_length() const { return test_length != 0 ? test_length : n_tokens(); }
};

/// Half-open range.
struct Interval {
  index_t begin = std::numeric_limits<index_t>::min();
  index_t end = std::numeric_limits<index_t>::max();
  bool contains(index_t x) const { return begin <= x && x < end; }
  bool operator==(const Interval&) const = default;
};

/// A set of pairs (i, j): all three ranges hold, and r is congruent to distance_phase modulo distance_stride.
struct PairRegion {
  Interval query = {}, key = {}, distance = {};
  index_t distance_stride = 1, distance_phase = 0;
  bool contains(index_t i, index_t j) const {
    const index_t r = i - j;
    return query.contains(i) && key.contains(j) && distance.contains(r) &&
           (distance_stride == 1 || ((r - distance_phase) % distance_stride) == 0);
  }
  bool operator==(const PairRegion&) const = default;
};

/// Shared, immutable table of doubles; copying a plan copies no table.
using PositionTable = std::shared_ptr<const std::vector<double>>;

/// Rotation (and amplitude) for the pairs of a region. With query position p_i and key position s_j (per axis a):
///   score(i, j) = logit_scale * sum_m Re[ q_m conj(k_m) exp(I sum_a angle[m, a] (p_i[a] - s_j[a])) ]
///                               * exp(log_amplitude[m] (p_i[0] - s_j[0])),       I the imaginary unit,
/// where q_m, k_m are complex numbers made of two components by `pairing`; components from n_rot_dims on are not
/// rotated and enter with their plain product. Angles stay in double until sine and cosine are taken.
struct Band {
  PairRegion region = {};
  PositionTable query_position = {};  ///< [n_q, n_axes]; index is the query's row in the call
  PositionTable key_position = {};    ///< [n_k, n_axes]; index is the key's row
  PositionTable angle = {};  ///< [n_rot_dims / 2, n_axes], radians per unit of position; null = no rotation
  PositionTable log_amplitude =
      {};  ///< [n_rot_dims / 2] or null (XPOS); engines centre it per block, so long n is safe
  index_t n_axes = 1;
  double logit_scale = 1;  ///< multiplies the score (YaRN temperature)
};

enum class Pairing { interleaved, half };  ///< components (2m, 2m+1), or (m, m + n_rot_dims / 2)

/// Row-wise map without trainable parameters, applied to q or to k before rotation (CoCA's non-negative collinear keys).
/// Threads: any number of callers.
class TokenMap {
 public:
  virtual ~TokenMap() = default;
  /// @param head  query head for a query map, key-value head for a key map
  /// @param rows  in and out, [n, d_head]; first_token is the absolute index of row 0
  virtual void apply(index_t head, index_t first_token, TensorView<float, 2> rows) const = 0;
  /// @param input the rows before apply; d_rows in: gradient of the output, out: gradient of the input
  virtual void backward(index_t head, index_t first_token, TensorView<const float, 2> input,
                        TensorView<float, 2> d_rows) const = 0;
};

/// Everything an engine needs to know about positions, as a value. A default plan does nothing (NoPE). In this order:
///   score = query_scale[i] * scale * (band or plain product of the mapped q, k) + bias,  then the mask,
/// where `scale` is the mechanism's own (1 / sqrt(d_k) for most).
struct PositionPlan {
  // Rotation. At most one band holds for a pair; a pair in no band keeps its plain score q . k. One to three bands are
  // usual; where the angles depend on the query (true dynamic scaling) there is one per query row, in ascending order of
  // region.query, with shared position tables.
  std::vector<Band> bands;
  Pairing pairing = Pairing::half;
  index_t n_rot_dims = 0;  ///< even, <= d_head (partial rotary)

  /// Additive bias in nats, added to the scaled score: bias[h, (j - i) + bias_zero] with shape [n_heads, bias_width].
  /// Contiguous in j for a fixed query. Null = none. Covers every pair of the call that the mask keeps.
  std::shared_ptr<const std::vector<float>> bias;
  index_t bias_zero = 0, bias_width = 0;

  /// Multiplies every score of query row i before the bias; [n_q] or null (log n variants).
  std::shared_ptr<const std::vector<float>> query_scale;

  /// Pairs that may see each other: the union of these regions; empty = all. The causal rule holds on top of it.
  std::vector<PairRegion> visible;
  /// [n_tokens] document of each token, or null; pairs of different documents do not see each other. position_plan() fills
  /// it; encodings leave it alone.
  std::shared_ptr<const std::vector<index_t>> documents;
  /// Absolute position of the first row of key_position; position_plan() fills it.
  index_t key_offset = 0;

  std::shared_ptr<const TokenMap> query_map, key_map;

  /// Not empty: the output is the mean of the outputs under these plans, and the other fields are unused (multi_base).
  std::vector<PositionPlan> ensemble;

  bool sees(index_t i, index_t j) const {
    if (documents && (*documents)[static_cast<std::size_t>(i)] != (*documents)[static_cast<std::size_t>(j)])
      return false;
    if (visible.empty()) return true;
    for (const PairRegion& region : visible)
      if (region.contains(i, j)) return true;
    return false;
  }
};

/// Gradients with respect to a plan. Engines add to what is not empty. The caller asks for bias and query_scale where the
/// plan has them and a parameter is trainable, and for angles only when traits().learns_angles. Not for ensembles.
struct PositionGradients {
  std::span<float> bias = {};                 ///< [n_heads, bias_width]
  std::span<float> query_scale = {};          ///< [n_q]
  std::vector<std::span<double>> angle = {};  ///< per band [n_rot_dims / 2, n_axes]; empty = not asked for
};

/// Optional ability: an absolute encoding added to token embeddings (sinusoidal, learned).
class TokenEmbedding {
 public:
  virtual ~TokenEmbedding() = default;
  /// Adds the encoding of tokens first_token, first_token + 1, ... to x [n, d_model].
  virtual void add(const PositionContext& context, ParameterValues parameters, index_t first_token,
                   TensorView<float, 2> x) const = 0;
  virtual void backward(const PositionContext& context, index_t first_token, TensorView<const float, 2> d_x,
                        ParameterGradients gradients) const = 0;
};

struct PositionTraits {
  bool shift_invariant =
      false;  ///< moving all tokens by the same amount changes no score; contract-tested when claimed
  bool bounded_length = false;  ///< refuses contexts longer than its table (learned)
  bool causal_only = false;     ///< refuses contexts without a causal mask (a cache of last tokens, XPOS)
  /// The score of a pair changes with the number of tokens in the call (local static scaling): decoding token by token
  /// then differs from one pass over the whole text.
  bool length_dependent = false;
  bool layer_dependent = false;
  bool needs_train_length = false;
  index_t n_axes = 1;          ///< 2 for image encodings
  bool learns_angles = false;  ///< its backward() uses PositionGradients::angle (CLEX)
};

/// A position encoding. Immutable after construction; every member may be called from many threads at once.
class BOREL_EXPORT PositionEncoding {
 public:
  static constexpr std::string_view family = "position";
  virtual ~PositionEncoding();

  virtual PositionTraits traits() const = 0;

  /// The plan for one call; callers use position_plan() below. Complexity O(n_q + n_k) per band at most,
  /// O(n_heads (n_q + n_k)) with a bias.
  /// @param parameters values for parameters(context.n_heads, context.d_head, d_model), in order
  /// @throws MethodError with a reason when the context cannot be served (odd d_head, missing train_length, ...)
  virtual PositionPlan plan(const PositionContext& context, ParameterValues parameters) const = 0;

  /// Parameter tensors (T5 table, KERPLE slopes); none by default. Sizes may depend on heads, d_head and d_model; only
  /// those of an embedding may depend on d_model (without a network it is n_heads * d_head).
  virtual std::vector<ParameterTensor> parameters(index_t n_heads, index_t d_head, index_t d_model) const;

  /// Adds d loss / d parameters given d loss / d plan. Called only when a parameter is trainable. `context` is the one
  /// that the plan was made for, so that bias_zero and the like can be derived again.
  virtual void backward(const PositionContext& context, ParameterValues parameters,
                        const PositionGradients& d_plan, ParameterGradients d_parameters) const;

  virtual const TokenEmbedding* embedding() const { return nullptr; }

  TraitList describe() const;
};

/// The way to get a plan: checks what traits() asks of the context (train length, causal mask, number of axes), calls plan(),
/// adds the context's documents, and in debug builds runs check_plan(). @throws MethodError
BOREL_EXPORT PositionPlan position_plan(const PositionEncoding& encoding, const PositionContext& context,
                                        ParameterValues parameters = {});

/// True for nothing at all, or one band over all pairs with angles only: no amplitude, logit scale, bias, mask, query
/// scale, map or ensemble. Then q and k can be rotated once, before anything else.
BOREL_EXPORT bool is_plain_rotation(const PositionPlan& plan);

/// The plan for query rows begin .. end - 1 of the call it was made for; the call's query_offset grows by `begin`.
BOREL_EXPORT PositionPlan plan_for_rows(const PositionPlan& plan, index_t begin, index_t end);

/// How many of the keys 0 .. n - 1 some query i >= n can see under the plan's visible regions and the causal rule: what a
/// key-value cache must hold. n without regions.
BOREL_EXPORT index_t keys_kept(const PositionPlan& plan, index_t n);

/// Checks a plan against its context: table sizes, at most one band per pair (exact up to 256 x 256, sampled beyond),
/// finite values. @return "" or the first rule that is broken. Used by contract tests and by debug builds.
BOREL_EXPORT std::string check_plan(const PositionPlan& plan, const PositionContext& context);

/// Shared table from values.
inline PositionTable make_table(std::vector<double> values) {
  return std::make_shared<const std::vector<double>>(std::move(values));
}

/// theta_base^(-2m / n_rot_dims) for m = 0 .. n_rot_dims / 2 - 1. @throws MethodError when n_rot_dims is odd
BOREL_EXPORT PositionTable rotary_angles(double theta_base, index_t n_rot_dims);
/// first, first + 1, ...: the plain positions of n rows.
BOREL_EXPORT PositionTable running_positions(index_t first, index_t n);

}  // namespace borel
