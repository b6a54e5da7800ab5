// No position information (NoPE): score(i, j) = q_i . k_j. Kazemnejad et al. (NeurIPS 2023),
// arXiv:2305.19466.
#include "borel/plugin.hpp"
#include "borel/position.hpp"

namespace {

class None final : public borel::PositionEncoding {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit None(const Params&) {}
  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }
  borel::PositionPlan plan(const borel::PositionContext&, borel::ParameterValues) const override {
    return {};
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, None>("none", {.summary = "No position information",
                                                       .formula = "score(i, j) = q_i . k_j",
                                                       .source = "Kazemnejad et al. 2023, arXiv:2305.19466",
                                                       .complexity = "nothing"});
}
