// RWKV-6 (Finch). Peng et al. 2024, arXiv:2404.05892, section 4.2.
//
//   o_t = r_t (S_{t-1} + diag(u) k_t^T v_t),   S_t = diag(w_t) S_{t-1} + k_t^T v_t,   r = q, w_t in (0, 1)^{d_k}
//
// The token reads the state before it writes: it sees itself through the learned bonus u only, and the decay of the
// step from j to i is w_{j+1} ... w_{i-1}. Extra input log_decay = log w (the paper: w = exp(-exp(.))). No 1 / sqrt(d_k).
// Differs from the paper: token shift, group norm and output gate belong to the layer; u starts at 1/2 in every
// channel where their code has a ramp over channels and layers. Causal only.
#include <algorithm>
#include <functional>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

class Rwkv6 final : public borel::ChunkAttention {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit Rwkv6(const Params&) {}

  borel::AttentionTraits traits() const override {
    return {.bidirectional = false, .own_scale = true, .max_error = 1e-5};
  }
  borel::ChunkForm form() const override {
    return {.decay = borel::ChunkForm::Decay::channel, .read_before_write = true};
  }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  std::vector<borel::ExtraInput> extra_inputs(const AttentionContext& context) const override {
    return {{.name = "log_decay",
             .width = context.d_k,
             .values = borel::ExtraInput::Values::non_positive,
             .default_value = -0.05,
             .doc = "log w_t by channel, nats."}};
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    return {{.name = "bonus",
             .shape = {context.h_q, context.d_k},
             .init = [](borel::Rng&, std::span<float> values) { std::ranges::fill(values, 0.5f); },
             .doc = "Weight u of the token's own key, by head and channel."}};
  }
  void query_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
  }
  void key_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
  }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    borel::scale_rows(rows.extra[0], 1, out);
  }
  void bonus(const ChunkRows& rows, std::span<float> out) const override {
    std::ranges::copy(rows.parameters[0].subspan(static_cast<std::size_t>(rows.head) * out.size(), out.size()),
                      out.begin());
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, Rows, Rows, Rows d_out, const ChunkRowGradients& into) const override {
    borel::add_rows(d_out, 1, into.d_in);
  }
  void key_features_backward(const ChunkRows&, Rows, Rows, Rows d_out, const ChunkRowGradients& into) const override {
    borel::add_rows(d_out, 1, into.d_in);
  }
  void log_decay_backward(const ChunkRows&, Rows d_out, const ChunkRowGradients& into) const override {
    if (!into.d_extra[0].empty()) borel::add_rows(d_out, 1, into.d_extra[0]);
  }
  void bonus_backward(const ChunkRows& rows, std::span<const float> d_out,
                      const ChunkRowGradients& into) const override {
    if (into.d_parameters.empty() || into.d_parameters[0].empty()) return;
    const auto to = into.d_parameters[0].subspan(static_cast<std::size_t>(rows.head) * d_out.size(), d_out.size());
    std::ranges::transform(to, d_out, to.begin(), std::plus());
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Rwkv6>(
      "rwkv6", {.summary = "RWKV-6: channel decays, and a learned bonus for the token's own key",
                .formula = "o_t = r_t (S_{t-1} + diag(u) k_t^T v_t),  S_t = diag(w_t) S_{t-1} + k_t^T v_t",
                .source = "Peng et al. 2024, arXiv:2404.05892, section 4.2",
                .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
                .notes = "extra input log_decay; token shift, group norm and gate are left to the layer"});
}
