// Retention. Sun et al. 2023 (RetNet), arXiv:2307.08621, equations 5 (parallel), 6 (recurrent), 7 (chunkwise).
//
//   o_i = sum_{j <= i} gamma_h^(i - j) (q_i . k_j / sqrt(d_k)) v_j,   gamma_h = 1 - 2^(-5 - h),  h = 0 .. H - 1
//
// decay = gamma for all heads instead: the linear decay recurrence of Su 2023, kexue.fm/archives/9889.
// Differs from the paper: its group norm, gate and rotation are not part of the mechanism here (the rotation is
// position `rope`), and the rescaling of its appendix is left out because the group norm removes it again.
// Causal only.
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;

class Retention final : public borel::ChunkAttention {
 public:
  struct Params {
    double decay = 0;
    void declare(borel::ParamBinder& p) {
      p.real("decay", decay, borel::Range::closed(0, 1), "1",
             "Decay per token of every head; 0 stands for 1 - 2^(-5 - h).");
    }
  };

  explicit Retention(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override { return {.bidirectional = false, .max_error = 1e-5}; }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  void query_features(const ChunkRows&, TensorView<const float, 2> in,
                      TensorView<float, 2> out) const override {
    borel::scale_rows(in, 1, out);
  }
  void key_features(const ChunkRows&, TensorView<const float, 2> in,
                    TensorView<float, 2> out) const override {
    borel::scale_rows(in, scale(in), out);
  }
  borel::ChunkForm form() const override { return {.decay = borel::ChunkForm::Decay::token}; }
  void log_decay(const ChunkRows& rows, TensorView<float, 2> out) const override {
    const double log_gamma = params_.decay != 0 ? std::log(params_.decay)
                                                : std::log1p(-std::exp2(-5 - static_cast<double>(rows.head)));
    for (index_t t = 0; t < rows.n; ++t) out(t, 0) = static_cast<float>(log_gamma);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, TensorView<const float, 2>, TensorView<const float, 2>,
                               TensorView<const float, 2> d_out,
                               const borel::ChunkRowGradients& into) const override {
    borel::add_rows(d_out, 1, into.d_in);
  }
  void key_features_backward(const ChunkRows&, TensorView<const float, 2> in, TensorView<const float, 2>,
                             TensorView<const float, 2> d_out,
                             const borel::ChunkRowGradients& into) const override {
    borel::add_rows(d_out, scale(in), into.d_in);
  }

 private:
  static float scale(TensorView<const float, 2> rows) {
    return static_cast<float>(1 / std::sqrt(static_cast<double>(rows.shape(1))));
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Retention>(
      "retention", {.summary = "Inner products with exponential decay by distance, recurrent",
                    .formula = "o_i = sum_{j<=i} gamma_h^(i-j) (q_i . k_j / sqrt(d_k)) v_j",
                    .source = "Sun et al. 2023, arXiv:2307.08621, equations 5 to 7",
                    .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
                    .notes = "decay=... sets one decay for all heads (linear RNN)"});
}
