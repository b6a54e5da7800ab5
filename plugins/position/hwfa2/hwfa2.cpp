// HWFA2: windows in most layers, a few full layers in the middle, ReRoPE there at inference. Su 2023, kexue.fm/archives/9731.
//
//   window layers   w keys, with rotation; w about 2 to 4 times L / n_layers (32 to 64 for 24 layers and L = 512)
//   full layers     n_full of them, at n_layers j / (n_full + 1), j = 1 .. n_full; all keys, with rotation; after training
//                   distances are min(r, rerope_window), and scores are times max(1, ln n / ln L) with log_n
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class Hwfa2 final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 0, n_full = 2, rerope_window = 0;
    bool log_n = false;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "keys",
                "Keys of a window, the query's own included; 0 stands for 3 train_length / n_layers.");
      p.integer("n_full", n_full, borel::Range::closed(1, 1 << 20), "layers", "Layers that see all keys.");
      p.integer("rerope_window", rerope_window, borel::Range::closed(0, 1 << 30), "tokens",
                "Cut of the distances in full layers after training; 0 stands for half of train_length.");
      p.flag("log_n", log_n, "Multiply scores of full layers by max(1, ln n / ln L).");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit Hwfa2(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = !params_.log_n,
            .layer_dependent = true,
            .needs_train_length = params_.train.from_context() &&
                                  (params_.window == 0 || params_.rerope_window == 0 || params_.log_n)};
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t length = params_.train.in(context);
    const borel::PositionTable angle = params_.rotary.angles(context);
    if (!is_full(context.layer_index, context.n_layers)) {
      const index_t window =
          params_.window != 0 ? params_.window : std::max<index_t>(1, 3 * length / context.n_layers);
      PositionPlan plan = params_.rotary.plan(context, {borel::plain_band(context, angle)});
      plan.visible.push_back({.distance = {context.causal ? 0 : 1 - window, window}});
      return plan;
    }
    const index_t cut = params_.rerope_window != 0 ? params_.rerope_window : std::max<index_t>(1, length / 2);
    PositionPlan plan = params_.rotary.plan(
        context, context.training ? std::vector<borel::Band>{borel::plain_band(context, angle)}
                                  : borel::near_far_bands(context, angle, cut, static_cast<double>(cut),
                                                          [](index_t) { return 0.0; }));
    if (!params_.log_n) return plan;
    std::vector<float> scale;
    for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i) {
      const auto n = static_cast<double>(context.causal ? i + 1 : context.n_tokens());
      scale.push_back(static_cast<float>(
          std::max(1.0, std::log(n) / std::log(static_cast<double>(std::max<index_t>(length, 2))))));
    }
    plan.query_scale = std::make_shared<const std::vector<float>>(std::move(scale));
    return plan;
  }

 private:
  bool is_full(index_t layer, index_t n_layers) const {
    for (index_t j = 1; j <= params_.n_full; ++j)
      if (layer == std::min(n_layers - 1, n_layers * j / (params_.n_full + 1))) return true;
    return false;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Hwfa2>(
      "hwfa2",
      {.summary = "Windows with rotation, a few full layers in the middle with ReRoPE at inference",
       .formula = "full layers at n_layers j/(n_full + 1); rotary score at min(r, rerope_window) there",
       .source = "Su 2023, kexue.fm/archives/9731",
       .complexity = "O(n w) in all layers but n_full",
       .notes = "to be trained with; in a setting of one layer that layer is full"});
}
