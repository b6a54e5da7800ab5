// Scores scaled by the logarithm of the number of keys, on top of any other encoding.
//
//   clip     max(1, ln n / ln L)                    Su 2023, kexue.fm/archives/9706 equation 14: no training needed
//   train    ln n / ln L                            Su 2021, kexue.fm/archives/8823: entropy stays level, part of training
//   llama4   1 + 0.1 ln(floor(n / interval) + 1)    Llama 4 (interval 8192; attention temperature tuning)
//
// n = i + 1 keys for query i, or all keys without a causal mask. attention/softmax has the same as its parameter log_n; here
// it combines with encodings and with every mechanism that takes a query scale. YaRN's constant and LongRoPE's factor are
// special cases: log_L(L s) = 1 + ln s / ln L.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/position_wrapper.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class LogN final : public borel::PositionWrapper {
 public:
  enum class Rule { clip, train, llama4 };
  struct Params {
    borel::MethodSpec of;
    Rule rule = Rule::clip;
    std::int64_t train_length = 0, interval = 8192;
    void declare(borel::ParamBinder& p) {
      p.method("of", of, "position", "The encoding whose scores are scaled; empty for none.");
      p.choice("rule", rule, {{"clip", Rule::clip}, {"train", Rule::train}, {"llama4", Rule::llama4}},
               "max(1, ln n / ln L), ln n / ln L, or 1 + 0.1 ln(floor(n / interval) + 1).");
      p.integer("train_length", train_length, borel::Range::closed(0, 1 << 30), "tokens",
                "Length L of training; 0 takes the one of the context.");
      p.integer("interval", interval, borel::Range::closed(1, 1 << 30), "tokens", "Step of the rule llama4.");
    }
    void check() const {
      if (train_length == 1)
        throw borel::ParamError("parameter 'train_length' must be 0 or >= 2 (ln 1 = 0), got '1'");
    }
  };

  LogN(const Params& params, const borel::Registry& registry)
      : PositionWrapper(params.of, registry), params_(params) {}

  borel::PositionTraits traits() const override {
    borel::PositionTraits traits = inner_traits();
    traits.shift_invariant = false;
    traits.needs_train_length |= params_.rule != Rule::llama4 && params_.train_length == 0;
    return traits;
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    PositionPlan plan = inner_plan(context, parameters);
    borel::for_each_member(plan, [&](PositionPlan& member) {
      std::vector<float> scale;
      for (index_t row = 0; row < context.n_q; ++row) {
        const double inner = member.query_scale
                                 ? static_cast<double>((*member.query_scale)[static_cast<std::size_t>(row)])
                                 : 1;
        scale.push_back(static_cast<float>(inner * factor(context, row)));
      }
      member.query_scale = std::make_shared<const std::vector<float>>(std::move(scale));
    });
    return plan;
  }

  void backward(const PositionContext& context, borel::ParameterValues parameters,
                const borel::PositionGradients& d_plan,
                borel::ParameterGradients d_parameters) const override {
    // The inner scale s enters as s * factor.
    std::vector<float> d_scale(d_plan.query_scale.begin(), d_plan.query_scale.end());
    for (std::size_t row = 0; row < d_scale.size(); ++row)
      d_scale[row] *= static_cast<float>(factor(context, static_cast<index_t>(row)));
    borel::PositionGradients d_inner = d_plan;
    d_inner.query_scale = d_scale;
    PositionWrapper::backward(context, parameters, d_inner, d_parameters);
  }

 private:
  double factor(const PositionContext& context, index_t row) const {
    const index_t n = context.causal ? context.query_offset + row + 1 : context.n_tokens();
    if (params_.rule == Rule::llama4)
      return 1 + 0.1 * std::log(static_cast<double>(n / params_.interval) + 1);
    const index_t length = params_.train_length != 0 ? params_.train_length : context.train_length;
    // A model trained on one token has no logarithm to compare with: ln 2 stands in.
    const double ratio =
        std::log(static_cast<double>(n)) / std::log(static_cast<double>(std::max<index_t>(length, 2)));
    return params_.rule == Rule::clip ? std::max(1.0, ratio) : ratio;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, LogN>(
      "log_n", {.summary = "Scores times the logarithm of the number of keys, with any encoding",
                .formula = "scale(i) = max(1, ln(i + 1) / ln L)",
                .source = "Su 2023, kexue.fm/archives/9706, equation 14; Su 2021, kexue.fm/archives/8823",
                .complexity = "O(n) once per call",
                .notes = "rule = train belongs to training; do not combine with softmax{log_n}"});
}
