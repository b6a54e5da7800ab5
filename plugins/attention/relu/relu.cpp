// ReLU attention. Wortsman et al. 2023, arXiv:2309.08586, equation 2: relu in place of softmax, divided by a power of the
// length.
//
//   w_ij = relu(x_ij) / n^alpha,   x_ij = q_i . k_j / sqrt(d_k) + bias_ij,   alpha = 1
//
// n is the number of keys that the row may see: i + 1 in causal rows, n_k otherwise (the paper looks at images and has one
// n for all rows).
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Relu final : public borel::TileAttention {
 public:
  struct Params {
    double alpha = 1;
    void declare(borel::ParamBinder& p) {
      p.real("alpha", alpha, borel::Range::closed(0, 2), "1",
             "Power of n that divides; the paper finds 1 best.");
    }
  };

  explicit Relu(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override { return {.non_negative = true, .max_error = 1e-5}; }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::none; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh(const AttentionCall& call, borel::ScoreTile& tile) const override {
    for (index_t r = 0; r < tile.n_rows; ++r) {
      const float factor = row_factor(call, tile.first_query + r + call.query_offset);
      float* row = tile.scores + r * tile.ld;
      for (index_t c = 0; c < tile.n_cols; ++c) {
        const float positive =
            row[c] < 0 ? 0 : row[c];  // lets NaN through; a product in the choice would be a branch
        row[c] = factor * positive;
      }
    }
  }
  bool differentiable() const override { return true; }
  void weigh_with_slope(const AttentionCall& call, borel::ScoreTile& tile, float* slope) const override {
    for (index_t r = 0; r < tile.n_rows; ++r) {
      const float factor = row_factor(call, tile.first_query + r + call.query_offset);
      const float* row = tile.scores + r * tile.ld;
      for (index_t c = 0; c < tile.n_cols; ++c) slope[r * tile.ld + c] = row[c] > 0 ? factor : 0;
    }
    weigh(call, tile);
  }

 private:
  float row_factor(const AttentionCall& call, index_t i) const {
    return static_cast<float>(
        std::pow(static_cast<double>(call.causal ? i + 1 : call.n_k()), -params_.alpha));
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Relu>(
      "relu", {.summary = "ReLU of scaled inner products, divided by the number of keys",
               .formula = "o_i = sum_j relu(q_i . k_j / sqrt(d_k)) / n v_j",
               .source = "Wortsman et al. 2023, arXiv:2309.08586, equation 2",
               .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
               .notes = "n is i + 1 in causal rows, n_k otherwise"});
}
