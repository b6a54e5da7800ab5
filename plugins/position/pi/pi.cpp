// Position interpolation. Chen, Wong, Chen, Tian 2023, arXiv:2306.15595, equations 3 and 4; kaiokendev 2023.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I (r / s) theta_m) ],   s = longest length / L
//
// Every position is divided by s, so that none leaves the trained range; near pairs are crushed as much as far ones.
#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

class Pi final : public borel::PositionEncoding {
 public:
  struct Params {
    borel::LengthScaleParam length;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      length.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit Pi(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true, .needs_train_length = params_.length.needs_train_length()};
  }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    const double s = params_.length.in(context);
    std::vector<double> angle = *params_.rotary.angles(context);
    for (double& theta : angle) theta /= s;
    return params_.rotary.plan(context, {borel::plain_band(context, borel::make_table(std::move(angle)))});
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Pi>(
      "pi", {.summary = "Position interpolation: all positions divided by the length factor",
             .formula = "rotary score at distance (i - j) / s",
             .source = "Chen et al. 2023, arXiv:2306.15595, equations 3 and 4",
             .complexity = "O(n d) once per call",
             .notes = "s follows the longest length of the evaluation, so that all calls agree; see dynamic "
                      "for a factor per position"});
}
