// The attention family: o = A(q, k) v, one row per query.
//
//   q  [h_q,  n_q, d_k]     k  [h_kv, n_k, d_k]     v  [h_kv, n_k, d_v]     o  [h_q, n_q, d_v]      float32
//   h_q % h_kv == 0; query head h reads key head h / (h_q / h_kv)
//   query row i stands at absolute position i + query_offset, key row j at j; causal keeps j <= i + query_offset
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/parallel.hpp"
#include "borel/parameter_tensor.hpp"
#include "borel/position.hpp"

namespace borel {

/// Sizes that parameters and states may depend on.
struct AttentionContext {
  index_t h_q = 1, h_kv = 1;
  index_t d_k = 64, d_v = 64;
  index_t max_n = 0;  ///< longest context that will be seen, for fixed-length methods and states
  index_t layer_index = 0, n_layers = 1;  ///< differential attention's lambda depends on the layer
  bool causal = true;
};

/// Declaration of an input besides q, k, v: gates, decays, write strengths. The framework supplies a tensor
/// [heads, tokens, width]: from the dataset, from a network's learned projection, or filled with `default_value`.
struct ExtraInput {
  enum class Heads { query, kv };
  enum class Tokens { query, key };
  /// Which numbers are valid. A network maps a projection x of the token to them: x, log(1 + e^x), 1 / (1 + e^-x),
  /// -log(1 + e^-x); its bias starts where this gives `default_value`. Tests draw from them.
  enum class Values { real, non_negative, unit_interval, non_positive };
  std::string name = {};
  Heads heads = Heads::kv;
  Tokens tokens = Tokens::key;
  index_t width = 1;  ///< numbers per token and head
  Values values = Values::real;
  double default_value = 0;  ///< one of the valid `values`
  std::string doc = {};
};

/// One evaluation. Views must stay valid during the call; nothing is kept.
struct AttentionCall {
  TensorView<const float, 3> q = {}, k = {}, v = {};
  bool causal = true;
  index_t query_offset = 0;
  const PositionPlan* position = nullptr;  ///< null = none; made for d_head = Attention::plan_d_head()
  std::span<const TensorView<const float, 3>> extra = {};  ///< in the order of extra_inputs()
  ParameterValues parameters = {};                         ///< in the order of parameters()
  AttentionContext context = {};                           ///< the context that the parameters were made for
  StopToken stop = {};

  index_t h_q() const { return q.shape(0); }
  index_t h_kv() const { return k.shape(0); }
  index_t n_q() const { return q.shape(1); }
  index_t n_k() const { return k.shape(1); }
  index_t d_k() const { return q.shape(2); }
  index_t d_v() const { return v.shape(2); }
  index_t kv_head(index_t query_head) const { return query_head / (h_q() / h_kv()); }
};

struct AttentionTraits {
  bool causal = true, bidirectional = true;  ///< which values of AttentionCall::causal are accepted
  bool fixed_length_only = false;            ///< parameters depend on context.max_n (Linformer)
  bool row_normalised = false;               ///< effective weights of a visible row sum to 1
  bool non_negative = false;                 ///< effective weights are >= 0
  bool linear_in_v = true;  ///< o = A(q, k) v exactly, and v may have any d_v, also other than the
                            ///< context's; false when the output is normalised afterwards
  bool own_scale = false;   ///< does not use 1 / sqrt(d_k): plans are made with scaled_scores = false
  bool order_dependent =
      false;  ///< weights depend on where keys stand even without a plan (cosine weight, landmarks)
  bool rows_interact = false;  ///< an output row depends on other queries too (Nystrom's landmarks)
  /// |o - float64 reference| <= max_error * max|v| * max(1, sum_j |w_ij|) for inputs of the contract: scores up to
  /// 80, n up to a few hundred. The sum matters for mechanisms that do not normalise.
  double max_error = 1e-5;
};

/// Optional ability: gradients.
class AttentionBackward {
 public:
  virtual ~AttentionBackward() = default;
  /// Floats per query row that forward_saving keeps (log-sum-exp, row maxima, ...).
  virtual index_t saved_per_row(const AttentionContext& context) const = 0;
  /// @param saved [h_q, n_q, saved_per_row]
  virtual void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                              TensorView<float, 3> saved) const = 0;

  struct Gradients {
    TensorView<float, 3> d_q = {}, d_k = {}, d_v = {};   ///< same shapes as q, k, v; added to
    std::span<const TensorView<float, 3>> d_extra = {};  ///< added to; a view of size 0 is not asked for
    ParameterGradients d_parameters = {};                ///< added to
    PositionGradients* d_position = nullptr;             ///< added to; null = not asked for
  };
  virtual void backward(const AttentionCall& call, TensorView<const float, 3> o,
                        TensorView<const float, 3> saved, TensorView<const float, 3> d_o,
                        const Gradients& gradients) const = 0;
};

/// Optional ability: recurrent form, one token at a time. The state is a flat array of floats, so that it can be
/// saved, moved and measured; it holds no pointers. Tile methods keep their key-value cache in it.
class AttentionStep {
 public:
  virtual ~AttentionStep() = default;
  /// Size of the state in floats for contexts up to context.max_n tokens.
  virtual index_t state_size(const AttentionContext& context) const = 0;
  virtual void start(const AttentionContext& context, ParameterValues parameters,
                     std::span<float> state) const = 0;

  struct Token {
    index_t t = 0;                                      ///< absolute position, 0, 1, 2, ... without gaps
    TensorView<const float, 2> q = {}, k = {}, v = {};  ///< [h_q, d_k], [h_kv, d_k], [h_kv, d_v]
    const PositionPlan* position = nullptr;             ///< plan for n_q = 1, n_k = t + 1, query_offset = t
    std::span<const TensorView<const float, 2>> extra = {};  ///< [heads, width] each
    ParameterValues parameters = {};
    AttentionContext context = {};
  };
  /// Takes in the token, then writes its output o [h_q, d_v]. Equals row t of the causal forward pass within max_error.
  virtual void step(const Token& token, std::span<float> state, TensorView<float, 2> o) const = 0;
};

/// Optional ability: rows of the effective weights without going through v. Not needed when linear_in_v. For methods
/// that normalise or gate the output: the weights that give the output before that.
class AttentionWeights {
 public:
  virtual ~AttentionWeights() = default;
  /// @param weights [end - begin, n_k]: rows begin .. end of the effective matrix of one query head; masked pairs 0
  virtual void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
                    TensorView<float, 2> weights) const = 0;
};

/// An attention mechanism. Immutable after construction; every member may be called from many threads at once.
class BOREL_EXPORT Attention {
 public:
  static constexpr std::string_view family = "attention";
  virtual ~Attention();

  virtual AttentionTraits traits() const = 0;

  /// "" when the plan can be used, else the reason; the study records it as skipped. The default accepts what
  /// is_plain_rotation() accepts.
  virtual std::string refuses(const PositionPlan& plan) const;
  /// Size of the vectors that the plan rotates. Differential attention has two maps of d_k / 2: a plan made for d_k
  /// would pair components of different maps.
  virtual index_t plan_d_head(const AttentionContext& context) const { return context.d_k; }

  /// Writes o. A row that sees no key is written as zeros. @pre sizes agree (check_call), position not refused
  /// @throws MethodError when the call breaks a declared trait, Stopped
  virtual void forward(const AttentionCall& call, TensorView<float, 3> o) const = 0;

  /// Bytes that must be kept per layer to continue a causal context of n tokens (key-value cache, recurrent state).
  /// With a plan that hides old keys, ask for n = keys_kept(plan, n).
  virtual double state_bytes(const AttentionContext& context, index_t n) const = 0;
  /// Multiply-adds x 2 of forward, causal pairs counted once; 0 = not known. For GFLOP/s in benchmarks.
  virtual double flops(const AttentionContext& context, index_t n_q, index_t n_k) const;

  virtual std::vector<ExtraInput> extra_inputs(const AttentionContext& context) const;
  virtual std::vector<ParameterTensor> parameters(const AttentionContext& context) const;

  virtual const AttentionBackward* backward() const { return nullptr; }
  virtual const AttentionStep* step() const { return nullptr; }
  virtual const AttentionWeights* weights() const { return nullptr; }

  TraitList describe() const;
};

/// Checks the shapes, strides and options of a call against the method's declarations. @throws MethodError
BOREL_EXPORT void check_call(const Attention& method, const AttentionCall& call,
                             TensorView<const float, 3> o);

/// Rows [begin, end) of the effective weight matrix of one query head, [end - begin, n_k]: the method's own ability,
/// or, for methods linear in v, forward with blocks of the identity as v; for few rows and many keys the gradient with
/// respect to v, where there is one. Never more than the rows asked for in memory.
/// @throws MethodError when the method is not linear in v and has no such ability
BOREL_EXPORT void effective_weights(const Attention& method, const AttentionCall& call, index_t head,
                                    index_t begin, index_t end, TensorView<float, 2> weights);

/// Owns extra inputs filled with their defaults, and parameters made by their initialisers: what a call needs when
/// neither dataset nor network supplies them.
class BOREL_EXPORT AttentionDefaults {
 public:
  AttentionDefaults(const Attention& method, const AttentionContext& context, index_t n_q, index_t n_k,
                    Seed seed);
  AttentionDefaults(const AttentionDefaults&) = delete;  // the views point into the storage
  AttentionDefaults(AttentionDefaults&&) noexcept = default;
  /// Points call.extra, call.parameters and call.context here; this object must outlive the call.
  void attach(AttentionCall& call) const;

 private:
  AttentionContext context_;
  std::vector<std::vector<float>> extra_storage_;
  std::vector<TensorView<const float, 3>> extra_views_;
  ParameterSet parameters_;
};

/// Rotates rows of q or k for one band: out[t] = rotation by positions[t] of in[t], the same direction on both sides, so
/// that out_q . out_k is the band's score. Applies the amplitude, but neither maps nor band.logit_scale. The transposed
/// map, for gradients: the same with positions, sign and amplitude_origin negated.
/// `in` and `out` may be the same view.
/// @param positions [n, n_axes] for these rows   @param sign +1 for the query side's amplitude, -1 for the key side's
/// @param amplitude_origin position that has amplitude 1 (centre of the block, so that long contexts cannot overflow)
BOREL_EXPORT void rotate_rows(const PositionPlan& plan, const Band& band, std::span<const double> positions,
                              int sign, double amplitude_origin, TensorView<const float, 2> in,
                              TensorView<float, 2> out);

}  // namespace borel
