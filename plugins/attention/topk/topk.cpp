// Softmax over the k largest scores of a row. Gupta et al. 2021, arXiv:2106.06899.
//
//   w_ij = exp(x_ij) / sum over kept l of exp(x_il) for kept j, 0 otherwise;   x_ij = q_i . k_j / sqrt(d_k) + bias_ij
//   kept: x_ij >= the k-th largest of the row
//
// Ties with the k-th largest are all kept, so the order of the keys does not matter (the published code takes what
// torch.topk returns, which is not defined for ties). A row that sees at most k keys keeps all of them: short causal rows
// are plain softmax. Gradients treat the kept set as fixed.
#include <algorithm>
#include <cmath>

#include "borel/draft/row_normalisers.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class TopK final : public borel::TileAttention {
 public:
  struct Params {
    std::int64_t k = 32;
    void declare(borel::ParamBinder& p) {
      p.integer("k", k, borel::Range::closed(1, 1e9), "keys", "How many keys of a row get a weight.");
    }
  };

  explicit TopK(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.row_normalised = true, .non_negative = true, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::whole_row; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh_row(const AttentionCall&, borel::ScoreTile& row) const override {
    borel::top_k_softmax({row.scores, static_cast<std::size_t>(row.n_cols)}, static_cast<index_t>(params_.k));
  }
  bool differentiable() const override { return true; }
  void weigh_row_backward(const AttentionCall&, const borel::ScoreTile& row, float* d_scores) const override {
    double mean = 0;
    for (index_t c = 0; c < row.n_cols; ++c)
      mean += static_cast<double>(row.scores[c]) * static_cast<double>(d_scores[c]);
    for (index_t c = 0; c < row.n_cols; ++c)
      d_scores[c] = row.scores[c] * (d_scores[c] - static_cast<float>(mean));
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, TopK>(
      "topk",
      {.summary = "Softmax over the k largest scores of a row",
       .formula = "o_i = sum over the k largest x_ij of softmax(x_ij) v_j, x = q . k / sqrt(d_k)",
       .source = "Gupta et al. 2021, arXiv:2106.06899",
       .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory and 24 rows of scores per thread",
       .notes = "ties with the k-th largest are all kept; rows with at most k keys are plain softmax"});
}
