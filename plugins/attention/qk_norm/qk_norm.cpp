// Softmax over normalised keys, queries, or both. With k^ = k / |k| and q^ = q / |q|:
//
//   norm=keys     x_ij = q_i . k^_j            key norm attention, KNA: Su 2023, kexue.fm/archives/9859, equation 5
//   norm=queries  x_ij = q^_i . k_j            QNA, the same article
//   norm=both     x_ij = lambda q^_i . k^_j    CosA, the same article: lambda = 4 ln n, n = i + 1 in causal rows, n_k
//                                              otherwise; Henry et al. 2020, arXiv:2010.04245: lambda learned per head
//
// KNA and QNA have no 1 / sqrt(d_k). scale replaces their factor 1, or lambda. learned=true: one factor per head, which
// starts at scale; Henry et al. start at log2(L^2 - L) for training length L. An RMS norm with a gain per channel is
// another mechanism. Vectors are normalised before the position maps; rotation does not change lengths.
#include <cmath>

#include "borel/draft/feature_maps.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::Scratch;
using borel::TensorView;

constexpr double k_epsilon = 1e-12;  // x / sqrt(|x|^2 + epsilon): rows of zeros stay zeros

class QkNorm final : public borel::TileAttention {
 public:
  enum class Norm { keys, queries, both };
  struct Params {
    Norm norm = Norm::keys;
    double scale = 0;
    bool learned = false;
    void declare(borel::ParamBinder& p) {
      p.choice("norm", norm, {{"keys", Norm::keys}, {"queries", Norm::queries}, {"both", Norm::both}},
               "What is divided by its length: KNA, QNA, CosA.");
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on the product; 0 stands for 1 (keys, queries) or 4 ln n (both).");
      p.flag("learned", learned,
             "The factor is learned, one per query head, starting at scale (1 for scale=0).");
    }
  };

  explicit QkNorm(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.row_normalised = true, .non_negative = true, .own_scale = true, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  bool transforms() const override { return false; }
  double scale(const AttentionCall&) const override {
    return params_.learned || params_.scale == 0 ? 1 : params_.scale;
  }
  double row_scale(const AttentionCall& call, index_t head, index_t i) const override {
    if (params_.learned) return static_cast<double>(call.parameters[0][static_cast<std::size_t>(head)]);
    if (params_.norm != Norm::both || params_.scale != 0) return 1;
    return 4 * std::log(static_cast<double>(call.causal ? i + 1 : call.n_k()));
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    if (!params_.learned) return {};
    const auto start = static_cast<float>(params_.scale == 0 ? 1 : params_.scale);
    return {{.name = "scale",
             .shape = {context.h_q},
             .init = [start](borel::Rng&, std::span<float> values) { std::ranges::fill(values, start); },
             .doc = "Factor on the product of normalised vectors, per query head."}};
  }

  void prepare(const AttentionCall& call, borel::FunctionRef<void(const AttentionCall&)> use) const override {
    const Scratch<float> q(queries() ? call.q.size() : 0), k(keys() ? call.k.size() : 0);
    AttentionCall normalised = call;
    if (queries()) normalised.q = normalise(call.q, q.data());
    if (keys()) normalised.k = normalise(call.k, k.data());
    use(normalised);
  }

  bool differentiable() const override { return true; }
  void row_scale_backward(const AttentionCall&, index_t head, index_t, double d_row_scale,
                          const borel::AttentionBackward::Gradients& gradients) const override {
    if (params_.learned && !gradients.d_parameters.empty() && !gradients.d_parameters[0].empty())
      gradients.d_parameters[0][static_cast<std::size_t>(head)] += static_cast<float>(d_row_scale);
  }
  using borel::TileAttention::backward;
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& gradients) const override {
    prepare(call, [&](const AttentionCall& normalised) {
      const Scratch<float> d_q(queries() ? call.q.size() : 0), d_k(keys() ? call.k.size() : 0);
      Gradients inner = gradients;
      if (queries()) inner.d_q = zeros(call.q, d_q);
      if (keys()) inner.d_k = zeros(call.k, d_k);
      borel::tile_backward(*this, normalised, o, saved, d_o, inner);
      for (index_t h = 0; h < call.h_q() && queries(); ++h)
        borel::unit_rows_backward(call.q[h], k_epsilon, normalised.q[h], inner.d_q[h], gradients.d_q[h]);
      for (index_t h = 0; h < call.h_kv() && keys(); ++h)
        borel::unit_rows_backward(call.k[h], k_epsilon, normalised.k[h], inner.d_k[h], gradients.d_k[h]);
    });
  }

 private:
  bool keys() const { return params_.norm != Norm::queries; }
  bool queries() const { return params_.norm != Norm::keys; }

  static TensorView<const float, 3> normalise(const TensorView<const float, 3>& in, float* storage) {
    const TensorView<float, 3> out(storage, in.shape());
    for (index_t h = 0; h < in.shape(0); ++h) borel::unit_rows(in[h], k_epsilon, out[h]);
    return out;
  }
  static TensorView<float, 3> zeros(const TensorView<const float, 3>& like, const Scratch<float>& storage) {
    std::ranges::fill(storage.span(), 0.0f);
    return {storage.data(), like.shape()};
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, QkNorm>(
      "qk_norm", {.summary = "Softmax over normalised keys, queries, or both",
                  .formula = "o_i = sum_j softmax_j(q_i . k_j / |k_j|) v_j",
                  .source = "Su 2023, kexue.fm/archives/9859; Henry et al. 2020, arXiv:2010.04245",
                  .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
                  .notes = "keys: KNA, queries: QNA, both: CosA; no 1 / sqrt(d_k) in any of them"});
}
