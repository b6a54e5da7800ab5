#include "reference/score_reference.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace borel::reference {
namespace {

constexpr double k_masked = -std::numeric_limits<double>::infinity();
// As the plugins say.
constexpr double k_unit_epsilon = 1e-12, k_rms_epsilon = 1e-5;

double number(const MethodSpec& spec, const std::string& name) { return std::stod(spec.params.at(name)); }

double n_seen(const AttentionCall& call, index_t i) {
  return static_cast<double>(call.causal ? i + 1 : call.n_k());
}

double scale_or_default(const MethodSpec& spec, const AttentionCall& call) {
  const double given = number(spec, "scale");
  return given == 0 ? 1 / std::sqrt(static_cast<double>(call.d_k())) : given;
}

Matrix plain_scores(const AttentionCall& call, index_t head, double scale) {
  return scores(call, head, scale, [](index_t) { return 1.0; });
}

/// Softmax of every row, with a further logit that takes weight but has no value.
void softmax_rows(Matrix& x, double sink) {
  for (index_t r = 0; r < x.n_rows; ++r) {
    double top = sink, sum = 0;
    for (index_t j = 0; j < x.n_cols; ++j) top = std::max(top, x(r, j));
    for (index_t j = 0; j < x.n_cols; ++j) sum += x(r, j) = top == k_masked ? 0 : std::exp(x(r, j) - top);
    if (top != k_masked) sum += std::exp(sink - top);
    for (index_t j = 0; j < x.n_cols && sum > 0; ++j) x(r, j) /= sum;
  }
}

Matrix softmax1(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, scale_or_default(spec, call));
  softmax_rows(w, 0);
  for (index_t r = 0; r < w.n_rows; ++r)
    for (index_t j = 0; j < w.n_cols; ++j)
      if (!sees(call, r, j)) w(r, j) = 0;
  return w;
}

Matrix sigmoid(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, 1 / std::sqrt(static_cast<double>(call.d_k())));
  const double length = number(spec, "length");
  for (index_t r = 0; r < w.n_rows; ++r) {
    const double n = length > 0 ? length : n_seen(call, r + call.query_offset);
    for (index_t j = 0; j < w.n_cols; ++j) w(r, j) = 1 / (1 + std::exp(-w(r, j)) * n);
  }
  return w;
}

Matrix relu(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, 1 / std::sqrt(static_cast<double>(call.d_k())));
  for (index_t r = 0; r < w.n_rows; ++r)
    for (index_t j = 0; j < w.n_cols; ++j)
      w(r, j) = std::max(0.0, w(r, j)) / std::pow(n_seen(call, r + call.query_offset), number(spec, "alpha"));
  return w;
}

/// The seen scores of a row, largest first.
std::vector<double> sorted_row(const Matrix& x, index_t r) {
  std::vector<double> row;
  for (index_t j = 0; j < x.n_cols; ++j)
    if (x(r, j) != k_masked) row.push_back(x(r, j));
  std::ranges::sort(row, std::greater<>());
  return row;
}

/// Martins and Astudillo 2016, algorithm 1.
Matrix sparsemax(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, scale_or_default(spec, call));
  for (index_t r = 0; r < w.n_rows; ++r) {
    double sum = 0, tau = std::numeric_limits<double>::infinity(), size = 0;
    for (const double x : sorted_row(w, r)) {
      sum += x, size += 1;
      if (1 + size * x > sum) tau = (sum - 1) / size;
    }
    for (index_t j = 0; j < w.n_cols; ++j) w(r, j) = std::max(0.0, w(r, j) - tau);
  }
  return w;
}

/// Peters, Niculae and Martins 2019, algorithm 2.
Matrix entmax15(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, scale_or_default(spec, call));
  for (index_t r = 0; r < w.n_rows; ++r) {
    const std::vector<double> row = sorted_row(w, r);
    double sum = 0, squares = 0, size = 0, tau = std::numeric_limits<double>::infinity();
    for (const double x : row) {
      const double z = (x - row[0]) / 2;
      sum += z, squares += z * z, size += 1;
      const double mean = sum / size, spread = squares - sum * mean;
      if (spread > 1) break;
      const double candidate = mean - std::sqrt((1 - spread) / size);
      if (candidate <= z) tau = candidate;
    }
    for (index_t j = 0; j < w.n_cols; ++j) {
      const double root = row.empty() ? 0 : std::max(0.0, (w(r, j) - row[0]) / 2 - tau);
      w(r, j) = root * root;
    }
  }
  return w;
}

Matrix topk(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, 1 / std::sqrt(static_cast<double>(call.d_k())));
  const auto k = static_cast<std::size_t>(number(spec, "k"));
  for (index_t r = 0; r < w.n_rows; ++r) {
    const std::vector<double> row = sorted_row(w, r);
    const double bound = row.size() > k ? row[k - 1] : k_masked;
    for (index_t j = 0; j < w.n_cols; ++j)
      if (w(r, j) < bound) w(r, j) = k_masked;
  }
  softmax_rows(w, k_masked);
  return w;
}

/// Rows of a tensor divided by their lengths, as floats: what the engine and the scores of the reference read.
std::vector<float> unit_rows(const TensorView<const float, 3>& in) {
  std::vector<float> out;
  for (index_t h = 0; h < in.shape(0); ++h)
    for (index_t t = 0; t < in.shape(1); ++t) {
      double squares = k_unit_epsilon;
      for (float x : in.row(h, t)) squares += static_cast<double>(x) * static_cast<double>(x);
      for (float x : in.row(h, t))
        out.push_back(static_cast<float>(static_cast<double>(x) / std::sqrt(squares)));
    }
  return out;
}

Matrix qk_norm(const MethodSpec& spec, const AttentionCall& call, index_t head) {
  const std::string& norm = spec.params.at("norm");
  AttentionCall part = call;
  std::vector<float> q, k;
  if (norm != "keys") q = unit_rows(call.q), part.q = {q.data(), call.q.shape()};
  if (norm != "queries") k = unit_rows(call.k), part.k = {k.data(), call.k.shape()};
  const double given = number(spec, "scale");
  const bool learned = spec.params.at("learned") == "true";
  Matrix w = scores(part, head, learned || given == 0 ? 1 : given, [&](index_t i) {
    if (learned) return static_cast<double>(call.parameters[0][static_cast<std::size_t>(head)]);
    return norm == "both" && given == 0 ? 4 * std::log(n_seen(call, i)) : 1.0;
  });
  softmax_rows(w, k_masked);
  return w;
}

Matrix forgetting(const MethodSpec&, const AttentionCall& call, index_t head) {
  Matrix w = plain_scores(call, head, 1 / std::sqrt(static_cast<double>(call.d_k())));
  for (index_t r = 0; r < w.n_rows; ++r) {
    double decay = 0;
    for (index_t j = std::min(r + call.query_offset, call.n_k() - 1); j >= 0; --j) {
      w(r, j) += decay;
      decay += static_cast<double>(call.extra[0](head, j, 0));
    }
  }
  softmax_rows(w, k_masked);
  return w;
}

double lambda_init(const AttentionCall& call) {
  return 0.8 - 0.6 * std::exp(-0.3 * static_cast<double>(call.context.layer_index));
}

Matrix differential(const MethodSpec&, const AttentionCall& call, index_t head) {
  const auto inner = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t c = 0; c < call.parameters[a].size(); ++c)
      sum += static_cast<double>(call.parameters[a][c]) * static_cast<double>(call.parameters[b][c]);
    return sum;
  };
  const double lambda = std::exp(inner(0, 1)) - std::exp(inner(2, 3)) + lambda_init(call);
  const index_t d = call.d_k() / 2;
  Matrix w(call.n_q(), call.n_k());
  for (const index_t map : {0, 1}) {
    AttentionCall half = call;
    half.q = call.q.slice(2, map * d, (map + 1) * d), half.k = call.k.slice(2, map * d, (map + 1) * d);
    Matrix softmax = plain_scores(half, head, 1 / std::sqrt(static_cast<double>(d)));
    softmax_rows(softmax, k_masked);
    for (std::size_t x = 0; x < w.values.size(); ++x)
      w.values[x] += (map == 0 ? 1 : -lambda) * softmax.values[x];
  }
  return w;
}

}  // namespace

std::optional<ScoreWeightsFunction> score_weights(std::string_view id) {
  constexpr std::pair<std::string_view, ScoreWeightsFunction> k_known[] = {
      {"softmax1", softmax1},   {"sigmoid", sigmoid},       {"relu", relu},
      {"sparsemax", sparsemax}, {"entmax15", entmax15},     {"topk", topk},
      {"qk_norm", qk_norm},     {"forgetting", forgetting}, {"differential", differential}};
  for (const auto& [known, function] : k_known)
    if (known == id) return function;
  return std::nullopt;
}

void finish_output(const MethodSpec& canonical, const AttentionCall& call, Matrix& output) {
  if (canonical.id != "differential" || canonical.params.at("norm") != "rms") return;
  for (index_t r = 0; r < output.n_rows; ++r) {
    double squares = 0;
    for (index_t c = 0; c < output.n_cols; ++c) squares += output(r, c) * output(r, c);
    const double root = std::sqrt(squares / static_cast<double>(output.n_cols) + k_rms_epsilon);
    for (index_t c = 0; c < output.n_cols; ++c)
      output(r, c) *= (1 - lambda_init(call)) *
                      static_cast<double>(call.parameters[4][static_cast<std::size_t>(c)]) / root;
  }
}

}  // namespace borel::reference
