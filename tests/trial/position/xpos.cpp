// XPOS (Sun et al., arXiv 2212.10554): rotation with decay zeta_m^(r / S), zeta_m = (2m / d + g) / (1 + g).
#include <cmath>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class Xpos final : public PositionEncoding {
 public:
  struct Params {
    double gamma = 0.4, scale_base = 512, theta_base = 10000;
    void declare(ParamBinder& p) {
      p.real("gamma", gamma, Range::greater_than(0), "1", "g of zeta_m");
      p.real("scale_base", scale_base, Range::greater_than(0), "tokens",
             "distance S at which the decay is zeta_m");
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Xpos(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = true}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    plan.pairing = Pairing::interleaved;
    plan.n_rot_dims = context.d_head;
    std::vector<double> log_amplitude;
    for (index_t m = 0; m < context.d_head / 2; ++m) {
      const double zeta =
          (2.0 * static_cast<double>(m) / static_cast<double>(context.d_head) + p_.gamma) / (1 + p_.gamma);
      log_amplitude.push_back(std::log(zeta) / p_.scale_base);
    }
    plan.bands.push_back({.query_position = running_positions(context.query_offset, context.n_q),
                          .key_position = running_positions(0, context.n_k),
                          .angle = rotary_angles(p_.theta_base, context.d_head),
                          .log_amplitude = make_table(std::move(log_amplitude))});
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Xpos>(
      "xpos", {.summary = "rotation with decay", .source = "arXiv 2212.10554, section 2"});
}
