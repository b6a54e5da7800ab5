// ReRoPE: rotary embedding whose distance is rectified. Su 2023, kexue.fm/archives/9708, code bojone/rerope.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I r' theta_m) ],   r' = min(r, w),  r = i - j,  theta_m = theta_base^(-2 m / d)
//   (r' = clamp(r, -w, w) without a causal mask)
//
// Two bands: near pairs (r < w) rotate as usual; far pairs rotate the query by w and leave the key, so the engine pays for
// two products only in tiles that straddle r = w. (The published code computes both scores for all pairs.) Best windows: a
// quarter to a half of the length of training; w = L fails. Trained with, it loses its power to extrapolate (Su 2024,
// kexue.fm/archives/9948): it is a change at inference.
#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class ReRope final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 0;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer(
          "window", window, borel::Range::closed(0, 1 << 30), "tokens",
          "Distance w from which on all pairs look equally far; 0 stands for a quarter of train_length.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit ReRope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true,
            .needs_train_length = params_.window == 0 && params_.train.from_context()};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t w =
        params_.window != 0 ? params_.window : std::max<index_t>(1, params_.train.in(context) / 4);
    const auto nowhere = [](index_t) { return 0.0; };
    return params_.rotary.plan(context, borel::near_far_bands(context, params_.rotary.angles(context), w,
                                                              static_cast<double>(w), nowhere));
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, ReRope>(
      "rerope", {.summary = "Rotary embedding with distances cut at a window",
                 .formula = "rotary score at distance min(i - j, w)",
                 .source = "Su 2023, kexue.fm/archives/9708",
                 .complexity = "O(n d) once per call; a second product in tiles at distance w",
                 .notes = "for inference; training from scratch with it removes extrapolation"});
}
