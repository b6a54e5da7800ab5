// ReRoPE: rotary embedding whose distance is rectified. Su 2023, kexue.fm/archives/9708, code bojone/rerope.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I r' theta_m) ],   r' = min(r, w),  r = i - j     (clamp(r, -w,
//   w) without a causal mask),   theta_m = theta_base^(-2 m / d)
//
// Two bands: near pairs (r < w) rotate as usual; far pairs rotate the query by w and leave the key, so the
// engine pays for two products only in tiles that straddle r = w. Best windows: a quarter to a half of the
// length of training. Trained with, it loses its power to extrapolate (Su 2024, kexue.fm/archives/9948): it
// is a change at inference.
#include <string>

#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class ReRope final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 0, train_length = 0;
    double theta_base = 10000;
    borel::Pairing pairing = borel::Pairing::half;
    void declare(borel::ParamBinder& p) {
      p.integer(
          "window", window, borel::Range::closed(0, 1 << 30), "tokens",
          "Distance w from which on all pairs look equally far; 0 stands for a quarter of train_length.");
      p.integer("train_length", train_length, borel::Range::closed(0, 1 << 30), "tokens",
                "Length of training; 0 takes the one of the context.");
      p.real("theta_base", theta_base, borel::Range::left_open(1, 1e12), "1",
             "Base of the frequencies, as in training.");
      p.choice("pairing", pairing,
               {{"half", borel::Pairing::half}, {"interleaved", borel::Pairing::interleaved}},
               "Which components form a pair: (m, m + d/2) or (2m, 2m + 1).");
    }
  };

  explicit ReRope(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true, .needs_train_length = params_.window == 0 && params_.train_length == 0};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues) const override {
    const index_t train_length = params_.train_length != 0 ? params_.train_length : context.train_length;
    const index_t w = params_.window != 0 ? params_.window : std::max<index_t>(1, train_length / 4);
    borel::PositionPlan plan;
    plan.pairing = params_.pairing;
    plan.n_rot_dims = context.d_head;
    borel::Band near;
    near.angle = borel::rotary_angles(params_.theta_base, context.d_head);
    near.query_position = borel::running_positions(context.query_offset, context.n_q);
    near.key_position = borel::running_positions(0, context.n_k);
    near.region.distance = {1 - w, w};
    borel::Band far = near;
    far.query_position = constant(context.n_q, w);
    far.key_position = constant(context.n_k, 0);
    far.region.distance = {.begin = w};
    plan.bands = {near, far};
    if (!context.causal) {
      far.query_position = constant(context.n_q, -w);
      far.region.distance = {.end = 1 - w};
      plan.bands.push_back(far);
    }
    return plan;
  }

 private:
  static borel::PositionTable constant(index_t n, index_t value) {
    return borel::make_table(std::vector<double>(static_cast<std::size_t>(n), static_cast<double>(value)));
  }
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
