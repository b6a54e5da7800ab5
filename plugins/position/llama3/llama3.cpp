// Frequency scaling of Llama 3.1. Dubey et al. 2024, arXiv:2407.21783; formula in the published reference code and in Hugging
// Face transformers (rope type llama3).
//
//   wavelength_m = 2 pi / theta_m
//   theta'_m = theta_m                              wavelength < L / high
//            = theta_m / factor                     wavelength > L / low
//            = (1 - c) theta_m / factor + c theta_m,   c = (L / wavelength - low) / (high - low)   between
//
// Published values: factor 8, low 1, high 4, L = 8192 (the length before the extension), theta_base 500000.
#include <cmath>
#include <numbers>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

class Llama3 final : public borel::PositionEncoding {
 public:
  struct Params {
    double factor = 8, low = 1, high = 4;
    borel::TrainLengthParam train;
    borel::RotaryParams rotary{.theta_base = 500000};
    void declare(borel::ParamBinder& p) {
      p.real("factor", factor, borel::Range::at_least(1), "1", "Division of the slow frequencies.");
      p.real("low", low, borel::Range::greater_than(0), "turns",
             "Frequencies with fewer turns within L are divided by the factor.");
      p.real("high", high, borel::Range::greater_than(0), "turns", "Frequencies with more turns are kept.");
      train.declare(p);
      rotary.declare(p);
    }
    void check() const {
      rotary.check();
      if (!(low < high)) throw borel::ParamError("parameter 'low' must be less than 'high'");
    }
  };

  explicit Llama3(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true, .needs_train_length = params_.train.from_context()};
  }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    std::vector<double> angle = *params_.rotary.angles(context);
    const auto length = static_cast<double>(params_.train.in(context));
    for (double& theta : angle) {
      const double turns = length * theta / (2 * std::numbers::pi);
      const double kept = turns > params_.high  ? 1
                          : turns < params_.low ? 0
                                                : (turns - params_.low) / (params_.high - params_.low);
      theta *= (1 - kept) / params_.factor + kept;
    }
    return params_.rotary.plan(context, {borel::plain_band(context, borel::make_table(std::move(angle)))});
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Llama3>(
      "llama3",
      {.summary = "Llama 3.1 scaling: slow frequencies divided, fast ones kept, a ramp between",
       .formula = "theta'_m = (1 - c) theta_m / factor + c theta_m, c = clip((turns - low)/(high - low))",
       .source = "Dubey et al. 2024, arXiv:2407.21783; Hugging Face rope type llama3",
       .complexity = "O(n d) once per call",
       .notes = "published: factor 8, low 1, high 4, train_length 8192"});
}
