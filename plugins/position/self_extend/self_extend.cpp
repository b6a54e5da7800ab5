// Self-Extend: exact distances within a window, grouped positions beyond it. Jin et al. 2024, arXiv:2401.01325, section 3.2;
// code datamllab/LongLM.
//
//   r' = r                                              r < w
//   r' = floor(i / G) - floor(j / G) + w - floor(w / G)   r >= w      (mirrored for r <= -w without a causal mask)
//
// Reaches (L - w) G + w tokens. The published code shifts by w - w / G as a real number, which is half a step off when G
// does not divide w: shift = real. It also takes calls of one query or of the whole text only; here any rows.
#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class SelfExtend final : public borel::PositionEncoding {
 public:
  enum class Shift { integer, real };
  struct Params {
    std::int64_t window = 0, group = 8;
    Shift shift = Shift::integer;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "tokens",
                "Distances below it are exact; 0 stands for half of train_length.");
      p.integer("group", group, borel::Range::closed(1, 1 << 20), "tokens",
                "Tokens G that share a position beyond the window.");
      p.choice("shift", shift, {{"integer", Shift::integer}, {"real", Shift::real}},
               "w - floor(w / G) as in the paper, or w - w / G as in its code.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit SelfExtend(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    // floor(i / G) - floor(j / G) depends on where the groups begin.
    return {.shift_invariant = params_.group == 1,
            .needs_train_length = params_.window == 0 && params_.train.from_context()};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t w =
        params_.window != 0 ? params_.window : std::max<index_t>(1, params_.train.in(context) / 2);
    const index_t group = params_.group;
    const double grouped_window = params_.shift == Shift::integer
                                      ? static_cast<double>(w / group)
                                      : static_cast<double>(w) / static_cast<double>(group);
    return params_.rotary.plan(
        context, borel::near_far_bands(context, params_.rotary.angles(context), w,
                                       static_cast<double>(w) - grouped_window,
                                       [group](index_t t) { return static_cast<double>(t / group); }));
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, SelfExtend>(
      "self_extend",
      {.summary = "Self-Extend: exact distances near, grouped positions far",
       .formula = "rotary score at floor(i/G) - floor(j/G) + w - floor(w/G) for i - j >= w",
       .source = "Jin et al. 2024, arXiv:2401.01325, section 3.2",
       .complexity = "O(n d) once per call; a second product in tiles at distance w",
       .notes = "shift = real is the published code, half a step off when G does not divide w"});
}
