// XPOS: rotation with an exponential decay per frequency. Sun et al. 2022, arXiv:2212.10554, section 2; code
// microsoft/torchscale.
//
//   score(i, j) = sum_m Re[ q_m conj(k_m) exp(I r theta_m) ] zeta_m^(r / S),   zeta_m = (2 m / D + g) / (1 + g)
//
// g = 0.4, S = 512. Published code multiplies queries by zeta^(i / S) and keys by zeta^(-j / S), which leaves the range of
// float32 for long contexts; here the plan holds log zeta and the engine centres it per block. Without a causal mask the
// decay would be growth for r < 0, so it is causal only. Published pairing: interleaved.
#include <cmath>

#include "borel/draft/rotary.hpp"
#include "borel/plugin.hpp"

namespace {

class Xpos final : public borel::PositionEncoding {
 public:
  struct Params {
    double gamma = 0.4, scale_base = 512;
    borel::RotaryParams rotary;
    void declare(borel::ParamBinder& p) {
      p.real("gamma", gamma, borel::Range::greater_than(0), "1", "g of zeta_m = (2m / D + g) / (1 + g).");
      p.real("scale_base", scale_base, borel::Range::at_least(1e-3), "tokens",
             "Distance S at which the decay is zeta_m.");
      rotary.declare(p);
    }
    void check() const {
      rotary.check();
      // Engines centre the amplitudes within blocks of at most 128 tokens; e^60 leaves room for the products.
      if (!(128 * std::log((1 + gamma) / gamma) <= 60 * scale_base))
        throw borel::ParamError(
            "parameter 'scale_base' is too small for 'gamma': ((1 + gamma) / gamma)^(128 / scale_base) must "
            "not "
            "exceed e^60, or float32 overflows; raise scale_base or gamma");
    }
  };
  explicit Xpos(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true, .causal_only = true}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    borel::Band band = borel::plain_band(context, params_.rotary.angles(context));
    const std::size_t n_pairs = band.angle->size();
    std::vector<double> log_zeta;
    for (std::size_t m = 0; m < n_pairs; ++m)
      log_zeta.push_back(std::log((static_cast<double>(m) / static_cast<double>(n_pairs) + params_.gamma) /
                                  (1 + params_.gamma)) /
                         params_.scale_base);
    band.log_amplitude = borel::make_table(std::move(log_zeta));
    return params_.rotary.plan(context, {std::move(band)});
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Xpos>(
      "xpos",
      {.summary = "Rotary embedding with an exponential decay per frequency",
       .formula = "rotary score of pair m times ((2m/D + g)/(1 + g))^((i - j)/S)",
       .source = "Sun et al. 2022, arXiv:2212.10554, section 2",
       .complexity = "O(n d) once per call",
       .notes = "causal only; centred per block, so long contexts do not overflow as in published code"});
}
