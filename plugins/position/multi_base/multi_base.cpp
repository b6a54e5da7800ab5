// Several rotation bases, outputs averaged: an ensemble inside one layer. Follows the observation of Su 2024
// (kexue.fm/archives/9948) that each base is blind to other distances; no published code.
//
//   o = (1 / B) sum_b A(q, k; theta_base_b) v
#include "borel/draft/rotary.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

class MultiBase final : public borel::PositionEncoding {
 public:
  struct Params {
    std::vector<double> theta_bases = {10000, 500000};
    borel::Pairing pairing = borel::Pairing::half;
    void declare(borel::ParamBinder& p) {
      p.reals("theta_bases", theta_bases, borel::Range::left_open(1, 1e12), "1",
              "Bases of the frequencies, one member each.");
      p.choice("pairing", pairing,
               {{"half", borel::Pairing::half}, {"interleaved", borel::Pairing::interleaved}},
               "Which components form a pair: (m, m + D/2) or (2m, 2m + 1).");
    }
    void check() const {
      if (theta_bases.empty())
        throw borel::ParamError("parameter 'theta_bases' must name at least one base, got '[]'");
    }
  };
  explicit MultiBase(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    borel::PositionPlan plan;
    for (const double base : params_.theta_bases) {
      const borel::RotaryParams rotary{base, params_.pairing, 0};
      plan.ensemble.push_back(rotary.plan(context, {borel::plain_band(context, rotary.angles(context))}));
    }
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, MultiBase>(
      "multi_base", {.summary = "Mean of the outputs under several rotation bases",
                     .formula = "o = mean over bases of A(q, k; theta_base) v",
                     .source = "after Su 2024, kexue.fm/archives/9948",
                     .complexity = "as many forward passes as bases",
                     .notes = "no single score matrix; mechanisms made of chunks refuse it"});
}
