// The monotone network of the deep factorized density, with the gradient of its log density.
#pragma once

#include <span>
#include <vector>

/// logits L(u): layers h = softplus(V) s + b, after all but the last s = h + tanh(f) tanh(h). Increasing in u, because
/// softplus > 0 and tanh(f) > -1. theta = per layer V [out, in], b [out], then f [out] but for the last layer.
class MonotoneNetwork {
 public:
  /// @param widths of the hidden layers, at least one
  explicit MonotoneNetwork(std::vector<int> widths);

  std::size_t n_parameters() const { return n_parameters_; }
  const std::vector<int>& widths() const { return widths_; }

  /// theta as the layers use it, for many points with one theta; in theta's order.
  struct Layers {
    std::vector<double> value;  ///< softplus(V), b, tanh(f)
    std::vector<double> slope;  ///< their derivatives
  };
  Layers layers(std::span<const double> theta) const;
  /// The same into `out`, whose memory is used again.
  void layers(std::span<const double> theta, Layers& out) const;

  /// L(u), and dL/du in `slope`.
  double logits(const Layers& layers, double u, double& slope) const;
  /// log p(u) = log sigma(L) + log sigma(-L) + log dL/du; adds factor times its gradient to d_theta when not empty.
  double log_pdf(const Layers& layers, double u, double factor, std::span<double> d_theta) const;

 private:
  std::vector<int> widths_;  ///< 1, hidden ..., 1
  std::size_t n_parameters_ = 0, n_units_ = 0;
};
