// Hedgehog. Zhang et al. 2024, arXiv:2402.04347, section 4.2: a learned map by head that mimics softmax.
//
//   y = W x + b  [d_k],   o_i = sum_j phi(q_i) . phi(k_j) v_j / (epsilon + sum_j phi(q_i) . phi(k_j))
//   feature = softmax   phi = softmax over the 2 d_k components of [2 y, -2 y]    flash-linear-attention's code
//   feature = exp       phi = [exp(y), exp(-y)]                                   the paper, equation 5
//
// W starts at the identity, b at 0; separate ones for queries and keys. With exp, queries are taken relative to their
// largest component, keys relative to the largest of all keys so far (log_keys of the engine); both cancel, for epsilon
// is 0 as in the paper. With softmax it is 1e-6, in their code 1e-10 or 1e-12.
#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/draft/matrix_product.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

constexpr double k_epsilon = 1e-6;

class Hedgehog final : public borel::ChunkAttention {
 public:
  enum class Feature { softmax, exp };
  struct Params {
    Feature feature = Feature::softmax;
    void declare(borel::ParamBinder& p) {
      p.choice("feature", feature, {{"softmax", Feature::softmax}, {"exp", Feature::exp}},
               "Features of the mapped row: softmax over [2y, -2y], or [exp y, exp -y].");
    }
  };
  explicit Hedgehog(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.non_negative = true, .own_scale = true, .max_error = 2e-5};
  }
  borel::ChunkForm form() const override {
    const bool exp = params_.feature == Feature::exp;
    return {.log_keys = exp, .normalised = true, .epsilon = exp ? 0 : k_epsilon, .rotate_inputs = true};
  }
  index_t feature_size(const AttentionContext& context) const override { return 2 * context.d_k; }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    const index_t d = context.d_k;
    const auto identity = [d](borel::Rng&, std::span<float> values) {
      std::ranges::fill(values, 0.0f);
      for (index_t x = 0; x < static_cast<index_t>(values.size()); x += d)
        values[static_cast<std::size_t>(x + (x / d) % d)] = 1;
    };
    const auto zero = [](borel::Rng&, std::span<float> values) { std::ranges::fill(values, 0.0f); };
    return {
        {.name = "query_matrix",
         .shape = {context.h_q, d, d},
         .init = identity,
         .doc = "W of the queries by head, input component first."},
        {.name = "query_bias", .shape = {context.h_q, d}, .init = zero, .doc = "b of the queries by head."},
        {.name = "key_matrix",
         .shape = {context.h_q, d, d},
         .init = identity,
         .doc = "W of the keys by query head, input component first."},
        {.name = "key_bias", .shape = {context.h_q, d}, .init = zero, .doc = "b of the keys by query head."}};
  }
  void query_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    features(rows, in, out, true);
  }
  void key_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    features(rows, in, out, false);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out,
                               const ChunkRowGradients& into) const override {
    features_backward(rows, in, out, d_out, into, true);
  }
  void key_features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out,
                             const ChunkRowGradients& into) const override {
    features_backward(rows, in, out, d_out, into, false);
  }

 private:
  static Rows matrix(const ChunkRows& rows, bool query) {
    const index_t d = rows.context.d_k;
    return {rows.parameters[query ? 0 : 2].data() + rows.head * d * d, {d, d}};
  }

  void features(const ChunkRows& rows, Rows in, TensorView<float, 2> out, bool query) const {
    const index_t d = in.shape(1);
    const bool softmax = params_.feature == Feature::softmax;
    const TensorView<float, 2> y = out.slice(1, 0, d), minus_y = out.slice(1, d, 2 * d);
    borel::matrix_product(in, matrix(rows, query), false, y);
    const float* bias = rows.parameters[query ? 1 : 3].data() + rows.head * d;
    const borel::Scratch<float> top(rows.n);
    for (index_t t = 0; t < rows.n; ++t) {
      float largest = 0;
      for (index_t c = 0; c < d; ++c) {
        y(t, c) += bias[c];
        minus_y(t, c) = -y(t, c);
        largest = std::max(largest, std::abs(y(t, c)));
      }
      top[t] = softmax ? 2 * largest : largest;
    }
    if (!softmax && !query) return;  // the logarithms
    borel::exp_rows(out, softmax ? 2 : 1, top.span(), out);
    for (index_t t = 0; t < rows.n && softmax; ++t) {
      double sum = 0;
      for (float x : out.row(t)) sum += static_cast<double>(x);
      for (float& x : out.row(t)) x = static_cast<float>(static_cast<double>(x) / sum);
    }
  }

  void features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out, const ChunkRowGradients& into,
                         bool query) const {
    const index_t d = in.shape(1), head = rows.head;
    const borel::Scratch<float> storage(rows.n * d);
    const TensorView<float, 2> d_y(storage.data(), {rows.n, d});
    const bool softmax = params_.feature == Feature::softmax;
    for (index_t t = 0; t < rows.n; ++t) {
      double inner = 0;  // with exp what rows are taken relative to cancels, so it has no gradient
      for (index_t c = 0; c < 2 * d && softmax; ++c) inner += static_cast<double>(out(t, c) * d_out(t, c));
      for (index_t c = 0; c < d; ++c)
        d_y(t, c) = (softmax ? 2.0f : 1.0f) * (out(t, c) * (d_out(t, c) - static_cast<float>(inner)) -
                                               out(t, c + d) * (d_out(t, c + d) - static_cast<float>(inner)));
    }
    borel::matrix_product(d_y, borel::transposed(matrix(rows, query)), true, into.d_in);
    if (into.d_parameters.empty()) return;
    const std::span<float> d_matrix = into.d_parameters[query ? 0 : 2],
                           d_bias = into.d_parameters[query ? 1 : 3];
    if (!d_matrix.empty())
      borel::matrix_product(borel::transposed(in), d_y, true, {d_matrix.data() + head * d * d, {d, d}});
    for (index_t t = 0; t < rows.n && !d_bias.empty(); ++t)
      for (index_t c = 0; c < d; ++c) d_bias[static_cast<std::size_t>(head * d + c)] += d_y(t, c);
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Hedgehog>(
      "hedgehog", {.summary = "Linear attention with a learned, softmax-like feature map",
                   .formula = "phi(x) = softmax([2y, -2y]) or [exp(y), exp(-y)],  y = W x + b",
                   .source = "Zhang et al. 2024, arXiv:2402.04347, section 4.2",
                   .complexity = "O(n d_k (d_k + 2 d_v)) time, O(2 d_k d_v) state",
                   .notes = "a rotation turns q and k before the map; feature = softmax (published code) or "
                            "exp (paper); W starts at the identity"});
}
