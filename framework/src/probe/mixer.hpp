// What a layer does between its tokens, for one sequence and one element type: the attention plugin in float, the
// float64 reference in gradient checks.
#pragma once

#include <span>
#include <vector>

#include "borel/attention.hpp"

namespace borel::probe {

/// Threads: any number of callers.
template <class T>
class Mixer {
 public:
  struct Call {
    TensorView<const T, 3> q = {}, k = {}, v = {};  ///< [n_heads, n, d_head]
    const PositionPlan* position = nullptr;
    std::span<const TensorView<const T, 3>> extra = {};
    std::span<const std::span<const T>> parameters = {};
    StopToken stop = {};
  };
  /// All are added to.
  struct Gradients {
    TensorView<T, 3> d_q = {}, d_k = {}, d_v = {};
    std::span<const TensorView<T, 3>> d_extra = {};
    std::span<const std::span<T>> d_parameters = {};
    PositionGradients* d_position = nullptr;
  };

  virtual ~Mixer() = default;
  virtual index_t saved_per_row() const = 0;
  /// @param saved [n_heads, n, saved_per_row], or null: no backward pass follows, or nothing is saved for it
  virtual void forward(const Call& call, TensorView<T, 3> o, TensorView<T, 3> saved) const = 0;
  virtual void backward(const Call& call, TensorView<const T, 3> o, TensorView<const T, 3> saved,
                        TensorView<const T, 3> d_o, const Gradients& gradients) const = 0;
};

/// The layer's plugin.
class PluginMixer final : public Mixer<float> {
 public:
  PluginMixer(const Attention& attention, const AttentionContext& context)
      : attention_(attention), context_(context), backward_(attention.backward()) {}

  index_t saved_per_row() const override { return backward_ ? backward_->saved_per_row(context_) : 0; }

  void forward(const Call& given, TensorView<float, 3> o, TensorView<float, 3> saved) const override {
    const AttentionCall call = as_call(given);
    check_call(attention_, call, o);
    if (saved.data())
      backward_->forward_saving(call, o, saved);
    else
      attention_.forward(call, o);
  }

  void backward(const Call& given, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& g) const override {
    backward_->backward(as_call(given), o, saved, d_o,
                        {g.d_q, g.d_k, g.d_v, g.d_extra, g.d_parameters, g.d_position});
  }

 private:
  AttentionCall as_call(const Call& given) const {
    AttentionCall call;
    call.q = given.q;
    call.k = given.k;
    call.v = given.v;
    call.position = given.position;
    call.extra = given.extra;
    call.parameters = given.parameters;
    call.causal = context_.causal;
    call.context = context_;
    call.stop = given.stop;
    return call;
  }

  const Attention& attention_;
  AttentionContext context_;
  const AttentionBackward* backward_;
};

}  // namespace borel::probe
