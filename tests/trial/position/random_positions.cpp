// Randomised positions (Ruoss et al., arXiv 2305.16843): in training the tokens stand at an ordered random
// subset of 0 .. max_length - 1, so that every later distance has been seen. Wraps any plain rotation.
#include <algorithm>
#include <memory>

#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

using namespace borel;

class RandomPositions final : public PositionEncoding {
 public:
  struct Params {
    MethodSpec of = {.family = "position", .id = "multi_base", .params = {{"theta_bases", "[10000]"}}};
    std::int64_t max_length = 2048;
    void declare(ParamBinder& p) {
      p.method("of", of, "position", "the encoding of the drawn positions");
      p.integer("max_length", max_length, Range::at_least(1), "tokens", "positions are drawn below it");
    }
  };
  RandomPositions(const Params& params, const Registry& registry)
      : p_(params), of_(registry.make<PositionEncoding>(params.of)) {}

  PositionTraits traits() const override {
    PositionTraits traits = of_->traits();
    traits.shift_invariant = false;
    return traits;
  }
  std::vector<ParameterTensor> parameters(index_t n_heads, index_t d_head, index_t d_model) const override {
    return of_->parameters(n_heads, d_head, d_model);
  }

  PositionPlan plan(const PositionContext& context, ParameterValues parameters) const override {
    if (!context.training) return of_->plan(context, parameters);
    if (context.n_k > p_.max_length)
      throw MethodError("position random_positions: more tokens than max_length");
    PositionContext longest = context;
    longest.query_offset = 0;
    longest.n_q = longest.n_k = p_.max_length;
    PositionPlan plan = of_->plan(longest, parameters);
    draw(context, plan);
    for (PositionPlan& member : plan.ensemble) draw(context, member);
    return plan;
  }

 private:
  void draw(const PositionContext& context, PositionPlan& plan) const {
    if (plan.ensemble.empty() && !is_plain_rotation(plan))
      throw MethodError(
          "position random_positions: `of` must be a plain rotation; windows and biases count tokens");
    // Floyd's algorithm, then sorted: the same subset for every layer and head of a step.
    Rng rng(context.seed.derive("random positions"));
    std::vector<index_t> positions;
    for (index_t top = p_.max_length - context.n_k; top < p_.max_length; ++top) {
      const auto candidate = static_cast<index_t>(rng.below(static_cast<std::uint64_t>(top + 1)));
      const bool taken = std::find(positions.begin(), positions.end(), candidate) != positions.end();
      positions.push_back(taken ? top : candidate);
    }
    std::sort(positions.begin(), positions.end());
    for (Band& band : plan.bands) {
      std::vector<double> queries, keys;
      for (index_t j = 0; j < context.n_k; ++j)
        keys.push_back(
            (*band.key_position)[static_cast<std::size_t>(positions[static_cast<std::size_t>(j)])]);
      for (index_t i = context.query_offset; i < context.query_offset + context.n_q; ++i)
        queries.push_back(
            (*band.query_position)[static_cast<std::size_t>(positions[static_cast<std::size_t>(i)])]);
      band.query_position = make_table(std::move(queries));
      band.key_position = make_table(std::move(keys));
    }
  }

  Params p_;
  std::unique_ptr<PositionEncoding> of_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<PositionEncoding, RandomPositions>(
      "random_positions", {.summary = "random positions in training", .source = "arXiv 2305.16843"});
}
