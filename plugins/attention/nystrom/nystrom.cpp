// Nystromformer. Xiong et al. 2021, arXiv:2102.03902, equations 13 to 15 and algorithm 1.
//
//   O = softmax(Q K~^T) A^+ (softmax(Q~ K^T) V),   A = softmax(Q~ K~^T),   all scores times 1 / sqrt(d_k)
//   A^+ by six steps  Z <- Z (13 I - A Z (15 I - A Z (7 I - A Z))) / 4  from  Z = A^T / (|A|_1 |A|_inf)
//
// Q~, K~: `landmarks` means of segments. Where n is not a multiple of their number, segment l runs from
// floor(l n / m) to ceil((l + 1) n / m), as adaptive pooling does (the authors pad with zeros, which moves the means);
// with at most m queries or keys the exact softmax is computed, as in their code. Six steps do not converge where
// A is far from regular; the weights then are what they are, and rows need not sum to 1.
// Bidirectional only: landmarks average over later tokens. Differs from the paper: its depthwise convolution of V
// belongs to the layer.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::TensorView;
using Square = std::vector<double>;  // [m, m]

/// a b.
Square product(const Square& a, const Square& b, index_t m) {
  Square out(a.size(), 0.0);
  for (index_t r = 0; r < m; ++r)
    for (index_t k = 0; k < m; ++k) {
      const double x = a[static_cast<std::size_t>(r * m + k)];
      for (index_t c = 0; c < m; ++c)
        out[static_cast<std::size_t>(r * m + c)] += x * b[static_cast<std::size_t>(k * m + c)];
    }
  return out;
}

Square minus_from_diagonal(double diagonal, Square x, index_t m) {
  for (double& a : x) a = -a;
  for (index_t r = 0; r < m; ++r) x[static_cast<std::size_t>(r * m + r)] += diagonal;
  return x;
}

/// Equation 14.
Square pseudo_inverse(const Square& a, index_t m, int n_steps) {
  double rows = 0, columns = 0;
  for (index_t r = 0; r < m; ++r) {
    double row = 0, column = 0;
    for (index_t c = 0; c < m; ++c) {
      row += std::abs(a[static_cast<std::size_t>(r * m + c)]);
      column += std::abs(a[static_cast<std::size_t>(c * m + r)]);
    }
    rows = std::max(rows, row), columns = std::max(columns, column);
  }
  Square z(a.size());
  for (index_t r = 0; r < m; ++r)
    for (index_t c = 0; c < m; ++c)
      z[static_cast<std::size_t>(r * m + c)] = a[static_cast<std::size_t>(c * m + r)] / (rows * columns);
  for (int step = 0; step < n_steps; ++step) {
    const Square az = product(a, z, m);
    const Square inner = product(az, minus_from_diagonal(7, az, m), m);
    const Square middle = product(az, minus_from_diagonal(15, inner, m), m);
    z = product(z, minus_from_diagonal(13, middle, m), m);
    for (double& x : z) x /= 4;
  }
  return z;
}

class Nystrom final : public borel::Attention, public borel::TileMethod {
 public:
  struct Params {
    std::int64_t landmarks = 64, inverse_steps = 6;
    void declare(borel::ParamBinder& p) {
      p.integer("landmarks", landmarks, borel::Range::closed(1, 4096), "1", "Number m of landmarks.");
      p.integer("inverse_steps", inverse_steps, borel::Range::closed(1, 64), "1",
                "Steps of the iteration for the pseudo-inverse.");
    }
  };
  explicit Nystrom(const Params& params) : params_(params) {}

  borel::AttentionTraits traits() const override {
    // The pseudo-inverse amplifies the rounding of the softmaxes.
    return {.causal = false, .order_dependent = true, .rows_interact = true, .max_error = 1e-3};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  double scale(const AttentionCall& call) const override { return 1 / std::sqrt(static_cast<double>(call.d_k())); }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    borel::check_call(*this, call, o);
    const index_t m = params_.landmarks, d_k = call.d_k(), d_v = call.d_v(), h = call.h_q();
    if (std::min(call.n_q(), call.n_k()) <= m) return borel::tile_forward(*this, call, o);
    const std::vector<float> turned_q = turned(call, true), turned_k = turned(call, false);
    AttentionCall plain = call;
    plain.position = nullptr;
    plain.q = {turned_q.data(), call.q.shape()}, plain.k = {turned_k.data(), call.k.shape()};
    const std::vector<float> q_marks = landmarks(plain.q), k_marks = landmarks(plain.k);

    std::vector<float> values(static_cast<std::size_t>(h * m * d_v)), mixed(values.size());
    AttentionCall to_keys = plain;
    to_keys.q = {q_marks.data(), {h, m, d_k}};
    borel::tile_forward(*this, to_keys, {values.data(), {h, m, d_v}});
    borel::parallel_for(h, 1, [&](index_t head, index_t) {
      call.stop.throw_if_stopped();
      mix(call, head, q_marks, k_marks, {values.data(), {h, m, d_v}}, {mixed.data(), {h, m, d_v}});
    });
    // Each query head has its own mixed values, so the landmarks of its keys are repeated.
    const index_t group = h / call.h_kv();
    std::vector<float> repeated(static_cast<std::size_t>(h * m * d_k));
    for (index_t head = 0; head < h; ++head)
      std::copy_n(k_marks.begin() + head / group * m * d_k, m * d_k, repeated.begin() + head * m * d_k);
    AttentionCall to_marks = plain;
    to_marks.k = {repeated.data(), {h, m, d_k}};
    to_marks.v = {mixed.data(), {h, m, d_v}};
    borel::tile_forward(*this, to_marks, o);
  }
  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(context.h_q * params_.landmarks * (context.d_k + context.d_v));
  }
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override {
    const auto m = static_cast<double>(params_.landmarks), d = static_cast<double>(context.d_k + context.d_v);
    return static_cast<double>(context.h_q) *
           (2 * m * d * static_cast<double>(n_q + n_k) + 8 * static_cast<double>(params_.inverse_steps) * m * m * m);
  }

 private:
  /// q or k, gapless, after the plan's rotation.
  static std::vector<float> turned(const AttentionCall& call, bool query) {
    const TensorView<const float, 3>& in = query ? call.q : call.k;
    std::vector<float> storage(static_cast<std::size_t>(in.size()));
    const TensorView<float, 3> out(storage.data(), in.shape());
    const borel::Band* band = call.position && !call.position->bands.empty() ? &call.position->bands.front() : nullptr;
    for (index_t h = 0; h < in.shape(0); ++h)
      if (band)
        borel::rotate_rows(*call.position, *band, *(query ? band->query_position : band->key_position),
                           query ? 1 : -1, 0, in[h], out[h]);
      else
        for (index_t t = 0; t < in.shape(1); ++t) std::ranges::copy(in.row(h, t), out.row(h, t).begin());
    return storage;
  }

  std::vector<float> landmarks(TensorView<const float, 3> rows) const {
    const index_t m = params_.landmarks, n = rows.shape(1), d = rows.shape(2);
    std::vector<float> means;
    std::vector<double> sum(static_cast<std::size_t>(d));
    for (index_t h = 0; h < rows.shape(0); ++h)
      for (index_t l = 0; l < m; ++l) {
        const index_t begin = l * n / m, end = ((l + 1) * n + m - 1) / m;
        std::ranges::fill(sum, 0.0);
        for (index_t t = begin; t < end; ++t)
          std::ranges::transform(rows.row(h, t), sum, sum.begin(),
                                 [](float x, double s) { return s + static_cast<double>(x); });
        for (double s : sum) means.push_back(static_cast<float>(s / static_cast<double>(end - begin)));
      }
    return means;
  }

  /// mixed = A^+ values, in double.
  void mix(const AttentionCall& call, index_t head, const std::vector<float>& q_marks,
           const std::vector<float>& k_marks, TensorView<const float, 3> values, TensorView<float, 3> mixed) const {
    const index_t m = params_.landmarks, d = call.d_k();
    const float *q = q_marks.data() + head * m * d, *k = k_marks.data() + call.kv_head(head) * m * d;
    Square a(static_cast<std::size_t>(m * m));
    for (index_t r = 0; r < m; ++r) {
      double* row = a.data() + r * m;
      for (index_t c = 0; c < m; ++c) {
        double sum = 0;
        for (index_t x = 0; x < d; ++x) sum += static_cast<double>(q[r * d + x]) * static_cast<double>(k[c * d + x]);
        row[c] = scale(call) * sum;
      }
      const double top = *std::max_element(row, row + m);
      double total = 0;
      for (index_t c = 0; c < m; ++c) total += row[c] = std::exp(row[c] - top);
      for (index_t c = 0; c < m; ++c) row[c] /= total;
    }
    const Square z = pseudo_inverse(a, m, static_cast<int>(params_.inverse_steps));
    for (index_t r = 0; r < m; ++r)
      for (index_t c = 0; c < values.shape(2); ++c) {
        double sum = 0;
        for (index_t x = 0; x < m; ++x)
          sum += z[static_cast<std::size_t>(r * m + x)] * static_cast<double>(values(head, x, c));
        mixed(head, r, c) = static_cast<float>(sum);
      }
  }
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Nystrom>(
      "nystrom", {.summary = "Softmax attention through landmarks and a pseudo-inverse (Nystromformer)",
                  .formula = "O = softmax(Q K~^T) softmax(Q~ K~^T)^+ softmax(Q~ K^T) V",
                  .source = "Xiong et al. 2021, arXiv:2102.03902, equations 13 to 15",
                  .complexity = "O(n m (d_k + d_v) + m^3) time, O(m (d_k + d_v) + m^2) memory",
                  .notes = "not causal; exact softmax when n <= landmarks; the convolution is left to the layer"});
}
