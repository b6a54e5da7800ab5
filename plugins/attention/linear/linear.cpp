// Linear attention. Katharopoulos et al. (ICML 2020), arXiv:2006.16236, equations 9 to 11.
//
//   o_i = sum_j w_ij v_j,   w_ij = phi(q_i) . phi(k_j) / (k_epsilon + sum_l phi(q_i) . phi(k_l)),   l over visible keys
//
//   elu1         phi(x) = elu(x) + 1                         the paper
//   relu         phi(x) = max(x, 0)                          rows may be all zero, then o = 0
//   exp          phi(x) = exp(x), without k_epsilon: no row is zero. Queries are taken relative to their largest component,
//                keys relative to the largest of all keys so far (log_keys of the engine); both cancel
//   softmax_dim  phi(x) = softmax of x over its components   Shen et al. 2021, arXiv:1812.01243, with the key side
//                over components too, because theirs runs over tokens and is not causal
//   square       phi(x) = x^2 by components
//
// With rotation: Su et al. 2021, arXiv:2104.09864, equation 19 (numerator rotated, denominator not).
// Differs from the authors' code in nothing; flash-linear-attention adds 1e-10 instead of 1e-6.
#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
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
    if (params_.feature == Feature::exp) return shifted_exp(in, out);
    features(in, out);
  }
  void key_features(const ChunkRows&, TensorView<const float, 2> in,
                    TensorView<float, 2> out) const override {
    if (params_.feature == Feature::exp) return borel::scale_rows(in, 1, out);  // the logarithms
    features(in, out);
  }
  borel::ChunkForm form() const override {
    const bool exp = params_.feature == Feature::exp;
    return {.log_keys = exp, .normalised = true, .epsilon = exp ? 0 : k_epsilon, .shared_keys = true};
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows&, TensorView<const float, 2> in,
                               TensorView<const float, 2> out, TensorView<const float, 2> d_out,
                               const borel::ChunkRowGradients& into) const override {
    features_backward(in, out, d_out, into.d_in);
  }
  void key_features_backward(const ChunkRows&, TensorView<const float, 2> in, TensorView<const float, 2> out,
                             TensorView<const float, 2> d_out,
                             const borel::ChunkRowGradients& into) const override {
    features_backward(in, out, d_out, into.d_in);
  }

 private:
  static void shifted_exp(TensorView<const float, 2> in, TensorView<float, 2> out) {
    const borel::Scratch<float> top(in.shape(0));
    for (index_t t = 0; t < in.shape(0); ++t) top[t] = std::ranges::max(in.row(t));
    borel::exp_rows(in, 1, top.span(), out);
  }

  void features(TensorView<const float, 2> in, TensorView<float, 2> out) const {
    if (params_.feature == Feature::elu1) return borel::elu1_rows(in, out);
    if (params_.feature == Feature::relu || params_.feature == Feature::square) {
      const bool relu = params_.feature == Feature::relu;
      for (index_t t = 0; t < in.shape(0); ++t)
        std::ranges::transform(in.row(t), out.row(t).begin(), [relu](float x) {
          return !relu ? x * x : x < 0 ? 0 : x;
        });
      return;
    }
    shifted_exp(in, out);  // softmax_dim
    for (index_t t = 0; t < in.shape(0); ++t) {
      float sum = 0;
      for (float a : out.row(t)) sum += a;
      for (float& a : out.row(t)) a /= sum;
    }
  }

  void features_backward(TensorView<const float, 2> in, TensorView<const float, 2> out,
                         TensorView<const float, 2> d_out, TensorView<float, 2> d_in) const {
    for (index_t t = 0; t < in.shape(0); ++t) {
      double inner = 0;  // softmax: d_in = out (d_out - out . d_out)
      for (index_t c = 0; c < in.shape(1) && params_.feature == Feature::softmax_dim; ++c)
        inner += static_cast<double>(out(t, c) * d_out(t, c));
      for (index_t c = 0; c < in.shape(1); ++c) {
        float slope =
            out(t, c);  // softmax_dim, exp: what rows are taken relative to cancels, so it has no gradient
        if (params_.feature == Feature::elu1 && in(t, c) > 0) slope = 1;
        if (params_.feature == Feature::relu) slope = in(t, c) > 0 ? 1 : 0;
        if (params_.feature == Feature::square) slope = 2 * in(t, c);
        d_in(t, c) += slope * static_cast<float>(static_cast<double>(d_out(t, c)) - inner);
      }
    }
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
