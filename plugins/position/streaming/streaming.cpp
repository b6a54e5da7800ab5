// StreamingLLM: a cache of the first tokens (attention sinks) and the last ones, positions counted in the cache. Xiao, Tian,
// Chen, Han, Lewis 2023, arXiv:2309.17453, section 3.2; code mit-han-lab/streaming-llm.
//
//   seen   j < n_sinks   or   i - j < w
//   slots of the cache are 0 .. c - 1, the query stands at c - 1 = min(i, n_sinks + w - 1): recent keys keep their distance,
//   sink j has distance min(i, n_sinks + w - 1) - j
//
// Keys are cached without rotation and rotated when they are used. The context is not extended: what left the cache is gone.
#include <algorithm>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class Streaming final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t n_sinks = 4, window = 0;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer("n_sinks", n_sinks, borel::Range::closed(0, 1 << 30), "keys", "First keys that stay.");
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "keys",
                "Last keys that stay, the query's own included; 0 stands for train_length - n_sinks.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit Streaming(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = params_.n_sinks == 0,
            .causal_only = true,
            .needs_train_length = params_.window == 0 && params_.train.from_context()};
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t n_sinks = params_.n_sinks;
    const index_t window =
        params_.window != 0 ? params_.window : std::max<index_t>(1, params_.train.in(context)-n_sinks);
    const borel::PositionTable angle = params_.rotary.angles(context);
    std::vector<borel::Band> bands = {borel::plain_band(context, angle)};
    bands.front().region.key = {.begin = n_sinks};
    if (n_sinks > 0) {
      const index_t last_slot = n_sinks + window - 1;
      bands.push_back(borel::band_at(
          context, angle, [&](index_t i) { return static_cast<double>(std::min(i, last_slot)); },
          [](index_t j) { return static_cast<double>(j); }));
      bands.back().region.key = {.end = n_sinks};
    }
    PositionPlan plan = params_.rotary.plan(context, std::move(bands));
    plan.visible.push_back({.distance = {0, window}});
    if (n_sinks > 0) plan.visible.push_back({.key = {.end = n_sinks}});
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Streaming>(
      "streaming",
      {.summary = "StreamingLLM: sinks and a window, positions counted in the cache",
       .formula = "seen: j < n_sinks or i - j < window; sinks at distance min(i, n_sinks + window - 1) - j",
       .source = "Xiao et al. 2023, arXiv:2309.17453, section 3.2",
       .complexity = "the engine's cost becomes O(n (window + n_sinks)); the cache holds as many keys",
       .notes = "causal only; what left the cache is gone"});
}
