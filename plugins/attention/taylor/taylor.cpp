// Second-order Taylor features (Based). Arora et al. 2024, arXiv:2402.18668, section 4.1; Keles et al. 2023.
//
//   phi(q) . phi(k) = 1 + a + a^2 / 2,   a = q . k / sqrt(d_k),   which is positive for every a
//   o_i = sum_j phi(q_i) . phi(k_j) v_j / (k_epsilon + sum_j phi(q_i) . phi(k_j))
//
// Packed: the square has d (d + 1) / 2 different products, so phi has 1 + d + d (d + 1) / 2 features (153 at d = 16)
// where their code keeps all d^2 (273): x_i^2 / sqrt(2 d) and x_i x_j / sqrt(d) for i < j. Same inner products.
// Differs from the paper: the sliding window and the convolution that Based puts beside it are not part of it.
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

constexpr double k_epsilon = 1e-6;

class Taylor final : public borel::ChunkAttention {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit Taylor(const Params&) {}

  borel::AttentionTraits traits() const override { return {.non_negative = true, .max_error = 2e-5}; }
  borel::ChunkForm form() const override {
    return {.normalised = true, .epsilon = k_epsilon, .shared_keys = true, .rotate_inputs = true};
  }
  index_t feature_size(const AttentionContext& context) const override {
    return 1 + context.d_k + context.d_k * (context.d_k + 1) / 2;
  }
  void query_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    features(rows, in, out);
  }
  void key_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    features(rows, in, out);
  }

  bool has_gradients() const override { return true; }
  void query_features_backward(const ChunkRows& rows, Rows in, Rows, Rows d_out,
                               const ChunkRowGradients& into) const override {
    features_backward(rows, in, d_out, into.d_in);
  }
  void key_features_backward(const ChunkRows& rows, Rows in, Rows, Rows d_out,
                             const ChunkRowGradients& into) const override {
    features_backward(rows, in, d_out, into.d_in);
  }

 private:
  struct Factors {
    float linear, square, product;
  };
  static Factors factors(Rows rows) {
    const auto d = static_cast<double>(rows.shape(1));
    return {static_cast<float>(std::pow(d, -0.25)), static_cast<float>(1 / std::sqrt(2 * d)),
            static_cast<float>(1 / std::sqrt(d))};
  }
  static void features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) {
    const Factors by = factors(in);
    for (index_t t = 0; t < rows.n; ++t) {
      const std::span<const float> x = in.row(t);
      float* y = out.row(t).data();
      *y++ = 1;
      for (float a : x) *y++ = by.linear * a;
      for (std::size_t a = 0; a < x.size(); ++a) {
        *y++ = by.square * x[a] * x[a];
        const float first = by.product * x[a];
        for (std::size_t b = a + 1; b < x.size(); ++b) *y++ = first * x[b];
      }
    }
  }
  static void features_backward(const ChunkRows& rows, Rows in, Rows d_out, TensorView<float, 2> d_in) {
    const Factors by = factors(in);
    for (index_t t = 0; t < rows.n; ++t) {
      const std::span<const float> x = in.row(t);
      const std::span<float> d_x = d_in.row(t);
      const float* d_y = d_out.row(t).data() + 1;
      for (float& d : d_x) d += by.linear * *d_y++;
      for (std::size_t a = 0; a < x.size(); ++a) {
        d_x[a] += 2 * by.square * x[a] * *d_y++;
        for (std::size_t b = a + 1; b < x.size(); ++b, ++d_y) {
          d_x[a] += by.product * x[b] * *d_y;
          d_x[b] += by.product * x[a] * *d_y;
        }
      }
    }
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Taylor>(
      "taylor", {.summary = "Second-order Taylor expansion of the exponential, packed features (Based)",
                 .formula = "w_ij ~ 1 + a + a^2 / 2,  a = q_i . k_j / sqrt(d_k), normalised",
                 .source = "Arora et al. 2024, arXiv:2402.18668, section 4.1",
                 .complexity = "O(n d_k^2 d_v) time, O(d_k^2 d_v / 2) state",
                 .notes = "a rotation turns q and k before the map; meant for small d_k (16 in the paper); "
                          "its window is position `window` with softmax"});
}
