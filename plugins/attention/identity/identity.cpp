// The raw inner product as weight: linear attention without a feature map, in its quadratic form, so that it
// combines with every position encoding. Su 2023, kexue.fm/archives/9889 ("identity"): S never falls below
// sqrt(2 / pi).
//
//   o_i = sum_j s_ij v_j,   s_ij = scale (q_i . k_j) + bias_ij        may be negative, does not sum to 1
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Identity final : public borel::TileAttention {
 public:
  struct Params {
    double scale = 0;
    void declare(borel::ParamBinder& p) {
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on q . k; 0 stands for 1 / sqrt(d_k).");
    }
  };

  explicit Identity(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.own_scale = params_.scale != 0, .max_error = 1e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::none; }
  double scale(const AttentionCall& call) const override {
    return params_.scale != 0 ? params_.scale : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  bool differentiable() const override { return true; }
  void weigh_with_slope(const AttentionCall& call, borel::ScoreTile& tile, float* slope) const override {
    for (index_t r = 0; r < tile.n_rows; ++r)
      for (index_t c = 0; c < tile.n_cols; ++c)
        slope[r * tile.ld + c] =
            tile.scores[r * tile.ld + c] == -std::numeric_limits<float>::infinity() ? 0.0f : 1.0f;
    weigh(call, tile);
  }
  void weigh(const AttentionCall&, borel::ScoreTile& tile) const override {
    if (!tile.has_masked) return;
    for (index_t r = 0; r < tile.n_rows; ++r)
      for (index_t c = 0; c < tile.n_cols; ++c) {
        float& s = tile.scores[r * tile.ld + c];
        if (s == -std::numeric_limits<float>::infinity()) s = 0;
      }
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Identity>(
      "identity", {.summary = "Inner products as weights, no activation, no normaliser",
                   .formula = "o_i = sum_j (q_i . k_j / sqrt(d_k)) v_j",
                   .source = "Su 2023, kexue.fm/archives/9889, section on linear attention",
                   .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory"});
}
