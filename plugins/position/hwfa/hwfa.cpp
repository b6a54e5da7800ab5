// HWFA, hybrid window-full attention: a schedule over layers. Su 2023, kexue.fm/archives/9603.
//
//   layers 0 .. N_layers - 2   a window of w keys, with rotation
//   last layer                 all keys, no positions, scores times max(1, ln n / ln L)
//   (w - 1)(N_layers - 1) + 1 = alpha L, alpha <= 3/4: all windows together stay inside the length of training
//
// The author trains with it (w = 16 for 24 layers, L = 512); the long context is seen by one layer only.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class Hwfa final : public borel::PositionEncoding {
 public:
  struct Params {
    double alpha = 0.75;
    std::int64_t window = 0;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.real("alpha", alpha, borel::Range::left_open(0, 1), "1",
             "Share of the length of training that the windows reach together.");
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "keys",
                "Keys of a window, the query's own included; 0 derives them from alpha.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit Hwfa(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.layer_dependent = true, .needs_train_length = params_.train.from_context()};
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const auto length = static_cast<double>(params_.train.in(context));
    if (context.layer_index + 1 >= context.n_layers) {
      PositionPlan plan;
      std::vector<float> scale;
      for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i) {
        const auto n = static_cast<double>(context.causal ? i + 1 : context.n_tokens());
        scale.push_back(static_cast<float>(std::max(1.0, std::log(n) / std::log(std::max(length, 2.0)))));
      }
      plan.query_scale = std::make_shared<const std::vector<float>>(std::move(scale));
      return plan;
    }
    const double derived = (params_.alpha * length - 1) / static_cast<double>(context.n_layers - 1) + 1;
    const index_t window =
        params_.window != 0 ? params_.window : std::max<index_t>(1, static_cast<index_t>(derived));
    PositionPlan plan =
        params_.rotary.plan(context, {borel::plain_band(context, params_.rotary.angles(context))});
    plan.visible.push_back({.distance = {context.causal ? 0 : 1 - window, window}});
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Hwfa>(
      "hwfa",
      {.summary = "Windows with rotation in all layers but the last, which sees everything without positions",
       .formula = "(w - 1)(n_layers - 1) + 1 = alpha L; last layer: scores times max(1, ln n / ln L)",
       .source = "Su 2023, kexue.fm/archives/9603",
       .complexity = "O(n w) in all layers but one",
       .notes = "to be trained with; in a setting of one layer that layer is the last"});
}
