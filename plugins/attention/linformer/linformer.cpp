// Linformer. Wang et al. 2020, arXiv:2006.04768, equation 7.
//
//   O = softmax(Q (E K)^T / sqrt(d_k)) (F V),   E, F in R^{rank x n}, learned
//
// Bidirectional only: E K mixes all tokens, so no row can hide the later ones. Fixed length: the columns of E and F
// belong to places, and a context of n <= max_n tokens uses the first n. sharing (section 4): none = E, F by head; heads
// = one E and one F for all heads; key_value = heads and E = F. Started as N(0, 1 / rank), as in their theorem 2.
// Position encodings of pairs are refused: a projected key stands at no place.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/matrix_product.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::TensorView;

class Linformer final : public borel::Attention, public borel::TileMethod, public borel::AttentionBackward {
 public:
  enum class Sharing { none, heads, key_value };
  struct Params {
    std::int64_t rank = 128;
    Sharing sharing = Sharing::heads;
    void declare(borel::ParamBinder& p) {
      p.integer("rank", rank, borel::Range::closed(1, 65536), "1", "Rows of E and F: keys that remain.");
      p.choice(
          "sharing", sharing,
          {{"none", Sharing::none}, {"heads", Sharing::heads}, {"key_value", Sharing::key_value}},
          "Which projections are the same: none, those of all heads, or also that of keys and of values.");
    }
  };
  explicit Linformer(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    // 5e-5 as softmax; the projected values add a sum over n tokens.
    return {.causal = false, .fixed_length_only = true, .max_error = 1e-4};
  }
  std::string refuses(const borel::PositionPlan& plan) const override {
    const bool nothing = plan.bands.empty() && !plan.bias && !plan.query_scale && plan.visible.empty() &&
                         !plan.documents && !plan.query_map && !plan.key_map && plan.ensemble.empty();
    return nothing ? "" : "projected keys mix all tokens and stand at no place, so pairs have no distance";
  }
  std::vector<borel::ParameterTensor> parameters(const AttentionContext& context) const override {
    std::vector<index_t> shape = {params_.rank, context.max_n};
    if (params_.sharing == Sharing::none) shape.insert(shape.begin(), context.h_q);
    const auto init = [deviation = 1 / std::sqrt(static_cast<double>(params_.rank))](
                          borel::Rng& rng, std::span<float> values) {
      for (float& x : values) x = static_cast<float>(deviation * rng.normal());
    };
    std::vector<borel::ParameterTensor> all;
    all.push_back(
        {.name = "key_projection", .shape = shape, .init = init, .doc = "E, rows of length max_n."});
    if (params_.sharing != Sharing::key_value)
      all.push_back(
          {.name = "value_projection", .shape = shape, .init = init, .doc = "F, rows of length max_n."});
    return all;
  }

  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  bool transforms() const override { return false; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    borel::check_call(*this, call, o);
    if (call.n_k() == 0) return clear(o);
    const Projected projected(*this, call);
    borel::tile_forward(*this, projected.call, o);
  }

  const borel::AttentionBackward* backward() const override { return this; }
  index_t saved_per_row(const AttentionContext&) const override { return borel::k_tile_saved_per_row; }
  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) const override {
    borel::check_call(*this, call, o);
    if (call.n_k() == 0) return clear(o);
    const Projected projected(*this, call);
    borel::tile_forward_saving(*this, projected.call, o, saved);
  }
  /// Through the softmax to E K and F V; then dK += E^T d(EK), dE += d(EK) K^T, and so for F and V. Heads one after
  /// the other, because they may share E and F.
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& into) const override {
    if (call.n_k() == 0) return;
    const Projected projected(*this, call);
    std::vector<float> d_keys(static_cast<std::size_t>(projected.call.k.size()), 0.0f),
        d_values(static_cast<std::size_t>(projected.call.v.size()), 0.0f);
    const TensorView<float, 3> d_k(d_keys.data(), projected.call.k.shape()),
        d_v(d_values.data(), projected.call.v.shape());
    borel::tile_backward(*this, projected.call, o, saved, d_o, {into.d_q, d_k, d_v, {}, {}, nullptr});
    for (index_t head = 0; head < call.h_q(); ++head) {
      call.stop.throw_if_stopped();
      through_projection(call, 0, head, call.k, d_k[head], into.d_k, into);
      through_projection(call, of_values(), head, call.v, d_v[head], into.d_v, into);
    }
  }
  /// What a longer context would reuse: the projected keys and values.
  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(context.h_q * params_.rank * (context.d_k + context.d_v));
  }
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override {
    return 2.0 * static_cast<double>(context.h_q * params_.rank * (context.d_k + context.d_v) * (n_q + n_k));
  }

 private:
  /// The call with E K and F V, one key head per query head.
  struct Projected {
    Projected(const Linformer& method, const AttentionCall& original)
        : keys(static_cast<std::size_t>(original.h_q() * method.params_.rank * original.d_k())),
          values(static_cast<std::size_t>(original.h_q() * method.params_.rank * original.d_v())),
          call(original) {
      const TensorView<float, 3> k(keys.data(), {original.h_q(), method.params_.rank, original.d_k()}),
          v(values.data(), {original.h_q(), method.params_.rank, original.d_v()});
      borel::parallel_for(original.h_q(), 1, [&](index_t head, index_t) {
        original.stop.throw_if_stopped();
        const index_t source = original.kv_head(head);
        borel::matrix_product(method.projection(original, 0, head), original.k[source], false, k[head]);
        borel::matrix_product(method.projection(original, method.of_values(), head), original.v[source],
                              false, v[head]);
      });
      call.k = k, call.v = v, call.position = nullptr;
    }
    std::vector<float> keys, values;
    AttentionCall call;
  };

  static void clear(TensorView<float, 3> o) {
    for (index_t h = 0; h < o.shape(0); ++h)
      for (index_t r = 0; r < o.shape(1); ++r) std::ranges::fill(o.row(h, r), 0.0f);
  }
  /// Place of F among the parameters.
  std::size_t of_values() const { return params_.sharing == Sharing::key_value ? 0 : 1; }

  void through_projection(const AttentionCall& call, std::size_t which, index_t head,
                          const TensorView<const float, 3>& rows, TensorView<const float, 2> d_projected,
                          const TensorView<float, 3>& d_rows, const Gradients& into) const {
    const index_t source = call.kv_head(head);
    if (!d_rows.empty())
      borel::matrix_product(borel::transposed(projection(call, which, head)), d_projected, true,
                            d_rows[source]);
    if (into.d_parameters.empty() || into.d_parameters[which].empty()) return;
    float* to = into.d_parameters[which].data() + offset(call, head);
    borel::matrix_product(d_projected, borel::transposed(rows[source]), true,
                          {to, {params_.rank, rows.shape(1)}, {call.context.max_n, 1}});
  }

  index_t offset(const AttentionCall& call, index_t head) const {
    return params_.sharing == Sharing::none ? head * params_.rank * call.context.max_n : 0;
  }
  /// [rank, n_k] of one head.
  TensorView<const float, 2> projection(const AttentionCall& call, std::size_t which, index_t head) const {
    return {call.parameters[which].data() + offset(call, head),
            {params_.rank, call.n_k()},
            {call.context.max_n, 1}};
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Linformer>(
      "linformer", {.summary = "Softmax over a learned, fixed number of mixtures of the keys",
                    .formula = "O = softmax(Q (E K)^T / sqrt(d_k)) (F V)",
                    .source = "Wang et al. 2020, arXiv:2006.04768, equation 7",
                    .complexity = "O(n rank (d_k + d_v)) time, O(rank (d_k + d_v)) memory",
                    .notes = "not causal, fixed length; sharing = none, heads or key_value"});
}
