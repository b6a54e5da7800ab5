// Softmax attention. Vaswani et al. (NeurIPS 2017), arXiv:1706.03762, equation 1.
//
//   o_i = sum_j w_ij v_j,   w_ij = exp(x_ij) / (exp(sink_h) + sum_l exp(x_il)),   x_ij = c tanh(s_ij / c)
//   s_ij = a_i scale (q_i . k_j) + bias_ij
//
// softcap c: Gemma 2, arXiv:2408.00118, section 2; off by default (x = s).
// sink: Miller 2023 ("softmax1", logit 0), arXiv:2309.17453 section 3; a key without a value; off by default.
// log_n: a_i = ln n / ln L (entropy invariance, Su 2021, kexue.fm/archives/8823) or max(1, ln n / ln L) (for
// models trained without it, Su 2023, kexue.fm/archives/9706 equation 14), n = i + 1 in causal rows and n_k
// otherwise. Domain: finite scores, of which one of the largest of a row is subtracted first; values whose sum over
// the keys is below 2^79. Differs from no source.
#include <cmath>

#include "borel/draft/row_normalisers.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;

class Softmax final : public borel::TileAttention {
 public:
  enum class LogN { none, train, clip };
  enum class Sink { off, fixed, learned };
  enum class Precision { float32, bf16 };

  struct Params {
    double scale = 0, softcap = 0, log_n_length = 512, sink_logit = 0;
    LogN log_n = LogN::none;
    Sink sink = Sink::off;
    Precision precision = Precision::float32;
    void declare(borel::ParamBinder& p) {
      p.real("scale", scale, borel::Range::closed(0, 1e6), "1",
             "Factor on q . k; 0 stands for 1 / sqrt(d_k).");
      p.real("softcap", softcap, borel::Range::closed(0, 1e6), "nats",
             "Scores are bent to c tanh(s / c); 0 switches it off.");
      p.choice("log_n", log_n, {{"none", LogN::none}, {"train", LogN::train}, {"clip", LogN::clip}},
               "Factor ln n / ln L on the scores; clip never lets it fall below 1.");
      p.real("log_n_length", log_n_length, borel::Range::closed(2, 1e9), "tokens",
             "The length L of log_n, where the factor is 1.");
      p.choice("sink", sink, {{"off", Sink::off}, {"fixed", Sink::fixed}, {"learned", Sink::learned}},
               "An extra key without a value, with one logit for all heads or a learned one per head.");
      p.real("sink_logit", sink_logit, borel::Range::closed(-1e4, 1e4), "nats",
             "Logit of the sink, or where learning starts.");
      p.choice(
          "precision", precision, {{"float32", Precision::float32}, {"bf16", Precision::bf16}},
          "bf16: the factors of products are rounded to bfloat16 in forward passes over more than 4 queries; "
          "1.6 times as fast where the processor has AVX-512 BF16; not for training.");
    }
  };

  explicit Softmax(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    // Scores of 80 carry a rounding error of about 4 units of 2^-17, which the exponential turns into a
    // relative one.
    return {.row_normalised = params_.sink == Sink::off,
            .non_negative = true,
            .own_scale = params_.scale != 0,
            .max_error = params_.precision == Precision::bf16 ? k_bf16_error : 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  bool transforms() const override { return params_.softcap != 0; }
  bool rounds_to_bf16() const override { return params_.precision == Precision::bf16; }

  double scale(const AttentionCall& call) const override {
    return params_.scale != 0 ? params_.scale : 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  double row_scale(const AttentionCall& call, index_t, index_t i) const override {
    if (params_.log_n == LogN::none) return 1;
    const double ratio =
        std::log(static_cast<double>(call.causal ? i + 1 : call.n_k())) / std::log(params_.log_n_length);
    return params_.log_n == LogN::clip ? std::max(1.0, ratio) : ratio;
  }
  void transform(const AttentionCall&, borel::ScoreTile& tile) const override {
    if (params_.softcap == 0) return;
    const auto cap = static_cast<float>(params_.softcap);
    for (index_t r = 0; r < tile.n_rows; ++r)
      borel::softcap({tile.scores + r * tile.ld, static_cast<std::size_t>(tile.n_cols)}, cap);
  }
  float sink(const AttentionCall& call, index_t head, index_t) const override {
    if (params_.sink == Sink::learned) return call.parameters[0][static_cast<std::size_t>(head)];
    return params_.sink == Sink::fixed ? static_cast<float>(params_.sink_logit)
                                       : -std::numeric_limits<float>::infinity();
  }
  /// The way back makes scores again without rounding: it would not be that of the rounded function.
  bool differentiable() const override { return params_.precision == Precision::float32; }
  void transform_backward(const AttentionCall&, const borel::ScoreTile& tile,
                          float* d_scores) const override {
    if (params_.softcap == 0) return;
    const auto inverse = static_cast<float>(1 / params_.softcap);
    for (index_t r = 0; r < tile.n_rows; ++r)
      for (index_t c = 0; c < tile.n_cols; ++c) {
        const float t = tile.scores[r * tile.ld + c] * inverse;  // tanh(s / c); beyond 1 only where masked
        d_scores[r * tile.ld + c] *= t < -1 ? 0 : 1 - t * t;
      }
  }
  void sink_backward(const AttentionCall&, index_t head, index_t, double d_sink,
                     const borel::AttentionBackward::Gradients& gradients) const override {
    if (params_.sink == Sink::learned && !gradients.d_parameters.empty() &&
        !gradients.d_parameters[0].empty())
      gradients.d_parameters[0][static_cast<std::size_t>(head)] += static_cast<float>(d_sink);
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    if (params_.sink != Sink::learned) return {};
    const auto start = static_cast<float>(params_.sink_logit);
    return {{.name = "sink_logit",
             .shape = {context.h_q},
             .init = [start](borel::Rng&, std::span<float> values) { std::ranges::fill(values, start); },
             .doc = "Logit of the sink of each query head, nats."}};
  }

 private:
  /// Scores of 80 whose products all have one sign move by 80 x 2^-7; inputs that are bfloat16 numbers, or scores of a few
  /// nats, cost about 1e-2.
  static constexpr double k_bf16_error = 0.65;
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Softmax>(
      "softmax", {.summary = "Softmax of scaled inner products",
                  .formula = "o_i = sum_j softmax_j(q_i . k_j / sqrt(d_k)) v_j",
                  .source = "Vaswani et al. 2017, arXiv:1706.03762, equation 1",
                  .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
                  .notes = "options: scale, softcap, log n factors, sink logit (softmax1 is sink=fixed)"});
}
