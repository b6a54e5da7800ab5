// InvLeaky ReRoPE: trained with stretched distances beyond a window, used with plain rotary embedding. Su 2023,
// kexue.fm/archives/9728.
//
//   in training    r' = r (r < w),   w + (r - w) stretch (r >= w)
//   afterwards     r' = r: no second product, any engine
//
// The author's stretch is twice the expansion (k = 1 / (2 * expansion)) with w = L / 4, and optionally a base 8 times larger.
#include <algorithm>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class InvLeakyReRope final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 0;
    double stretch = 16;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer(
          "window", window, borel::Range::closed(0, 1 << 30), "tokens",
          "Distance w up to which training sees true distances; 0 stands for a quarter of train_length.");
      p.real("stretch", stretch, borel::Range::at_least(1), "1",
             "Distances beyond the window grow this much faster in training: twice the wanted expansion.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit InvLeakyReRope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true,
            .needs_train_length = params_.window == 0 && params_.train.from_context()};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const borel::PositionTable angle = params_.rotary.angles(context);
    if (!context.training) return params_.rotary.plan(context, {borel::plain_band(context, angle)});
    const index_t window =
        params_.window != 0 ? params_.window : std::max<index_t>(1, params_.train.in(context) / 4);
    const auto w = static_cast<double>(window);
    const double stretch = params_.stretch;
    const auto fast = [stretch](index_t t) { return static_cast<double>(t) * stretch; };
    return params_.rotary.plan(context, borel::near_far_bands(context, angle, window, w - w * stretch, fast));
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, InvLeakyReRope>(
      "inv_leaky_rerope",
      {.summary = "Trained with stretched far distances, used as plain rotary embedding",
       .formula = "training: rotary score at w + (r - w) stretch for r >= w; afterwards at r",
       .source = "Su 2023, kexue.fm/archives/9728",
       .complexity = "O(n d) once per call",
       .notes = "without training in this form it is plain RoPE"});
}
