// cosFormer. Qin et al. 2022, arXiv:2202.08791, equations 9 to 12.
//
//   w_ij ~ relu(q_i) . relu(k_j) cos(pi (i - j) / (2 M)),   divided by their sum over the visible keys + k_epsilon
//   phi(x_i) = [relu(x_i) cos(pi i / (2 M)), relu(x_i) sin(pi i / (2 M))],  i = first_index, first_index + 1, ...
//
// M = horizon, at least the longest context, or the cosine turns negative; 0 stands for context.max_n. The authors'
// code takes M = max(n_q, n_k) of each call, so that its weights change with the length and no causal recurrence
// reproduces them; a fixed M is what the paper's equation says. Its index starts at 1, which cancels in i - j and
// shows only in rounding. Differs from their code: the constant is added to the denominator, theirs bounds it from below.
#include <algorithm>
#include <cmath>

#include <string>

#include "borel/draft/chunk_engine.hpp"
#include "borel/draft/feature_maps.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionContext;
using borel::ChunkRowGradients;
using borel::ChunkRows;
using borel::index_t;
using borel::TensorView;
using Rows = TensorView<const float, 2>;

constexpr double k_epsilon = 1e-6;
constexpr double k_pi = 3.14159265358979323846;

class CosFormer final : public borel::ChunkAttention {
 public:
  struct Params {
    std::int64_t horizon = 0, first_index = 1;
    void declare(borel::ParamBinder& p) {
      p.integer("horizon", horizon, borel::Range::closed(0, 1e9), "tokens",
                "Distance M at which weights fall to 0; 0 stands for the longest context announced.");
      p.integer("first_index", first_index, borel::Range::closed(0, 1), "1", "Index i of the first token.");
    }
  };
  explicit CosFormer(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    return {.non_negative = true, .own_scale = true, .order_dependent = true, .max_error = 1e-5};
  }
  borel::ChunkForm form() const override {
    return {.normalised = true, .epsilon = k_epsilon, .shared_keys = true, .rotate_inputs = true};
  }
  index_t feature_size(const AttentionContext& context) const override { return 2 * context.d_k; }
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
  double angle(const ChunkRows& rows, index_t t) const {
    const index_t horizon = params_.horizon != 0 ? params_.horizon : rows.context.max_n,
                  place = rows.first_token + t;
    if (place >= horizon)
      throw borel::MethodError("cosformer: token " + std::to_string(place) + " lies beyond the horizon of " +
                               std::to_string(horizon) + " tokens; set horizon to the longest context");
    return k_pi / 2 * static_cast<double>(place + params_.first_index) / static_cast<double>(horizon);
  }
  void features(const ChunkRows& rows, Rows in, TensorView<float, 2> out) const {
    const index_t d = in.shape(1);
    for (index_t t = 0; t < rows.n; ++t) {
      const double turn = angle(rows, t);
      const auto cosine = static_cast<float>(std::cos(turn)), sine = static_cast<float>(std::sin(turn));
      const std::span<float> y = out.row(t);
      for (index_t c = 0; c < d; ++c) {
        const float x = in(t, c) < 0 ? 0 : in(t, c);  // keeps NaN
        y[static_cast<std::size_t>(c)] = x * cosine;
        y[static_cast<std::size_t>(c + d)] = x * sine;
      }
    }
  }
  void features_backward(const ChunkRows& rows, Rows in, Rows d_out, TensorView<float, 2> d_in) const {
    const index_t d = in.shape(1);
    for (index_t t = 0; t < rows.n; ++t) {
      const double turn = angle(rows, t);
      const auto cosine = static_cast<float>(std::cos(turn)), sine = static_cast<float>(std::sin(turn));
      for (index_t c = 0; c < d; ++c)
        if (in(t, c) > 0) d_in(t, c) += cosine * d_out(t, c) + sine * d_out(t, c + d);
    }
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, CosFormer>(
      "cosformer",
      {.summary = "Linear attention with relu features and a cosine weight of the distance",
       .formula = "w_ij ~ relu(q_i) . relu(k_j) cos(pi (i - j) / (2 M)), normalised",
       .source = "Qin et al. 2022, arXiv:2202.08791, equations 9 to 12",
       .complexity = "O(n d_k d_v) time, O(2 d_k d_v) state",
       .notes = "a rotation turns q and k before the map; horizon M is fixed, unlike in the authors' code"});
}
