// Differential attention. Ye et al. 2024, arXiv:2410.05258, equations 1 to 3, per head with q = [q1 | q2], k = [k1 | k2]:
//
//   a_i = sum_j (softmax_j(q1_i . k1_j / sqrt(d)) - lambda softmax_j(q2_i . k2_j / sqrt(d))) v_j,     d = d_k / 2
//   lambda = exp(lambda_q1 . lambda_k1) - exp(lambda_q2 . lambda_k2) + lambda_init
//   lambda_init = 0.8 - 0.6 exp(-0.3 (l - 1)),  layer l = 1, 2, ...     (paper and code agree; the code counts from 0)
//   o_i = (1 - lambda_init) gain * a_i / sqrt(mean_c a_ic^2 + k_epsilon)              norm=rms, paper and code
//   o_i = a_i                                                                         norm=none
//
// The lambda vectors are one set per layer, shared by the heads; the gain has d_v components, also shared (RMSNorm of
// the published code, microsoft/unilm Diff-Transformer, epsilon 1e-5). The paper draws it as a GroupNorm whose groups are
// the heads, without saying mean or gain. norm=rms is not linear in v: weights are those of a.
// A position plan is for vectors of d_k / 2 and serves both maps.
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::Scratch;
using borel::TensorView;

constexpr double k_epsilon = 1e-5;
constexpr index_t k_saved = borel::k_tile_saved_per_row;

double lambda_init(const AttentionContext& context) {
  return 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(context.layer_index));
}

class Differential final : public borel::TileAttention {
 public:
  enum class Norm { rms, none };
  struct Params {
    Norm norm = Norm::rms;
    void declare(borel::ParamBinder& p) {
      p.choice("norm", norm, {{"rms", Norm::rms}, {"none", Norm::none}},
               "RMS norm with gain of each head's output, times 1 - lambda_init; or none.");
    }
  };

  explicit Differential(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    // The norm divides by sizes that may be small beside v.
    return {.linear_in_v = !normed(), .max_error = normed() ? 1e-3 : 1e-4};
  }
  std::string refuses(const borel::PositionPlan& plan) const override {
    if (normed() && !plan.ensemble.empty())
      return "the encoding averages several outputs, and the norm of a mean is not the mean of norms; use "
             "norm=none";
    return {};
  }
  index_t plan_d_head(const AttentionContext& context) const override { return context.d_k / 2; }

  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  bool transforms() const override { return false; }
  double scale(const AttentionCall& half) const override {
    return 1 / std::sqrt(static_cast<double>(half.d_k()));
  }

  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    std::vector<borel::ParameterTensor> tensors;
    for (const char* name : {"lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"})
      tensors.push_back({.name = name,
                         .shape = {context.d_k / 2},
                         .init =
                             [](borel::Rng& rng, std::span<float> values) {
                               rng.fill_normal(values);
                               for (float& value : values) value *= 0.1f;
                             },
                         .doc = "One of the four vectors of lambda."});
    if (normed())
      tensors.push_back(
          {.name = "gain",
           .shape = {context.d_v},
           .init = [](borel::Rng&, std::span<float> values) { std::ranges::fill(values, 1.0f); },
           .doc = "Factor on each component of the normalised output."});
    return tensors;
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    check(call, o);
    const Scratch<float> subtracted(o.size());
    const TensorView<float, 3> second(subtracted.data(), o.shape());
    borel::tile_forward(*this, half(call, 0), o);
    borel::tile_forward(*this, half(call, 1), second);
    combine(call, o, second, o);
  }

  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override {
    AttentionContext two = context;
    two.d_v = 2 * context.d_v;
    return borel::tile_flops(two, n_q, n_k);
  }

  void rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
            TensorView<float, 2> weights) const override {
    const Scratch<float> subtracted(weights.size());
    const TensorView<float, 2> second(subtracted.data(), weights.shape());
    borel::tile_weights(*this, half(call, 0), head, begin, end, weights);
    borel::tile_weights(*this, half(call, 1), head, begin, end, second);
    const auto lambda = static_cast<float>(lambda_of(call));
    for (index_t r = 0; r < weights.shape(0); ++r)
      for (index_t j = 0; j < weights.shape(1); ++j) weights(r, j) -= lambda * second(r, j);
  }

  // Saved per row: the statistics of both maps, then both outputs.
  bool differentiable() const override { return true; }
  index_t saved_per_row(const AttentionContext& context) const override {
    return 2 * k_saved + 2 * context.d_v;
  }
  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) const override {
    check(call, o);
    for (const index_t map : {0, 1})
      borel::tile_forward_saving(*this, half(call, map), output(call, saved, map), statistics(saved, map));
    combine(call, output(call, saved, 0), output(call, saved, 1), o);
  }
  using borel::TileAttention::backward;
  void backward(const AttentionCall& call, TensorView<const float, 3>, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& gradients) const override {
    const TensorView<const float, 3> first = output(call, saved, 0), second = output(call, saved, 1);
    const Scratch<float> storage(2 * d_o.size());
    const TensorView<float, 3> d_first(storage.data(), d_o.shape()),
        d_second(storage.data() + d_o.size(), d_o.shape());
    const double lambda = lambda_of(call), d_lambda = split(call, first, second, d_o, d_first, gradients);
    add_lambda_gradients(call, d_lambda, gradients);
    for (index_t h = 0; h < d_o.shape(0); ++h)
      for (index_t r = 0; r < d_o.shape(1); ++r)
        for (index_t c = 0; c < d_o.shape(2); ++c)
          d_second(h, r, c) = static_cast<float>(-lambda) * d_first(h, r, c);
    const index_t d = call.d_k() / 2;
    for (const index_t map : {0, 1}) {
      Gradients part = gradients;
      part.d_q = gradients.d_q.slice(2, map * d, (map + 1) * d);
      part.d_k = gradients.d_k.slice(2, map * d, (map + 1) * d);
      borel::tile_backward(*this, half(call, map), map == 0 ? first : second, statistics(saved, map),
                           map == 0 ? d_first : d_second, part);
    }
  }

 private:
  bool normed() const { return params_.norm == Norm::rms; }

  void check(const AttentionCall& call, TensorView<const float, 3> o) const {
    check_call(*this, call, o);
    if (call.d_k() % 2 != 0)
      throw borel::MethodError("attention differential: d_k must be even for two score maps");
  }

  static AttentionCall half(const AttentionCall& call, index_t map) {
    AttentionCall part = call;
    const index_t d = call.d_k() / 2;
    part.q = call.q.slice(2, map * d, (map + 1) * d);
    part.k = call.k.slice(2, map * d, (map + 1) * d);
    return part;
  }
  template <class T>
  static TensorView<T, 3> statistics(const TensorView<T, 3>& saved, index_t map) {
    return saved.slice(2, map * k_saved, (map + 1) * k_saved);
  }
  template <class T>
  static TensorView<T, 3> output(const AttentionCall& call, const TensorView<T, 3>& saved, index_t map) {
    return saved.slice(2, 2 * k_saved + map * call.d_v(), 2 * k_saved + (map + 1) * call.d_v());
  }

  static double inner(const AttentionCall& call, std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t c = 0; c < call.parameters[a].size(); ++c)
      sum += static_cast<double>(call.parameters[a][c]) * static_cast<double>(call.parameters[b][c]);
    return sum;
  }
  static double lambda_of(const AttentionCall& call) {
    return std::exp(inner(call, 0, 1)) - std::exp(inner(call, 2, 3)) + lambda_init(call.context);
  }

  /// 1 / sqrt(mean of squares + epsilon) of first - lambda second at one row.
  static double inverse_rms(std::span<const float> first, std::span<const float> second, double lambda) {
    double squares = 0;
    for (std::size_t c = 0; c < first.size(); ++c) {
      const double a = static_cast<double>(first[c]) - lambda * static_cast<double>(second[c]);
      squares += a * a;
    }
    return 1 / std::sqrt(squares / static_cast<double>(first.size()) + k_epsilon);
  }

  void combine(const AttentionCall& call, TensorView<const float, 3> first, TensorView<const float, 3> second,
               TensorView<float, 3> o) const {
    const double lambda = lambda_of(call), outer = 1 - lambda_init(call.context);
    borel::parallel_for(call.h_q() * call.n_q(), 64, [&](index_t begin, index_t end) {
      for (index_t x = begin; x < end; ++x) {
        const index_t h = x / call.n_q(), r = x % call.n_q();
        const double by = normed() ? outer * inverse_rms(first.row(h, r), second.row(h, r), lambda) : 1;
        for (index_t c = 0; c < call.d_v(); ++c) {
          const double a =
              static_cast<double>(first(h, r, c)) - lambda * static_cast<double>(second(h, r, c));
          const double gain =
              normed() ? static_cast<double>(call.parameters[4][static_cast<std::size_t>(c)]) : 1;
          o(h, r, c) = static_cast<float>(by * gain * a);
        }
      }
    });
  }

  /// d_o to d_first = d loss / d a. @return d loss / d lambda; adds the gradient of the gain
  double split(const AttentionCall& call, TensorView<const float, 3> first, TensorView<const float, 3> second,
               TensorView<const float, 3> d_o, TensorView<float, 3> d_first,
               const Gradients& gradients) const {
    const double lambda = lambda_of(call), outer = 1 - lambda_init(call.context);
    const auto d_v = static_cast<double>(call.d_v());
    const bool wants_gain =
        normed() && gradients.d_parameters.size() > 4 && !gradients.d_parameters[4].empty();
    std::vector<double> d_gain(static_cast<std::size_t>(call.d_v()), 0);
    double d_lambda = 0;
    for (index_t h = 0; h < call.h_q(); ++h)
      for (index_t r = 0; r < call.n_q(); ++r) {
        const double root = normed() ? inverse_rms(first.row(h, r), second.row(h, r), lambda) : 1;
        // y = outer gain a root:  d a = outer root (g d_o - a root^2 mean(g d_o a))
        const auto a = [&](index_t c) {
          return static_cast<double>(first(h, r, c)) - lambda * static_cast<double>(second(h, r, c));
        };
        const auto slope = [&](index_t c) {
          const double gain =
              normed() ? outer * static_cast<double>(call.parameters[4][static_cast<std::size_t>(c)]) : 1;
          return gain * static_cast<double>(d_o(h, r, c));
        };
        double along = 0;
        for (index_t c = 0; c < call.d_v() && normed(); ++c) along += slope(c) * a(c);
        for (index_t c = 0; c < call.d_v(); ++c) {
          const double d_a = normed() ? root * (slope(c) - a(c) * root * root * along / d_v) : slope(c);
          d_first(h, r, c) = static_cast<float>(d_a);
          d_lambda -= d_a * static_cast<double>(second(h, r, c));
          d_gain[static_cast<std::size_t>(c)] += outer * root * a(c) * static_cast<double>(d_o(h, r, c));
        }
      }
    for (std::size_t c = 0; c < d_gain.size() && wants_gain; ++c)
      gradients.d_parameters[4][c] += static_cast<float>(d_gain[c]);
    return d_lambda;
  }

  static void add_lambda_gradients(const AttentionCall& call, double d_lambda, const Gradients& gradients) {
    for (const std::size_t pair : {0UL, 2UL}) {
      const double by = (pair == 0 ? 1 : -1) * d_lambda * std::exp(inner(call, pair, pair + 1));
      for (const std::size_t side : {pair, pair + 1}) {
        if (gradients.d_parameters.size() <= side || gradients.d_parameters[side].empty()) continue;
        const std::span<const float> other = call.parameters[2 * pair + 1 - side];
        for (std::size_t c = 0; c < other.size(); ++c)
          gradients.d_parameters[side][c] += static_cast<float>(by * static_cast<double>(other[c]));
      }
    }
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Differential>(
      "differential", {.summary = "Difference of two softmax maps, normalised per head",
                       .formula = "o_i = norm(sum_j (softmax_j(q1 . k1) - lambda softmax_j(q2 . k2)) v_j)",
                       .source = "Ye et al. 2024, arXiv:2410.05258, equations 1 to 3",
                       .complexity = "O(n_q n_k (d_k + 2 d_v)) time, O(n d) memory",
                       .notes = "lambda_init depends on the layer; norm=none is the difference itself"});
}
