// Sigmoid attention: every pair for itself, no row statistics. Ramapuram et al. 2024, arXiv:2409.04431, equation 3.
//
//   w_ij = 1 / (1 + exp(-(x_ij + b))),   x_ij = q_i . k_j / sqrt(d_k) + bias_ij,   b = -ln n
//
// n: the paper has the length of the sequence, for all rows alike. Here length=0 (default) takes the number of keys that
// the row may see, i + 1 in causal rows and n_k otherwise, which a step by step form knows too; a positive length is that
// fixed n, as in the paper.
#include <cmath>

#include "borel/draft/row_normalisers.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Sigmoid final : public borel::TileAttention {
 public:
  struct Params {
    double length = 0;
    void declare(borel::ParamBinder& p) {
      p.real("length", length, borel::Range::closed(0, 1e9), "tokens",
             "n of the bias -ln n; 0 stands for the number of keys that the row may see.");
    }
  };

  explicit Sigmoid(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override { return {.non_negative = true, .max_error = 5e-5}; }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::none; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh(const AttentionCall& call, borel::ScoreTile& tile) const override {
    for (index_t r = 0; r < tile.n_rows; ++r)
      borel::sigmoid({tile.scores + r * tile.ld, static_cast<std::size_t>(tile.n_cols)},
                     bias(call, tile.first_query + r + call.query_offset));
  }
  bool differentiable() const override { return true; }
  void weigh_with_slope(const AttentionCall& call, borel::ScoreTile& tile, float* slope) const override {
    weigh(call, tile);
    for (index_t r = 0; r < tile.n_rows; ++r)
      for (index_t c = 0; c < tile.n_cols; ++c) {
        const float w = tile.scores[r * tile.ld + c];
        slope[r * tile.ld + c] = w * (1 - w);
      }
  }

 private:
  float bias(const AttentionCall& call, index_t i) const {
    const double seen = static_cast<double>(call.causal ? i + 1 : call.n_k());
    return static_cast<float>(-std::log(params_.length > 0 ? params_.length : seen));
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Sigmoid>(
      "sigmoid",
      {.summary = "Sigmoid of scaled inner products with bias -ln n",
       .formula = "o_i = sum_j sigma(q_i . k_j / sqrt(d_k) - ln n) v_j",
       .source = "Ramapuram et al. 2024, arXiv:2409.04431, equation 3",
       .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
       .notes = "n is i + 1 in causal rows unless length is given; a position bias is added before sigma"});
}
