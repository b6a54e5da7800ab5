// DRAFT. State recurrences S_t = decay_t S_{t-1} + phi(k_t) v_t^T,  o_t = phi(q_t)^T S_t [/ phi(q_t)^T z_t],
// in parallel (quadratic), chunkwise and recurrent form. Decays enter as logarithms and only as differences of their
// cumulative sums, never as ratios of exponentials.
#pragma once

#include "borel/attention.hpp"

namespace borel {

/// The part of a linear mechanism that differs from method to method. One virtual call per chunk.
class BOREL_EXPORT ChunkMethod {
 public:
  virtual ~ChunkMethod();
  virtual index_t feature_size(const AttentionCall& call) const = 0;
  /// in [n, d_k] -> out [n, feature_size]; any scale on q or k goes in here.
  virtual void query_features(const AttentionCall& call, index_t head, index_t first_token, TensorView<const float, 2> in,
                              TensorView<float, 2> out) const = 0;
  virtual void key_features(const AttentionCall& call, index_t head, index_t first_token, TensorView<const float, 2> in,
                            TensorView<float, 2> out) const = 0;
  /// Log decay (<= 0) applied to the state before token t is written, for t = first_token ..; false = no decay.
  /// Causal only.
  virtual bool log_decay(const AttentionCall& call, index_t head, index_t first_token, std::span<float> out) const;
  virtual bool normalised() const { return false; }
  /// Added to the denominator when normalised.
  virtual double epsilon() const { return 0; }
};

inline constexpr index_t k_default_chunk = 64;

/// Streams over chunks with the state [feature_size, d_v] in cache; causal, or two passes when not.
/// @param chunk tokens per chunk, >= 1; the result does not depend on it beyond rounding
BOREL_EXPORT void chunk_forward(const ChunkMethod& method, const AttentionCall& call, TensorView<float, 3> o,
                                index_t chunk = k_default_chunk);

/// Floats of state per context: h_q * feature_size * (d_v + normalised).
BOREL_EXPORT index_t chunk_state_size(const ChunkMethod& method, const AttentionContext& context);
BOREL_EXPORT void chunk_step(const ChunkMethod& method, const AttentionStep::Token& token, std::span<float> state,
                             TensorView<float, 2> o);

}  // namespace borel
