#include "plan_scores.hpp"

#include <cmath>
#include <complex>
#include <limits>

namespace borel::trial {

RandomCall::RandomCall(index_t h_q, index_t h_kv, index_t n_q, index_t n_k, index_t d_k, index_t d_v,
                       Seed seed)
    : q_shape_{h_q, n_q, d_k}, k_shape_{h_kv, n_k, d_k}, v_shape_{h_kv, n_k, d_v} {
  q_.resize(static_cast<std::size_t>(h_q * n_q * d_k));
  k_.resize(static_cast<std::size_t>(h_kv * n_k * d_k));
  v_.resize(static_cast<std::size_t>(h_kv * n_k * d_v));
  Rng(seed.derive("q")).fill_normal(q_);
  Rng(seed.derive("k")).fill_normal(k_);
  Rng(seed.derive("v")).fill_normal(v_);
}

AttentionCall RandomCall::call(bool causal) const {
  AttentionCall call;
  call.q = TensorView<const float, 3>(q_.data(), q_shape_);
  call.k = TensorView<const float, 3>(k_.data(), k_shape_);
  call.v = TensorView<const float, 3>(v_.data(), v_shape_);
  call.causal = causal;
  call.query_offset = causal ? k_shape_[1] - q_shape_[1] : 0;
  call.context = {.h_q = q_shape_[0],
                  .h_kv = k_shape_[0],
                  .d_k = q_shape_[2],
                  .d_v = v_shape_[2],
                  .max_n = k_shape_[1],
                  .causal = causal};
  return call;
}

double plan_product(const PositionPlan& plan, const AttentionCall& call, index_t head, index_t row,
                    index_t j) {
  const index_t i = row + call.query_offset, d = call.d_k();
  std::vector<float> q(call.q.row(head, row).begin(), call.q.row(head, row).end());
  const auto key = call.k.row(call.kv_head(head), j);
  std::vector<float> k(key.begin(), key.end());
  if (plan.query_map) plan.query_map->apply(head, i, {q.data(), {1, d}});
  if (plan.key_map) plan.key_map->apply(call.kv_head(head), j, {k.data(), {1, d}});
  const double scale = plan.query_scale ? (*plan.query_scale)[static_cast<std::size_t>(row)] : 1;
  const auto at = [](const std::vector<float>& x, index_t c) {
    return static_cast<double>(x[static_cast<std::size_t>(c)]);
  };
  const Band* band = nullptr;
  for (const Band& candidate : plan.bands)
    if (candidate.region.contains(i, j)) band = &candidate;
  double sum = 0;
  for (index_t c = band ? plan.n_rot_dims : 0; c < d; ++c) sum += at(q, c) * at(k, c);
  if (!band) return scale * sum;
  const auto position = [&](const PositionTable& table, index_t r, index_t axis) {
    return (*table)[static_cast<std::size_t>(r * band->n_axes + axis)];
  };
  for (index_t m = 0; m < plan.n_rot_dims / 2; ++m) {
    const bool half = plan.pairing == Pairing::half;
    const index_t a = half ? m : 2 * m, b = half ? m + plan.n_rot_dims / 2 : 2 * m + 1;
    double phase = 0, amplitude = 1;
    for (index_t axis = 0; band->angle && axis < band->n_axes; ++axis)
      phase += (*band->angle)[static_cast<std::size_t>(m * band->n_axes + axis)] *
               (position(band->query_position, row, axis) - position(band->key_position, j, axis));
    if (band->log_amplitude)
      amplitude = std::exp((*band->log_amplitude)[static_cast<std::size_t>(m)] *
                           (position(band->query_position, row, 0) - position(band->key_position, j, 0)));
    const std::complex<double> query(at(q, a), at(q, b)), key_m(at(k, a), at(k, b));
    sum += amplitude * (query * std::conj(key_m) * std::polar(1.0, phase)).real();
  }
  return scale * band->logit_scale * sum;
}

double turned_product(std::span<const float> q, std::span<const float> k, double base, double distance) {
  const std::size_t half = q.size() / 2;
  double sum = 0;
  for (std::size_t m = 0; m < half; ++m) {
    const double theta = std::pow(base, -static_cast<double>(m) / static_cast<double>(half));
    const std::complex<double> query(q[m], q[m + half]), key(k[m], k[m + half]);
    sum += (query * std::conj(key) * std::polar(1.0, theta * distance)).real();
  }
  return sum;
}

std::vector<double> softmax_by_definition(const PositionPlan& plan, const AttentionCall& call) {
  std::vector<double> o(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v()), 0);
  if (!plan.ensemble.empty()) {
    for (const PositionPlan& member : plan.ensemble) {
      const std::vector<double> part = softmax_by_definition(member, call);
      for (std::size_t c = 0; c < o.size(); ++c) o[c] += part[c] / static_cast<double>(plan.ensemble.size());
    }
    return o;
  }
  const double scale = 1 / std::sqrt(static_cast<double>(call.d_k()));
  for (index_t h = 0; h < call.h_q(); ++h)
    for (index_t row = 0; row < call.n_q(); ++row) {
      const index_t i = row + call.query_offset;
      std::vector<double> x(static_cast<std::size_t>(call.n_k()), -std::numeric_limits<double>::infinity());
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (index_t j = 0; j < call.n_k(); ++j) {
        if ((call.causal && j > i) || !plan.sees(i, j)) continue;
        double& score = x[static_cast<std::size_t>(j)];
        score = scale * plan_product(plan, call, h, row, j);
        if (plan.bias)
          score += (*plan.bias)[static_cast<std::size_t>(h * plan.bias_width + j - i + plan.bias_zero)];
        largest = std::max(largest, score);
      }
      for (double score : x) sum += std::isfinite(score) ? std::exp(score - largest) : 0;
      for (index_t j = 0; j < call.n_k(); ++j) {
        const double score = x[static_cast<std::size_t>(j)];
        if (!std::isfinite(score)) continue;
        for (index_t c = 0; c < call.d_v(); ++c)
          o[static_cast<std::size_t>((h * call.n_q() + row) * call.d_v() + c)] +=
              std::exp(score - largest) / sum * call.v(call.kv_head(h), j, c);
      }
    }
  return o;
}

PositionContext context_of(const AttentionCall& call) {
  return {.n_q = call.n_q(),
          .n_k = call.n_k(),
          .query_offset = call.query_offset,
          .n_heads = call.h_q(),
          .d_head = call.d_k(),
          .causal = call.causal};
}

}  // namespace borel::trial
