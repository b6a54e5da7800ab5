// T5 relative bias (Raffel et al., arXiv 1910.10683): a learned number per head and distance bucket. 16 exact
// buckets, then logarithmic ones up to 128. The paper uses no 1 / sqrt(d): query_scale = sqrt(d_head) undoes
// the mechanism's.
#include <array>
#include <cmath>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

constexpr index_t k_buckets = 32;
// Smallest distance of buckets 17 .. 31, where 16 + floor(log(r / 16) / log(8) * 16) steps: ceil(16 * 8^(b /
// 16)).
constexpr std::array<index_t, 15> k_thresholds = {19, 21, 24, 27, 31, 35, 40, 46,
                                                  52, 59, 67, 77, 87, 99, 113};

index_t causal_bucket(index_t r) {
  if (r < 16) return r < 0 ? 0 : r;
  index_t bucket = 16;
  for (index_t threshold : k_thresholds) bucket += r >= threshold;
  return bucket;
}

class T5 final : public PositionEncoding {
 public:
  struct Params {
    bool undo_scale = true;
    void declare(ParamBinder& p) {
      p.flag("undo_scale", undo_scale, "scores without 1 / sqrt(d), as in the paper");
    }
  };
  explicit T5(const Params& params) : p_(params) {}

  PositionTraits traits() const override { return {.shift_invariant = true}; }

  std::vector<ParameterTensor> parameters(index_t n_heads, index_t, index_t) const override {
    return {{.name = "bucket_bias",
             .shape = {n_heads, k_buckets},
             .init =
                 [](Rng& rng, std::span<float> values) {
                   rng.fill_normal(values);
                   for (float& value : values) value *= 0.02F;
                 },
             .doc = "bias in nats per head and distance bucket",
             .shared_by_layers = true}};
  }

  PositionPlan plan(const PositionContext& context, ParameterValues parameters) const override {
    if (!context.causal) throw MethodError("position t5: this trial has the causal buckets only");
    PositionPlan plan;
    plan.bias_zero = zero(context);
    plan.bias_width = width(context);
    std::vector<float> bias(static_cast<std::size_t>(context.n_heads * plan.bias_width));
    for (index_t h = 0; h < context.n_heads; ++h)
      for (index_t c = 0; c < plan.bias_width; ++c)
        bias[static_cast<std::size_t>(h * plan.bias_width + c)] =
            parameters[0][static_cast<std::size_t>(h * k_buckets + causal_bucket(plan.bias_zero - c))];
    plan.bias = std::make_shared<const std::vector<float>>(std::move(bias));
    if (p_.undo_scale)
      plan.query_scale = std::make_shared<const std::vector<float>>(
          static_cast<std::size_t>(context.n_q), std::sqrt(static_cast<float>(context.d_head)));
    return plan;
  }

  void backward(const PositionContext& context, ParameterValues, const PositionGradients& d_plan,
                ParameterGradients d_parameters) const override {
    if (d_parameters[0].empty() || d_plan.bias.empty()) return;
    for (index_t h = 0; h < context.n_heads; ++h)
      for (index_t c = 0; c < width(context); ++c)
        d_parameters[0][static_cast<std::size_t>(h * k_buckets + causal_bucket(zero(context) - c))] +=
            d_plan.bias[static_cast<std::size_t>(h * width(context) + c)];
  }

 private:
  // Column c of the bias is j - i = c - zero, from the last query's first key to the first query's own key.
  static index_t zero(const PositionContext& context) {
    return context.query_offset + std::max<index_t>(context.n_q, 1) - 1;
  }
  static index_t width(const PositionContext& context) { return zero(context) + 1; }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, T5>(
      "t5", {.summary = "learned bias per distance bucket", .source = "arXiv 1910.10683"});
}
