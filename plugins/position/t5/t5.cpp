// T5 relative bias: a learned number per head and bucket of distance. Raffel et al. 2019, arXiv:1910.10683, section 2.1; code
// text-to-text-transfer-transformer and Hugging Face.
//
//   B buckets (32), largest distance D (128). Causal: e = B / 2 exact buckets for r = 0 .. e - 1, then
//     e + floor(ln(r / e) / ln(D / e) (B - e)), at most B - 1
//   Without a causal mask half of the buckets are for keys ahead (j > i), and B is B / 2 on each side.
//
// One table for all layers. T5 has no 1 / sqrt(d): its initialisation absorbs it; with `unscaled` the plan multiplies
// queries by sqrt(d_head) under mechanisms that divide by it, and leaves those alone that do not (qk_norm). The floor of a float32 logarithm depends on the
// platform, so buckets come from integer thresholds.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "borel/draft/distance_bias.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;

class T5 final : public borel::PositionEncoding {
 public:
  struct Params {
    std::int64_t n_buckets = 32, max_distance = 128;
    bool unscaled = true;
    void declare(borel::ParamBinder& p) {
      p.integer("n_buckets", n_buckets, borel::Range::closed(4, 65536), "1",
                "Buckets of distance, a multiple of 4.");
      p.integer("max_distance", max_distance, borel::Range::closed(2, 1 << 30), "tokens",
                "Distance from which on all pairs share the last bucket.");
      p.flag("unscaled", unscaled, "Undo the 1 / sqrt(d) of a mechanism that has it: the paper has none.");
    }
    void check() const {
      if (n_buckets % 4 != 0)
        throw borel::ParamError("parameter 'n_buckets' must be a multiple of 4, got '" +
                                std::to_string(n_buckets) + "'");
      if (max_distance <= n_buckets / 2)
        throw borel::ParamError("parameter 'max_distance' must be more than half of n_buckets, got '" +
                                std::to_string(max_distance) + "'");
    }
  };
  explicit T5(const Params& params)
      : params_(params),
        one_sided_(thresholds(params.n_buckets)),
        two_sided_(thresholds(params.n_buckets / 2)) {}

  borel::PositionTraits traits() const override { return {.shift_invariant = true}; }

  std::vector<borel::ParameterTensor> parameters(index_t n_heads, index_t, index_t d_model) const override {
    const float sigma = 1 / std::sqrt(static_cast<float>(d_model));  // as in Hugging Face's initialisation
    return {{.name = "bucket_bias",
             .shape = {n_heads, params_.n_buckets},
             .init =
                 [sigma](borel::Rng& rng, std::span<float> values) {
                   rng.fill_normal(values);
                   for (float& x : values) x *= sigma;
                 },
             .doc = "bias in nats per head and bucket of distance",
             .shared_by_layers = true}};
  }

  borel::PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    borel::PositionPlan plan = borel::bias_plan(context, [&](index_t h, index_t r) {
      return static_cast<double>(parameters[0][entry(context, h, r)]);
    });
    if (params_.unscaled && context.scaled_scores)
      plan.query_scale = std::make_shared<const std::vector<float>>(
          static_cast<std::size_t>(context.n_q), std::sqrt(static_cast<float>(context.d_head)));
    return plan;
  }

  void backward(const PositionContext& context, borel::ParameterValues,
                const borel::PositionGradients& d_plan,
                borel::ParameterGradients d_parameters) const override {
    if (d_parameters[0].empty()) return;
    std::vector<double> sum(d_parameters[0].size());
    borel::for_each_bias_gradient(context, d_plan.bias,
                                  [&](index_t h, index_t r, double d) { sum[entry(context, h, r)] += d; });
    for (std::size_t e = 0; e < sum.size(); ++e) d_parameters[0][e] += static_cast<float>(sum[e]);
  }

 private:
  /// Smallest distance of the buckets e + 1 .. n - 1 with e = n / 2: ceil(e (D / e)^(t / (n - e))), t = 1, 2, ...
  std::vector<index_t> thresholds(index_t n) const {
    const index_t exact = n / 2;
    std::vector<index_t> result;
    for (index_t t = 1; t < n - exact; ++t) {
      const long double at =
          static_cast<long double>(exact) *
          std::pow(static_cast<long double>(params_.max_distance) / static_cast<long double>(exact),
                   static_cast<long double>(t) / static_cast<long double>(n - exact));
      // Where the power is a whole number, rounding must not push it over.
      result.push_back(static_cast<index_t>(std::ceil(at - 1e-9L)));
    }
    return result;
  }

  static index_t bucket(index_t distance, index_t exact, const std::vector<index_t>& steps) {
    if (distance < exact) return distance;
    return exact + (std::upper_bound(steps.begin(), steps.end(), distance) - steps.begin());
  }

  std::size_t entry(const PositionContext& context, index_t h, index_t r) const {
    const index_t half = params_.n_buckets / 2;
    const index_t place = context.causal ? bucket(std::max<index_t>(r, 0), half, one_sided_)
                                         : (r < 0 ? half : 0) + bucket(std::abs(r), half / 2, two_sided_);
    return static_cast<std::size_t>(h * params_.n_buckets + place);
  }

  Params params_;
  std::vector<index_t> one_sided_, two_sided_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, T5>(
      "t5", {.summary = "Learned bias per head and bucket of distance",
             .formula = "bias(h, r) = table[h, bucket(r)], 32 buckets up to distance 128; no 1/sqrt(d)",
             .source = "Raffel et al. 2019, arXiv:1910.10683, section 2.1",
             .complexity = "O(H n) once per call",
             .notes = "one table for all layers; mechanisms with a scale of their own keep it"});
}
