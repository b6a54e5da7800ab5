// StreamingLLM (Xiao et al., arXiv 2309.17453): a cache of the first `sinks` and the last `window` tokens; a
// token's position is its slot in the cache. Between recent tokens that is the plain distance; towards a sink
// j the query stands at the last slot, min(i, sinks + window - 1).
#include <algorithm>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class Streaming final : public PositionEncoding {
 public:
  struct Params {
    std::int64_t sinks = 4, window = 64;
    double theta_base = 10000;
    void declare(ParamBinder& p) {
      p.integer("sinks", sinks, Range::at_least(0), "tokens", "first tokens that stay");
      p.integer("window", window, Range::at_least(1), "tokens",
                "last tokens that stay, the query's own included");
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Streaming(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    if (!context.causal) throw MethodError("position streaming: a cache exists in causal contexts only");
    PositionPlan plan;
    plan.n_rot_dims = context.d_head;
    const PositionTable angle = rotary_angles(p_.theta_base, context.d_head);
    const PositionTable keys = running_positions(0, context.n_k);
    std::vector<double> last_slot;
    for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i)
      last_slot.push_back(static_cast<double>(std::min<index_t>(i, p_.sinks + p_.window - 1)));
    plan.bands.push_back({.region = {.key = {.begin = p_.sinks}},
                          .query_position = running_positions(context.query_offset, context.n_q),
                          .key_position = keys,
                          .angle = angle});
    plan.bands.push_back({.region = {.key = {.end = p_.sinks}},
                          .query_position = make_table(std::move(last_slot)),
                          .key_position = keys,
                          .angle = angle});
    plan.visible = {{.key = {.end = p_.sinks}}, {.distance = {0, p_.window}}};
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Streaming>(
      "streaming", {.summary = "sinks and a window, positions in the cache", .source = "arXiv 2309.17453"});
}
