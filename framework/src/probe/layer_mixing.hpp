// What a layer does between its tokens: extra inputs from the normalised stream, then the mixer, sequence by sequence.
//
//   rows of q | k | v   [m, h (2 d_k + d_v)], head after head inside each part;   rows of o [m, h d_v];   m = n_sequences n
#pragma once

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

/// What a backward pass adds to.
template <class T>
struct NetworkGradients {
  std::vector<T> flat;               ///< as the parameters
  std::vector<PlanGradients> plans;  ///< per layer; empty where positions are not learnt

  /// The part of `flat` for each of these tensors; empty spans for fixed ones: not asked for.
  std::vector<std::span<T>> of(const Architecture& architecture, std::span<const index_t> slices);
};

/// What one layer keeps of it for the backward pass.
template <class T>
struct MixingValues {
  std::vector<T> qkv, o, saved;
  std::vector<std::vector<T>> extra;
};

/// Memory of the backward pass is shared by the layers. Not for several threads at once.
template <class T>
class LayerMixing {
 public:
  /// @param keep  a backward pass follows
  LayerMixing(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
              index_t n, bool keep);

  /// Makes room; layers of a schedule may share `a`, which then fits the largest.
  void reserve(index_t layer, MixingValues<T>& a);
  /// a.o from a.qkv. @param normed [m, d_model], for the extra inputs
  void forward(index_t layer, std::span<const T> parameters, const PositionPlan& plan,
               const std::vector<T>& normed, MixingValues<T>& a, StopToken stop) const;
  /// d_qkv() from d_o [m, h d_v]; gradients of the mechanism's parameters and of the plan are added.
  void backward(index_t layer, std::span<const T> parameters, const PositionPlan& plan, MixingValues<T>& a,
                std::vector<T>& d_o, NetworkGradients<T>& gradients, StopToken stop);
  std::span<const T> d_qkv() const { return d_qkv_; }
  /// What the extra inputs of the last backward() say about their projection and, added, about normed.
  void extra_backward(index_t layer, std::span<const T> parameters, const std::vector<T>& normed,
                      const MixingValues<T>& a, T* gradient, std::vector<T>& d_normed);

  /// q (which = 0), k (1) or v (2) of a sequence, [h, n, d].
  TensorView<T, 3> heads(index_t layer, T* qkv, index_t sequence, index_t which) const;

 private:
  const Layer& layer(index_t l) const { return architecture_.layers()[static_cast<std::size_t>(l)]; }
  TensorView<T, 3> output(index_t layer, T* rows, index_t sequence) const;
  void extra_inputs(const Layer& layer, std::span<const T> parameters, const std::vector<T>& normed,
                    MixingValues<T>& a) const;
  std::vector<TensorView<const T, 3>> extra_views(const Layer& layer, const MixingValues<T>& a,
                                                  index_t sequence) const;
  typename Mixer<T>::Call call(index_t layer, index_t sequence, const PositionPlan& plan, T* qkv,
                               std::span<const TensorView<const T, 3>> extra,
                               std::span<const std::span<const T>> values, StopToken stop) const;

  const Architecture& architecture_;
  std::vector<const Mixer<T>*> mixers_;
  index_t n_sequences_, n_, m_;
  bool keep_;
  std::vector<T> d_qkv_;
  std::vector<std::vector<T>> d_extra_;
};

extern template class LayerMixing<float>;
extern template class LayerMixing<double>;

}  // namespace borel::probe
