// Sparsemax attention. Martins and Astudillo 2016, arXiv:1602.02068: each row of weights is the Euclidean projection of
// the scores onto the simplex; low scores get weight exactly 0.
//
//   w_ij = max(0, x_ij - tau_i),  sum_j w_ij = 1,   x_ij = scale (q_i . k_j) + bias_ij
//   gradient (equation 14): d x = d w - mean of d w over the support, 0 outside of it
#include <cmath>

#include "borel/draft/row_normalisers.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

class Sparsemax final : public borel::TileAttention {
 public:
  struct Params {
    double scale = 0;
    void declare(borel::ParamBinder& p) {
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on q . k; 0 stands for 1 / sqrt(d_k).");
    }
  };

  explicit Sparsemax(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.row_normalised = true, .non_negative = true, .own_scale = params_.scale != 0, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::whole_row; }
  double scale(const AttentionCall& call) const override {
    return params_.scale != 0 ? params_.scale : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh_row(const AttentionCall&, borel::ScoreTile& row) const override {
    borel::sparsemax({row.scores, static_cast<std::size_t>(row.n_cols)});
  }
  bool differentiable() const override { return true; }
  void weigh_row_backward(const AttentionCall&, const borel::ScoreTile& row, float* d_scores) const override {
    double sum = 0, count = 0;
    for (index_t c = 0; c < row.n_cols; ++c)
      if (row.scores[c] > 0) sum += static_cast<double>(d_scores[c]), count += 1;
    const auto mean = static_cast<float>(count > 0 ? sum / count : 0);
    for (index_t c = 0; c < row.n_cols; ++c) d_scores[c] = row.scores[c] > 0 ? d_scores[c] - mean : 0;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Sparsemax>(
      "sparsemax",
      {.summary = "Projection of the scores onto the simplex",
       .formula = "o_i = sum_j max(0, x_ij - tau_i) v_j, weights sum to 1, x = q . k / sqrt(d_k)",
       .source = "Martins and Astudillo 2016, arXiv:1602.02068",
       .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory and 24 rows of scores per thread"});
}
