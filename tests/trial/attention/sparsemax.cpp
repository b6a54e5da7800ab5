// Sparsemax attention (Martins & Astudillo, arXiv 1602.02068): each row of weights is the Euclidean
// projection of the scores onto the simplex, max(0, x_j - tau) with sum 1.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/attention.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class SparsemaxTiles final : public TileMethod {
 public:
  RowStatistic statistic() const override { return RowStatistic::whole_row; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  void weigh_row(const AttentionCall&, ScoreTile& row) const override {
    std::vector<float> sorted;
    for (index_t c = 0; c < row.n_cols; ++c)
      if (std::isfinite(row.scores[c])) sorted.push_back(row.scores[c]);
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double sum = 0, tau = 0;
    for (std::size_t size = 1; size <= sorted.size(); ++size) {
      sum += sorted[size - 1];
      const double threshold = (sum - 1) / static_cast<double>(size);
      if (sorted[size - 1] > threshold) tau = threshold;
    }
    for (index_t c = 0; c < row.n_cols; ++c) {
      const float score = row.scores[c];
      row.scores[c] = std::isfinite(score) ? std::max(0.0F, static_cast<float>(score - tau)) : 0.0F;
    }
  }
};

class Sparsemax final : public Attention {
 public:
  struct Params {
    void declare(ParamBinder&) {}
  };
  explicit Sparsemax(const Params&) {}

  AttentionTraits traits() const override { return {.row_normalised = true, .non_negative = true}; }
  std::string refuses(const PositionPlan&) const override { return ""; }
  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    tile_forward(SparsemaxTiles(), call, o);
  }
  double state_bytes(const AttentionContext& context, index_t n) const override {
    return 4.0 * static_cast<double>(context.h_kv * n * (context.d_k + context.d_v));
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Attention, Sparsemax>(
      "sparsemax", {.summary = "projection of the scores onto the simplex", .source = "arXiv 1602.02068"});
}
