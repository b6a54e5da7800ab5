// Sandwich: the inner products of sinusoidal embeddings as a bias. Chi, Fan, Rudnicky, Ramadge 2022, arXiv:2212.10356,
// section 5.
//
//   bias(h, r) = (1 / ratio_h) sum_i cos(r / 10000^(2 i / dbar)),   ratio_h = 8 (h + 1) / H,   dbar = 128
//
// terms = paper sums i = 1 .. dbar / 2, attention_gym (meta-pytorch) i = 0 .. dbar / 2 - 1, whose first term is cos(r). The
// bias at r = 0 is dbar / (2 ratio): under softmax a constant, so it is subtracted (centred) only on request. A circulating
// port sums r / 10000^(2 i / dbar) without the cosine; that is ALiBi.
#include <cmath>
#include <vector>

#include "borel/draft/distance_bias.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

class Sandwich final : public borel::PositionEncoding {
 public:
  enum class Terms { paper, attention_gym };
  struct Params {
    Terms terms = Terms::paper;
    std::int64_t bias_dims = 128;
    bool centred = false;
    void declare(borel::ParamBinder& p) {
      p.choice("terms", terms, {{"paper", Terms::paper}, {"attention_gym", Terms::attention_gym}},
               "Sum over i = 1 .. dbar / 2, or 0 .. dbar / 2 - 1.");
      p.integer("bias_dims", bias_dims, borel::Range::closed(2, 65536), "1",
                "Number dbar of sinusoidal components, even.");
      p.flag("centred", centred, "Subtract the bias at distance 0, for mechanisms that are not softmax.");
    }
    void check() const {
      if (bias_dims % 2 != 0)
        throw borel::ParamError("parameter 'bias_dims' must be even, got '" + std::to_string(bias_dims) +
                                "'");
    }
  };
  explicit Sandwich(const Params& params) : params_(params) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  borel::PositionPlan plan(const borel::PositionContext& context, borel::ParameterValues) const override {
    // The sum is the same for all heads.
    const borel::BiasColumns columns = borel::bias_columns(context);
    const std::vector<double> angle = angles();
    std::vector<double> sums;
    for (index_t c = 0; c < columns.width; ++c) {
      double sum = 0;
      for (const double a : angle) sum += std::cos(static_cast<double>(columns.distance(c)) * a);
      sums.push_back(sum);
    }
    const double origin = params_.centred ? static_cast<double>(params_.bias_dims) / 2 : 0;
    return borel::bias_plan(context, [&](index_t h, index_t r) {
      const double ratio = 8 * static_cast<double>(h + 1) / static_cast<double>(context.n_heads);
      return (sums[static_cast<std::size_t>(columns.zero - r)] - origin) / ratio;
    });
  }

 private:
  std::vector<double> angles() const {
    const index_t first = params_.terms == Terms::paper ? 1 : 0, n_terms = params_.bias_dims / 2;
    std::vector<double> list;
    for (index_t i = first; i < first + n_terms; ++i)
      list.push_back(std::pow(1e4, -2 * static_cast<double>(i) / static_cast<double>(params_.bias_dims)));
    return list;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Sandwich>(
      "sandwich", {.summary = "Bias by distance from the inner products of sinusoidal embeddings",
                   .formula = "bias(h, r) = H/(8 (h+1)) sum_i cos(r / 10000^(2i/128))",
                   .source = "Chi et al. 2022, arXiv:2212.10356, section 5",
                   .complexity = "O(n dbar + H n) once per call",
                   .notes = "terms = attention_gym is the published FlexAttention form"});
}
