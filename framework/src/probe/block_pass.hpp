// Forward and backward pass of the blocks, over a few sequences of equal length: what decoder and denoiser share. Written
// by hand, checked against float64 central differences (tests/unit/probe_gradient_test.cpp, denoiser_gradient_test.cpp).
#pragma once

#include <span>
#include <vector>

#include "probe/dense_layer.hpp"
#include "probe/layer_mixing.hpp"

namespace borel::probe {

/// Memory of one pass, reused from step to step. Not for several threads at once; lent to the chunks of a batch.
/// @tparam T float, or double for checks (then without absolute encodings, which are float by interface)
template <class T>
class BlockPass {
 public:
  /// @param keep  true: activations of all layers are kept, for backward(); false: evaluation, the layers share memory
  /// Memory: about n_sequences n (10 d_model + 2 d_feed_forward) sizeof(T) bytes per layer that is kept, for a gau
  /// n_sequences n (2 + 8 expansion) d_model.
  BlockPass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
            index_t n, bool keep);

  /// @param x          [n_sequences n, d_model], in: tokens, out: what the last block gives
  /// @param condition  [n_sequences, d_model] for a denoiser, else empty
  void forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
               std::span<const T> condition, std::vector<T>& x, StopToken stop);
  /// @param d_x          in: gradient of the output, out: of the tokens
  /// @param d_condition  added to
  void backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                std::span<const T> condition, std::vector<T>& d_x, std::span<T> d_condition,
                NetworkGradients<T>& gradients, StopToken stop);

  /// q (which = 0), k (1) or v (2) of all heads of a sequence, [h, n, d].
  TensorView<const T, 3> heads(index_t layer, index_t sequence, index_t which) const;

 private:
  struct Activations {
    std::vector<T> modulation;  // of the first norm, then of the second
    std::vector<T> x_in, normed_1, rms_1, projected, x_mid, normed_2, rms_2, hidden, active;
    std::vector<T> gated;  // u * o
    MixingValues<T> mixing;
  };
  Activations& at(index_t layer) { return kept_[keep_ ? static_cast<std::size_t>(layer) : 0]; }
  const Activations& at(index_t layer) const { return kept_[keep_ ? static_cast<std::size_t>(layer) : 0]; }
  const Layer& layer(index_t l) const { return architecture_.layers()[static_cast<std::size_t>(l)]; }
  const T* parameter(std::span<const T> flat, index_t slice) const {
    return flat.data() + architecture_.slice(slice).offset;
  }
  T* into(NetworkGradients<T>& gradients, index_t slice) const {
    return gradients.flat.data() + architecture_.slice(slice).offset;
  }
  bool conditioned() const { return architecture_.config().patches.used(); }
  MatrixView<T> modulation_of(std::vector<T>& all, index_t norm) const;
  void norm(Activations& a, index_t which, std::span<const T> parameters, index_t gain,
            const std::vector<T>& x, std::vector<T>& y, std::vector<T>& rms) const;
  /// From d_normed_.
  void norm_backward(Activations& a, index_t which, std::span<const T> parameters, index_t gain,
                     const std::vector<T>& x, const std::vector<T>& rms, std::vector<T>& d_x,
                     NetworkGradients<T>& gradients);
  void modulation_backward(index_t layer, std::span<const T> parameters, std::span<const T> condition,
                           std::span<T> d_condition, NetworkGradients<T>& gradients);
  void project(const Layer& layer, std::span<const T> parameters, Activations& a);
  void project_backward(const Layer& layer, std::span<const T> parameters, const Activations& a,
                        NetworkGradients<T>& gradients);
  void attention_backward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
                          std::vector<T>& d_x, NetworkGradients<T>& gradients, StopToken stop);
  void gau_forward(index_t layer, std::span<const T> parameters, const PositionPlan& plan, std::vector<T>& x,
                   StopToken stop);
  void gau_backward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
                    std::vector<T>& d_x, NetworkGradients<T>& gradients, StopToken stop);
  /// Rows of d_qkv back to rows of v | z; gradients of scales and offsets.
  void split_backward(const Layer& layer, std::span<const T> parameters, const Activations& a,
                      NetworkGradients<T>& gradients);
  void transformer_forward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
                           std::vector<T>& x, StopToken stop);
  void feed_forward_backward(index_t layer, std::span<const T> parameters, std::vector<T>& d_x,
                             NetworkGradients<T>& gradients);
  void activate(Activations& a) const;
  void activate_backward(const Activations& a);
  /// The absolute encoding of the first layer, if it has one.
  void add_embedding(std::span<const T> parameters, std::vector<T>& x) const;
  void embedding_backward(const std::vector<T>& d_x, NetworkGradients<T>& gradients) const;

  const Architecture& architecture_;
  index_t n_sequences_, n_, m_, d_, d_hidden_, d_active_;  // m = n_sequences n rows
  bool gau_, keep_;
  LayerMixing<T> mixing_;
  std::vector<Activations> kept_;
  std::vector<T> d_modulation_, d_normed_, d_gated_, d_projected_, d_o_, d_hidden_values_,
      d_active_values_;  // backward
};

extern template class BlockPass<float>;
extern template class BlockPass<double>;

}  // namespace borel::probe
