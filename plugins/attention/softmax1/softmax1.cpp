// Softmax with 1 added to the denominator ("off by one", quiet attention). Miller 2023, evanmiller.org/attention-is-off-by-one.
//
//   w_ij = exp(x_ij) / (1 + sum_l exp(x_il)),   x_ij = scale (q_i . k_j) + bias_ij
//
// The 1 is a key with logit 0 and without a value: the maximum that is subtracted must count it, or rows of very negative
// scores overflow. Equals softmax{sink=fixed, sink_logit=0}; a head may attend to nothing.
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Softmax1 final : public borel::TileAttention {
 public:
  struct Params {
    double scale = 0;
    void declare(borel::ParamBinder& p) {
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on q . k; 0 stands for 1 / sqrt(d_k).");
    }
  };

  explicit Softmax1(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.non_negative = true, .own_scale = params_.scale != 0, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  bool transforms() const override { return false; }
  double scale(const AttentionCall& call) const override {
    return params_.scale != 0 ? params_.scale : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  float sink(const AttentionCall&, index_t, index_t) const override { return 0; }
  bool differentiable() const override { return true; }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Softmax1>(
      "softmax1",
      {.summary = "Softmax with 1 added to the denominator",
       .formula = "o_i = sum_j exp(x_ij) / (1 + sum_l exp(x_il)) v_j, x = q . k / sqrt(d_k)",
       .source = "Miller 2023, Attention Is Off By One, evanmiller.org/attention-is-off-by-one.html",
       .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
       .notes = "softmax{sink=fixed, sink_logit=0}; a learned logit is softmax{sink=learned}"});
}
