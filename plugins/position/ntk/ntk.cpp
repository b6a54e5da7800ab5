// NTK-aware scaling: high frequencies are kept, low ones interpolated. Four formulas go by this name:
//
//   aware   theta'_m = theta_m s^(-2m / (D - 2))     bloc97 2023 (base b s^(D / (D - 2))): first kept, last exactly PI
//   old     theta'_m = theta_m s^(-2m / D)           Su 2023, kexue.fm/archives/9706 equation 4 (base b s): last not quite PI
//   fixed   theta'_m = theta_m s^(-2(m + 1) / D)     9706 equation 6: first slowed too, last exactly PI
//   mixed   theta'_m = theta_m exp(-a (m + 1)^p),  a = ln s / (D / 2)^p     9706 equations 9 to 13: p = 1 is fixed, p = 0 is PI
//
// The article has p = 0.625; the author's ntk_patch.py uses p = 0.75. Many programs call `old` "NTK-aware".
#include <cmath>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

class Ntk final : public borel::PositionEncoding {
 public:
  enum class Variant { aware, old, fixed, mixed };
  struct Params {
    Variant variant = Variant::aware;
    double mixed_power = 0.625;
    borel::LengthScaleParam length;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.choice("variant", variant,
               {{"aware", Variant::aware},
                {"old", Variant::old},
                {"fixed", Variant::fixed},
                {"mixed", Variant::mixed}},
               "Which of the formulas that go by this name.");
      p.real("mixed_power", mixed_power, borel::Range::closed(0, 1), "1",
             "Power p of variant mixed: 0.625 in the article, 0.75 in the author's code.");
      length.declare(p);
      rotary.declare(p);
    }
    void check() const { rotary.check(); }
  };

  explicit Ntk(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    return {.shift_invariant = true, .needs_train_length = params_.length.needs_train_length()};
  }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    const double log_s = std::log(params_.length.in(context));
    std::vector<double> angle = *params_.rotary.angles(context);
    for (std::size_t m = 0; m < angle.size(); ++m)
      angle[m] *= std::exp(-log_s * slowed(static_cast<double>(m), static_cast<double>(angle.size())));
    return params_.rotary.plan(context, {borel::plain_band(context, borel::make_table(std::move(angle)))});
  }

 private:
  /// The power of 1 / s by which pair m of n_pairs = D / 2 is slowed: 0 is RoPE, 1 is PI.
  double slowed(double m, double n_pairs) const {
    switch (params_.variant) {
      case Variant::aware:
        return n_pairs > 1 ? m / (n_pairs - 1) : 0;
      case Variant::old:
        return m / n_pairs;
      case Variant::fixed:
        return (m + 1) / n_pairs;
      case Variant::mixed:
        return std::pow((m + 1) / n_pairs, params_.mixed_power);
    }
    return 0;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Ntk>(
      "ntk", {.summary = "NTK scaling of the rotary base: high frequencies kept, low ones interpolated",
              .formula = "theta'_m = theta_m s^(-2m/(D-2)) (aware), s^(-2m/D) (old), s^(-2(m+1)/D) (fixed), "
                         "exp(-a (m+1)^p) (mixed)",
              .source = "bloc97 2023 (aware); Su 2023, kexue.fm/archives/9706, equations 4, 6 and 9 to 13",
              .complexity = "O(n d) once per call",
              .notes = "the four variants differ; many programs call `old` NTK-aware"});
}
