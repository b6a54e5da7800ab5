// Self-Extend (Jin et al., arXiv 2401.01325): exact distances within a window, grouped positions beyond it.
//   r~ = r                                          |r| < w
//   r~ = floor(i / G) - floor(j / G) + w - floor(w / G)   r >= w     (mirrored for r <= -w)
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class SelfExtend final : public PositionEncoding {
 public:
  struct Params {
    std::int64_t window = 64, group = 8;
    double theta_base = 10000;
    void declare(ParamBinder& p) {
      p.integer("window", window, Range::at_least(1), "tokens", "distances below it are exact");
      p.integer("group", group, Range::at_least(1), "tokens",
                "tokens that share a position beyond the window");
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit SelfExtend(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = p_.group == 1}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    plan.n_rot_dims = context.d_head;
    const PositionTable angle = rotary_angles(p_.theta_base, context.d_head);
    plan.bands.push_back({.region = {.distance = {-p_.window + 1, p_.window}},
                          .query_position = running_positions(context.query_offset, context.n_q),
                          .key_position = running_positions(0, context.n_k),
                          .angle = angle});
    const auto shift = static_cast<double>(p_.window - p_.window / p_.group);
    const PositionTable keys = grouped(0, context.n_k, 0);
    plan.bands.push_back({.region = {.distance = {.begin = p_.window}},
                          .query_position = grouped(context.query_offset, context.n_q, shift),
                          .key_position = keys,
                          .angle = angle});
    if (!context.causal)
      plan.bands.push_back({.region = {.distance = {.end = -p_.window + 1}},
                            .query_position = grouped(context.query_offset, context.n_q, -shift),
                            .key_position = keys,
                            .angle = angle});
    return plan;
  }

 private:
  PositionTable grouped(index_t first, index_t n, double shift) const {
    std::vector<double> positions;
    for (index_t row = 0; row < n; ++row)
      positions.push_back(static_cast<double>((first + row) / p_.group) + shift);
    return make_table(std::move(positions));
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, SelfExtend>(
      "self_extend", {.summary = "exact near, grouped far", .source = "arXiv 2401.01325, section 3.2"});
}
