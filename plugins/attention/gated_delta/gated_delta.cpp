// Gated delta rule (Gated DeltaNet). Yang et al. 2024, arXiv:2412.06464, equation 10.
//
//   S_t = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T     [d_k, d_v],   o_t = scale S_t^T q_t
//
// The state decays first, then what it holds under the key k_t is replaced by the share beta_t: the part that is read
// back is that of the decayed state. Chunks use the WY form (arXiv:2406.06484, section 3.2) with decays.
// Extra inputs log_gate = log alpha, beta.
// norm = both: q and k have length 1, as in the papers; keys: q is taken as it is. Keys must have length 1, or the
// transition can expand. scale = 1 is the papers', 0 stands for the 1 / sqrt(d_k) of flash-linear-attention. epsilon
// 1e-6 under the root as there. double_strength: beta doubled, which allows negative eigenvalues (arXiv:2411.12537).
// Causal only.
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

constexpr double k_norm_epsilon = 1e-6;
constexpr std::size_t k_beta = 1;  // place among the extra inputs

class GatedDelta final : public borel::ChunkAttention {
 public:
  enum class Norm { both, keys };
  struct Params {
    Norm norm = Norm::both;
    double scale = 1;
    bool double_strength = false;
    void declare(borel::ParamBinder& p) {
      p.choice("norm", norm, {{"both", Norm::both}, {"keys", Norm::keys}}, "What is scaled to length 1.");
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1", "Factor on q; 0 stands for 1 / sqrt(d_k).");
      p.flag("double_strength", double_strength, "Write 2 beta: eigenvalues of the transition reach -1.");
    }
  };
  explicit GatedDelta(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.bidirectional = false, .own_scale = params_.scale != 0, .max_error = 1e-5};
  }
  borel::ChunkForm form() const override {
    return {.decay = borel::ChunkForm::Decay::token, .delta_rule = true, .shared_keys = true};
  }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  std::vector<borel::ExtraInput> extra_inputs(const AttentionContext&) const override {
    return {{.name = "log_gate",
             .values = borel::ExtraInput::Values::non_positive,
             .default_value = -0.01,
             .doc = "log alpha_t, nats."},
            {.name = "beta",
             .values = borel::ExtraInput::Values::unit_interval,
             .default_value = 0.5,
             .doc = "Write strength."}};
  }
  void query_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    if (params_.norm == Norm::both) {
      borel::unit_rows(in, k_norm_epsilon, out);
      borel::scale_rows(out, scale(in), out);
    } else {
      borel::scale_rows(in, scale(in), out);
    }
  }
  void key_features(const ChunkRows&, Rows in, TensorView<float, 2> out) const override {
    borel::unit_rows(in, k_norm_epsilon, out);
  }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    borel::scale_rows(rows.extra[0], 1, out);
  }
  void write_strength(const ChunkRows& rows, std::span<float> out) const override {
    for (index_t t = 0; t < rows.n; ++t)
      out[static_cast<std::size_t>(t)] = factor() * rows.extra[k_beta](t, 0);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, Rows in, Rows, Rows d_out,
                               const ChunkRowGradients& into) const override {
    if (params_.norm == Norm::keys) return borel::add_rows(d_out, scale(in), into.d_in);
    const borel::Scratch<float> storage(2 * in.size());
    const TensorView<float, 2> unit(storage.data(), in.shape()),
        d_unit(storage.data() + in.size(), in.shape());
    borel::unit_rows(in, k_norm_epsilon, unit);
    borel::scale_rows(d_out, scale(in), d_unit);
    borel::unit_rows_backward(in, k_norm_epsilon, unit, d_unit, into.d_in);
  }
  void key_features_backward(const ChunkRows&, Rows in, Rows out, Rows d_out,
                             const ChunkRowGradients& into) const override {
    borel::unit_rows_backward(in, k_norm_epsilon, out, d_out, into.d_in);
  }
  void log_decay_backward(const ChunkRows&, Rows d_out, const ChunkRowGradients& into) const override {
    if (!into.d_extra[0].empty()) borel::add_rows(d_out, 1, into.d_extra[0]);
  }
  void write_strength_backward(const ChunkRows& rows, std::span<const float> d_out,
                               const ChunkRowGradients& into) const override {
    if (into.d_extra[k_beta].empty()) return;
    for (index_t t = 0; t < rows.n; ++t)
      into.d_extra[k_beta](t, 0) += factor() * d_out[static_cast<std::size_t>(t)];
  }

 private:
  float scale(Rows rows) const {
    return static_cast<float>(params_.scale != 0 ? params_.scale
                                                 : 1 / std::sqrt(static_cast<double>(rows.shape(1))));
  }
  float factor() const { return params_.double_strength ? 2 : 1; }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, GatedDelta>(
      "gated_delta",
      {.summary = "Gated delta rule: decay, then replace what is stored under the key",
       .formula = "S_t = alpha_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T,  o_t = scale S_t^T q_t",
       .source = "Yang et al. 2024, arXiv:2412.06464, equation 10",
       .complexity = "O(n d_k d_v + n chunk (d_k + d_v)) time, O(d_k d_v) state",
       .notes = "extra inputs log_gate, beta; output norm and gate are left to the layer"});
}
