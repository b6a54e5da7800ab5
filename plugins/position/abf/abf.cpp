// Adjusted base frequency: plain rotary embedding with a larger base. Xiong et al. 2023, arXiv:2309.16039, section 4.1 (base
// 500000 for LLaMA 2 Long; Code Llama has 1000000, arXiv:2308.12950). Meant for continued training with that base; used
// without training it is NTK scaling with variant `old` and s = theta_base / 10000.
#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

class Abf final : public borel::PositionEncoding {
 public:
  struct Params {
    borel::RotaryParams rotary{.theta_base = 500000};
    void declare(borel::ParamBinder& p) { rotary.declare(p); }
    void check() const { rotary.check(); }
  };

  explicit Abf(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    return params_.rotary.plan(context, {borel::plain_band(context, params_.rotary.angles(context))});
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Abf>("abf",
                                             {.summary = "Rotary embedding with an adjusted base frequency",
                                              .formula = "theta_m = 500000^(-2m/D)",
                                              .source = "Xiong et al. 2023, arXiv:2309.16039, section 4.1",
                                              .complexity = "O(n d) once per call",
                                              .notes = "made for continued training with the new base"});
}
