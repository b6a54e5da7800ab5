// State-space duality (Mamba-2). Dao and Gu 2024, arXiv:2405.21060, sections 3 and 6, in the roles of attention:
// C = q, B = k, x = v.
//
//   S_t = a_t S_{t-1} + (Delta_t k_t) v_t^T,   o_t = S_t^T q_t,   a_t = exp(-Delta_t exp(a_log_h))
//
// Extra input delta = Delta_t > 0 (theirs: softplus of a projection), learned a_log by head, started as in their code at
// log U[1, 16]. No 1 / sqrt(d_k). Differs from the paper: the convolution, the skip D x_t and the gated norm belong to
// the layer. Causal only.
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

class StateSpaceDual final : public borel::ChunkAttention {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit StateSpaceDual(const Params&) {}

  borel::AttentionTraits traits() const override {
    return {.bidirectional = false, .own_scale = true, .max_error = 1e-5};
  }
  borel::ChunkForm form() const override { return {.decay = borel::ChunkForm::Decay::token}; }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  std::vector<borel::ExtraInput> extra_inputs(const AttentionContext&) const override {
    return {{.name = "delta",
             .values = borel::ExtraInput::Values::non_negative,
             .default_value = 0.01,
             .doc = "Step size Delta_t."}};
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    return {{.name = "a_log",
             .shape = {context.h_q},
             .init =
                 [](borel::Rng& rng, std::span<float> values) {
                   for (float& x : values) x = static_cast<float>(std::log(1 + 15 * rng.uniform()));
                 },
             .doc = "Logarithm of the decay rate per unit of delta, by query head."}};
  }
  void query_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
  }
  void key_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    for (index_t t = 0; t < rows.n; ++t)
      borel::scale_rows(in.slice(0, t, t + 1), rows.extra[0](t, 0), out.slice(0, t, t + 1));
  }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    for (index_t t = 0; t < rows.n; ++t) out(t, 0) = -rows.extra[0](t, 0) * rate(rows);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, Rows, Rows, Rows d_out, const ChunkRowGradients& into) const override {
    borel::add_rows(d_out, 1, into.d_in);
  }
  void key_features_backward(const ChunkRows& rows, Rows in, Rows, Rows d_out,
                             const ChunkRowGradients& into) const override {
    for (index_t t = 0; t < rows.n; ++t) {
      borel::add_rows(d_out.slice(0, t, t + 1), rows.extra[0](t, 0), into.d_in.slice(0, t, t + 1));
      if (into.d_extra[0].empty()) continue;
      double sum = 0;
      for (index_t c = 0; c < in.shape(1); ++c) sum += static_cast<double>(in(t, c) * d_out(t, c));
      into.d_extra[0](t, 0) += static_cast<float>(sum);
    }
  }
  void log_decay_backward(const ChunkRows& rows, Rows d_out, const ChunkRowGradients& into) const override {
    double d_a_log = 0;
    for (index_t t = 0; t < rows.n; ++t) {
      if (!into.d_extra[0].empty()) into.d_extra[0](t, 0) -= rate(rows) * d_out(t, 0);
      d_a_log -= static_cast<double>(rows.extra[0](t, 0) * rate(rows)) * static_cast<double>(d_out(t, 0));
    }
    if (!into.d_parameters.empty() && !into.d_parameters[0].empty())
      into.d_parameters[0][static_cast<std::size_t>(rows.head)] += static_cast<float>(d_a_log);
  }

 private:
  static float rate(const ChunkRows& rows) { return std::exp(rows.parameters[0][static_cast<std::size_t>(rows.head)]); }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, StateSpaceDual>(
      "ssd", {.summary = "State-space duality (Mamba-2): one data-dependent decay per head and token",
              .formula = "S_t = exp(-Delta_t e^{a_log}) S_{t-1} + Delta_t k_t v_t^T,  o_t = S_t^T q_t",
              .source = "Dao and Gu 2024, arXiv:2405.21060, sections 3 and 6",
              .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
              .notes = "extra input delta; convolution, skip and gated norm are left to the layer"});
}
