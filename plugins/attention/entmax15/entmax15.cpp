// 1.5-entmax attention, between softmax and sparsemax. Peters, Niculae and Martins 2019, arXiv:1905.05702, equation 11;
// in attention: Correia, Niculae and Martins 2019, arXiv:1909.00015.
//
//   w_ij = max(0, x_ij / 2 - tau_i)^2,  sum_j w_ij = 1,   x_ij = scale (q_i . k_j) + bias_ij
//   gradient: with s = sqrt(w):  d x = s (d w - sum_l d w_l s_l / sum_l s_l)
#include <cmath>

#include "borel/draft/row_normalisers.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Entmax15 final : public borel::TileAttention {
 public:
  struct Params {
    double scale = 0;
    void declare(borel::ParamBinder& p) {
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on q . k; 0 stands for 1 / sqrt(d_k).");
    }
  };

  explicit Entmax15(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.row_normalised = true, .non_negative = true, .own_scale = params_.scale != 0, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::whole_row; }
  double scale(const AttentionCall& call) const override {
    return params_.scale != 0 ? params_.scale : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh_row(const AttentionCall&, borel::ScoreTile& row) const override {
    borel::entmax15({row.scores, static_cast<std::size_t>(row.n_cols)});
  }
  bool differentiable() const override { return true; }
  void weigh_row_backward(const AttentionCall&, const borel::ScoreTile& row, float* d_scores) const override {
    double along = 0, total = 0;
    for (index_t c = 0; c < row.n_cols; ++c) {
      const double s = std::sqrt(static_cast<double>(row.scores[c]));
      along += s * static_cast<double>(d_scores[c]), total += s;
    }
    const auto mean = static_cast<float>(total > 0 ? along / total : 0);
    for (index_t c = 0; c < row.n_cols; ++c) d_scores[c] = std::sqrt(row.scores[c]) * (d_scores[c] - mean);
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Entmax15>(
      "entmax15",
      {.summary = "Sparse weights between softmax and sparsemax",
       .formula = "o_i = sum_j max(0, x_ij / 2 - tau_i)^2 v_j, weights sum to 1, x = q . k / sqrt(d_k)",
       .source = "Peters, Niculae and Martins 2019, arXiv:1905.05702, equation 11",
       .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory and 24 rows of scores per thread"});
}
