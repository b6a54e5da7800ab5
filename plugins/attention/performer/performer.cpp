// Performer (FAVOR+). Choromanski et al. 2020, arXiv:2009.14794, lemma 1 and section 2.4.
//
//   softmax kernel exp(x . y) = E_w [ exp(w . x - |x|^2 / 2) exp(w . y - |y|^2 / 2) ],  w ~ N(0, I),  x = q d^(-1/4), y = k d^(-1/4)
//   o_i = sum_j phi(q_i) . phi(k_j) v_j / sum_j phi(q_i) . phi(k_j)
//
// m directions w in blocks of d_k orthogonal rows, each with the length of a Gaussian vector (chi(d_k)); the block is
// orthogonalised in full, not cut out of an m x m one. Drawn by the parameter's initialiser, so from the seed.
//
// Stable: the exponential of a query is taken relative to the row's largest exponent, which cancels. A shift by key
// would change the weights, so keys are taken relative to the largest exponent of all keys so far (log_keys of the
// engine), which cancels as well and which the recurrent form can follow; the authors' code takes the maximum over all
// keys. |x|^2 / 2 of the query cancels too. Differs from their code: no 1e-4 added to the features.
#include <algorithm>
#include <cmath>
#include <vector>

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

class Performer final : public borel::ChunkAttention {
 public:
  struct Params {
    std::int64_t features = 256;
    void declare(borel::ParamBinder& p) {
      p.integer("features", features, borel::Range::closed(1, 65536), "1", "Number m of random directions.");
    }
  };
  explicit Performer(const Params& params) : m_(params.features) {}

  borel::AttentionTraits traits() const override {
    // Exponents of up to about 60 carry a rounding error of some units of 2^-18.
    return {.row_normalised = false, .non_negative = true, .max_error = 2e-4};
  }
  borel::ChunkForm form() const override {
    return {.log_keys = true, .normalised = true, .shared_keys = true, .rotate_inputs = true};
  }
  index_t feature_size(const AttentionContext&) const override { return m_; }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    const index_t d = context.d_k, m = m_;
    return {{.name = "directions",
             .shape = {d, m},
             .trainable = false,
             .init = [d, m](borel::Rng& rng, std::span<float> values) { draw_directions(rng, d, m, values); },
             .doc = "Random directions w as columns, orthogonal in blocks of d_k."}};
  }

  void query_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    const borel::Scratch<float> top(rows.n);
    borel::matrix_product(in, directions(rows), false, out);
    borel::scale_rows(out, scale(in), out);
    for (index_t t = 0; t < rows.n; ++t) top[t] = std::ranges::max(out.row(t));
    borel::exp_rows(out, 1, top.span(), out);
  }
  /// Logarithms w . y - |y|^2 / 2.
  void key_features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const override {
    borel::matrix_product(in, directions(rows), false, out);
    const float by = scale(in);
    for (index_t t = 0; t < rows.n; ++t) {
      double square = 0;
      for (float x : in.row(t)) square += static_cast<double>(x) * static_cast<double>(x);
      const auto half = static_cast<float>(0.5 * static_cast<double>(by * by) * square);
      for (float& a : out.row(t)) a = by * a - half;
    }
  }

  bool has_gradients() const override { return true; }
  /// The shift of a row cancels between numerator and denominator, so it has no gradient.
  void query_features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out,
                               const ChunkRowGradients& into) const override {
    features_backward(rows, in, out, d_out, into.d_in, false);
  }
  void key_features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out,
                             const ChunkRowGradients& into) const override {
    features_backward(rows, in, out, d_out, into.d_in, true);
  }

 private:
  static float scale(Rows rows) {
    return static_cast<float>(std::pow(static_cast<double>(rows.shape(1)), -0.25));
  }
  Rows directions(const ChunkRows& rows) const { return {rows.parameters[0].data(), {rows.context.d_k, m_}}; }

  void features_backward(const ChunkRows& rows, Rows in, Rows out, Rows d_out, TensorView<float, 2> d_in,
                         bool with_square) const {
    const Rows w = directions(rows);
    const float by = scale(in);
    const borel::Scratch<float> slope(m_);
    for (index_t t = 0; t < rows.n; ++t) {
      double total = 0;
      for (index_t a = 0; a < m_; ++a) total += static_cast<double>(slope[a] = out(t, a) * d_out(t, a));
      for (index_t c = 0; c < in.shape(1); ++c) {
        double sum = with_square ? -total * static_cast<double>(by * in(t, c)) : 0;
        for (index_t a = 0; a < m_; ++a) sum += static_cast<double>(slope[a] * w(c, a));
        d_in(t, c) += by * static_cast<float>(sum);
      }
    }
  }

  /// Gram-Schmidt, twice for orthogonality to rounding, then lengths of independent Gaussian vectors.
  static void draw_directions(borel::Rng& rng, index_t d, index_t m, std::span<float> values) {
    std::vector<std::vector<double>> block;
    for (index_t a = 0; a < m; ++a) {
      if (a % d == 0) block.clear();
      std::vector<double> w(static_cast<std::size_t>(d));
      double chi2 = 0, length2 = 0;
      for (double& x : w) x = rng.normal(), chi2 += std::pow(rng.normal(), 2);
      for (int pass = 0; pass < 2; ++pass)
        for (const std::vector<double>& other : block) {
          double inner = 0;
          for (std::size_t c = 0; c < w.size(); ++c) inner += w[c] * other[c];
          for (std::size_t c = 0; c < w.size(); ++c) w[c] -= inner * other[c];
        }
      for (double x : w) length2 += x * x;
      for (double& x : w) x /= std::sqrt(length2);
      for (index_t c = 0; c < d; ++c)
        values[static_cast<std::size_t>(c * m + a)] =
            static_cast<float>(std::sqrt(chi2) * w[static_cast<std::size_t>(c)]);
      block.push_back(std::move(w));
    }
  }

  index_t m_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Performer>(
      "performer", {.summary = "Softmax kernel by positive, block-orthogonal random features (FAVOR+)",
                    .formula = "phi(x) = exp(W x - |x|^2 / 2) / sqrt(m),  o_i = sum_j phi(q_i) . phi(k_j) "
                               "v_j / sum_j phi(q_i) . phi(k_j)",
                    .source = "Choromanski et al. 2020, arXiv:2009.14794, lemma 1 and section 2.4",
                    .complexity = "O(n m (d_k + d_v)) time, O(m d_v) state",
                    .notes = "a rotation turns q and k before the map; random directions come from the seed "
                             "and are not trained; stable on the key "
                             "side by a running maximum"});
}
