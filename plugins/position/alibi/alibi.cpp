// ALiBi linear position bias. Press, Smith, Lewis (ICLR 2022), arXiv:2108.12409, section 3.
//
//   score(i, j) = q_i . k_j + b(h, i - j),   b(h, r) = -slope_h |r|,   slope_h = 2^(-max_exponent (h + 1) / H)
//
// max_exponent = 8 in the paper. H that is no power of two, as in the authors' code: with c the largest power
// of two below H, the first c heads have the slopes of c heads, the others every other slope of 2 c heads.
// Without a causal mask the bias is symmetric.
#include <bit>
#include <cmath>

#include "borel/draft/distance_bias.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

class Alibi final : public borel::PositionEncoding {
 public:
  struct Params {
    double max_exponent = 8;
    void declare(borel::ParamBinder& p) {
      p.real("max_exponent", max_exponent, borel::Range::left_open(0, 64), "1",
             "Exponent of the slope of the last head; the paper uses 8.");
    }
  };

  explicit Alibi(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    return borel::bias_plan(context, [&](index_t h, index_t r) {
      return -slope(h, context.n_heads) * std::abs(static_cast<double>(r));
    });
  }

 private:
  double slope(index_t h, index_t n_heads) const {
    const auto power = static_cast<index_t>(std::bit_floor(static_cast<std::size_t>(n_heads)));
    const double place = h < power ? static_cast<double>(h + 1) : static_cast<double>(h - power) + 0.5;
    return std::exp2(-params_.max_exponent * place / static_cast<double>(power));
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Alibi>(
      "alibi", {.summary = "Linear bias by distance, one slope per head",
                .formula = "score(i, j) = q_i . k_j - 2^(-8 (h+1)/H) |i - j|",
                .source = "Press, Smith, Lewis 2022, arXiv:2108.12409, section 3",
                .complexity = "O(H n) once per call",
                .notes = "head counts that are no power of two follow the authors' code"});
}
