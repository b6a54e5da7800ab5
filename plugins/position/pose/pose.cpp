// PoSE, positional skip-wise training: the training text is cut into chunks and each chunk's positions skip ahead by a random
// amount, so that a short text shows the distances of a long one. Zhu et al. 2023, arXiv:2309.10400, section 3.2.
//
//   chunk c holds tokens cut_c .. cut_{c+1} - 1, position of token t = t + u_c,   0 = u_0 <= u_1 <= ... <= L_target - n
//
// u_c is uniform in {u_{c-1}, ..., L_target - n}. Two chunks in the paper, the first at most half of the text as in its code
// (dwzhu-pku/PoSE); with more chunks the cuts are a uniform ordered subset. Same for all layers and heads of a step.
#include <algorithm>
#include <vector>

#include "borel/draft/position_wrapper.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class Pose final : public borel::PositionWrapper {
 public:
  struct Params {
    borel::MethodSpec of{.family = "position", .id = "rope"};
    std::int64_t n_chunks = 2, target_length = 0;
    void declare(borel::ParamBinder& p) {
      p.method("of", of, "position", "The encoding of the positions, a plain rotation.");
      p.integer("n_chunks", n_chunks, borel::Range::closed(1, 1 << 20), "1", "Chunks of the training text.");
      p.integer("target_length", target_length, borel::Range::closed(0, 1 << 30), "tokens",
                "Positions stay below it; 0 takes the longest length of the context.");
    }
  };
  Pose(const Params& params, const borel::Registry& registry)
      : PositionWrapper(params.of, registry), params_(params) {
    if (!inner())
      throw borel::ParamError("position pose: parameter 'of' must name an encoding, such as rope");
  }

  borel::PositionTraits traits() const override { return inner_traits(); }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    if (!context.training) return inner_plan(context, parameters);
    return borel::plan_at_positions(*inner(), context, parameters, draw(context));
  }

 private:
  std::vector<index_t> draw(const PositionContext& context) const {
    const index_t n = context.n_tokens();
    const index_t target =
        std::max(n, params_.target_length != 0 ? params_.target_length : context.longest_length());
    borel::Rng rng(context.seed.derive("pose"));
    const auto between = [&](index_t low, index_t high) {
      return low + static_cast<index_t>(rng.below(static_cast<std::uint64_t>(high - low + 1)));
    };
    std::vector<index_t> cuts;
    if (params_.n_chunks == 2 && n > 1) {
      cuts.push_back(between(1, (n + 1) / 2));
    } else {
      for (index_t c = 1; c < std::min<index_t>(params_.n_chunks, n); ++c) {
        index_t cut = between(1, n - 1);
        while (std::ranges::find(cuts, cut) != cuts.end()) cut = cut % (n - 1) + 1;
        cuts.push_back(cut);
      }
      std::ranges::sort(cuts);
    }
    std::vector<index_t> positions;
    index_t skip = 0;
    for (index_t t = 0; t < n; ++t) {
      if (std::ranges::binary_search(cuts, t)) skip = between(skip, target - n);
      positions.push_back(t + skip);
    }
    return positions;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Pose>(
      "pose", {.summary = "In training the positions of chunks skip ahead by random amounts",
               .formula = "position of token t in chunk c: t + u_c, u_c uniform in {u_{c-1} .. target - n}",
               .source = "Zhu et al. 2023, arXiv:2309.10400, section 3.2",
               .complexity = "O(target d) once per call in training",
               .notes = "for training; otherwise the encoding 'of' as it is"});
}
