// Softmax attention with gradients of q, k, v and of the position plan (bias, query scale, angles), naive.
//   P = softmax(x + b),  dP = dO V^T,  dS = P * (dP - rowsum(dO * O)),  db = dS summed over the pairs that
//   share it.
#include <cmath>
#include <limits>
#include <vector>

#include "borel/attention.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class SoftmaxTiles final : public TileMethod {
 public:
  RowStatistic statistic() const override { return RowStatistic::online_max; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
};

/// Rows of one head as every band sees them: mapped, then turned. Index 0 is the plain rows, 1 + b band b.
class BandRows {
 public:
  BandRows(const PositionPlan& plan, bool query, index_t head, index_t first_token,
           TensorView<const float, 2> rows)
      : plan_(plan),
        query_(query),
        head_(head),
        first_token_(first_token),
        input_(rows),
        n_(rows.shape(0)),
        d_(rows.shape(1)) {
    variants_.emplace_back();
    for (index_t t = 0; t < n_; ++t)
      variants_[0].insert(variants_[0].end(), rows.row(t).begin(), rows.row(t).end());
    if (map()) map()->apply(head, first_token, view(0));
    for (const Band& band : plan.bands) {
      variants_.push_back(variants_[0]);
      const PositionTable& table = query ? band.query_position : band.key_position;
      if (band.angle || band.log_amplitude)
        rotate_rows(plan, band, *table, query ? 1 : -1, 0, view(0), view(variants_.size() - 1));
    }
    gradients_.assign(variants_.size(), std::vector<float>(variants_[0].size(), 0.0F));
  }
  const float* row(std::size_t variant, index_t t) const {
    return &variants_[variant][static_cast<std::size_t>(t * d_)];
  }
  float* gradient(std::size_t variant, index_t t) {
    return &gradients_[variant][static_cast<std::size_t>(t * d_)];
  }

  /// Adds the gradient of the rows that went in.
  void finish(TensorView<float, 2> d_rows) {
    std::vector<float> sum = gradients_[0];
    for (std::size_t b = 0; b < plan_.bands.size(); ++b) {
      const Band& band = plan_.bands[b];
      std::vector<float> turned = gradients_[b + 1];
      if (band.angle || band.log_amplitude) {
        std::vector<double> negated = query_ ? *band.query_position : *band.key_position;
        for (double& p : negated) p = -p;
        rotate_rows(plan_, band, negated, query_ ? -1 : 1, 0,
                    TensorView<const float, 2>(gradients_[b + 1].data(), {n_, d_}),
                    TensorView<float, 2>(turned.data(), {n_, d_}));
      }
      for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += turned[c];
    }
    const TensorView<float, 2> total(sum.data(), {n_, d_});
    if (map()) map()->backward(head_, first_token_, input_, total);
    for (index_t t = 0; t < n_; ++t)
      for (index_t c = 0; c < d_; ++c) d_rows(t, c) += total(t, c);
  }

 private:
  const TokenMap* map() const { return (query_ ? plan_.query_map : plan_.key_map).get(); }
  TensorView<float, 2> view(std::size_t variant) { return {variants_[variant].data(), {n_, d_}}; }

  const PositionPlan& plan_;
  bool query_;
  index_t head_, first_token_;
  TensorView<const float, 2> input_;
  index_t n_, d_;
  std::vector<std::vector<float>> variants_, gradients_;
};

class Softmax final : public Attention, public AttentionBackward {
 public:
  struct Params {
    void declare(ParamBinder&) {}
  };
  explicit Softmax(const Params&) {}

  AttentionTraits traits() const override { return {.row_normalised = true, .non_negative = true}; }
  std::string refuses(const PositionPlan&) const override { return ""; }
  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    tile_forward(SoftmaxTiles(), call, o);
  }
  double state_bytes(const AttentionContext& context, index_t n) const override {
    return 4.0 * static_cast<double>(context.h_kv * n * (context.d_k + context.d_v));
  }

  const AttentionBackward* backward() const override { return this; }
  index_t saved_per_row(const AttentionContext&) const override { return 1; }

  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) const override {
    forward(call, o);
    const PositionPlan none, &plan = call.position ? *call.position : none;
    for (index_t h = 0; h < call.h_q(); ++h) {
      BandRows queries(plan, true, h, call.query_offset, call.q[h]),
          keys(plan, false, call.kv_head(h), 0, call.k[call.kv_head(h)]);
      for (index_t i = 0; i < call.n_q(); ++i) {
        double largest = -std::numeric_limits<double>::infinity(), sum = 0;
        for (index_t j = 0; j < call.n_k(); ++j)
          largest = std::max(largest, score(call, plan, queries, keys, h, i, j).total);
        for (index_t j = 0; j < call.n_k(); ++j) {
          const double x = score(call, plan, queries, keys, h, i, j).total;
          if (std::isfinite(x)) sum += std::exp(x - largest);
        }
        saved(h, i, 0) = static_cast<float>(sum > 0 ? largest + std::log(sum) : 0);
      }
    }
  }

  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& gradients) const override {
    const PositionPlan none, &plan = call.position ? *call.position : none;
    if (!plan.ensemble.empty())
      throw MethodError("attention softmax: no gradients through an ensemble of plans");
    const double scale = SoftmaxTiles().scale(call);
    for (index_t h = 0; h < call.h_q(); ++h) {
      const index_t kv = call.kv_head(h);
      BandRows queries(plan, true, h, call.query_offset, call.q[h]), keys(plan, false, kv, 0, call.k[kv]);
      for (index_t i = 0; i < call.n_q(); ++i) {
        double mean = 0;
        for (index_t c = 0; c < call.d_v(); ++c) mean += static_cast<double>(d_o(h, i, c)) * o(h, i, c);
        for (index_t j = 0; j < call.n_k(); ++j) {
          const Score s = score(call, plan, queries, keys, h, i, j);
          if (!std::isfinite(s.total)) continue;
          const double p = std::exp(s.total - saved(h, i, 0));
          double d_p = 0;
          for (index_t c = 0; c < call.d_v(); ++c) {
            d_p += static_cast<double>(d_o(h, i, c)) * call.v(kv, j, c);
            gradients.d_v(kv, j, c) += static_cast<float>(p * d_o(h, i, c));
          }
          const double d_s = p * (d_p - mean);
          const double row_scale = plan.query_scale ? (*plan.query_scale)[static_cast<std::size_t>(i)] : 1;
          const double d_product = d_s * row_scale * scale * s.logit_scale;
          for (index_t c = 0; c < call.d_k(); ++c) {
            queries.gradient(s.variant, i)[c] += static_cast<float>(d_product * keys.row(s.variant, j)[c]);
            keys.gradient(s.variant, j)[c] += static_cast<float>(d_product * queries.row(s.variant, i)[c]);
          }
          if (gradients.d_position)
            add_plan_gradients(call, plan, *gradients.d_position, queries, keys, s, h, i, j, d_s, d_product);
        }
      }
      queries.finish(gradients.d_q[h]);
      keys.finish(gradients.d_k[kv]);
    }
  }

 private:
  struct Score {
    double total, scaled;  ///< with and without bias; total is -infinity where masked
    std::size_t variant;
    double logit_scale;
  };

  static Score score(const AttentionCall& call, const PositionPlan& plan, const BandRows& queries,
                     const BandRows& keys, index_t h, index_t row, index_t j) {
    const index_t i = row + call.query_offset;
    Score s{-std::numeric_limits<double>::infinity(), 0, 0, 1};
    if ((call.causal && j > i) || !plan.sees(i, j)) return s;
    for (std::size_t b = 0; b < plan.bands.size(); ++b)
      if (plan.bands[b].region.contains(i, j)) {
        s.variant = b + 1;
        s.logit_scale = plan.bands[b].logit_scale;
      }
    double product = 0;
    for (index_t c = 0; c < call.d_k(); ++c)
      product += static_cast<double>(queries.row(s.variant, row)[c]) * keys.row(s.variant, j)[c];
    s.scaled = product * s.logit_scale / std::sqrt(static_cast<double>(call.d_k()));
    s.total = s.scaled * (plan.query_scale ? (*plan.query_scale)[static_cast<std::size_t>(row)] : 1);
    if (plan.bias)
      s.total += (*plan.bias)[static_cast<std::size_t>(h * plan.bias_width + j - i + plan.bias_zero)];
    return s;
  }

  static void add_plan_gradients(const AttentionCall& call, const PositionPlan& plan,
                                 PositionGradients& d_plan, const BandRows& queries, const BandRows& keys,
                                 const Score& s, index_t h, index_t row, index_t j, double d_s,
                                 double d_product) {
    const index_t i = row + call.query_offset;
    if (!d_plan.bias.empty())
      d_plan.bias[static_cast<std::size_t>(h * plan.bias_width + j - i + plan.bias_zero)] +=
          static_cast<float>(d_s);
    if (!d_plan.query_scale.empty())
      d_plan.query_scale[static_cast<std::size_t>(row)] += static_cast<float>(d_s * s.scaled);
    if (s.variant == 0 || d_plan.angle.empty() || d_plan.angle[s.variant - 1].empty()) return;
    const Band& band = plan.bands[s.variant - 1];
    const float *q = queries.row(s.variant, row), *k = keys.row(s.variant, j);
    for (index_t m = 0; m < plan.n_rot_dims / 2; ++m) {
      const bool half = plan.pairing == Pairing::half;
      const index_t a = half ? m : 2 * m, b = half ? m + plan.n_rot_dims / 2 : 2 * m + 1;
      // d/dphi Re[Q conj(K)] with Q = q e^(I phi) is -Im[Q conj(K)].
      const double slope = -(static_cast<double>(q[b]) * k[a] - static_cast<double>(q[a]) * k[b]);
      for (index_t axis = 0; axis < band.n_axes; ++axis)
        d_plan.angle[s.variant - 1][static_cast<std::size_t>(m * band.n_axes + axis)] +=
            d_product * slope *
            ((*band.query_position)[static_cast<std::size_t>(row * band.n_axes + axis)] -
             (*band.key_position)[static_cast<std::size_t>(j * band.n_axes + axis)]);
    }
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Attention, Softmax>("softmax",
                                   {.summary = "softmax with gradients", .source = "arXiv 1706.03762"});
}
