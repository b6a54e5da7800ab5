// Axial rotation for images: the first half of the pairs turns with the row, the second half with the column.
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class Rope2d final : public PositionEncoding {
 public:
  struct Params {
    double theta_base = 100;
    void declare(ParamBinder& p) {
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Rope2d(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = true, .n_axes = 2}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    if (context.d_head % 4 != 0) throw MethodError("position rope_2d: d_head must be a multiple of 4");
    PositionPlan plan;
    plan.n_rot_dims = context.d_head;
    const PositionTable half = rotary_angles(p_.theta_base, context.d_head / 2);
    std::vector<double> angle;
    for (double theta : *half) angle.insert(angle.end(), {theta, 0});
    for (double theta : *half) angle.insert(angle.end(), {0, theta});
    std::vector<double> keys, queries;
    for (index_t j = 0; j < context.n_k; ++j)
      for (double x : context.coordinates.row(j)) keys.push_back(x);
    for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i)
      for (double x : context.coordinates.row(i)) queries.push_back(x);
    plan.bands.push_back({.query_position = make_table(std::move(queries)),
                          .key_position = make_table(std::move(keys)),
                          .angle = make_table(std::move(angle)),
                          .n_axes = 2});
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Rope2d>(
      "rope_2d", {.summary = "rotation by row and column", .source = "arXiv 2403.13298, section 3"});
}
