// HWFA (Su, kexue 9603): all layers but the last see a window with rotation, (w - 1)(L - 1) + 1 = alpha N;
// the last layer sees everything, without positions, with the log n scale.
#include <algorithm>
#include <cmath>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class Hwfa final : public PositionEncoding {
 public:
  struct Params {
    double alpha = 0.75, theta_base = 10000;
    void declare(ParamBinder& p) {
      p.real("alpha", alpha, Range::left_open(0, 1), "1",
             "share of the train length that the windows reach together");
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Hwfa(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.layer_dependent = true, .needs_train_length = true}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    if (context.layer_index + 1 == context.n_layers) {
      std::vector<float> scale;
      for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i)
        scale.push_back(
            static_cast<float>(std::max(1.0, std::log(static_cast<double>(i + 1)) /
                                                 std::log(static_cast<double>(context.train_length)))));
      plan.query_scale = std::make_shared<const std::vector<float>>(std::move(scale));
      return plan;
    }
    const double reach = p_.alpha * static_cast<double>(context.train_length);
    const auto window = static_cast<index_t>((reach - 1) / static_cast<double>(context.n_layers - 1)) + 1;
    plan.n_rot_dims = context.d_head;
    plan.bands.push_back({.query_position = running_positions(context.query_offset, context.n_q),
                          .key_position = running_positions(0, context.n_k),
                          .angle = rotary_angles(p_.theta_base, context.d_head)});
    plan.visible = {{.distance = {context.causal ? 0 : -window + 1, window}}};
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Hwfa>(
      "hwfa", {.summary = "windows below, everything above", .source = "kexue.fm/archives/9603"});
}
