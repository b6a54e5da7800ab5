// Linear attention. Katharopoulos et al. (ICML 2020), arXiv:2006.16236, equations 9 to 11.
//
//   o_i = sum_j w_ij v_j,   w_ij = phi(q_i) . phi(k_j) / (k_epsilon + sum_l phi(q_i) . phi(k_l)),   l over
//   visible keys
//
//   elu1         phi(x) = elu(x) + 1                         the paper
//   relu         phi(x) = max(x, 0)                          rows may be all zero, then o = 0
//   exp          phi(x) = exp(x); queries are shifted by their largest component, which cancels; needs k < 80
//   softmax_dim  phi(x) = softmax of x over its components   Shen et al. 2021, arXiv:1812.01243, with the key
//   side over
//                components too, because theirs runs over tokens and is not causal
//   square       phi(x) = x^2 by components
//
// With rotation: Su et al. 2021, arXiv:2104.09864, equation 19 (numerator rotated, denominator not).
// Differs from the authors' code in the constant: they add 1e-6 as well, flash-linear-attention adds 1e-10.
#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;

constexpr double k_epsilon = 1e-6;

class Linear final : public borel::ChunkAttention {
 public:
  enum class Feature { elu1, relu, exp, softmax_dim, square };

  struct Params {
    Feature feature = Feature::elu1;
    void declare(borel::ParamBinder& p) {
      p.choice("feature", feature,
               {{"elu1", Feature::elu1},
                {"relu", Feature::relu},
                {"exp", Feature::exp},
                {"softmax_dim", Feature::softmax_dim},
                {"square", Feature::square}},
               "The map phi that makes inner products non-negative.");
    }
  };

  explicit Linear(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.non_negative = true, .own_scale = true, .max_error = 1e-5};
  }
  index_t feature_size(const AttentionContext& context) const override { return context.d_k; }
  void query_features(const ChunkRows&, TensorView<const float, 2> in,
                      TensorView<float, 2> out) const override {
    features(in, out, true);
  }
  void key_features(const ChunkRows&, TensorView<const float, 2> in,
                    TensorView<float, 2> out) const override {
    features(in, out, false);
  }
  bool normalised() const override { return true; }
  double epsilon() const override { return k_epsilon; }

 private:
  void features(TensorView<const float, 2> in, TensorView<float, 2> out, bool query) const {
    for (index_t t = 0; t < in.shape(0); ++t) {
      const auto x = in.row(t);
      const auto y = out.row(t);
      const bool whole_row =
          params_.feature == Feature::softmax_dim || (params_.feature == Feature::exp && query);
      const float top = whole_row ? std::ranges::max(x) : 0;
      std::ranges::transform(x, y.begin(), [&](float a) { return one(a, top); });
      if (params_.feature != Feature::softmax_dim) continue;
      float sum = 0;
      for (float a : y) sum += a;
      for (float& a : y) a /= sum;
    }
  }
  float one(float x, float top) const {
    switch (params_.feature) {
      case Feature::elu1:
        return x > 0 ? x + 1 : std::exp(x);
      case Feature::relu:
        return x < 0 ? 0 : x;
      case Feature::exp:
        return std::exp(x - top);
      case Feature::softmax_dim:
        return std::exp(x - top);
      case Feature::square:
        return x * x;
    }
    return x;
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Linear>(
      "linear", {.summary = "Linear attention with a feature map, normalised",
                 .formula = "o_i = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j)",
                 .source = "Katharopoulos et al. 2020, arXiv:2006.16236, equations 9 to 11",
                 .complexity = "O(n d_k d_v) time, O(d_k d_v) state",
                 .notes = "feature = elu1, relu, exp, softmax_dim, square"});
}
