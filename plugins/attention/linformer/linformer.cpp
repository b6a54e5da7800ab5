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

#include "borel/draft/feature_maps.hpp"
#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::TensorView;

class Linformer final : public borel::Attention, public borel::TileMethod {
 public:
  enum class Sharing { none, heads, key_value };
  struct Params {
    std::int64_t rank = 128;
    Sharing sharing = Sharing::heads;
    void declare(borel::ParamBinder& p) {
      p.integer("rank", rank, borel::Range::closed(1, 65536), "1", "Rows of E and F: keys that remain.");
      p.choice("sharing", sharing,
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
    const auto init = [deviation = 1 / std::sqrt(static_cast<double>(params_.rank))](borel::Rng& rng,
                                                                                     std::span<float> values) {
      for (float& x : values) x = static_cast<float>(deviation * rng.normal());
    };
    std::vector<borel::ParameterTensor> all;
    all.push_back({.name = "key_projection", .shape = shape, .init = init, .doc = "E, rows of length max_n."});
    if (params_.sharing != Sharing::key_value)
      all.push_back({.name = "value_projection", .shape = shape, .init = init, .doc = "F, rows of length max_n."});
    return all;
  }

  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  double scale(const AttentionCall& call) const override { return 1 / std::sqrt(static_cast<double>(call.d_k())); }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    borel::check_call(*this, call, o);
    if (call.n_k() == 0) {
      for (index_t h = 0; h < o.shape(0); ++h)
        for (index_t r = 0; r < o.shape(1); ++r) std::ranges::fill(o.row(h, r), 0.0f);
      return;
    }
    const borel::Scratch<float> keys(call.h_q() * params_.rank * call.d_k()),
        values(call.h_q() * params_.rank * call.d_v());
    const TensorView<float, 3> k(keys.data(), {call.h_q(), params_.rank, call.d_k()}),
        v(values.data(), {call.h_q(), params_.rank, call.d_v()});
    const std::size_t of_values = params_.sharing == Sharing::key_value ? 0 : 1;
    borel::parallel_for(call.h_q(), 1, [&](index_t head, index_t) {
      call.stop.throw_if_stopped();
      borel::multiply_rows(projection(call, 0, head), call.k[call.kv_head(head)], false, k[head]);
      borel::multiply_rows(projection(call, of_values, head), call.v[call.kv_head(head)], false, v[head]);
    });
    AttentionCall projected = call;
    projected.k = k, projected.v = v, projected.position = nullptr;
    borel::tile_forward(*this, projected, o);
  }
  /// What a longer context would reuse: the projected keys and values.
  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(context.h_q * params_.rank * (context.d_k + context.d_v));
  }
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override {
    return 2.0 * static_cast<double>(context.h_q * params_.rank * (context.d_k + context.d_v) * (n_q + n_k));
  }

 private:
  /// [rank, n_k] of one head.
  TensorView<const float, 2> projection(const AttentionCall& call, std::size_t which, index_t head) const {
    const index_t max_n = call.context.max_n, one = params_.rank * max_n;
    const float* data = call.parameters[which].data() + (params_.sharing == Sharing::none ? head * one : 0);
    return {data, {params_.rank, call.n_k()}, {max_n, 1}};
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
