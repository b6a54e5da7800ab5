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
#include <functional>
#include <optional>
#include <utility>
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

Square transposed(const Square& x, index_t m) {
  Square out(x.size());
  for (index_t r = 0; r < m; ++r)
    for (index_t c = 0; c < m; ++c)
      out[static_cast<std::size_t>(c * m + r)] = x[static_cast<std::size_t>(r * m + c)];
  return out;
}

void add(Square& to, const Square& from, double factor = 1) {
  for (std::size_t x = 0; x < to.size(); ++x) to[x] += factor * from[x];
}

/// Equation 14 and the way back through it.
class PseudoInverse {
 public:
  PseudoInverse(Square a, index_t m, int n_steps) : a_(std::move(a)), m_(m) {
    double rows = 0;
    for (index_t r = 0; r < m; ++r) {
      double row = 0, column = 0;
      for (index_t c = 0; c < m; ++c) {
        row += a_[static_cast<std::size_t>(r * m + c)];
        column += a_[static_cast<std::size_t>(c * m + r)];
      }
      rows = std::max(rows, row);  // 1, as the rows are softmaxes
      if (column > columns_) columns_ = column, widest_ = r;
    }
    Square z = transposed(a_, m);
    for (double& x : z) x /= rows * columns_;
    z_.push_back(std::move(z));
    for (int step = 0; step < n_steps; ++step) {
      const Step s = parts(z_.back());
      Square next = product(z_.back(), minus_from_diagonal(13, s.middle, m), m);
      for (double& x : next) x /= 4;
      z_.push_back(std::move(next));
    }
  }
  const Square& a() const { return a_; }
  const Square& z() const { return z_.back(); }

  /// d loss / d A from d loss / d Z. |A|_inf = 1 on every softmax, so it counts as a constant.
  Square backward(Square d_z) const {
    Square d_a(a_.size(), 0.0);
    for (std::size_t step = z_.size() - 1; step-- > 0;) {
      const Square& z = z_[step];
      const Step s = parts(z);
      for (double& x : d_z) x /= 4;
      const Square d_middle = minus_from_diagonal(0, product(transposed(z, m_), d_z, m_), m_);
      d_z = product(d_z, transposed(minus_from_diagonal(13, s.middle, m_), m_), m_);
      Square d_az = product(d_middle, transposed(minus_from_diagonal(15, s.inner, m_), m_), m_);
      const Square az_t = transposed(s.az, m_);
      const Square d_inner = minus_from_diagonal(0, product(az_t, d_middle, m_), m_);
      add(d_az, product(d_inner, transposed(minus_from_diagonal(7, s.az, m_), m_), m_));
      add(d_az, product(az_t, d_inner, m_), -1);
      add(d_a, product(d_az, transposed(z, m_), m_));
      add(d_z, product(transposed(a_, m_), d_az, m_));
    }
    // Z_0 = A^T / |A|_1, the largest column sum
    const Square d_start = transposed(d_z, m_);
    add(d_a, d_start, 1 / columns_);
    double d_columns = 0;
    for (std::size_t x = 0; x < a_.size(); ++x) d_columns -= d_start[x] * a_[x] / (columns_ * columns_);
    for (index_t r = 0; r < m_; ++r) d_a[static_cast<std::size_t>(r * m_ + widest_)] += d_columns;
    return d_a;
  }

 private:
  struct Step {
    Square az, inner, middle;
  };
  Step parts(const Square& z) const {
    Step s;
    s.az = product(a_, z, m_);
    s.inner = product(s.az, minus_from_diagonal(7, s.az, m_), m_);
    s.middle = product(s.az, minus_from_diagonal(15, s.inner, m_), m_);
    return s;
  }
  Square a_;
  index_t m_;
  double columns_ = 0;
  index_t widest_ = 0;
  std::vector<Square> z_;  // all iterates
};

class Nystrom final : public borel::Attention, public borel::TileMethod, public borel::AttentionBackward {
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
  bool transforms() const override { return false; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }

  void forward(const AttentionCall& call, TensorView<float, 3> o) const override {
    borel::check_call(*this, call, o);
    if (exact(call)) return borel::tile_forward(*this, call, o);
    const Landmarks l(*this, call);
    borel::tile_forward(*this, l.to_marks, o);
  }

  const borel::AttentionBackward* backward() const override { return this; }
  index_t saved_per_row(const AttentionContext&) const override { return borel::k_tile_saved_per_row; }
  void forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) const override {
    borel::check_call(*this, call, o);
    if (exact(call)) return borel::tile_forward_saving(*this, call, o, saved);
    const Landmarks l(*this, call);
    borel::tile_forward_saving(*this, l.to_marks, o, saved);
  }
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& into) const override {
    if (exact(call)) return borel::tile_backward(*this, call, o, saved, d_o, into);
    const Landmarks l(*this, call);
    const index_t m = params_.landmarks, d_k = call.d_k(), d_v = call.d_v(), h = call.h_q();
    const auto zeros = [](index_t size) { return std::vector<float>(static_cast<std::size_t>(size), 0.0f); };
    std::vector<float> d_q = zeros(call.q.size()), d_keys = zeros(call.k.size()),
                       d_q_marks = zeros(h * m * d_k), d_k_marks = zeros(h * m * d_k),
                       d_mixed = zeros(h * m * d_v), d_values = zeros(h * m * d_v),
                       d_v_storage = zeros(into.d_v.empty() ? call.v.size() : 0);
    const TensorView<float, 3> d_v_rows =
        into.d_v.empty() ? TensorView<float, 3>(d_v_storage.data(), call.v.shape()) : into.d_v;
    borel::tile_backward(*this, l.to_marks, o, saved, d_o,
                         {{d_q.data(), call.q.shape()},
                          {d_k_marks.data(), {h, m, d_k}},
                          {d_mixed.data(), {h, m, d_v}},
                          {},
                          {},
                          nullptr});
    borel::parallel_for(h, 1, [&](index_t head, index_t) {
      call.stop.throw_if_stopped();
      through_inverse(l, head, d_mixed.data(), d_values.data(), d_q_marks.data(), d_k_marks.data());
    });
    borel::tile_backward(
        *this, l.to_keys, {l.values.data(), {h, m, d_v}},
        {l.saved.data(), {h, m, borel::k_tile_saved_per_row}}, {d_values.data(), {h, m, d_v}},
        {{d_q_marks.data(), {h, m, d_k}}, {d_keys.data(), call.k.shape()}, d_v_rows, {}, {}, nullptr});
    from_landmarks(d_q_marks, 1, {d_q.data(), call.q.shape()});
    from_landmarks(d_k_marks, h / call.h_kv(), {d_keys.data(), call.k.shape()});
    turn_back(call, true, {d_q.data(), call.q.shape()}, into.d_q);
    turn_back(call, false, {d_keys.data(), call.k.shape()}, into.d_k);
  }
  double state_bytes(const AttentionContext& context, index_t) const override {
    return 4.0 * static_cast<double>(context.h_q * params_.landmarks * (context.d_k + context.d_v));
  }
  double flops(const AttentionContext& context, index_t n_q, index_t n_k) const override {
    const auto m = static_cast<double>(params_.landmarks), d = static_cast<double>(context.d_k + context.d_v);
    return static_cast<double>(context.h_q) * (2 * m * d * static_cast<double>(n_q + n_k) +
                                               8 * static_cast<double>(params_.inverse_steps) * m * m * m);
  }

 private:
  bool exact(const AttentionCall& call) const {
    return std::min(call.n_q(), call.n_k()) <= params_.landmarks;
  }

  /// Everything but the last softmax: rotated rows, landmarks, softmax(Q~ K^T) V, A^+ and their product.
  struct Landmarks {
    Landmarks(const Nystrom& method, const AttentionCall& call)
        : q(turned(call, true)), k(turned(call, false)), to_keys(call), to_marks(call) {
      const index_t m = method.params_.landmarks, d_k = call.d_k(), d_v = call.d_v(), h = call.h_q();
      to_keys.position = to_marks.position = nullptr;
      to_marks.q = {q.data(), call.q.shape()}, to_keys.k = {k.data(), call.k.shape()};
      q_marks = method.landmarks(to_marks.q);
      const std::vector<float> marks = method.landmarks(to_keys.k);
      // Each query head has its own mixed values, so the landmarks of its keys are repeated.
      for (index_t head = 0; head < h; ++head)
        k_marks.insert(k_marks.end(), marks.begin() + call.kv_head(head) * m * d_k,
                       marks.begin() + (call.kv_head(head) + 1) * m * d_k);
      to_keys.q = {q_marks.data(), {h, m, d_k}};
      values.resize(static_cast<std::size_t>(h * m * d_v)), mixed.resize(values.size());
      saved.resize(static_cast<std::size_t>(h * m * borel::k_tile_saved_per_row));
      borel::tile_forward_saving(method, to_keys, {values.data(), {h, m, d_v}},
                                 {saved.data(), {h, m, borel::k_tile_saved_per_row}});
      inverse.resize(static_cast<std::size_t>(h));
      borel::parallel_for(h, 1, [&](index_t head, index_t) {
        call.stop.throw_if_stopped();
        auto& z = inverse[static_cast<std::size_t>(head)];
        z.emplace(method.scores(*this, call, head), m, static_cast<int>(method.params_.inverse_steps));
        for (index_t r = 0; r < m; ++r)
          for (index_t c = 0; c < d_v; ++c) {
            double sum = 0;
            for (index_t x = 0; x < m; ++x)
              sum += z->z()[static_cast<std::size_t>(r * m + x)] *
                     static_cast<double>(values[static_cast<std::size_t>((head * m + x) * d_v + c)]);
            mixed[static_cast<std::size_t>((head * m + r) * d_v + c)] = static_cast<float>(sum);
          }
      });
      to_marks.k = {k_marks.data(), {h, m, d_k}};
      to_marks.v = {mixed.data(), {h, m, d_v}};
    }
    Landmarks(const Landmarks&) = delete;  // the calls point into the storage
    std::vector<float> q, k, q_marks, k_marks, values, saved, mixed;
    std::vector<std::optional<PseudoInverse>> inverse;  ///< by query head
    AttentionCall to_keys, to_marks;
  };

  /// A = softmax(Q~ K~^T) of one head, in double.
  Square scores(const Landmarks& l, const AttentionCall& call, index_t head) const {
    const index_t m = params_.landmarks, d = call.d_k();
    const float *q = l.q_marks.data() + head * m * d, *k = l.k_marks.data() + head * m * d;
    Square a(static_cast<std::size_t>(m * m));
    for (index_t r = 0; r < m; ++r) {
      double* row = a.data() + r * m;
      for (index_t c = 0; c < m; ++c) {
        double sum = 0;
        for (index_t x = 0; x < d; ++x)
          sum += static_cast<double>(q[r * d + x]) * static_cast<double>(k[c * d + x]);
        row[c] = scale(call) * sum;
      }
      const double top = *std::max_element(row, row + m);
      double total = 0;
      for (index_t c = 0; c < m; ++c) total += row[c] = std::exp(row[c] - top);
      for (index_t c = 0; c < m; ++c) row[c] /= total;
    }
    return a;
  }

  /// mixed = Z values: d values = Z^T d mixed, dZ = d mixed values^T; then through Z and A to the landmarks.
  void through_inverse(const Landmarks& l, index_t head, const float* d_mixed, float* d_values,
                       float* d_q_marks, float* d_k_marks) const {
    const index_t m = params_.landmarks, d_k = l.to_keys.d_k(), d_v = l.to_keys.d_v();
    const PseudoInverse& inverse = *l.inverse[static_cast<std::size_t>(head)];
    d_mixed += head * m * d_v, d_values += head * m * d_v;
    const float* values = l.values.data() + head * m * d_v;
    Square d_z(static_cast<std::size_t>(m * m), 0.0);
    for (index_t r = 0; r < m; ++r)
      for (index_t x = 0; x < m; ++x) {
        const auto z = static_cast<float>(inverse.z()[static_cast<std::size_t>(r * m + x)]);
        double sum = 0;
        for (index_t c = 0; c < d_v; ++c) {
          sum += static_cast<double>(d_mixed[r * d_v + c]) * static_cast<double>(values[x * d_v + c]);
          d_values[x * d_v + c] += z * d_mixed[r * d_v + c];
        }
        d_z[static_cast<std::size_t>(r * m + x)] = sum;
      }
    const Square d_a = inverse.backward(std::move(d_z));
    const float *q = l.q_marks.data() + head * m * d_k, *k = l.k_marks.data() + head * m * d_k;
    d_q_marks += head * m * d_k, d_k_marks += head * m * d_k;
    for (index_t r = 0; r < m; ++r) {
      const double *a = inverse.a().data() + r * m, *d = d_a.data() + r * m;
      double inner = 0;
      for (index_t c = 0; c < m; ++c) inner += a[c] * d[c];
      for (index_t c = 0; c < m; ++c) {
        const auto d_score = static_cast<float>(scale(l.to_keys) * a[c] * (d[c] - inner));
        for (index_t x = 0; x < d_k; ++x) {
          d_q_marks[r * d_k + x] += d_score * k[c * d_k + x];
          d_k_marks[c * d_k + x] += d_score * q[r * d_k + x];
        }
      }
    }
  }

  /// Spreads gradients of landmarks over their tokens; `group` landmark heads in a row belong to one head of rows.
  void from_landmarks(const std::vector<float>& d_marks, index_t group, TensorView<float, 3> d_rows) const {
    const index_t m = params_.landmarks, n = d_rows.shape(1), d = d_rows.shape(2);
    for (index_t h = 0; h < d_rows.shape(0) * group; ++h)
      for (index_t l = 0; l < m; ++l) {
        const index_t begin = segment_begin(l, n), end = segment_end(l, n);
        for (index_t t = begin; t < end; ++t)
          for (index_t c = 0; c < d; ++c)
            d_rows(h / group, t, c) +=
                d_marks[static_cast<std::size_t>((h * m + l) * d + c)] / static_cast<float>(end - begin);
      }
  }
  index_t segment_begin(index_t l, index_t n) const { return l * n / params_.landmarks; }
  index_t segment_end(index_t l, index_t n) const {
    return ((l + 1) * n + params_.landmarks - 1) / params_.landmarks;
  }

  /// into += gradient of the rows before the plan's rotation. Positions negated turn back.
  static void turn_back(const AttentionCall& call, bool query, TensorView<float, 3> d_turned,
                        const TensorView<float, 3>& into) {
    if (into.empty()) return;
    const borel::Band* band =
        call.position && !call.position->bands.empty() ? &call.position->bands.front() : nullptr;
    std::vector<double> back;
    if (band)
      for (double p : *(query ? band->query_position : band->key_position)) back.push_back(-p);
    for (index_t h = 0; h < into.shape(0); ++h) {
      if (band) borel::rotate_rows(*call.position, *band, back, query ? -1 : 1, 0, d_turned[h], d_turned[h]);
      for (index_t t = 0; t < into.shape(1); ++t)
        std::ranges::transform(into.row(h, t), d_turned.row(h, t), into.row(h, t).begin(), std::plus());
    }
  }

  /// q or k, gapless, after the plan's rotation.
  static std::vector<float> turned(const AttentionCall& call, bool query) {
    const TensorView<const float, 3>& in = query ? call.q : call.k;
    std::vector<float> storage(static_cast<std::size_t>(in.size()));
    const TensorView<float, 3> out(storage.data(), in.shape());
    const borel::Band* band =
        call.position && !call.position->bands.empty() ? &call.position->bands.front() : nullptr;
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
        const index_t begin = segment_begin(l, n), end = segment_end(l, n);
        std::ranges::fill(sum, 0.0);
        for (index_t t = begin; t < end; ++t)
          std::ranges::transform(rows.row(h, t), sum, sum.begin(),
                                 [](float x, double s) { return s + static_cast<double>(x); });
        for (double s : sum) means.push_back(static_cast<float>(s / static_cast<double>(end - begin)));
      }
    return means;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Nystrom>(
      "nystrom",
      {.summary = "Softmax attention through landmarks and a pseudo-inverse (Nystromformer)",
       .formula = "O = softmax(Q K~^T) softmax(Q~ K~^T)^+ softmax(Q~ K^T) V",
       .source = "Xiong et al. 2021, arXiv:2102.03902, equations 13 to 15",
       .complexity = "O(n m (d_k + d_v) + m^3) time, O(m (d_k + d_v) + m^2) memory",
       .notes = "not causal; exact softmax when n <= landmarks; the convolution is left to the layer"});
}
