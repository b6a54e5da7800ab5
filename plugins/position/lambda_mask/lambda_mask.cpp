// LM-Infinite: first tokens and a window are seen, distances are capped. Han et al. 2023, arXiv:2308.16137, section 4; code
// Glaciohound/LM-Infinite.
//
//   seen   j < n_global   or   |i - j| < n_local          (the mask looks like the letter lambda)
//   r' = min(r, cap)                                      distance = paper
//   r' = r (r < n_local), cap (r >= n_local)              distance = code: global keys at position 0, the query at the cap
//
// Both agree for cap = n_local, the published setting. n_local = the length of training. 10 to 100 global tokens.
#include <algorithm>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class LambdaMask final : public borel::PositionEncoding {
 public:
  enum class Distance { paper, code };
  struct Params {
    std::int64_t n_global = 10, n_local = 0, distance_cap = 0;
    Distance distance = Distance::paper;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer("n_global", n_global, borel::Range::closed(0, 1 << 30), "keys",
                "First keys that every query sees.");
      p.integer("n_local", n_local, borel::Range::closed(0, 1 << 30), "keys",
                "Keys of the window, the query's own included; 0 stands for train_length.");
      p.integer("distance_cap", distance_cap, borel::Range::closed(0, 1 << 30), "tokens",
                "Largest distance that is rotated; 0 stands for n_local.");
      p.choice("distance", distance, {{"paper", Distance::paper}, {"code", Distance::code}},
               "Whether distances between n_local and the cap stay exact (paper) or jump to the cap (code).");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit LambdaMask(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = params_.n_global == 0,
            .needs_train_length = params_.n_local == 0 && params_.train.from_context()};
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t local = params_.n_local != 0 ? params_.n_local : params_.train.in(context);
    const index_t cap = params_.distance_cap != 0 ? params_.distance_cap : local;
    const index_t split = params_.distance == Distance::paper ? cap : local;
    PositionPlan plan = params_.rotary.plan(
        context, borel::near_far_bands(context, params_.rotary.angles(context), split,
                                       static_cast<double>(cap), [](index_t) { return 0.0; }));
    plan.visible.push_back({.distance = {context.causal ? 0 : 1 - local, local}});
    if (params_.n_global > 0) plan.visible.push_back({.key = {.end = params_.n_global}});
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, LambdaMask>(
      "lambda_mask", {.summary = "LM-Infinite: first tokens and a window, rotary distances capped",
                      .formula = "seen: j < n_global or i - j < n_local; rotary score at min(i - j, cap)",
                      .source = "Han et al. 2023, arXiv:2308.16137, section 4",
                      .complexity = "the engine's cost becomes O(n (n_local + n_global))",
                      .notes = "distance = code is the published program, the same when cap = n_local"});
}
