// Scores times max(1, log(i + 1) / log L) (Su, kexue 9706, equation 14), on top of any other encoding.
#include <algorithm>
#include <cmath>
#include <memory>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class LogN final : public PositionEncoding {
 public:
  struct Params {
    MethodSpec of;
    void declare(ParamBinder& p) {
      p.method("of", of, "position", "the encoding whose scores are scaled; empty = none");
    }
  };
  LogN(const Params& params, const Registry& registry)
      : of_(params.of.empty() ? nullptr : registry.make<PositionEncoding>(params.of)) {}

  PositionTraits traits() const override {
    PositionTraits traits = of_ ? of_->traits() : PositionTraits{};
    traits.shift_invariant = false;
    traits.needs_train_length = true;
    return traits;
  }
  std::vector<ParameterTensor> parameters(index_t n_heads, index_t d_head, index_t d_model) const override {
    return of_ ? of_->parameters(n_heads, d_head, d_model) : std::vector<ParameterTensor>();
  }
  void backward(const PositionContext& context, ParameterValues parameters, const PositionGradients& d_plan,
                ParameterGradients d_parameters) const override {
    if (of_) of_->backward(context, parameters, d_plan, d_parameters);
  }
  const TokenEmbedding* embedding() const override { return of_ ? of_->embedding() : nullptr; }

  PositionPlan plan(const PositionContext& context, ParameterValues parameters) const override {
    PositionPlan plan = of_ ? of_->plan(context, parameters) : PositionPlan();
    scale(context, plan);
    for (PositionPlan& member : plan.ensemble) scale(context, member);
    return plan;
  }

 private:
  static void scale(const PositionContext& context, PositionPlan& plan) {
    std::vector<float> scales;
    for (index_t row = 0; row < context.n_q; ++row) {
      const double n = static_cast<double>(context.query_offset + row + 1);
      const double inner = plan.query_scale ? (*plan.query_scale)[static_cast<std::size_t>(row)] : 1;
      scales.push_back(static_cast<float>(
          inner * std::max(1.0, std::log(n) / std::log(static_cast<double>(context.train_length)))));
    }
    plan.query_scale = std::make_shared<const std::vector<float>>(std::move(scales));
  }
  std::unique_ptr<PositionEncoding> of_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, LogN>(
      "log_n", {.summary = "log n scale on any encoding", .source = "kexue.fm/archives/9706, equation 14"});
}
