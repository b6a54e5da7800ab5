#include "reference/softmax_gradient_reference.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace borel::reference {
namespace {

double at(const PositionTable& table, index_t i) { return (*table)[static_cast<std::size_t>(i)]; }

// out = R k, where q . (R k) is the score of the pair before logit_scale; transposed: out = R' q.
void rotate_pair(const PositionPlan& plan, const Band* band, index_t i, index_t j, std::span<const double> in,
                 bool transposed, std::vector<double>& out) {
  out.assign(in.begin(), in.end());
  if (!band || !band->angle) return;
  const index_t n_pairs = plan.n_rot_dims / 2;
  for (index_t m = 0; m < n_pairs; ++m) {
    double angle = 0;
    for (index_t a = 0; a < band->n_axes; ++a)
      angle += at(band->angle, m * band->n_axes + a) * (at(band->query_position, i * band->n_axes + a) -
                                                        at(band->key_position, j * band->n_axes + a));
    double amplitude = 1;
    if (band->log_amplitude)
      amplitude = std::exp(at(band->log_amplitude, m) * (at(band->query_position, i * band->n_axes) -
                                                         at(band->key_position, j * band->n_axes)));
    // Re[q conj(k) e^(I angle)] = q . (k turned by -angle)
    const double c = amplitude * std::cos(angle), s = (transposed ? -amplitude : amplitude) * std::sin(angle);
    const auto first = static_cast<std::size_t>(plan.pairing == Pairing::half ? m : 2 * m);
    const auto second = first + static_cast<std::size_t>(plan.pairing == Pairing::half ? n_pairs : 1);
    out[first] = c * in[first] + s * in[second];
    out[second] = -s * in[first] + c * in[second];
  }
}

struct Pairs {
  const PositionPlan& plan;
  bool causal;
  double scale;

  const Band* band_of(index_t i, index_t j) const {
    for (const Band& band : plan.bands)
      if (band.region.contains(i, j)) return &band;
    return nullptr;
  }
  double factor(const Band* band, index_t i) const {
    return scale * (band ? band->logit_scale : 1) *
           (plan.query_scale ? static_cast<double>((*plan.query_scale)[static_cast<std::size_t>(i)]) : 1);
  }
  // Row i of the weights of head h.
  std::vector<double> weights(TensorView<const double, 3> q, TensorView<const double, 3> k, index_t h,
                              index_t i) const {
    const index_t n_keys = causal ? i + 1 : k.shape(1);
    std::vector<double> w(static_cast<std::size_t>(n_keys)), turned;
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (index_t j = 0; j < n_keys; ++j) {
      double& score = w[static_cast<std::size_t>(j)];
      score = -std::numeric_limits<double>::infinity();
      if (!plan.sees(i, j)) continue;
      const Band* band = band_of(i, j);
      rotate_pair(plan, band, i, j, k.row(h, j), false, turned);
      score = 0;
      for (index_t c = 0; c < q.shape(2); ++c) score += q(h, i, c) * turned[static_cast<std::size_t>(c)];
      score *= factor(band, i);
      if (plan.bias)
        score += static_cast<double>(
            (*plan.bias)[static_cast<std::size_t>(h * plan.bias_width + j - i + plan.bias_zero)]);
      largest = std::max(largest, score);
    }
    for (double& x : w) sum += x = std::exp(x - largest);
    for (double& x : w) x /= sum;
    return w;
  }
};

}  // namespace

void softmax_forward(TensorView<const double, 3> q, TensorView<const double, 3> k,
                     TensorView<const double, 3> v, const PositionPlan& plan, bool causal,
                     TensorView<double, 3> o) {
  const Pairs pairs{plan, causal, 1 / std::sqrt(static_cast<double>(q.shape(2)))};
  for (index_t h = 0; h < q.shape(0); ++h)
    for (index_t i = 0; i < q.shape(1); ++i) {
      const std::vector<double> w = pairs.weights(q, k, h, i);
      for (index_t c = 0; c < v.shape(2); ++c) {
        double sum = 0;
        for (std::size_t j = 0; j < w.size(); ++j) sum += w[j] * v(h, j, c);
        o(h, i, c) = sum;
      }
    }
}

void softmax_backward(TensorView<const double, 3> q, TensorView<const double, 3> k,
                      TensorView<const double, 3> v, const PositionPlan& plan, bool causal,
                      TensorView<const double, 3> d_o, TensorView<double, 3> d_q, TensorView<double, 3> d_k,
                      TensorView<double, 3> d_v) {
  const Pairs pairs{plan, causal, 1 / std::sqrt(static_cast<double>(q.shape(2)))};
  std::vector<double> turned;
  for (index_t h = 0; h < q.shape(0); ++h)
    for (index_t i = 0; i < q.shape(1); ++i) {
      const std::vector<double> w = pairs.weights(q, k, h, i);
      std::vector<double> d_w(w.size());
      double mean = 0;
      for (index_t j = 0; j < std::ssize(w); ++j) {
        for (index_t c = 0; c < v.shape(2); ++c) {
          d_w[static_cast<std::size_t>(j)] += d_o(h, i, c) * v(h, j, c);
          d_v(h, j, c) += w[static_cast<std::size_t>(j)] * d_o(h, i, c);
        }
        mean += w[static_cast<std::size_t>(j)] * d_w[static_cast<std::size_t>(j)];
      }
      for (index_t j = 0; j < std::ssize(w); ++j) {
        if (w[static_cast<std::size_t>(j)] == 0) continue;
        const Band* band = pairs.band_of(i, j);
        const double d_product = w[static_cast<std::size_t>(j)] * (d_w[static_cast<std::size_t>(j)] - mean) *
                                 pairs.factor(band, i);
        rotate_pair(plan, band, i, j, k.row(h, j), false, turned);
        for (index_t c = 0; c < q.shape(2); ++c)
          d_q(h, i, c) += d_product * turned[static_cast<std::size_t>(c)];
        rotate_pair(plan, band, i, j, q.row(h, i), true, turned);
        for (index_t c = 0; c < q.shape(2); ++c)
          d_k(h, j, c) += d_product * turned[static_cast<std::size_t>(c)];
      }
    }
}

}  // namespace borel::reference
