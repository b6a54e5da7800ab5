// DRAFT. State recurrences of one query head, in chunkwise and recurrent form:
//
//   S_t = exp(l_t) S_{t-1} + phi(k_t) v_t^T      [feature_size, d_v]
//   z_t = exp(l_t) z_{t-1} + phi(k_t)            [feature_size], only when normalised
//   o_t = phi(q_t)^T S_t  /  (phi(q_t)^T z_t + epsilon)
//
// Decays enter as logarithms l_t <= 0 and only as differences of their cumulative sums, never as ratios of
// exponentials. With a rotation R (plain rotary plan) the numerator uses R phi(q), R phi(k) and the
// denominator does not: Su et al. 2021, arXiv:2104.09864, equation 19.
#pragma once

#include "borel/attention.hpp"

namespace borel {

/// What a method may know about the rows it maps: `n` tokens of one head.
struct ChunkRows {
  const AttentionContext& context;
  ParameterValues parameters;
  index_t head =
      0;  ///< query head, on the key side too: a key head is mapped once per query head that reads it
  index_t first_token = 0;  ///< absolute position of row 0
  index_t n = 0;
  /// [n, width] in the order of extra_inputs(); a view of size 0 where the input belongs to the other side.
  std::span<const TensorView<const float, 2>> extra;
};

inline constexpr index_t k_default_chunk = 64;

/// An attention mechanism of the form above: it writes traits and feature maps; the engine does forward,
/// step, effective weights. Accepts no position plan or plain rotation, the latter when n_rot_dims <=
/// feature_size.
class BOREL_EXPORT ChunkAttention : public Attention, public AttentionStep, public AttentionWeights {
 public:
  virtual index_t feature_size(const AttentionContext& context) const = 0;
  /// in [n, d_k] -> out [n, feature_size]; any scale on q or k goes in here. One virtual call per chunk.
  virtual void query_features(const ChunkRows& rows, TensorView<const float, 2> in,
                              TensorView<float, 2> out) const = 0;
  virtual void key_features(const ChunkRows& rows, TensorView<const float, 2> in,
                            TensorView<float, 2> out) const = 0;
  virtual bool has_decay() const { return false; }
  /// l_t of the rows; called only with has_decay, which makes the method causal only.
  virtual void log_decay(const ChunkRows& rows, std::span<float> out) const;
  virtual bool normalised() const { return false; }
  virtual double epsilon() const { return 0; }  ///< added to the denominator

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override;
  /// forward with chunks of this many tokens, >= 1; the result does not depend on it beyond rounding. Streams
  /// over n with the state in cache; bidirectional in two passes. For queries beyond the last key the state
  /// only decays. @throws MethodError when that decay would need an extra input that has no such token
  void forward_in_chunks(const AttentionCall& call, TensorView<float, 3> o, index_t chunk) const;
  double state_bytes(const AttentionContext& context, index_t n) const override;
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override;

  const AttentionStep* step() const override { return this; }
  index_t state_size(
      const AttentionContext& context) const override;  ///< h_q feature_size (d_v + normalised)
  void start(const AttentionContext& context, ParameterValues parameters,
             std::span<float> state) const override;
  void step(const AttentionStep::Token& token, std::span<float> state, TensorView<float, 2> o) const override;

  /// Time and memory O(rows n_k feature_size) and O(n_k feature_size).
  const AttentionWeights* weights() const override { return this; }
  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override;
};

}  // namespace borel
