// Forward and backward pass of the denoiser over a few images. Karras et al. 2022 (EDM), arXiv:2206.00364:
//
//   y = x + sigma * noise
//   D(y; sigma) = c_skip y + c_out F(c_in y; ln(sigma) / 4)                                         equation 7
//   c_skip = s^2 / (sigma^2 + s^2)    c_out = sigma s / sqrt(sigma^2 + s^2)    c_in = 1 / sqrt(sigma^2 + s^2)     table 1
//
// with s = sigma_data and F the network of architecture.hpp. The loss of a pixel, (D - x)^2 / c_out^2 (their lambda(sigma)),
// is the squared error of F against (x - c_skip y) / c_out: the noise where sigma is small, -x where it is large.
#pragma once

#include <span>
#include <vector>

#include "probe/block_pass.hpp"

namespace borel::probe {

struct Preconditioning {
  double skip = 0, out = 0, in = 0, level = 0;
};
Preconditioning preconditioning(double sigma, double sigma_data);

/// Memory, threads and T as BlockPass.
template <class T>
class DenoiserPass {
 public:
  /// @param keep  true: backward() will follow
  DenoiserPass(const Architecture& architecture, std::span<const Mixer<T>* const> mixers, index_t n_images,
               bool keep);

  /// D(y; sigma). The span stays valid until the next call.
  /// @param noisy  [n_images, n_tokens, n_values]   @param sigma  [n_images], above 0   @throws MethodError, Stopped
  std::span<const T> forward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                             std::span<const T> noisy, std::span<const double> sigma, StopToken stop = {});
  /// Sum over images and pixels of (D - clean)^2 / c_out^2, added in order. Keeps its gradient times `scale`.
  double squared_errors(std::span<const T> clean, T scale);
  /// @pre forward() with keep, then squared_errors()
  void backward(std::span<const T> parameters, std::span<const PositionPlan> plans,
                NetworkGradients<T>& gradients, StopToken stop = {});

 private:
  const T* parameter(std::span<const T> flat, index_t slice) const {
    return flat.data() + architecture_.slice(slice).offset;
  }
  void apply(const AffineMap& map, std::span<const T> parameters, MatrixView<const T> x,
             MatrixView<T> out) const;
  void level_condition(std::span<const T> parameters);
  void level_condition_backward(std::span<const T> parameters, NetworkGradients<T>& gradients);

  const Architecture& architecture_;
  index_t n_images_, n_, m_, d_, n_values_;  // m = n_images n rows
  BlockPass<T> blocks_;
  std::vector<Preconditioning> factors_;
  std::vector<T> in_, x_, normed_, rms_, out_;
  std::vector<T> features_, level_1_, level_1_active_, level_2_, condition_, modulation_;
  std::vector<T> d_x_, d_normed_, d_out_, d_condition_, d_level_1_, d_modulation_;  // backward
};

extern template class DenoiserPass<float>;
extern template class DenoiserPass<double>;

}  // namespace borel::probe
