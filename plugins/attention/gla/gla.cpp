// Gated linear attention. Yang et al. 2023, arXiv:2312.06635, equations 3 and 4.
//
//   S_t = diag(alpha_t) S_{t-1} + k_t v_t^T,   o_t = S_t^T q_t / sqrt(d_k),   alpha_t in (0, 1]^{d_k}
//
// Extra input log_gate = log alpha. The paper makes it as logsigmoid(x W_1 W_2 + b) / 16; the default here is that at
// x = 0. Differs from the paper: its output norm and output gate belong to the layer, not to the mechanism. Causal only.
#include <cmath>

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

class GatedLinear final : public borel::ChunkAttention {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit GatedLinear(const Params&) {}

  borel::AttentionTraits traits() const override { return {.bidirectional = false, .max_error = 1e-5}; }
  borel::ChunkForm form() const override {
    return {.decay = borel::ChunkForm::Decay::channel, .shared_keys = true};
  }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  std::vector<borel::ExtraInput> extra_inputs(const AttentionContext& context) const override {
    return {{.name = "log_gate",
             .width = context.d_k,
             .values = borel::ExtraInput::Values::non_positive,
             .default_value = -std::log(2.0) / 16,
             .doc = "log alpha_t by channel, nats."}};
  }
  void query_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, scale(in), out);
  }
  void key_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
  }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    borel::scale_rows(rows.extra[0], 1, out);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, Rows in, Rows, Rows d_out,
                               const ChunkRowGradients& into) const override {
    borel::add_rows(d_out, scale(in), into.d_in);
  }
  void key_features_backward(const ChunkRows&, Rows, Rows, Rows d_out,
                             const ChunkRowGradients& into) const override {
    borel::add_rows(d_out, 1, into.d_in);
  }
  void log_decay_backward(const ChunkRows&, Rows d_out, const ChunkRowGradients& into) const override {
    if (!into.d_extra[0].empty()) borel::add_rows(d_out, 1, into.d_extra[0]);
  }

 private:
  static float scale(Rows rows) {
    return static_cast<float>(1 / std::sqrt(static_cast<double>(rows.shape(1))));
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, GatedLinear>(
      "gla",
      {.summary = "Gated linear attention: every channel of the state has its own, data-dependent decay",
       .formula = "S_t = diag(alpha_t) S_{t-1} + k_t v_t^T,  o_t = S_t^T q_t / sqrt(d_k)",
       .source = "Yang et al. 2023, arXiv:2312.06635, equations 3 and 4",
       .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
       .notes = "extra input log_gate; output norm and gate are left to the layer"});
}
