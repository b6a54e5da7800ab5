// Differential attention (Ye et al., arXiv 2410.05258): q = [q1 | q2], k = [k1 | k2],
//   o = norm( (softmax(q1 k1 / sqrt(d/2)) - lambda softmax(q2 k2 / sqrt(d/2))) v ) (1 - lambda_init),
//   lambda = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init,  lambda_init = 0.8 - 0.6 exp(-0.3 layer), norm =
//   RMS per head.
#include <cmath>
#include <vector>

#include "borel/attention.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_norm_epsilon = 1e-5;

class SoftmaxTiles final : public TileMethod {
 public:
  RowStatistic statistic() const override { return RowStatistic::online_max; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
};

double lambda_init(const AttentionContext& context) {
  return 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(context.layer_index));
}

class Differential final : public Attention, public AttentionWeights {
 public:
  struct Params {
    bool norm = true;
    void declare(ParamBinder& p) {
      p.flag("norm", norm, "RMS norm of each head's output and the factor 1 - lambda_init");
    }
  };
  explicit Differential(const Params& params) : p_(params) {}

  AttentionTraits traits() const override { return {.linear_in_v = !p_.norm}; }
  std::string refuses(const PositionPlan&) const override { return ""; }
  index_t plan_d_head(const AttentionContext& context) const override { return context.d_k / 2; }

  std::vector<ParameterTensor> parameters(const AttentionContext& context) const override {
    std::vector<ParameterTensor> tensors;
    for (const char* name : {"lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"})
      tensors.push_back({.name = name,
                         .shape = {context.d_k / 2},
                         .init =
                             [](Rng& rng, std::span<float> values) {
                               rng.fill_normal(values);
                               for (float& value : values) value *= 0.1F;
                             },
                         .doc = "one of the four vectors of lambda"});
    return tensors;
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    const AttentionCall first = half(call, 0), second = half(call, 1);
    std::vector<float> storage(static_cast<std::size_t>(o.size()));
    const TensorView<float, 3> subtracted(storage.data(), o.shape());
    tile_forward(SoftmaxTiles(), first, o);
    tile_forward(SoftmaxTiles(), second, subtracted);
    const double lambda = lambda_of(call);
    for (index_t h = 0; h < call.h_q(); ++h)
      for (index_t i = 0; i < call.n_q(); ++i) {
        double squares = 0;
        for (index_t c = 0; c < call.d_v(); ++c) {
          o(h, i, c) -= static_cast<float>(lambda * subtracted(h, i, c));
          squares += static_cast<double>(o(h, i, c)) * o(h, i, c);
        }
        if (!p_.norm) continue;
        const double factor = (1 - lambda_init(call.context)) /
                              std::sqrt(squares / static_cast<double>(call.d_v()) + k_norm_epsilon);
        for (index_t c = 0; c < call.d_v(); ++c) o(h, i, c) = static_cast<float>(factor * o(h, i, c));
      }
  }

  double state_bytes(const AttentionContext& context, index_t n) const override {
    return 4.0 * static_cast<double>(context.h_kv * n * (context.d_k + context.d_v));
  }

  const AttentionWeights* weights() const override { return this; }
  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override {
    std::vector<float> storage(static_cast<std::size_t>(weights.size()));
    const TensorView<float, 2> subtracted(storage.data(), weights.shape());
    tile_weights(SoftmaxTiles(), half(call, 0), head, begin, end, weights);
    tile_weights(SoftmaxTiles(), half(call, 1), head, begin, end, subtracted);
    const auto lambda = static_cast<float>(lambda_of(call));
    for (index_t r = 0; r < weights.shape(0); ++r)
      for (index_t j = 0; j < weights.shape(1); ++j) weights(r, j) -= lambda * subtracted(r, j);
  }

 private:
  static AttentionCall half(const AttentionCall& call, index_t which) {
    if (call.d_k() % 2 != 0) throw MethodError("attention differential: d_k must be even for two score maps");
    AttentionCall part = call;
    const index_t d = call.d_k() / 2;
    part.q = call.q.slice(2, which * d, (which + 1) * d);
    part.k = call.k.slice(2, which * d, (which + 1) * d);
    return part;
  }
  static double lambda_of(const AttentionCall& call) {
    double inner[2] = {0, 0};
    for (std::size_t pair = 0; pair < 2; ++pair)
      for (std::size_t c = 0; c < call.parameters[2 * pair].size(); ++c)
        inner[pair] += static_cast<double>(call.parameters[2 * pair][c]) * call.parameters[2 * pair + 1][c];
    return std::exp(inner[0]) - std::exp(inner[1]) + lambda_init(call.context);
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Attention, Differential>(
      "differential", {.summary = "difference of two softmax maps", .source = "arXiv 2410.05258, section 2"});
}
