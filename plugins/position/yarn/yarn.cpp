// YaRN: frequencies that turned enough in training are kept, the others interpolated, with a temperature. Peng, Quesnelle,
// Fan, Shippole 2023, arXiv:2309.00071, sections 3.2 to 3.4.
//
//   theta'_m = (1 - g_m) theta_m / s + g_m theta_m,     scores times (0.1 ln s + 1)^2
//   paper   g_m = clip((r_m - alpha) / (beta - alpha), 0, 1),   r_m = L theta_m / (2 pi)   turns in training
//   code    g_m = 1 - clip((m - low) / (high - low), 0, 1),   low = floor(dim(beta)), high = ceil(dim(alpha)),
//           dim(x) = D ln(L / (2 pi x)) / (2 ln b), clamped to [0, D - 1]
//
// Paper and published code (jquesnelle, Hugging Face, ggml) differ by up to 58 % in theta (D = 64, L = 512, m = 11), because
// the code's ramp is linear in the index of the pair. The default is the code, which is what trained models used. The code
// multiplies cosines and sines by 0.1 ln s + 1, so the scores get its square.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

class Yarn final : public borel::PositionEncoding {
 public:
  enum class Ramp { code, paper };
  struct Params {
    Ramp ramp = Ramp::code;
    double alpha = 1, beta = 32;
    bool temperature = true;
    borel::LengthScaleParam length;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.choice(
          "ramp", ramp, {{"code", Ramp::code}, {"paper", Ramp::paper}},
          "Ramp between interpolation and extrapolation: linear in the pair's index (code) or in its turns "
          "(paper).");
      p.real("alpha", alpha, borel::Range::greater_than(0), "turns", "Up to this many turns: interpolated.");
      p.real("beta", beta, borel::Range::greater_than(0), "turns", "From this many turns on: kept.");
      p.flag("temperature", temperature, "Multiply scores by (0.1 ln s + 1)^2.");
      length.declare(p);
      rotary.declare(p);
    }
    void check() const {
      rotary.check();
      if (!(alpha < beta)) throw borel::ParamError("parameter 'alpha' must be less than 'beta'");
    }
  };

  explicit Yarn(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override {
    // The ramp needs L even where the factor is given.
    return {.shift_invariant = true, .needs_train_length = params_.length.train.from_context()};
  }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    const double s = params_.length.in(context);
    std::vector<double> angle = *params_.rotary.angles(context);
    const auto length = static_cast<double>(params_.length.train.in(context));
    const auto n_rot_dims = static_cast<double>(2 * angle.size());
    for (std::size_t m = 0; m < angle.size(); ++m) {
      const double kept = share_kept(static_cast<double>(m), angle[m], length, n_rot_dims);
      angle[m] *= (1 - kept) / s + kept;
    }
    borel::Band band = borel::plain_band(context, borel::make_table(std::move(angle)));
    if (params_.temperature && s > 1) band.logit_scale = std::pow(0.1 * std::log(s) + 1, 2);
    return params_.rotary.plan(context, {std::move(band)});
  }

 private:
  double share_kept(double m, double theta, double length, double n_rot_dims) const {
    constexpr double k_turn = 2 * std::numbers::pi;
    if (params_.ramp == Ramp::paper) {
      const double turns = length * theta / k_turn;
      return std::clamp((turns - params_.alpha) / (params_.beta - params_.alpha), 0.0, 1.0);
    }
    const auto index = [&](double turns) {
      return n_rot_dims * std::log(length / (turns * k_turn)) / (2 * std::log(params_.rotary.theta_base));
    };
    const double low = std::max(std::floor(index(params_.beta)), 0.0);
    double high = std::min(std::ceil(index(params_.alpha)), n_rot_dims - 1);
    if (low == high) high += 0.001;  // as in the code, against a division by zero
    return 1 - std::clamp((m - low) / (high - low), 0.0, 1.0);
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Yarn>(
      "yarn", {.summary = "YaRN: frequencies interpolated by how often they turned in training, temperature",
               .formula = "theta'_m = (1 - g_m) theta_m / s + g_m theta_m; scores times (0.1 ln s + 1)^2",
               .source = "Peng et al. 2023, arXiv:2309.00071, sections 3.2 to 3.4; code jquesnelle/yarn",
               .complexity = "O(n d) once per call",
               .notes = "ramp = code (default) and ramp = paper differ by up to 58 % in theta"});
}
