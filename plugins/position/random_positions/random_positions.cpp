// Randomised positions: in training the tokens stand at an ordered random subset of 0 .. max_length - 1, so that every later
// distance has been seen. Ruoss et al. 2023, arXiv:2305.16843, section 3.
//
// The same subset for all layers and heads of a training step (the context's seed); plain positions otherwise.
#include <algorithm>
#include <string>
#include <unordered_set>
#include <vector>

#include "borel/draft/position_wrapper.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class RandomPositions final : public borel::PositionWrapper {
 public:
  struct Params {
    borel::MethodSpec of{.family = "position", .id = "rope"};
    std::int64_t max_length = 2048;
    void declare(borel::ParamBinder& p) {
      p.method("of", of, "position", "The encoding of the drawn positions, a plain rotation.");
      p.integer("max_length", max_length, borel::Range::closed(1, 1 << 30), "tokens",
                "Positions are drawn below it; the longest context that will be read.");
    }
  };
  RandomPositions(const Params& params, const borel::Registry& registry)
      : PositionWrapper(params.of, registry), params_(params) {
    if (!inner())
      throw borel::ParamError(
          "position random_positions: parameter 'of' must name an encoding, such as rope");
  }

  borel::PositionTraits traits() const override { return inner_traits(); }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    if (!context.training) return inner_plan(context, parameters);
    if (context.n_tokens() > params_.max_length)
      throw borel::MethodError("position random_positions: " + std::to_string(context.n_tokens()) +
                               " tokens cannot stand at different positions below max_length = " +
                               std::to_string(params_.max_length) + "; raise max_length");
    return borel::plan_at_positions(*inner(), context, parameters, draw(context));
  }

 private:
  /// Floyd's algorithm: each subset is as likely as any other, in O(n).
  std::vector<index_t> draw(const PositionContext& context) const {
    borel::Rng rng(context.seed.derive("random positions"));
    std::unordered_set<index_t> taken;
    for (index_t top = params_.max_length - context.n_tokens(); top < params_.max_length; ++top) {
      const auto candidate = static_cast<index_t>(rng.below(static_cast<std::uint64_t>(top + 1)));
      if (!taken.insert(candidate).second) taken.insert(top);
    }
    std::vector<index_t> positions(taken.begin(), taken.end());
    std::ranges::sort(positions);
    return positions;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, RandomPositions>(
      "random_positions",
      {.summary = "In training the tokens stand at an ordered random subset of a longer range",
       .formula = "positions: a sorted uniform subset of 0 .. max_length - 1",
       .source = "Ruoss et al. 2023, arXiv:2305.16843, section 3",
       .complexity = "O(max_length d) once per call in training",
       .notes = "for training; otherwise the encoding 'of' as it is"});
}
