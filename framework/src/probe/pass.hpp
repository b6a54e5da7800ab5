// Forward and backward pass of the decoder over a few sequences of equal length.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "probe/block_pass.hpp"

namespace borel::probe {

/// Memory, threads and T as BlockPass; besides it 256 numbers for every token.
template <class T>
class Pass {
 public:
  /// @param keep  true: backward() will follow
  Pass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
       index_t n, bool keep);

  /// Logits of the tokens that are asked for. The spans stay valid until the next call.
  /// @param tokens [n_sequences, n]   @param asked [n_sequences, n], 0 where no logits are needed; empty: all are asked for
  /// @throws MethodError, Stopped
  void forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
               std::span<const std::uint8_t> tokens, StopToken stop = {},
               std::span<const std::uint8_t> asked = {});
  /// [tokens that were asked for, 256], in their order; after cross_entropies(): their gradient.
  std::span<const T> logits() const { return std::span(logits_).first(asked_.size() * k_vocabulary); }

  /// Losses in nats of the tokens that were asked for, added in order. Turns the logits into their gradient times `scale`.
  /// @param targets [n_sequences, n]
  double cross_entropies(std::span<const std::uint8_t> targets, T scale);

  /// @pre forward() with keep, then cross_entropies()
  void backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                std::span<const std::uint8_t> tokens, NetworkGradients<T>& gradients, StopToken stop = {});

  /// Query (which = 0), key (1) or value (2) of all heads of a sequence in a layer that is kept, or in the layer that ran
  /// last: [h, n, d_head]; for captures.
  TensorView<const T, 3> heads(index_t layer, index_t sequence, index_t which) const {
    return blocks_.heads(layer, sequence, which);
  }

 private:
  bool all_asked() const { return static_cast<index_t>(asked_.size()) == m_; }
  const T* parameter(std::span<const T> flat, index_t slice) const {
    return flat.data() + architecture_.slice(slice).offset;
  }

  const Architecture& architecture_;
  index_t m_, d_;  // m = n_sequences n rows
  BlockPass<T> blocks_;
  std::vector<index_t> asked_;  // rows
  std::vector<T> x_, normed_, rms_, normed_asked_, logits_;
  std::vector<T> d_x_, d_normed_, d_normed_asked_;  // backward
};

extern template class Pass<float>;
extern template class Pass<double>;

}  // namespace borel::probe
