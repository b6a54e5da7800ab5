#include "network.hpp"

#include <array>
#include <cassert>
#include <cmath>

namespace {

constexpr std::size_t k_max_units = 512;  // values of one evaluation, on the stack

double softplus(double v) { return v > 30 ? v : std::log1p(std::exp(v)); }
double sigmoid(double v) { return v >= 0 ? 1 / (1 + std::exp(-v)) : std::exp(v) / (1 + std::exp(v)); }

}  // namespace

MonotoneNetwork::MonotoneNetwork(std::vector<int> widths) : widths_(std::move(widths)) {
  widths_.insert(widths_.begin(), 1);
  widths_.push_back(1);
  for (std::size_t layer = 1; layer < widths_.size(); ++layer) {
    const std::size_t in = static_cast<std::size_t>(widths_[layer - 1]),
                      out = static_cast<std::size_t>(widths_[layer]);
    n_parameters_ += out * in + out + (layer + 1 < widths_.size() ? out : 0);
    n_units_ += out;
  }
  assert(n_units_ + 1 <= k_max_units);
}

MonotoneNetwork::Layers MonotoneNetwork::layers(std::span<const double> theta) const {
  Layers all;
  layers(theta, all);
  return all;
}

void MonotoneNetwork::layers(std::span<const double> theta, Layers& all) const {
  all.value.assign(theta.begin(), theta.end());
  all.slope.assign(theta.size(), 1.0);
  std::size_t at = 0;
  for (std::size_t layer = 1; layer < widths_.size(); ++layer) {
    const std::size_t in = static_cast<std::size_t>(widths_[layer - 1]),
                      out = static_cast<std::size_t>(widths_[layer]);
    for (const std::size_t end = at + out * in; at < end; ++at) {
      all.value[at] = softplus(theta[at]);
      all.slope[at] = sigmoid(theta[at]);
    }
    at += out;
    if (layer + 1 == widths_.size()) break;
    for (const std::size_t end = at + out; at < end; ++at) {
      all.value[at] = std::tanh(theta[at]);
      all.slope[at] = 1 - all.value[at] * all.value[at];
    }
  }
}

double MonotoneNetwork::logits(const Layers& layers, double u, double& slope) const {
  std::array<double, k_max_units> s, d, h, e;
  s[0] = u, d[0] = 1;
  const double* p = layers.value.data();
  for (std::size_t layer = 1; layer < widths_.size(); ++layer) {
    const std::size_t in = static_cast<std::size_t>(widths_[layer - 1]),
                      out = static_cast<std::size_t>(widths_[layer]);
    for (std::size_t o = 0; o < out; ++o) {
      h[o] = p[out * in + o], e[o] = 0;
      for (std::size_t i = 0; i < in; ++i) {
        const double w = p[o * in + i];
        h[o] += w * s[i], e[o] += w * d[i];
      }
    }
    p += out * in + out;
    if (layer + 1 == widths_.size()) break;
    for (std::size_t o = 0; o < out; ++o) {
      const double a = p[o], t = std::tanh(h[o]);
      s[o] = h[o] + a * t;
      d[o] = e[o] * (1 + a * (1 - t) * (1 + t));
    }
    p += out;
  }
  slope = e[0];
  return h[0];
}

double MonotoneNetwork::log_pdf(const Layers& layers, double u, double factor,
                                std::span<double> d_theta) const {
  if (d_theta.empty()) {
    double slope = 0;
    const double l = std::abs(logits(layers, u, slope));
    return -l - 2 * std::log1p(std::exp(-l)) + std::log(slope);
  }
  // Forward with the tangent d = ds/du beside every value s; what the way back needs is kept.
  std::array<double, k_max_units> s, d, h,
      e;  // of all layers, one after the other; s, d begin with the input
  s[0] = u, d[0] = 1;
  const double* p = layers.value.data();
  std::size_t from = 0, to = 0;  // first unit of the layer before in s, d; of this layer in h, e
  for (std::size_t layer = 1; layer < widths_.size(); ++layer) {
    const std::size_t in = static_cast<std::size_t>(widths_[layer - 1]),
                      out = static_cast<std::size_t>(widths_[layer]);
    for (std::size_t o = 0; o < out; ++o) {
      h[to + o] = p[out * in + o], e[to + o] = 0;
      for (std::size_t i = 0; i < in; ++i) {
        const double w = p[o * in + i];
        h[to + o] += w * s[from + i], e[to + o] += w * d[from + i];
      }
    }
    p += out * in + out;
    if (layer + 1 == widths_.size()) break;
    for (std::size_t o = 0; o < out; ++o) {
      const double a = p[o], t = std::tanh(h[to + o]);
      s[from + in + o] = h[to + o] + a * t;
      d[from + in + o] = e[to + o] * (1 + a * (1 - t) * (1 + t));
    }
    p += out;
    from += in, to += out;
  }
  const double l = h[to], slope = e[to], size = std::abs(l);
  const double log_p = -size - 2 * std::log1p(std::exp(-size)) + std::log(slope);

  // Backward: adjoints of h and e (g, q) and of s and d (a_s, a_d).
  std::array<double, k_max_units> g, q, a_s, a_d;
  g[0] = factor * (1 - 2 * sigmoid(l)), q[0] = factor / slope;
  std::size_t at = n_parameters_;
  for (std::size_t layer = widths_.size() - 1; layer >= 1; --layer) {
    const std::size_t in = static_cast<std::size_t>(widths_[layer - 1]),
                      out = static_cast<std::size_t>(widths_[layer]);
    if (layer + 1 < widths_.size()) {
      at -= out;
      for (std::size_t o = 0; o < out; ++o) {
        const double a = layers.value[at + o], t = std::tanh(h[to + o]), c = (1 - t) * (1 + t);
        d_theta[at + o] += layers.slope[at + o] * (a_s[o] * t + a_d[o] * e[to + o] * c);
        g[o] = a_s[o] * (1 + a * c) - a_d[o] * e[to + o] * a * 2 * t * c;
        q[o] = a_d[o] * (1 + a * c);
      }
    }
    at -= out * in + out;
    for (std::size_t i = 0; i < in; ++i) a_s[i] = a_d[i] = 0;
    for (std::size_t o = 0; o < out; ++o) {
      d_theta[at + out * in + o] += g[o];
      for (std::size_t i = 0; i < in; ++i) {
        const double w = layers.value[at + o * in + i];
        d_theta[at + o * in + i] += (g[o] * s[from + i] + q[o] * d[from + i]) * layers.slope[at + o * in + i];
        a_s[i] += w * g[o], a_d[i] += w * q[o];
      }
    }
    if (layer == 1) break;
    const std::size_t before = static_cast<std::size_t>(widths_[layer - 2]);
    to -= in, from -= before;
  }
  return log_p;
}
