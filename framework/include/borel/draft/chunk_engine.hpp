// DRAFT. State recurrences of one query head, in chunkwise and recurrent form:
//
//   S_t = diag(a_t) S_{t-1} + phi(k_t) u_t^T      [feature_size, d_v],   a_t = exp(l_t)
//   z_t = diag(a_t) z_{t-1} + phi(k_t)            [feature_size], only when normalised
//   o_t = phi(q_t)^T S_t  /  (phi(q_t)^T z_t + epsilon)
//
//   l_t   absent (linear attention), one number per token (RetNet, Mamba-2) or one per token and feature (GLA)
//   u_t   v_t, or with the delta rule  beta_t (v_t - (diag(a_t) S_{t-1})^T phi(k_t)):  what is stored under the
//         key is replaced by the share beta_t (DeltaNet, Gated DeltaNet)
//   read before write (RWKV-6):  o_t = phi(q_t)^T (S_{t-1} + diag(bonus) phi(k_t) v_t^T)
//
// With a rotation R (plain rotary plan) the numerator uses R phi(q), R phi(k) and the denominator does not: Su et
// al. 2021, arXiv:2104.09864, equation 19.
//
// Decays enter as logarithms l_t <= 0. Inside a chunk queries take exp(L_t) and keys exp(-L_t), L the sum of the
// logarithms since the start of the chunk, by channel. A chunk ends before any L falls below -k_longest_log_decay, so
// that exp(-L) cannot overflow, whatever the gates are: channels that decay strongly make chunks shorter, not wrong.
// No row depends on a later token, not even by rounding.
#pragma once

#include "borel/attention.hpp"

namespace borel {

/// What a method may know about the rows it maps: `n` tokens of one head.
struct ChunkRows {
  const AttentionContext& context;
  ParameterValues parameters;
  /// Query head, on the key side too: a key head is mapped once per query head that reads it; with shared_keys once, as
  /// for the first of them.
  index_t head = 0;
  index_t first_token = 0;  ///< absolute position of row 0
  index_t n = 0;
  /// [n, width] in the order of extra_inputs(); a view of size 0 where the input belongs to the other side.
  std::span<const TensorView<const float, 2>> extra;
};

/// Where a method adds its gradients; a view or span of size 0 is not asked for.
struct ChunkRowGradients {
  TensorView<float, 2> d_in = {};  ///< [n, d_k], of q or k; empty for decays and strengths
  std::span<const TensorView<float, 2>> d_extra = {};  ///< [n, width], in the order of extra_inputs()
  ParameterGradients d_parameters = {};                ///< in the order of parameters()
};

/// Which terms the recurrence has.
struct ChunkForm {
  enum class Decay { none, token, channel };
  Decay decay = Decay::none;  ///< other than none makes the method causal only
  /// key_features writes logarithms of features. The engine takes the exponential relative to the largest logarithm
  /// seen so far, which cancels: keys of any size neither overflow nor vanish. Only normalised, without decay and
  /// with epsilon 0.
  bool log_keys = false;
  bool normalised = false;  ///< divides by phi(q)^T z + epsilon
  double epsilon = 0;       ///< added to the denominator
  bool delta_rule = false;  ///< causal only; not with normalised
  bool read_before_write =
      false;  ///< causal only; the token's own key enters with bonus(); not with normalised
  /// Features, decays and strengths of keys depend on the key head alone, not on ChunkRows::head: query heads that read one
  /// key head share one state and one pass over its keys. Not with read_before_write.
  bool shared_keys = false;
  /// A rotation turns q and k before the maps, so that phi(q)^T phi(k) sees their distance wherever it depends on q . k
  /// alone (kernels of the exponential; Zhang et al. 2024, LoLCATs, arXiv:2410.10254). Otherwise it turns the features in
  /// the numerator (Su et al. 2021, equation 19), which then must be as many as the components of q.
  bool rotate_inputs = false;
};

inline constexpr index_t k_default_chunk = 64;
/// Log decays below -k_longest_log_decay count as that: e^-64 = 2e-28 is nothing beside the rounding of a float.
inline constexpr double k_longest_log_decay = 64;

/// An attention mechanism of the form above: it writes traits and feature maps; the engine does forward, step,
/// effective weights and, when the maps have gradients, backward. Accepts no position plan or plain rotation, the
/// latter when n_rot_dims <= feature_size (with rotate_inputs: d_k). Threads: heads run in parallel, with the same bits for any number.
class BOREL_EXPORT ChunkAttention : public Attention,
                                    public AttentionStep,
                                    public AttentionWeights,
                                    public AttentionBackward {
 public:
  virtual ChunkForm form() const { return {}; }
  virtual index_t feature_size(const AttentionContext& context) const = 0;
  /// in [n, d_k] -> out [n, feature_size]; any scale on q or k goes in here. One virtual call per chunk.
  virtual void query_features(const ChunkRows& rows, TensorView<const float, 2> in,
                              TensorView<float, 2> out) const = 0;
  virtual void key_features(const ChunkRows& rows, TensorView<const float, 2> in,
                            TensorView<float, 2> out) const = 0;
  /// l_t of the rows, [n, 1] or [n, feature_size]; called only with a decay.
  virtual void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const;
  /// beta_t of the rows, [n]; called only with the delta rule. Default: 1.
  virtual void write_strength(const ChunkRows& rows, std::span<float> out) const;
  /// [feature_size]; called only with read_before_write, with rows.n = 0. Default: 1.
  virtual void bonus(const ChunkRows& rows, std::span<float> out) const;

  // Gradients of the functions above: d_out is the gradient of what they wrote, `out` of the map the values themselves
  // (with log_keys those of the exponentials, up to a constant factor). Each adds to what `into` asks for. Needed only when has_gradients(); then backward() exists.
  virtual bool has_gradients() const { return false; }
  virtual void query_features_backward(const ChunkRows& rows, TensorView<const float, 2> in,
                                       TensorView<const float, 2> out, TensorView<const float, 2> d_out,
                                       const ChunkRowGradients& into) const;
  virtual void key_features_backward(const ChunkRows& rows, TensorView<const float, 2> in,
                                     TensorView<const float, 2> out, TensorView<const float, 2> d_out,
                                     const ChunkRowGradients& into) const;
  virtual void log_decay_backward(const ChunkRows& rows, TensorView<const float, 2> d_out,
                                  const ChunkRowGradients& into) const;
  virtual void write_strength_backward(const ChunkRows& rows, std::span<const float> d_out,
                                       const ChunkRowGradients& into) const;
  virtual void bonus_backward(const ChunkRows& rows, std::span<const float> d_out,
                              const ChunkRowGradients& into) const;

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override;
  /// forward with chunks of at most this many tokens, >= 1; the result does not depend on it beyond rounding.
  /// Streams over n with the state in cache; bidirectional in two passes. For queries beyond the last key the state
  /// only decays. @throws MethodError when that decay would need an extra input that has no such token
  void forward_in_chunks(const AttentionCall& call, TensorView<float, 3> o, index_t chunk) const;
  double state_bytes(const AttentionContext& context, index_t n) const override;
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override;

  const AttentionStep* step() const override { return this; }
  /// Per state feature_size (d_v + normalised) + log_keys; normalised, for contexts of more than 256 tokens or of any length
  /// (max_n = 0), 2 feature_size (d_v + 1) + log_keys: S and z as sums of two floats each, so that their quotient keeps its
  /// accuracy over any number of tokens. h_q states, with shared_keys h_kv.
  index_t state_size(const AttentionContext& context) const override;
  void start(const AttentionContext& context, ParameterValues parameters,
             std::span<float> state) const override;
  void step(const AttentionStep::Token& token, std::span<float> state, TensorView<float, 2> o) const override;

  /// Present without delta rule, channel decay, bonus and log_keys: time O(rows n_k feature_size), memory O(n_k feature_size).
  /// The other forms take the default of effective_weights().
  const AttentionWeights* weights() const override;
  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override;

  const AttentionBackward* backward() const override { return has_gradients() ? this : nullptr; }
  /// Nothing is kept: the states at the chunk borders are computed again, O(n / chunk feature_size d_v) memory per
  /// thread, and the chunks are walked in reverse.
  index_t saved_per_row(const AttentionContext&) const override { return 0; }
  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3>) const override {
    forward(call, o);
  }
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& gradients) const override;
};

}  // namespace borel
