// Softmax as a tile method, inputs and plans for tests of the attention engines.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "borel/draft/tile_engine.hpp"

namespace borel::test {

struct TileSoftmax : TileAttention {
  /// @param in_tiles  scores are written to a tile before they become weights, as for methods that change them
  explicit TileSoftmax(bool in_tiles = false) : in_tiles_(in_tiles) {}
  AttentionTraits traits() const override { return {.row_normalised = true, .non_negative = true}; }
  RowStatistic statistic() const override { return RowStatistic::online_max; }
  bool transforms() const override { return in_tiles_; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }

 private:
  bool in_tiles_;
};

/// Inputs with room between rows and heads: strides are never the gapless ones.
struct Inputs {
  Inputs(index_t h_q, index_t h_kv, index_t n_q, index_t n_k, index_t d_k, index_t d_v, std::uint64_t seed)
      : q(h_q * n_q * (d_k + 3)), k(h_kv * n_k * (d_k + 5)), v(h_kv * n_k * (d_v + 1)) {
    Rng rng(Seed{seed});
    for (auto* values : {&q, &k, &v}) rng.fill_normal(std::span<float>(*values));
    call.q = {q.data(), {h_q, n_q, d_k}, {d_k + 3, h_q * (d_k + 3), 1}};
    call.k = {k.data(), {h_kv, n_k, d_k}, {n_k * (d_k + 5), d_k + 5, 1}};
    call.v = {v.data(), {h_kv, n_k, d_v}, {d_v + 1, h_kv * (d_v + 1), 1}};
    call.query_offset = std::max<index_t>(0, n_k - n_q);
    call.context = {.h_q = h_q, .h_kv = h_kv, .d_k = d_k, .d_v = d_v, .max_n = n_k};
  }
  std::vector<float> q, k, v;
  AttentionCall call;
};

inline std::vector<double> ramp(index_t first, index_t n, double step = 1) {
  std::vector<double> values;
  for (index_t t = 0; t < n; ++t) values.push_back(step * static_cast<double>(first + t));
  return values;
}

inline Band band_for(const AttentionCall& call, double step = 1) {
  Band band;
  band.query_position = make_table(ramp(call.query_offset, call.n_q(), step));
  band.key_position = make_table(ramp(0, call.n_k(), step));
  band.angle = rotary_angles(10000, call.d_k() / 4 * 2);
  return band;
}

struct DoubleRows final : TokenMap {
  void apply(index_t head, index_t first_token, TensorView<float, 2> rows) const override {
    for (index_t t = 0; t < rows.shape(0); ++t)
      for (float& x : rows.row(t)) x = 0.5f * x + 0.01f * static_cast<float>(head + (first_token + t) % 7);
  }
  void backward(index_t, index_t, TensorView<const float, 2>, TensorView<float, 2>) const override {}
};

/// One plan per field of PositionPlan, and some together.
inline std::vector<std::pair<std::string, PositionPlan>> plans_for(const AttentionCall& call) {
  std::vector<std::pair<std::string, PositionPlan>> plans;
  PositionPlan rotary;
  rotary.n_rot_dims = call.d_k() / 4 * 2;
  rotary.bands = {band_for(call)};
  plans.emplace_back("rotary", rotary);
  rotary.pairing = Pairing::interleaved;
  rotary.bands[0].logit_scale = 1.3;
  plans.emplace_back("interleaved, logit scale", rotary);

  PositionPlan two = rotary;
  two.bands = {band_for(call), band_for(call, 0.25), band_for(call, 2)};
  two.bands[0].region.distance = {-37, 37};
  two.bands[1].region.distance.begin = 37;
  two.bands[2].region.distance = {.end = -50};  // pairs with distance in [-50, -37) keep their plain product
  plans.emplace_back("bands with a gap", two);
  two.bands[1].region.distance_stride = 2;
  two.bands[1].region.distance_phase = 1;
  two.bands[0].region.key = {5, 90};
  plans.emplace_back("bands with strides and key ranges", two);

  PositionPlan xpos = rotary;
  std::vector<double> decay;
  for (index_t m = 0; m < xpos.n_rot_dims / 2; ++m) decay.push_back(-0.002 * static_cast<double>(m + 1));
  xpos.bands[0].log_amplitude = make_table(decay);
  plans.emplace_back("amplitude", xpos);

  PositionPlan bias;
  bias.bias_zero = call.query_offset + call.n_q() - 1;
  bias.bias_width = bias.bias_zero + call.n_k() + 1;
  std::vector<float> values;
  for (index_t x = 0; x < call.h_q() * bias.bias_width; ++x)
    values.push_back(std::sin(static_cast<float>(x)));
  bias.bias = std::make_shared<const std::vector<float>>(values);
  std::vector<float> scale;
  for (index_t r = 0; r < call.n_q(); ++r) scale.push_back(0.5f + 0.01f * static_cast<float>(r));
  bias.query_scale = std::make_shared<const std::vector<float>>(scale);
  plans.emplace_back("bias and query scale", bias);

  PositionPlan masked = rotary;
  masked.visible = {
      {.distance = {0, 20}}, {.key = {0, 3}}, {.distance = {-1000, 1000}, .distance_stride = 17}};
  plans.emplace_back("window, sinks and stride", masked);
  masked.visible = {{.key = {30, 32}}};
  plans.emplace_back("rows that see nothing when causal", masked);

  PositionPlan documents = bias;
  std::vector<index_t> number;
  for (index_t t = 0; t < call.n_k(); ++t) number.push_back(t / 33);
  documents.documents = std::make_shared<const std::vector<index_t>>(number);
  plans.emplace_back("documents", documents);

  PositionPlan mapped = two;
  mapped.query_map = mapped.key_map = std::make_shared<DoubleRows>();
  plans.emplace_back("token maps", mapped);

  PositionPlan many = rotary;
  many.bands.clear();
  for (index_t r = 0; r < call.n_q(); ++r) {
    many.bands.push_back(band_for(call, 1 / (1 + 0.1 * static_cast<double>(r))));
    many.bands.back().region.query = {r + call.query_offset, r + call.query_offset + 1};
    many.bands.back().log_amplitude = xpos.bands[0].log_amplitude;
  }
  plans.emplace_back("a band per query row", many);

  PositionPlan ensemble;
  ensemble.ensemble = {rotary, bias, PositionPlan()};
  plans.emplace_back("ensemble", ensemble);
  return plans;
}

}  // namespace borel::test
