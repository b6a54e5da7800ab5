#include "probe/layer_mixing.hpp"

#include <algorithm>
#include <cmath>

#include "probe/dense_layer.hpp"

namespace borel::probe {
namespace {

// x -> x, log(1 + e^x), 1 / (1 + e^-x), -log(1 + e^-x): what ExtraInput::Values asks of a network.
template <class T>
T map_value(ExtraInput::Values values, T x) {
  const auto softplus = [](T y) { return y > 20 ? y : std::log1p(std::exp(y)); };
  switch (values) {
    case ExtraInput::Values::non_negative:
      return softplus(x);
    case ExtraInput::Values::unit_interval:
      return 1 / (1 + std::exp(-x));
    case ExtraInput::Values::non_positive:
      return -softplus(-x);
    default:
      return x;
  }
}

// Derivative of the map, from its result.
template <class T>
T map_slope(ExtraInput::Values values, T y) {
  switch (values) {
    case ExtraInput::Values::non_negative:
      return -std::expm1(-y);
    case ExtraInput::Values::unit_interval:
      return y * (1 - y);
    case ExtraInput::Values::non_positive:
      return -std::expm1(y);
    default:
      return 1;
  }
}

template <class T>
std::vector<std::span<const T>> values_of(const Architecture& architecture, std::span<const index_t> slices,
                                          std::span<const T> flat) {
  std::vector<std::span<const T>> out;
  for (index_t i : slices) {
    const ParameterSlice& slice = architecture.slice(i);
    out.push_back(flat.subspan(static_cast<std::size_t>(slice.offset), static_cast<std::size_t>(slice.size)));
  }
  return out;
}

template <class T>
std::vector<T> zeros(index_t n) {
  return std::vector<T>(static_cast<std::size_t>(n));
}

template <class T>
void grow(std::vector<T>& values, index_t n) {
  values.resize(std::max(values.size(), static_cast<std::size_t>(n)));
}

}  // namespace

PlanGradients::PlanGradients(const PositionPlan& plan, bool learns_angles)
    : bias(plan.bias ? plan.bias->size() : 0), query_scale(plan.query_scale ? plan.query_scale->size() : 0) {
  if (learns_angles)
    for (const Band& band : plan.bands) angle.emplace_back(band.angle ? band.angle->size() : 0);
}

PositionGradients PlanGradients::view() {
  PositionGradients out;
  out.bias = bias;
  out.query_scale = query_scale;
  for (std::vector<double>& of_band : angle) out.angle.emplace_back(of_band);
  return out;
}

void PlanGradients::add(const PlanGradients& other) {
  const auto add_values = [](auto& to, const auto& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  add_values(bias, other.bias);
  add_values(query_scale, other.query_scale);
  for (std::size_t band = 0; band < angle.size(); ++band) add_values(angle[band], other.angle[band]);
}

template <class T>
std::vector<std::span<T>> NetworkGradients<T>::of(const Architecture& architecture,
                                                  std::span<const index_t> slices) {
  std::vector<std::span<T>> out;
  for (index_t i : slices) {
    const ParameterSlice& slice = architecture.slice(i);
    out.push_back(slice.trainable ? std::span(flat).subspan(static_cast<std::size_t>(slice.offset),
                                                            static_cast<std::size_t>(slice.size))
                                  : std::span<T>());
  }
  return out;
}

template <class T>
LayerMixing<T>::LayerMixing(const Architecture& architecture, std::span<const Mixer<T>* const> mixers,
                            index_t n_sequences, index_t n, bool keep)
    : architecture_(architecture),
      mixers_(mixers.begin(), mixers.end()),
      n_sequences_(n_sequences),
      n_(n),
      m_(n_sequences * n),
      keep_(keep) {}

template <class T>
void LayerMixing<T>::reserve(index_t l, MixingValues<T>& a) {
  const AttentionContext& sizes = layer(l).context;
  grow(a.qkv, m_ * layer(l).qkv_size());
  grow(a.o, m_ * layer(l).o_size());
  const std::vector<ExtraInput>& inputs = layer(l).extra;
  if (a.extra.size() < inputs.size()) a.extra.resize(inputs.size());
  for (std::size_t e = 0; e < inputs.size(); ++e) grow(a.extra[e], m_ * sizes.h_q * inputs[e].width);
  if (!keep_) return;
  grow(a.saved, m_ * sizes.h_q * mixers_[static_cast<std::size_t>(l)]->saved_per_row());
  grow(d_qkv_, m_ * layer(l).qkv_size());
  if (d_extra_.size() < inputs.size()) d_extra_.resize(inputs.size());
  for (std::size_t e = 0; e < inputs.size(); ++e) grow(d_extra_[e], m_ * sizes.h_q * inputs[e].width);
}

template <class T>
TensorView<T, 3> LayerMixing<T>::heads(index_t l, T* qkv, index_t sequence, index_t which) const {
  const AttentionContext& sizes = layer(l).context;
  const index_t row = layer(l).qkv_size(), d = which == 2 ? sizes.d_v : sizes.d_k;
  return {qkv + sequence * n_ * row + which * sizes.h_q * sizes.d_k, {sizes.h_q, n_, d}, {d, row, 1}};
}

template <class T>
TensorView<T, 3> LayerMixing<T>::output(index_t l, T* rows, index_t sequence) const {
  const AttentionContext& sizes = layer(l).context;
  const index_t row = layer(l).o_size();
  return {rows + sequence * n_ * row, {sizes.h_q, n_, sizes.d_v}, {sizes.d_v, row, 1}};
}

template <class T>
void LayerMixing<T>::extra_inputs(const Layer& its, std::span<const T> parameters,
                                  const std::vector<T>& normed, MixingValues<T>& a) const {
  const index_t d = architecture_.config().d_model;
  for (std::size_t e = 0; e < its.extra.size(); ++e) {
    const index_t width = its.context.h_q * its.extra[e].width;
    const T* weight = parameters.data() + architecture_.slice(its.extra_weight[e]).offset;
    const T* bias = parameters.data() + architecture_.slice(its.extra_bias[e]).offset;
    T* out = a.extra[e].data();
    multiply<T>({normed.data(), m_, d}, false, {weight, d, width}, false, false, {out, m_, width});
    for (index_t r = 0; r < m_; ++r)
      for (index_t c = 0; c < width; ++c)
        out[r * width + c] = map_value(its.extra[e].values, out[r * width + c] + bias[c]);
  }
}

template <class T>
void LayerMixing<T>::extra_backward(index_t l, std::span<const T> parameters, const std::vector<T>& normed,
                                    const MixingValues<T>& a, T* gradient, std::vector<T>& d_normed) {
  const Layer& its = layer(l);
  const index_t d_model = architecture_.config().d_model;
  for (std::size_t e = 0; e < its.extra.size(); ++e) {
    const index_t width = its.context.h_q * its.extra[e].width;
    T* d_bias = gradient + architecture_.slice(its.extra_bias[e]).offset;
    T* d = d_extra_[e].data();
    for (index_t r = 0; r < m_; ++r)
      for (index_t c = 0; c < width; ++c) {
        d[r * width + c] *=
            map_slope(its.extra[e].values, a.extra[e][static_cast<std::size_t>(r * width + c)]);
        d_bias[c] += d[r * width + c];
      }
    const index_t weight = architecture_.slice(its.extra_weight[e]).offset;
    multiply<T>({normed.data(), m_, d_model}, true, {d, m_, width}, false, true,
                {gradient + weight, d_model, width});
    multiply<T>({d, m_, width}, false, {parameters.data() + weight, d_model, width}, true, true,
                {d_normed.data(), m_, d_model});
  }
}

template <class T>
std::vector<TensorView<const T, 3>> LayerMixing<T>::extra_views(const Layer& its, const MixingValues<T>& a,
                                                                index_t sequence) const {
  std::vector<TensorView<const T, 3>> views;
  const index_t n_heads = its.context.h_q;
  for (std::size_t e = 0; e < its.extra.size(); ++e) {
    const index_t width = its.extra[e].width;
    views.emplace_back(a.extra[e].data() + sequence * n_ * n_heads * width,
                       typename TensorView<const T, 3>::Shape{n_heads, n_, width},
                       typename TensorView<const T, 3>::Shape{width, n_heads * width, 1});
  }
  return views;
}

template <class T>
typename Mixer<T>::Call LayerMixing<T>::call(index_t l, index_t sequence, const PositionPlan& plan, T* qkv,
                                             std::span<const TensorView<const T, 3>> extra,
                                             std::span<const std::span<const T>> values,
                                             StopToken stop) const {
  return {heads(l, qkv, sequence, 0),
          heads(l, qkv, sequence, 1),
          heads(l, qkv, sequence, 2),
          &plan,
          extra,
          values,
          stop};
}

template <class T>
void LayerMixing<T>::forward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                             const std::vector<T>& normed, MixingValues<T>& a, StopToken stop) const {
  extra_inputs(layer(l), parameters, normed, a);
  const Mixer<T>& mixer = *mixers_[static_cast<std::size_t>(l)];
  const auto values = values_of<T>(architecture_, layer(l).attention_parameters, parameters);
  const index_t n_heads = layer(l).context.h_q, per_row = mixer.saved_per_row();
  for (index_t s = 0; s < n_sequences_; ++s) {
    const auto extra = extra_views(layer(l), a, s);
    TensorView<T, 3> saved;
    if (keep_ && per_row > 0) saved = {a.saved.data() + s * n_heads * n_ * per_row, {n_heads, n_, per_row}};
    mixer.forward(call(l, s, plan, a.qkv.data(), extra, values, stop), output(l, a.o.data(), s), saved);
  }
}

template <class T>
void LayerMixing<T>::backward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                              MixingValues<T>& a, std::vector<T>& d_o, NetworkGradients<T>& gradients,
                              StopToken stop) {
  const Mixer<T>& mixer = *mixers_[static_cast<std::size_t>(l)];
  const auto values = values_of<T>(architecture_, layer(l).attention_parameters, parameters);
  const auto d_values = gradients.of(architecture_, layer(l).attention_parameters);
  const index_t n_heads = layer(l).context.h_q, per_row = mixer.saved_per_row();
  std::fill(d_qkv_.begin(), d_qkv_.end(), T(0));
  for (auto& d : d_extra_) std::fill(d.begin(), d.end(), T(0));
  PositionGradients d_position;
  if (layer(l).learns_positions) d_position = gradients.plans[static_cast<std::size_t>(l)].view();
  for (index_t s = 0; s < n_sequences_; ++s) {
    const auto extra = extra_views(layer(l), a, s);
    std::vector<TensorView<T, 3>> d_extra;
    for (std::size_t e = 0; e < extra.size(); ++e)
      d_extra.emplace_back(d_extra_[e].data() + (extra[e].data() - a.extra[e].data()), extra[e].shape(),
                           extra[e].strides());
    const TensorView<const T, 3> saved(a.saved.data() + s * n_heads * n_ * per_row, {n_heads, n_, per_row});
    T* d_qkv = d_qkv_.data();
    mixer.backward(call(l, s, plan, a.qkv.data(), extra, values, stop), output(l, a.o.data(), s), saved,
                   output(l, d_o.data(), s),
                   {heads(l, d_qkv, s, 0), heads(l, d_qkv, s, 1), heads(l, d_qkv, s, 2), d_extra, d_values,
                    layer(l).learns_positions ? &d_position : nullptr});
  }
}

template struct NetworkGradients<float>;
template struct NetworkGradients<double>;
template class LayerMixing<float>;
template class LayerMixing<double>;

}  // namespace borel::probe
