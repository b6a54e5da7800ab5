// Forward and backward pass of the probe network over a few sequences of equal length; written by hand, checked against
// float64 central differences (tests/unit/probe_gradient_test.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "probe/architecture.hpp"
#include "probe/mixer.hpp"

namespace borel::probe {

/// One layer's gradients with respect to its position plan.
struct PlanGradients {
  std::vector<float> bias, query_scale;
  std::vector<std::vector<double>> angle;

  /// Zeros of the plan's sizes; angles only when the encoding learns them.
  PlanGradients() = default;
  PlanGradients(const PositionPlan& plan, bool learns_angles);
  PositionGradients view();
  void add(const PlanGradients& other);
};

/// What backward() adds to.
template <class T>
struct NetworkGradients {
  std::vector<T> flat;               ///< as the parameters
  std::vector<PlanGradients> plans;  ///< per layer; empty where positions are not learnt
};

/// Memory of one pass, reused from step to step. Not for several threads at once; chunks of a batch have one each.
/// @tparam T float, or double for checks (then without absolute encodings, which are float by interface)
template <class T>
class Pass {
 public:
  /// @param keep  true: activations of all layers are kept, for backward(); false: evaluation, the layers share memory
  /// Memory: about 4 n_sequences n (10 d_model + 2 d_feed_forward) sizeof(T) bytes per layer that is kept.
  Pass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
       index_t n, bool keep);

  /// Logits for every token. The spans stay valid until the next call.
  /// @param tokens [n_sequences, n]  @throws MethodError, Stopped
  void forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
               std::span<const std::uint8_t> tokens, StopToken stop = {});
  /// [n_sequences n, 256]; after cross_entropies(): their gradient.
  std::span<const T> logits() const { return logits_; }

  /// Losses in nats, one per token, added in order. Turns the logits into their gradient times `scale`.
  /// @param targets [n_sequences, n]
  /// @param scored  [n_sequences, n], 0 where the target does not count; empty: all count
  double cross_entropies(std::span<const std::uint8_t> targets, T scale,
                         std::span<const std::uint8_t> scored = {});

  /// @pre forward() with keep, then cross_entropies()
  void backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                std::span<const std::uint8_t> tokens, NetworkGradients<T>& gradients, StopToken stop = {});

  /// Query, key and value of head h of a sequence in the layer that ran last ([n, d_head] inside qkv); for captures.
  TensorView<const T, 3> heads(index_t layer, index_t sequence, index_t which) const;

 private:
  struct Activations {
    std::vector<T> x_in, normed_1, rms_1, projected, qkv, o, saved, x_mid, normed_2, rms_2, hidden, active;
    std::vector<std::vector<T>> extra;
  };
  Activations& at(index_t layer) { return kept_[keep_ ? static_cast<std::size_t>(layer) : 0]; }
  const Activations& at(index_t layer) const { return kept_[keep_ ? static_cast<std::size_t>(layer) : 0]; }
  const T* parameter(std::span<const T> flat, index_t slice) const {
    return flat.data() + architecture_.slice(slice).offset;
  }
  TensorView<T, 3> head_view(T* rows, index_t sequence, index_t first_column, index_t row_size) const;
  void extra_inputs(const Layer& layer, std::span<const T> parameters, Activations& a) const;
  void extra_gradients(const Layer& layer, std::span<const T> parameters, const Activations& a, T* gradient);
  void project(const Layer& layer, std::span<const T> parameters, Activations& a);
  void project_backward(const Layer& layer, std::span<const T> parameters, const Activations& a, T* gradient);
  void mix(index_t layer, std::span<const T> parameters, const PositionPlan& plan, StopToken stop);
  void mix_backward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
                    NetworkGradients<T>& gradients, StopToken stop);
  void attention_block_backward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
                                NetworkGradients<T>& gradients, StopToken stop);
  void feed_forward_backward(index_t layer, std::span<const T> parameters, T* gradient);
  void activate(const Activations& a, std::vector<T>& out) const;
  void activate_backward(const Activations& a);
  std::vector<TensorView<const T, 3>> extra_views(const Layer& layer, const Activations& a,
                                                  index_t sequence) const;
  typename Mixer<T>::Call mixer_call(index_t layer, index_t sequence, const PositionPlan& plan,
                                     std::span<const TensorView<const T, 3>> extra,
                                     std::span<const std::span<const T>> values, StopToken stop);

  const Architecture& architecture_;
  std::vector<const Mixer<T>*> mixers_;
  index_t n_sequences_, n_, m_, d_, d_hidden_, d_active_;  // m = n_sequences n rows
  bool keep_;
  std::vector<Activations> kept_;
  std::vector<T> x_, normed_, rms_, logits_;
  std::vector<T> d_x_, d_normed_, d_qkv_, d_projected_, d_o_, d_hidden_values_, d_active_values_;  // backward
  std::vector<std::vector<T>> d_extra_;
};

extern template class Pass<float>;
extern template class Pass<double>;

}  // namespace borel::probe
