// Squared ReLU attention. Two scalings are in the wild, and a normalised form:
//
//   gau_n2      w_ij = relu(q_i . k_j / n)^2
//               Hua et al. 2022 (FLASH), arXiv:2202.10447, section 3.2
//   su_ns       w_ij = relu(q_i . k_j)^2 / (n d_k)
//               Su 2022, kexue.fm/archives/9019 (GAU-alpha), s = d_k there
//   normalised  w_ij = relu(x_ij)^2 / (sum_l relu(x_il)^2 + k_epsilon),   x = q . k / sqrt(d_k)
//
// n is the number of keys that the row may see: i + 1 in causal rows (the papers use one n for all rows of a
// batch, which a recurrent form cannot know), n_k otherwise. A position bias is added to q . k / n or q . k /
// sqrt(d_k), before relu.
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::index_t;

constexpr double k_epsilon = 1e-6;

class Relu2 final : public borel::TileAttention {
 public:
  enum class Scaling { gau_n2, su_ns, normalised };

  struct Params {
    Scaling scaling = Scaling::su_ns;
    void declare(borel::ParamBinder& p) {
      p.choice("scaling", scaling,
               {{"gau_n2", Scaling::gau_n2}, {"su_ns", Scaling::su_ns}, {"normalised", Scaling::normalised}},
               "relu(q.k/n)^2, relu(q.k)^2/(n d_k), or divided by the sum of the row.");
    }
  };

  explicit Relu2(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.non_negative = true, .own_scale = params_.scaling == Scaling::gau_n2, .max_error = 1e-5};
  }
  borel::RowStatistic statistic() const override {
    return params_.scaling == Scaling::normalised ? borel::RowStatistic::sum : borel::RowStatistic::none;
  }
  double scale(const AttentionCall& call) const override {
    return params_.scaling == Scaling::gau_n2 ? 1 : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  double row_scale(const AttentionCall& call, index_t, index_t i) const override {
    return params_.scaling == Scaling::gau_n2 ? 1 / n_seen(call, i) : 1;
  }
  bool differentiable() const override { return true; }
  void weigh_with_slope(const AttentionCall& call, borel::ScoreTile& tile, float* slope) const override {
    for (index_t r = 0; r < tile.n_rows; ++r) {
      const float factor = 2 * row_factor(call, tile.first_query + r + call.query_offset);
      const float* row = tile.scores + r * tile.ld;
      for (index_t c = 0; c < tile.n_cols; ++c) slope[r * tile.ld + c] = row[c] < 0 ? 0 : factor * row[c];
    }
    weigh(call, tile);
  }
  void weigh(const AttentionCall& call, borel::ScoreTile& tile) const override {
    for (index_t r = 0; r < tile.n_rows; ++r) {
      const float factor = row_factor(call, tile.first_query + r + call.query_offset);
      float* row = tile.scores + r * tile.ld;
      for (index_t c = 0; c < tile.n_cols; ++c) {
        const float positive = row[c] < 0 ? 0 : row[c];  // lets NaN through
        row[c] = factor * positive * positive;
      }
    }
  }
  double epsilon() const override { return k_epsilon; }

 private:
  static double n_seen(const AttentionCall& call, index_t i) {
    return static_cast<double>(call.causal ? i + 1 : call.n_k());
  }
  float row_factor(const AttentionCall& call, index_t i) const {
    return static_cast<float>(params_.scaling == Scaling::su_ns ? 1 / n_seen(call, i) : 1);
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Relu2>(
      "relu2", {.summary = "Squared ReLU of inner products, not normalised by default",
                .formula = "o_i = sum_j relu(q_i . k_j)^2 / (n d_k) v_j",
                .source = "Hua et al. 2022, arXiv:2202.10447, section 3.2; Su 2022, kexue.fm/archives/9019",
                .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
                .notes = "two scalings are published; both are here under exact names"});
}
