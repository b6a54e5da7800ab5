// CoCA (Zhu et al., arXiv 2309.08646), paper form: keys collinear with the query,
//   score = sum_m |q_m|^2 t_m cos(r theta_m),  t_m = relu(mean of the pair of the key projection),
// as a rotation of q'_m = (|q_m|^2, 0) and k'_m = (t_m, 0).
#include <algorithm>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

/// Pairs are (m, m + d / 2).
class SquaredLength final : public TokenMap {
 public:
  void apply(index_t, index_t, TensorView<float, 2> rows) const override {
    const index_t half = rows.shape(1) / 2;
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (index_t m = 0; m < half; ++m) {
        const float a = rows(t, m), b = rows(t, m + half);
        rows(t, m) = a * a + b * b;
        rows(t, m + half) = 0;
      }
  }
  void backward(index_t, index_t, TensorView<const float, 2> input,
                TensorView<float, 2> d_rows) const override {
    const index_t half = input.shape(1) / 2;
    for (index_t t = 0; t < input.shape(0); ++t)
      for (index_t m = 0; m < half; ++m) {
        const float d = d_rows(t, m);
        d_rows(t, m) = 2 * input(t, m) * d;
        d_rows(t, m + half) = 2 * input(t, m + half) * d;
      }
  }
};

class PositiveMean final : public TokenMap {
 public:
  void apply(index_t, index_t, TensorView<float, 2> rows) const override {
    const index_t half = rows.shape(1) / 2;
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (index_t m = 0; m < half; ++m) {
        rows(t, m) = std::max(0.0F, 0.5F * (rows(t, m) + rows(t, m + half)));
        rows(t, m + half) = 0;
      }
  }
  void backward(index_t, index_t, TensorView<const float, 2> input,
                TensorView<float, 2> d_rows) const override {
    const index_t half = input.shape(1) / 2;
    for (index_t t = 0; t < input.shape(0); ++t)
      for (index_t m = 0; m < half; ++m) {
        const float d = input(t, m) + input(t, m + half) > 0 ? 0.5F * d_rows(t, m) : 0.0F;
        d_rows(t, m) = d_rows(t, m + half) = d;
      }
  }
};

class Coca final : public PositionEncoding {
 public:
  struct Params {
    double theta_base = 10000;
    void declare(ParamBinder& p) {
      p.real("theta_base", theta_base, Range::greater_than(1), "1", "base of the rotation frequencies");
    }
  };
  explicit Coca(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = true}; }

  PositionPlan plan(const PositionContext& context, ParameterValues) const override {
    PositionPlan plan;
    plan.n_rot_dims = context.d_head;
    plan.bands.push_back({.query_position = running_positions(context.query_offset, context.n_q),
                          .key_position = running_positions(0, context.n_k),
                          .angle = rotary_angles(p_.theta_base, context.d_head)});
    plan.query_map = std::make_shared<const SquaredLength>();
    plan.key_map = std::make_shared<const PositiveMean>();
    return plan;
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, Coca>(
      "coca", {.summary = "keys collinear with the query", .source = "arXiv 2309.08646, section 3"});
}
