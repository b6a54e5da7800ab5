// Dynamic position interpolation in its true form (Su, kexue 9948): query i sees all distances shrunk by
// s(i) = max(L, i + 1) / L, as if the text ended with it. Rotated keys depend on the query: one band per
// query row.
#include <algorithm>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class Dynamic final : public PositionEncoding {
 public:
  struct Params {
    double theta_base = 10000;
    void declare(ParamBinder& p) {
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Dynamic(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.needs_train_length = true}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    plan.n_rot_dims = context.d_head;
    const PositionTable queries = running_positions(context.query_offset, context.n_q);
    const PositionTable keys = running_positions(0, context.n_k);
    const PositionTable plain = rotary_angles(p_.theta_base, context.d_head);
    const index_t begin = context.query_offset, end = begin + context.n_q;
    const index_t inside = std::clamp(context.train_length, begin, end);
    if (inside > begin)
      plan.bands.push_back({.region = {.query = {.end = inside}},
                            .query_position = queries,
                            .key_position = keys,
                            .angle = plain});
    for (index_t i = inside; i < end; ++i) {
      const double s = static_cast<double>(i + 1) / static_cast<double>(context.train_length);
      std::vector<double> angle = *plain;
      for (double& theta : angle) theta /= s;
      plan.bands.push_back({.region = {.query = {i, i + 1}},
                            .query_position = queries,
                            .key_position = keys,
                            .angle = make_table(std::move(angle))});
    }
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Dynamic>(
      "dynamic", {.summary = "interpolation by the length so far", .source = "kexue.fm/archives/9948"});
}
