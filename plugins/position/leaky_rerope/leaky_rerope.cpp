// Leaky ReRoPE: beyond a window distances go on, but k times slower. Su 2023, kexue.fm/archives/9708, code bojone/rerope.
//
//   r' = r                    r < w
//   r' = w + (r - w) / k      r >= w      (mirrored for r <= -w without a causal mask)
//
// k -> infinity is ReRoPE. Rule of the author: w + (n - 1 - w) / k stays within about half of the length of training up to
// all of it. leak = 0 takes the k that reaches just L with the longest length.
#include <algorithm>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class LeakyReRope final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 0;
    double leak = 16;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "tokens",
                "Distance w up to which nothing changes; 0 stands for a quarter of train_length.");
      p.real(
          "leak", leak, borel::Range::at_least(0), "1",
          "Distances beyond the window grow k times slower; 0 reaches train_length at the longest length.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const {
      rotary.check();
      if (leak > 0 && leak < 1)
        throw borel::ParamError("parameter 'leak' must be 0 or >= 1, got '" + borel::param_text(leak) +
                                "'; inv_leaky_rerope stretches distances");
    }
  };

  explicit LeakyReRope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true,
            .needs_train_length = (params_.window == 0 || params_.leak == 0) && params_.train.from_context()};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t length = params_.train.in(context);
    const index_t window = params_.window != 0 ? params_.window : std::max<index_t>(1, length / 4);
    const auto w = static_cast<double>(window);
    double k = params_.leak;
    if (k == 0)
      k = std::max(1.0, (static_cast<double>(context.longest_length()) - 1 - w) /
                            std::max(1.0, static_cast<double>(length) - 1 - w));
    // i / k - j / k + (w - w / k) = w + (r - w) / k
    const auto slow = [k](index_t t) { return static_cast<double>(t) / k; };
    return params_.rotary.plan(
        context, borel::near_far_bands(context, params_.rotary.angles(context), window, w - w / k, slow));
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, LeakyReRope>(
      "leaky_rerope", {.summary = "Rotary embedding whose distances grow slower beyond a window",
                       .formula = "rotary score at distance w + (r - w)/k for r >= w",
                       .source = "Su 2023, kexue.fm/archives/9708",
                       .complexity = "O(n d) once per call; a second product in tiles at distance w",
                       .notes = "for inference, on a model trained with plain rotation"});
}
