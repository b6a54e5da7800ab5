#include "probe/pass.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "probe/dense_layer.hpp"
#include "probe/short_convolution.hpp"

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

// Empty spans for fixed tensors: not asked for.
template <class T>
std::vector<std::span<T>> gradients_of(const Architecture& architecture, std::span<const index_t> slices,
                                       std::vector<T>& flat) {
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
std::vector<T> zeros(index_t n) {
  return std::vector<T>(static_cast<std::size_t>(n));
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
Pass<T>::Pass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_sequences,
              index_t n, bool keep)
    : architecture_(architecture),
      mixers_(mixers.begin(), mixers.end()),
      n_sequences_(n_sequences),
      n_(n),
      m_(n_sequences * n),
      d_(architecture.config().d_model),
      d_hidden_(architecture.config().d_feed_forward *
                (architecture.config().feed_forward == FeedForward::gated ? 2 : 1)),
      d_active_(architecture.config().d_feed_forward),
      keep_(keep) {
  // Batches are parallel already, and one thread gives the same bits every time.
  [[maybe_unused]] static const bool pinned = (openblas_set_num_threads(1), true);
  const auto layers = architecture.layers();
  kept_.resize(keep ? layers.size() : 1);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    Activations& a = at(static_cast<index_t>(l));
    a.x_in = zeros<T>(m_ * d_);
    a.normed_1 = a.o = a.x_mid = a.normed_2 = a.x_in;
    a.rms_1 = a.rms_2 = zeros<T>(m_);
    a.qkv = zeros<T>(3 * m_ * d_);
    if (architecture.config().short_convolution > 0) a.projected = a.qkv;
    a.hidden = zeros<T>(m_ * d_hidden_);
    a.active = zeros<T>(m_ * d_active_);
    if (keep) a.saved = zeros<T>(m_ * architecture.config().n_heads * mixers_[l]->saved_per_row());
    // Layers of a schedule may ask for different inputs; shared memory has room for the largest.
    const std::vector<ExtraInput>& inputs = layers[l].extra;
    if (a.extra.size() < inputs.size()) a.extra.resize(inputs.size());
    if (d_extra_.size() < inputs.size()) d_extra_.resize(inputs.size());
    for (std::size_t e = 0; e < inputs.size(); ++e) {
      const auto size = static_cast<std::size_t>(m_ * architecture.config().n_heads * inputs[e].width);
      a.extra[e].resize(std::max(a.extra[e].size(), size));
      d_extra_[e].resize(std::max(d_extra_[e].size(), size));
    }
  }
  x_ = normed_ = zeros<T>(m_ * d_);
  rms_ = zeros<T>(m_);
  logits_ = zeros<T>(m_ * k_vocabulary);
  if (!keep) return;
  d_x_ = d_normed_ = d_o_ = x_;
  d_qkv_ = zeros<T>(3 * m_ * d_);
  d_projected_ = kept_[0].projected;
  d_hidden_values_ = zeros<T>(m_ * d_hidden_);
  d_active_values_ = zeros<T>(m_ * d_active_);
}

template <class T>
TensorView<T, 3> Pass<T>::head_view(T* rows, index_t sequence, index_t first_column, index_t row_size) const {
  const index_t d_head = architecture_.d_head();
  return {rows + sequence * n_ * row_size + first_column,
          {architecture_.config().n_heads, n_, d_head},
          {d_head, row_size, 1}};
}

template <class T>
TensorView<const T, 3> Pass<T>::heads(index_t layer, index_t sequence, index_t which) const {
  const index_t d_head = architecture_.d_head();
  return {at(layer).qkv.data() + sequence * n_ * 3 * d_ + which * d_,
          {architecture_.config().n_heads, n_, d_head},
          {d_head, 3 * d_, 1}};
}

template <class T>
void Pass<T>::extra_inputs(const Layer& layer, std::span<const T> parameters, Activations& a) const {
  for (std::size_t e = 0; e < layer.extra.size(); ++e) {
    const index_t width = architecture_.config().n_heads * layer.extra[e].width;
    const T* bias = parameter(parameters, layer.extra_bias[e]);
    T* out = a.extra[e].data();
    multiply<T>({a.normed_1.data(), m_, d_}, false, {parameter(parameters, layer.extra_weight[e]), d_, width},
                false, 0, {out, m_, width});
    for (index_t r = 0; r < m_; ++r)
      for (index_t c = 0; c < width; ++c)
        out[r * width + c] = map_value(layer.extra[e].values, out[r * width + c] + bias[c]);
  }
}

template <class T>
void Pass<T>::extra_gradients(const Layer& layer, std::span<const T> parameters, const Activations& a,
                              T* gradient) {
  for (std::size_t e = 0; e < layer.extra.size(); ++e) {
    const index_t width = architecture_.config().n_heads * layer.extra[e].width;
    T* d_bias = gradient + architecture_.slice(layer.extra_bias[e]).offset;
    T* d = d_extra_[e].data();
    for (index_t r = 0; r < m_; ++r)
      for (index_t c = 0; c < width; ++c) {
        d[r * width + c] *=
            map_slope(layer.extra[e].values, a.extra[e][static_cast<std::size_t>(r * width + c)]);
        d_bias[c] += d[r * width + c];
      }
    const index_t weight = layer.extra_weight[e];
    multiply<T>({a.normed_1.data(), m_, d_}, true, {d, m_, width}, false, 1,
                {gradient + architecture_.slice(weight).offset, d_, width});
    multiply<T>({d, m_, width}, false, {parameter(parameters, weight), d_, width}, true, 1,
                {d_normed_.data(), m_, d_});
  }
}

template <class T>
std::vector<TensorView<const T, 3>> Pass<T>::extra_views(const Layer& layer, const Activations& a,
                                                         index_t sequence) const {
  std::vector<TensorView<const T, 3>> views;
  const index_t n_heads = architecture_.config().n_heads;
  for (std::size_t e = 0; e < layer.extra.size(); ++e) {
    const index_t width = layer.extra[e].width;
    views.emplace_back(a.extra[e].data() + sequence * n_ * n_heads * width,
                       typename TensorView<const T, 3>::Shape{n_heads, n_, width},
                       typename TensorView<const T, 3>::Shape{width, n_heads * width, 1});
  }
  return views;
}

template <class T>
typename Mixer<T>::Call Pass<T>::mixer_call(index_t layer, index_t sequence, const PositionPlan& plan,
                                            std::span<const TensorView<const T, 3>> extra,
                                            std::span<const std::span<const T>> values, StopToken stop) {
  T* qkv = at(layer).qkv.data();
  return {head_view(qkv, sequence, 0, 3 * d_),
          head_view(qkv, sequence, d_, 3 * d_),
          head_view(qkv, sequence, 2 * d_, 3 * d_),
          &plan,
          extra,
          values,
          stop};
}

template <class T>
void Pass<T>::project(const Layer& layer, std::span<const T> parameters, Activations& a) {
  const index_t n_taps = architecture_.config().short_convolution;
  std::vector<T>& out = n_taps > 0 ? a.projected : a.qkv;
  multiply<T>({a.normed_1.data(), m_, d_}, false, {parameter(parameters, layer.qkv), d_, 3 * d_}, false, 0,
              {out.data(), m_, 3 * d_});
  if (n_taps > 0)
    short_convolution<T>({out.data(), m_, 3 * d_}, n_, parameter(parameters, layer.convolution), n_taps,
                         {a.qkv.data(), m_, 3 * d_});
}

// Writes d_normed_.
template <class T>
void Pass<T>::project_backward(const Layer& layer, std::span<const T> parameters, const Activations& a,
                               T* gradient) {
  const index_t n_taps = architecture_.config().short_convolution;
  if (n_taps > 0)
    short_convolution_backward<T>({a.projected.data(), m_, 3 * d_}, n_,
                                  parameter(parameters, layer.convolution), n_taps,
                                  {d_qkv_.data(), m_, 3 * d_}, {d_projected_.data(), m_, 3 * d_},
                                  gradient + architecture_.slice(layer.convolution).offset);
  const std::vector<T>& d = n_taps > 0 ? d_projected_ : d_qkv_;
  multiply<T>({a.normed_1.data(), m_, d_}, true, {d.data(), m_, 3 * d_}, false, 1,
              {gradient + architecture_.slice(layer.qkv).offset, d_, 3 * d_});
  multiply<T>({d.data(), m_, 3 * d_}, false, {parameter(parameters, layer.qkv), d_, 3 * d_}, true, 0,
              {d_normed_.data(), m_, d_});
}

template <class T>
void Pass<T>::mix(index_t l, std::span<const T> parameters, const PositionPlan& plan, StopToken stop) {
  const Layer& layer = architecture_.layers()[static_cast<std::size_t>(l)];
  Activations& a = at(l);
  extra_inputs(layer, parameters, a);
  const Mixer<T>& mixer = *mixers_[static_cast<std::size_t>(l)];
  const auto values = values_of<T>(architecture_, layer.attention_parameters, parameters);
  const index_t n_heads = architecture_.config().n_heads, per_row = mixer.saved_per_row();
  for (index_t s = 0; s < n_sequences_; ++s) {
    const auto extra = extra_views(layer, a, s);
    TensorView<T, 3> saved;
    if (keep_ && per_row > 0) saved = {a.saved.data() + s * n_heads * n_ * per_row, {n_heads, n_, per_row}};
    mixer.forward(mixer_call(l, s, plan, extra, values, stop), head_view(a.o.data(), s, 0, d_), saved);
  }
}

template <class T>
void Pass<T>::mix_backward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                           NetworkGradients<T>& gradients, StopToken stop) {
  const Layer& layer = architecture_.layers()[static_cast<std::size_t>(l)];
  Activations& a = at(l);
  const Mixer<T>& mixer = *mixers_[static_cast<std::size_t>(l)];
  const auto values = values_of<T>(architecture_, layer.attention_parameters, parameters);
  const auto d_values = gradients_of<T>(architecture_, layer.attention_parameters, gradients.flat);
  const index_t n_heads = architecture_.config().n_heads, per_row = mixer.saved_per_row();
  std::fill(d_qkv_.begin(), d_qkv_.end(), T(0));
  for (auto& d : d_extra_) std::fill(d.begin(), d.end(), T(0));
  PositionGradients d_position;
  if (layer.learns_positions) d_position = gradients.plans[static_cast<std::size_t>(l)].view();
  for (index_t s = 0; s < n_sequences_; ++s) {
    const auto extra = extra_views(layer, a, s);
    std::vector<TensorView<T, 3>> d_extra;
    for (std::size_t e = 0; e < extra.size(); ++e)
      d_extra.emplace_back(d_extra_[e].data() + (extra[e].data() - a.extra[e].data()), extra[e].shape(),
                           extra[e].strides());
    const TensorView<const T, 3> saved(a.saved.data() + s * n_heads * n_ * per_row, {n_heads, n_, per_row});
    mixer.backward(mixer_call(l, s, plan, extra, values, stop), head_view(a.o.data(), s, 0, d_), saved,
                   head_view(d_o_.data(), s, 0, d_),
                   {head_view(d_qkv_.data(), s, 0, 3 * d_), head_view(d_qkv_.data(), s, d_, 3 * d_),
                    head_view(d_qkv_.data(), s, 2 * d_, 3 * d_), d_extra, d_values,
                    layer.learns_positions ? &d_position : nullptr});
  }
}

template <class T>
void Pass<T>::activate(const Activations& a, std::vector<T>& out) const {
  if (d_hidden_ == d_active_) return gelu(a.hidden.data(), m_ * d_active_, out.data());
  for (index_t r = 0; r < m_; ++r)
    gated(a.hidden.data() + r * d_hidden_, a.hidden.data() + r * d_hidden_ + d_active_, d_active_,
          out.data() + r * d_active_);
}

template <class T>
void Pass<T>::activate_backward(const Activations& a) {
  const T* d_out = d_active_values_.data();
  T* d_in = d_hidden_values_.data();
  if (d_hidden_ == d_active_) return gelu_backward(a.hidden.data(), d_out, m_ * d_active_, d_in);
  for (index_t r = 0; r < m_; ++r)
    gated_backward(a.hidden.data() + r * d_hidden_, a.hidden.data() + r * d_hidden_ + d_active_,
                   d_out + r * d_active_, d_active_, d_in + r * d_hidden_, d_in + r * d_hidden_ + d_active_);
}

template <class T>
void Pass<T>::forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                      std::span<const std::uint8_t> tokens, StopToken stop) {
  const T* table = parameter(parameters, architecture_.embedding());
  for (index_t r = 0; r < m_; ++r)
    std::copy_n(table + tokens[static_cast<std::size_t>(r)] * d_, d_, x_.data() + r * d_);
  if constexpr (std::is_same_v<T, float>) {
    const Layer& first = architecture_.layers().front();
    if (const TokenEmbedding* absolute = first.position->embedding()) {
      const auto values = architecture_.values(first.position_parameters, parameters);
      const PositionContext context = architecture_.position_context(0, n_, keep_, {});
      for (index_t s = 0; s < n_sequences_; ++s)
        absolute->add(context, values, 0, {x_.data() + s * n_ * d_, {n_, d_}});
    }
  }
  for (std::size_t l = 0; l < architecture_.layers().size(); ++l) {
    stop.throw_if_stopped();
    const Layer& layer = architecture_.layers()[l];
    Activations& a = at(static_cast<index_t>(l));
    a.x_in.swap(x_);  // x_ then holds old memory, which is overwritten below
    rms_norm<T>({a.x_in.data(), m_, d_}, parameter(parameters, layer.attention_norm),
                {a.normed_1.data(), m_, d_}, a.rms_1.data());
    project(layer, parameters, a);
    mix(static_cast<index_t>(l), parameters, plans[l], stop);
    a.x_mid = a.x_in;
    multiply<T>({a.o.data(), m_, d_}, false, {parameter(parameters, layer.attention_out), d_, d_}, false, 1,
                {a.x_mid.data(), m_, d_});
    rms_norm<T>({a.x_mid.data(), m_, d_}, parameter(parameters, layer.feed_forward_norm),
                {a.normed_2.data(), m_, d_}, a.rms_2.data());
    multiply<T>({a.normed_2.data(), m_, d_}, false,
                {parameter(parameters, layer.feed_forward_in), d_, d_hidden_}, false, 0,
                {a.hidden.data(), m_, d_hidden_});
    activate(a, a.active);
    x_ = a.x_mid;
    multiply<T>({a.active.data(), m_, d_active_}, false,
                {parameter(parameters, layer.feed_forward_out), d_active_, d_}, false, 1,
                {x_.data(), m_, d_});
  }
  rms_norm<T>({x_.data(), m_, d_}, parameter(parameters, architecture_.final_norm()),
              {normed_.data(), m_, d_}, rms_.data());
  multiply<T>({normed_.data(), m_, d_}, false, {table, k_vocabulary, d_}, true, 0,
              {logits_.data(), m_, k_vocabulary});
}

template <class T>
double Pass<T>::cross_entropies(std::span<const std::uint8_t> targets, T scale,
                                std::span<const std::uint8_t> scored) {
  double total = 0;
  for (index_t r = 0; r < m_; ++r) {
    T* row = logits_.data() + r * k_vocabulary;
    if (scored.empty() || scored[static_cast<std::size_t>(r)] != 0)
      total += cross_entropy(row, k_vocabulary, targets[static_cast<std::size_t>(r)], scale);
    else
      std::fill(row, row + k_vocabulary, T(0));
  }
  return total;
}

template <class T>
void Pass<T>::feed_forward_backward(index_t l, std::span<const T> parameters, T* gradient) {
  const Layer& layer = architecture_.layers()[static_cast<std::size_t>(l)];
  const Activations& a = at(l);
  const auto into = [&](index_t slice) { return gradient + architecture_.slice(slice).offset; };
  multiply<T>({a.active.data(), m_, d_active_}, true, {d_x_.data(), m_, d_}, false, 1,
              {into(layer.feed_forward_out), d_active_, d_});
  multiply<T>({d_x_.data(), m_, d_}, false, {parameter(parameters, layer.feed_forward_out), d_active_, d_},
              true, 0, {d_active_values_.data(), m_, d_active_});
  activate_backward(a);
  multiply<T>({a.normed_2.data(), m_, d_}, true, {d_hidden_values_.data(), m_, d_hidden_}, false, 1,
              {into(layer.feed_forward_in), d_, d_hidden_});
  multiply<T>({d_hidden_values_.data(), m_, d_hidden_}, false,
              {parameter(parameters, layer.feed_forward_in), d_, d_hidden_}, true, 0,
              {d_normed_.data(), m_, d_});
  rms_norm_backward<T>({a.x_mid.data(), m_, d_}, parameter(parameters, layer.feed_forward_norm),
                       a.rms_2.data(), {d_normed_.data(), m_, d_}, {d_x_.data(), m_, d_},
                       into(layer.feed_forward_norm));
}

template <class T>
void Pass<T>::attention_block_backward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                                       NetworkGradients<T>& gradients, StopToken stop) {
  const Layer& layer = architecture_.layers()[static_cast<std::size_t>(l)];
  const Activations& a = at(l);
  const auto into = [&](index_t slice) { return gradients.flat.data() + architecture_.slice(slice).offset; };
  multiply<T>({a.o.data(), m_, d_}, true, {d_x_.data(), m_, d_}, false, 1,
              {into(layer.attention_out), d_, d_});
  multiply<T>({d_x_.data(), m_, d_}, false, {parameter(parameters, layer.attention_out), d_, d_}, true, 0,
              {d_o_.data(), m_, d_});
  mix_backward(l, parameters, plan, gradients, stop);
  project_backward(layer, parameters, a, gradients.flat.data());
  extra_gradients(layer, parameters, a, gradients.flat.data());
  rms_norm_backward<T>({a.x_in.data(), m_, d_}, parameter(parameters, layer.attention_norm), a.rms_1.data(),
                       {d_normed_.data(), m_, d_}, {d_x_.data(), m_, d_}, into(layer.attention_norm));
}

template <class T>
void Pass<T>::backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                       std::span<const std::uint8_t> tokens, NetworkGradients<T>& gradients, StopToken stop) {
  const auto into = [&](index_t slice) { return gradients.flat.data() + architecture_.slice(slice).offset; };
  const index_t table = architecture_.embedding();
  // The logits hold their own gradient by now.
  multiply<T>({logits_.data(), m_, k_vocabulary}, true, {normed_.data(), m_, d_}, false, 1,
              {into(table), k_vocabulary, d_});
  multiply<T>({logits_.data(), m_, k_vocabulary}, false, {parameter(parameters, table), k_vocabulary, d_},
              false, 0, {d_normed_.data(), m_, d_});
  std::fill(d_x_.begin(), d_x_.end(), T(0));
  rms_norm_backward<T>({x_.data(), m_, d_}, parameter(parameters, architecture_.final_norm()), rms_.data(),
                       {d_normed_.data(), m_, d_}, {d_x_.data(), m_, d_}, into(architecture_.final_norm()));
  for (auto l = static_cast<index_t>(architecture_.layers().size()) - 1; l >= 0; --l) {
    stop.throw_if_stopped();
    feed_forward_backward(l, parameters, gradients.flat.data());
    attention_block_backward(l, parameters, plans[static_cast<std::size_t>(l)], gradients, stop);
  }
  for (index_t r = 0; r < m_; ++r) {
    T* row = into(table) + tokens[static_cast<std::size_t>(r)] * d_;
    for (index_t c = 0; c < d_; ++c) row[c] += d_x_[static_cast<std::size_t>(r * d_ + c)];
  }
  if constexpr (std::is_same_v<T, float>) {
    const Layer& first = architecture_.layers().front();
    if (const TokenEmbedding* absolute = first.position->embedding()) {
      const auto d_values = gradients_of<T>(architecture_, first.position_parameters, gradients.flat);
      const PositionContext context = architecture_.position_context(0, n_, true, {});
      for (index_t s = 0; s < n_sequences_; ++s)
        absolute->backward(context, 0, TensorView<const float, 2>(d_x_.data() + s * n_ * d_, {n_, d_}),
                           d_values);
    }
  }
}

template class Pass<float>;
template class Pass<double>;

}  // namespace borel::probe
