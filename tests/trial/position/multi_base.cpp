// Several rotation bases, outputs averaged.
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class MultiBase final : public PositionEncoding {
 public:
  struct Params {
    std::vector<double> theta_bases = {10000, 20000};
    void declare(ParamBinder& p) {
      p.reals("theta_bases", theta_bases, Range::greater_than(1), "1", "one member per base");
    }
    void check() const {
      if (theta_bases.empty()) throw ParamError("theta_bases must name at least one base, got []");
    }
  };
  explicit MultiBase(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = true}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    for (double base : p_.theta_bases) {
      PositionPlan member;
      member.n_rot_dims = context.d_head;
      member.bands.push_back({.query_position = running_positions(context.query_offset, context.n_q),
                              .key_position = running_positions(0, context.n_k),
                              .angle = rotary_angles(base, context.d_head)});
      plan.ensemble.push_back(std::move(member));
    }
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, MultiBase>(
      "multi_base", {.summary = "mean over rotation bases", .source = "kexue.fm/archives/9948"});
}
