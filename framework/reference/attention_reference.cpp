#include "reference/attention_reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "reference/recurrent_reference.hpp"
#include "reference/score_reference.hpp"

namespace borel::reference {
namespace {

constexpr double k_masked = -std::numeric_limits<double>::infinity();
// As the plugins say.
constexpr double k_linear_epsilon = 1e-6, k_relu2_epsilon = 1e-6;

double number(const MethodSpec& spec, const std::string& name) { return std::stod(spec.params.at(name)); }

Matrix rows(const TensorView<const float, 3>& tensor, index_t head, const TokenMap* map, index_t map_head,
            index_t first_token) {
  const index_t n = tensor.shape(1), d = tensor.shape(2);
  std::vector<float> storage(static_cast<std::size_t>(n * d));
  for (index_t r = 0; r < n; ++r) std::ranges::copy(tensor.row(head, r), storage.begin() + r * d);
  if (map) map->apply(map_head, first_token, TensorView<float, 2>(storage.data(), {n, d}));
  Matrix result(n, d);
  std::ranges::copy(storage, result.values.begin());
  return result;
}

double dot(const Matrix& a, index_t r, const Matrix& b, index_t s, index_t begin, index_t end) {
  double sum = 0;
  for (index_t c = begin; c < end; ++c) sum += a(r, c) * b(s, c);
  return sum;
}

double default_scale(const MethodSpec& spec, const AttentionCall& call) {
  const double given = number(spec, "scale");
  return given == 0 ? 1 / std::sqrt(static_cast<double>(call.d_k())) : given;
}

/// Keys that a query at absolute position i may see at most.
double n_seen(const AttentionCall& call, index_t i) {
  return static_cast<double>(call.causal ? i + 1 : call.n_k());
}

/// Vaswani et al. 2017, with a logit cap (Gemma 2), log n factors (Su 2021, 2023) and a sink (softmax1).
Matrix softmax(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const std::string& log_n = spec.params.at("log_n");
  const double length = std::log(number(spec, "log_n_length"));
  const auto factor = [&](index_t i) {
    const double ratio = std::log(n_seen(call, i)) / length;
    return log_n == "none" ? 1.0 : log_n == "train" ? ratio : std::max(1.0, ratio);
  };
  Matrix w = scores(call, head, default_scale(spec, call), factor);
  const double cap = number(spec, "softcap");
  double sink = k_masked;
  if (spec.params.at("sink") == "fixed") sink = number(spec, "sink_logit");
  if (spec.params.at("sink") == "learned")
    sink = static_cast<double>(call.parameters[0][static_cast<std::size_t>(head)]);
  for (index_t r = 0; r < w.n_rows; ++r) {
    double top = sink, sum = 0;
    for (index_t j = 0; j < w.n_cols; ++j) {
      if (cap > 0 && w(r, j) != k_masked) w(r, j) = cap * std::tanh(w(r, j) / cap);
      top = std::max(top, w(r, j));
    }
    if (top == k_masked) {
      for (index_t j = 0; j < w.n_cols; ++j) w(r, j) = 0;
      continue;
    }
    for (index_t j = 0; j < w.n_cols; ++j) sum += w(r, j) = std::exp(w(r, j) - top);
    sum += std::exp(sink - top);
    for (index_t j = 0; j < w.n_cols; ++j) w(r, j) /= sum;
  }
  return w;
}

Matrix relu2(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const std::string& scaling = spec.params.at("scaling");
  const bool gau = scaling == "gau_n2";
  const double scale = gau ? 1 : 1 / std::sqrt(static_cast<double>(call.d_k()));
  Matrix w = scores(call, head, scale, [&](index_t i) { return gau ? 1 / n_seen(call, i) : 1; });
  for (index_t r = 0; r < w.n_rows; ++r) {
    double sum = k_relu2_epsilon;
    for (index_t j = 0; j < w.n_cols; ++j) {
      const double positive = std::max(0.0, w(r, j));
      sum += w(r, j) = positive * positive;
    }
    const double divisor = scaling == "normalised" ? sum : gau ? 1 : n_seen(call, r + call.query_offset);
    for (index_t j = 0; j < w.n_cols; ++j) w(r, j) /= divisor;
  }
  return w;
}

Matrix identity(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = scores(call, head, default_scale(spec, call), [](index_t) { return 1.0; });
  for (double& x : w.values) x = x == k_masked ? 0 : x;
  return w;
}

/// phi of every row.
void map_features(const std::string& feature, Matrix& x) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    double top = 0, sum = 0;
    for (index_t c = 0; c < x.n_cols; ++c) top = std::max(top, x(r, c));
    for (index_t c = 0; c < x.n_cols; ++c) sum += std::exp(x(r, c) - top);
    for (index_t c = 0; c < x.n_cols; ++c) {
      double& y = x(r, c);
      if (feature == "elu1") y = y > 0 ? y + 1 : std::exp(y);
      if (feature == "relu") y = std::max(0.0, y);
      if (feature == "exp") y = std::exp(y);
      if (feature == "softmax_dim") y = std::exp(y - top) / sum;
      if (feature == "square") y = y * y;
    }
  }
}

/// Katharopoulos et al. 2020; with rotation as Su et al. 2021, equation 19: denominator without it.
Matrix linear(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix q = mapped_queries(call, head), k = mapped_keys(call, head);
  map_features(spec.params.at("feature"), q);
  map_features(spec.params.at("feature"), k);
  Matrix w(call.n_q(), call.n_k());
  for (index_t r = 0; r < w.n_rows; ++r) {
    double denominator = spec.params.at("feature") == "exp" ? 0 : k_linear_epsilon;
    for (index_t j = 0; j < w.n_cols; ++j)
      if (sees(call, r, j)) denominator += dot(q, r, k, j, 0, q.n_cols);
    for (index_t j = 0; j < w.n_cols; ++j)
      if (sees(call, r, j))
        w(r, j) = pair_product(call.position, q, r, k, j, call.query_offset) / denominator;
  }
  return w;
}

/// Sun et al. 2023, equation 5, without group norm and gate.
Matrix retention(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = scores(call, head, 1 / std::sqrt(static_cast<double>(call.d_k())), [](index_t) { return 1.0; });
  const double given = number(spec, "decay");
  const double decay = given == 0 ? 1 - std::pow(2.0, -5.0 - static_cast<double>(head)) : given;
  for (index_t r = 0; r < w.n_rows; ++r)
    for (index_t j = 0; j < w.n_cols; ++j)
      w(r, j) =
          w(r, j) == k_masked ? 0 : w(r, j) * std::pow(decay, static_cast<double>(r + call.query_offset - j));
  return w;
}

}  // namespace

bool sees(const AttentionCall& call, index_t r, index_t j) {
  const index_t i = r + call.query_offset;
  return (!call.causal || j <= i) && (!call.position || call.position->sees(i, j));
}

double pair_product(const PositionPlan* plan, const Matrix& q, index_t r, const Matrix& k, index_t j,
                    index_t query_offset) {
  const index_t d = q.n_cols;
  if (plan)
    for (const Band& band : plan->bands) {
      if (!band.region.contains(r + query_offset, j)) continue;
      const index_t n_pairs = plan->n_rot_dims / 2;
      double sum = dot(q, r, k, j, plan->n_rot_dims, d);
      for (index_t m = 0; m < n_pairs; ++m) {
        const bool interleaved = plan->pairing == Pairing::interleaved;
        const index_t a = interleaved ? 2 * m : m, b = interleaved ? 2 * m + 1 : m + n_pairs;
        double turn = 0;
        const auto at = [&](const PositionTable& table, index_t row, index_t axis) {
          return (*table)[static_cast<std::size_t>(row * band.n_axes + axis)];
        };
        for (index_t axis = 0; axis < band.n_axes && band.angle; ++axis)
          turn +=
              at(band.angle, m, axis) * (at(band.query_position, r, axis) - at(band.key_position, j, axis));
        // Re[(q_a + I q_b) (k_a - I k_b) exp(I turn)]
        const double real = q(r, a) * k(j, a) + q(r, b) * k(j, b),
                     imaginary = q(r, b) * k(j, a) - q(r, a) * k(j, b);
        double product = real * std::cos(turn) - imaginary * std::sin(turn);
        if (band.log_amplitude)
          product *= std::exp((*band.log_amplitude)[static_cast<std::size_t>(m)] *
                              (at(band.query_position, r, 0) - at(band.key_position, j, 0)));
        sum += product;
      }
      return band.logit_scale * sum;
    }
  return dot(q, r, k, j, 0, d);
}

Matrix mapped_queries(const AttentionCall& call, index_t head) {
  return rows(call.q, head, call.position ? call.position->query_map.get() : nullptr, head,
              call.query_offset);
}

Matrix mapped_keys(const AttentionCall& call, index_t head) {
  return rows(call.k, call.kv_head(head), call.position ? call.position->key_map.get() : nullptr,
              call.kv_head(head), 0);
}

Matrix scores(const AttentionCall& call, index_t head, double scale,
              const std::function<double(index_t)>& row_factor) {
  const PositionPlan* plan = call.position;
  const Matrix q = mapped_queries(call, head), k = mapped_keys(call, head);
  Matrix s(call.n_q(), call.n_k(), k_masked);
  for (index_t r = 0; r < s.n_rows; ++r)
    for (index_t j = 0; j < s.n_cols; ++j) {
      if (!sees(call, r, j)) continue;
      const index_t i = r + call.query_offset;
      double factor = scale * row_factor(i);
      if (plan && plan->query_scale)
        factor *= static_cast<double>((*plan->query_scale)[static_cast<std::size_t>(r)]);
      s(r, j) = factor * pair_product(plan, q, r, k, j, call.query_offset);
      if (plan && plan->bias)
        s(r, j) += static_cast<double>(
            (*plan->bias)[static_cast<std::size_t>(head * plan->bias_width + j - i + plan->bias_zero)]);
    }
  return s;
}

std::optional<AttentionWeightsOf> attention_weights(const MethodSpec& canonical) {
  constexpr std::pair<std::string_view, WeightsFunction> k_known[] = {{"softmax", softmax},
                                                                      {"relu2", relu2},
                                                                      {"identity", identity},
                                                                      {"linear", linear},
                                                                      {"retention", retention}};
  std::optional<WeightsFunction> function = recurrent_weights(canonical.id);
  if (!function) function = score_weights(canonical.id);
  for (const auto& [id, known] : k_known)
    if (id == canonical.id) function = known;
  if (!function) return std::nullopt;
  return [canonical, function = *function](const AttentionCall& call, index_t head) {
    if (!call.position || call.position->ensemble.empty()) return function(canonical, call, head);
    Matrix mean(call.n_q(), call.n_k());
    for (const PositionPlan& plan : call.position->ensemble) {
      AttentionCall part = call;
      part.position = &plan;
      const Matrix w = function(canonical, part, head);
      for (std::size_t x = 0; x < w.values.size(); ++x)
        mean.values[x] += w.values[x] / static_cast<double>(call.position->ensemble.size());
    }
    return mean;
  };
}

Matrix attention_output(const AttentionCall& call, index_t head, const Matrix& weights) {
  Matrix o(call.n_q(), call.d_v());
  for (index_t r = 0; r < o.n_rows; ++r)
    for (index_t j = 0; j < weights.n_cols; ++j)
      for (index_t c = 0; c < o.n_cols; ++c)
        o(r, c) += weights(r, j) * static_cast<double>(call.v(call.kv_head(head), j, c));
  return o;
}

std::optional<AttentionOutputOf> attention_output_of(const MethodSpec& canonical) {
  const std::optional<AttentionWeightsOf> weights = attention_weights(canonical);
  if (!weights) return std::nullopt;
  return [canonical, weights = *weights](const AttentionCall& call, index_t head) {
    Matrix o = attention_output(call, head, weights(call, head));
    finish_output(canonical, call, o);
    return o;
  };
}

}  // namespace borel::reference
