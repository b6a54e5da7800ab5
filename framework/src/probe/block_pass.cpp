#include "probe/block_pass.hpp"

#include <algorithm>
#include <type_traits>

#include "probe/modulation.hpp"
#include "probe/short_convolution.hpp"

namespace borel::probe {
namespace {

template <class T>
std::vector<T> zeros(index_t n) {
  return std::vector<T>(static_cast<std::size_t>(n));
}

// Columns of the matrix after the first norm of a gau, or of the feed-forward part.
index_t hidden_size(const ModelConfig& config) {
  if (config.block == Block::gau) return 2 * config.expansion * config.d_model + config.key_width;
  return config.d_feed_forward * (config.feed_forward == FeedForward::gated ? 2 : 1);
}

}  // namespace

template <class T>
BlockPass<T>::BlockPass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers,
                        index_t n_sequences, index_t n, bool keep)
    : architecture_(architecture),
      n_sequences_(n_sequences),
      n_(n),
      m_(n_sequences * n),
      d_(architecture.config().d_model),
      d_hidden_(hidden_size(architecture.config())),
      d_active_(architecture.config().block == Block::gau ? d_hidden_ : architecture.config().d_feed_forward),
      gau_(architecture.config().block == Block::gau),
      keep_(keep),
      mixing_(architecture, mixers, n_sequences, n, keep) {
  // Batches are parallel already, and one thread gives the same bits every time.
  [[maybe_unused]] static const bool pinned = (openblas_set_num_threads(1), true);
  const auto n_layers = static_cast<index_t>(architecture.layers().size());
  kept_.resize(static_cast<std::size_t>(keep ? n_layers : 1));
  for (index_t l = 0; l < n_layers; ++l) {
    Activations& a = at(l);
    mixing_.reserve(l, a.mixing);
    if (conditioned()) a.modulation = zeros<T>(2 * architecture.norms_per_layer() * n_sequences_ * d_);
    a.x_in = a.normed_1 = zeros<T>(m_ * d_);
    a.rms_1 = zeros<T>(m_);
    if (gau_) {
      a.gated = zeros<T>(m_ * architecture.layers()[static_cast<std::size_t>(l)].o_size());
    } else {
      a.x_mid = a.normed_2 = a.x_in;
      a.rms_2 = a.rms_1;
    }
    if (architecture.config().short_convolution > 0) a.projected = zeros<T>(3 * m_ * d_);
    a.hidden = zeros<T>(m_ * d_hidden_);
    a.active = zeros<T>(m_ * d_active_);
  }
  if (!keep) return;
  d_normed_ = zeros<T>(m_ * d_);
  d_o_ = zeros<T>(m_ * architecture.layers().front().o_size());
  d_gated_ = kept_[0].gated;
  d_modulation_ = kept_[0].modulation;
  d_projected_ = kept_[0].projected;
  d_hidden_values_ = zeros<T>(m_ * d_hidden_);
  d_active_values_ = zeros<T>(m_ * d_active_);
}

template <class T>
TensorView<const T, 3> BlockPass<T>::heads(index_t l, index_t sequence, index_t which) const {
  return mixing_.heads(l, const_cast<T*>(at(l).mixing.qkv.data()), sequence, which);
}

template <class T>
MatrixView<T> BlockPass<T>::modulation_of(std::vector<T>& all, index_t norm) const {
  return {all.data() + norm * 2 * d_, n_sequences_, 2 * d_, 2 * architecture_.norms_per_layer() * d_};
}

template <class T>
void BlockPass<T>::norm(Activations& a, index_t which, std::span<const T> parameters, index_t gain,
                        const std::vector<T>& x, std::vector<T>& y, std::vector<T>& rms) const {
  rms_norm<T>({x.data(), m_, d_}, parameter(parameters, gain), {y.data(), m_, d_}, rms.data());
  if (conditioned()) modulate<T>({y.data(), m_, d_}, n_, modulation_of(a.modulation, which));
}

template <class T>
void BlockPass<T>::norm_backward(Activations& a, index_t which, std::span<const T> parameters, index_t gain,
                                 const std::vector<T>& x, const std::vector<T>& rms, std::vector<T>& d_x,
                                 NetworkGradients<T>& gradients) {
  if (conditioned())
    modulate_backward<T>({x.data(), m_, d_}, parameter(parameters, gain), rms.data(), n_,
                         modulation_of(a.modulation, which), {d_normed_.data(), m_, d_},
                         modulation_of(d_modulation_, which));
  rms_norm_backward<T>({x.data(), m_, d_}, parameter(parameters, gain), rms.data(),
                       {d_normed_.data(), m_, d_}, {d_x.data(), m_, d_}, into(gradients, gain));
}

template <class T>
void BlockPass<T>::project(const Layer& its, std::span<const T> parameters, Activations& a) {
  const index_t n_taps = architecture_.config().short_convolution;
  std::vector<T>& out = n_taps > 0 ? a.projected : a.mixing.qkv;
  multiply<T>({a.normed_1.data(), m_, d_}, false, {parameter(parameters, its.qkv), d_, 3 * d_}, false, false,
              {out.data(), m_, 3 * d_});
  if (n_taps > 0)
    short_convolution<T>({out.data(), m_, 3 * d_}, n_, parameter(parameters, its.convolution), n_taps,
                         {a.mixing.qkv.data(), m_, 3 * d_});
}

// Writes d_normed_.
template <class T>
void BlockPass<T>::project_backward(const Layer& its, std::span<const T> parameters, const Activations& a,
                                    NetworkGradients<T>& gradients) {
  const index_t n_taps = architecture_.config().short_convolution;
  const T* d = mixing_.d_qkv().data();
  if (n_taps > 0) {
    short_convolution_backward<T>({a.projected.data(), m_, 3 * d_}, n_,
                                  parameter(parameters, its.convolution), n_taps, {d, m_, 3 * d_},
                                  {d_projected_.data(), m_, 3 * d_}, into(gradients, its.convolution));
    d = d_projected_.data();
  }
  multiply<T>({a.normed_1.data(), m_, d_}, true, {d, m_, 3 * d_}, false, true,
              {into(gradients, its.qkv), d_, 3 * d_});
  multiply<T>({d, m_, 3 * d_}, false, {parameter(parameters, its.qkv), d_, 3 * d_}, true, false,
              {d_normed_.data(), m_, d_});
}

template <class T>
void BlockPass<T>::activate(Activations& a) const {
  if (d_hidden_ == d_active_) return gelu(a.hidden.data(), m_ * d_active_, a.active.data());
  for (index_t r = 0; r < m_; ++r)
    gated(a.hidden.data() + r * d_hidden_, a.hidden.data() + r * d_hidden_ + d_active_, d_active_,
          a.active.data() + r * d_active_);
}

template <class T>
void BlockPass<T>::activate_backward(const Activations& a) {
  const T* d_out = d_active_values_.data();
  T* d_in = d_hidden_values_.data();
  if (d_hidden_ == d_active_) return gelu_backward(a.hidden.data(), d_out, m_ * d_active_, d_in);
  for (index_t r = 0; r < m_; ++r)
    gated_backward(a.hidden.data() + r * d_hidden_, a.hidden.data() + r * d_hidden_ + d_active_,
                   d_out + r * d_active_, d_active_, d_in + r * d_hidden_, d_in + r * d_hidden_ + d_active_);
}

template <class T>
void BlockPass<T>::add_embedding(std::span<const T> parameters, std::vector<T>& x) const {
  if constexpr (std::is_same_v<T, float>) {
    const Layer& first = architecture_.layers().front();
    const TokenEmbedding* absolute = first.position->embedding();
    if (!absolute) return;
    const auto values = architecture_.values(first.position_parameters, parameters);
    const PositionContext context = architecture_.position_context(0, n_, keep_, {});
    for (index_t s = 0; s < n_sequences_; ++s)
      absolute->add(context, values, 0, {x.data() + s * n_ * d_, {n_, d_}});
  }
}

template <class T>
void BlockPass<T>::embedding_backward(const std::vector<T>& d_x, NetworkGradients<T>& gradients) const {
  if constexpr (std::is_same_v<T, float>) {
    const Layer& first = architecture_.layers().front();
    const TokenEmbedding* absolute = first.position->embedding();
    if (!absolute) return;
    const auto d_values = gradients.of(architecture_, first.position_parameters);
    const PositionContext context = architecture_.position_context(0, n_, true, {});
    for (index_t s = 0; s < n_sequences_; ++s)
      absolute->backward(context, 0, TensorView<const float, 2>(d_x.data() + s * n_ * d_, {n_, d_}),
                         d_values);
  }
}

// x holds old memory, which is overwritten.
template <class T>
void BlockPass<T>::transformer_forward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                                       std::vector<T>& x, StopToken stop) {
  const Layer& its = layer(l);
  Activations& a = at(l);
  norm(a, 0, parameters, its.attention_norm, a.x_in, a.normed_1, a.rms_1);
  project(its, parameters, a);
  mixing_.forward(l, parameters, plan, a.normed_1, a.mixing, stop);
  a.x_mid = a.x_in;
  multiply<T>({a.mixing.o.data(), m_, d_}, false, {parameter(parameters, its.attention_out), d_, d_}, false,
              true, {a.x_mid.data(), m_, d_});
  norm(a, 1, parameters, its.feed_forward_norm, a.x_mid, a.normed_2, a.rms_2);
  multiply<T>({a.normed_2.data(), m_, d_}, false, {parameter(parameters, its.feed_forward_in), d_, d_hidden_},
              false, false, {a.hidden.data(), m_, d_hidden_});
  activate(a);
  x = a.x_mid;
  multiply<T>({a.active.data(), m_, d_active_}, false,
              {parameter(parameters, its.feed_forward_out), d_active_, d_}, false, true, {x.data(), m_, d_});
}

template <class T>
void BlockPass<T>::gau_forward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                               std::vector<T>& x, StopToken stop) {
  const Layer& its = layer(l);
  Activations& a = at(l);
  const index_t e = its.context.d_v, s = its.context.d_k, row = its.qkv_size();
  norm(a, 0, parameters, its.attention_norm, a.x_in, a.normed_1, a.rms_1);
  multiply<T>({a.normed_1.data(), m_, d_}, false, {parameter(parameters, its.uvz), d_, d_hidden_}, false,
              false, {a.hidden.data(), m_, d_hidden_});
  silu(a.hidden.data(), m_ * d_hidden_, a.active.data());
  const T *query_scale = parameter(parameters, its.query_scale),
          *query_offset = parameter(parameters, its.query_offset),
          *key_scale = parameter(parameters, its.key_scale),
          *key_offset = parameter(parameters, its.key_offset);
  for (index_t r = 0; r < m_; ++r) {
    const T* v = a.active.data() + r * d_hidden_ + e;
    const T* z = v + e;
    T* q = a.mixing.qkv.data() + r * row;
    T* k = q + s;
    for (index_t c = 0; c < s; ++c) {
      q[c] = z[c] * query_scale[c] + query_offset[c];
      k[c] = z[c] * key_scale[c] + key_offset[c];
    }
    std::copy(v, v + e, k + s);
  }
  mixing_.forward(l, parameters, plan, a.normed_1, a.mixing, stop);
  for (index_t r = 0; r < m_; ++r) {
    const T* u = a.active.data() + r * d_hidden_;
    const T* o = a.mixing.o.data() + r * e;
    for (index_t c = 0; c < e; ++c) a.gated[static_cast<std::size_t>(r * e + c)] = u[c] * o[c];
  }
  x = a.x_in;
  multiply<T>({a.gated.data(), m_, e}, false, {parameter(parameters, its.attention_out), e, d_}, false, true,
              {x.data(), m_, d_});
}

template <class T>
void BlockPass<T>::split_backward(const Layer& its, std::span<const T> parameters, const Activations& a,
                                  NetworkGradients<T>& gradients) {
  const index_t e = its.context.d_v, s = its.context.d_k, row = its.qkv_size();
  const T *query_scale = parameter(parameters, its.query_scale),
          *key_scale = parameter(parameters, its.key_scale);
  T *d_query_scale = into(gradients, its.query_scale), *d_query_offset = into(gradients, its.query_offset),
    *d_key_scale = into(gradients, its.key_scale), *d_key_offset = into(gradients, its.key_offset);
  for (index_t r = 0; r < m_; ++r) {
    const T* z = a.active.data() + r * d_hidden_ + 2 * e;
    const T* d_q = mixing_.d_qkv().data() + r * row;
    const T* d_k = d_q + s;
    T* d_v = d_active_values_.data() + r * d_hidden_ + e;
    T* d_z = d_v + e;
    std::copy(d_k + s, d_k + s + e, d_v);
    for (index_t c = 0; c < s; ++c) {
      d_z[c] = d_q[c] * query_scale[c] + d_k[c] * key_scale[c];
      d_query_scale[c] += d_q[c] * z[c];
      d_key_scale[c] += d_k[c] * z[c];
      d_query_offset[c] += d_q[c];
      d_key_offset[c] += d_k[c];
    }
  }
}

template <class T>
void BlockPass<T>::gau_backward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                                std::vector<T>& d_x, NetworkGradients<T>& gradients, StopToken stop) {
  const Layer& its = layer(l);
  Activations& a = at(l);
  const index_t e = its.context.d_v;
  multiply<T>({a.gated.data(), m_, e}, true, {d_x.data(), m_, d_}, false, true,
              {into(gradients, its.attention_out), e, d_});
  multiply<T>({d_x.data(), m_, d_}, false, {parameter(parameters, its.attention_out), e, d_}, true, false,
              {d_gated_.data(), m_, e});
  for (index_t r = 0; r < m_; ++r) {
    const T* u = a.active.data() + r * d_hidden_;
    T* d_u = d_active_values_.data() + r * d_hidden_;
    for (index_t c = 0; c < e; ++c) {
      const auto i = static_cast<std::size_t>(r * e + c);
      d_o_[i] = d_gated_[i] * u[c];
      d_u[c] = d_gated_[i] * a.mixing.o[i];
    }
  }
  mixing_.backward(l, parameters, plan, a.mixing, d_o_, gradients, stop);
  split_backward(its, parameters, a, gradients);
  silu_backward(a.hidden.data(), d_active_values_.data(), m_ * d_hidden_, d_hidden_values_.data());
  multiply<T>({a.normed_1.data(), m_, d_}, true, {d_hidden_values_.data(), m_, d_hidden_}, false, true,
              {into(gradients, its.uvz), d_, d_hidden_});
  multiply<T>({d_hidden_values_.data(), m_, d_hidden_}, false,
              {parameter(parameters, its.uvz), d_, d_hidden_}, true, false, {d_normed_.data(), m_, d_});
  mixing_.extra_backward(l, parameters, a.normed_1, a.mixing, gradients.flat.data(), d_normed_);
  norm_backward(a, 0, parameters, its.attention_norm, a.x_in, a.rms_1, d_x, gradients);
}

template <class T>
void BlockPass<T>::forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                           std::span<const T> condition, std::vector<T>& x, StopToken stop) {
  add_embedding(parameters, x);
  const index_t n_modulation = 2 * architecture_.norms_per_layer() * d_;
  for (index_t l = 0; l < std::ssize(plans); ++l) {
    stop.throw_if_stopped();
    const AffineMap& modulation = layer(l).modulation;
    Activations& a = at(l);
    if (conditioned())
      affine<T>({condition.data(), n_sequences_, d_}, parameter(parameters, modulation.weight),
                parameter(parameters, modulation.bias), {a.modulation.data(), n_sequences_, n_modulation});
    a.x_in.swap(x);
    const PositionPlan& plan = plans[static_cast<std::size_t>(l)];
    gau_ ? gau_forward(l, parameters, plan, x, stop) : transformer_forward(l, parameters, plan, x, stop);
  }
}

template <class T>
void BlockPass<T>::feed_forward_backward(index_t l, std::span<const T> parameters, std::vector<T>& d_x,
                                         NetworkGradients<T>& gradients) {
  const Layer& its = layer(l);
  Activations& a = at(l);
  multiply<T>({a.active.data(), m_, d_active_}, true, {d_x.data(), m_, d_}, false, true,
              {into(gradients, its.feed_forward_out), d_active_, d_});
  multiply<T>({d_x.data(), m_, d_}, false, {parameter(parameters, its.feed_forward_out), d_active_, d_}, true,
              false, {d_active_values_.data(), m_, d_active_});
  activate_backward(a);
  multiply<T>({a.normed_2.data(), m_, d_}, true, {d_hidden_values_.data(), m_, d_hidden_}, false, true,
              {into(gradients, its.feed_forward_in), d_, d_hidden_});
  multiply<T>({d_hidden_values_.data(), m_, d_hidden_}, false,
              {parameter(parameters, its.feed_forward_in), d_, d_hidden_}, true, false,
              {d_normed_.data(), m_, d_});
  norm_backward(a, 1, parameters, its.feed_forward_norm, a.x_mid, a.rms_2, d_x, gradients);
}

template <class T>
void BlockPass<T>::attention_backward(index_t l, std::span<const T> parameters, const PositionPlan& plan,
                                      std::vector<T>& d_x, NetworkGradients<T>& gradients, StopToken stop) {
  const Layer& its = layer(l);
  Activations& a = at(l);
  multiply<T>({a.mixing.o.data(), m_, d_}, true, {d_x.data(), m_, d_}, false, true,
              {into(gradients, its.attention_out), d_, d_});
  multiply<T>({d_x.data(), m_, d_}, false, {parameter(parameters, its.attention_out), d_, d_}, true, false,
              {d_o_.data(), m_, d_});
  mixing_.backward(l, parameters, plan, a.mixing, d_o_, gradients, stop);
  project_backward(its, parameters, a, gradients);
  mixing_.extra_backward(l, parameters, a.normed_1, a.mixing, gradients.flat.data(), d_normed_);
  norm_backward(a, 0, parameters, its.attention_norm, a.x_in, a.rms_1, d_x, gradients);
}

template <class T>
void BlockPass<T>::modulation_backward(index_t l, std::span<const T> parameters, std::span<const T> condition,
                                       std::span<T> d_condition, NetworkGradients<T>& gradients) {
  const AffineMap& map = layer(l).modulation;
  const index_t n_modulation = 2 * architecture_.norms_per_layer() * d_;
  const MatrixView<const T> d(d_modulation_.data(), n_sequences_, n_modulation);
  affine_backward<T>({condition.data(), n_sequences_, d_}, d, into(gradients, map.weight),
                     into(gradients, map.bias));
  multiply<T>(d, false, {parameter(parameters, map.weight), d_, n_modulation}, true, true,
              {d_condition.data(), n_sequences_, d_});
}

template <class T>
void BlockPass<T>::backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                            std::span<const T> condition, std::vector<T>& d_x, std::span<T> d_condition,
                            NetworkGradients<T>& gradients, StopToken stop) {
  for (auto l = static_cast<index_t>(plans.size()) - 1; l >= 0; --l) {
    stop.throw_if_stopped();
    std::fill(d_modulation_.begin(), d_modulation_.end(), T(0));
    const PositionPlan& plan = plans[static_cast<std::size_t>(l)];
    if (gau_) {
      gau_backward(l, parameters, plan, d_x, gradients, stop);
    } else {
      feed_forward_backward(l, parameters, d_x, gradients);
      attention_backward(l, parameters, plan, d_x, gradients, stop);
    }
    if (conditioned()) modulation_backward(l, parameters, condition, d_condition, gradients);
  }
  embedding_backward(d_x, gradients);
}

template class BlockPass<float>;
template class BlockPass<double>;

}  // namespace borel::probe
