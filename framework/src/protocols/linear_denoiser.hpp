// The best linear denoiser of image crops: what a network has to beat to have learned more than means and covariances.
#pragma once

#include <vector>

#include "probe/image_crops.hpp"

namespace borel {

/// Wiener's estimate of x from y = x + sigma * noise,
///   x^ = mu + C (C + sigma^2 I)^-1 (y - mu) = y - sigma^2 (C + sigma^2 I)^-1 (y - mu),
/// with mean mu and covariance C of crops at random places. All pixels of a crop are seen at once, as by the network.
class LinearDenoiser {
 public:
  /// n_crops D^2 operations for crops of D pixels.
  LinearDenoiser(const probe::ImageCrops& crops, index_t n_crops, Seed seed);

  /// D^3 / 3 operations, then 2 D^2 for each crop. @param crops [n, D], in place
  void denoise(double sigma, std::span<float> crops) const;

 private:
  index_t n_pixels_;
  std::vector<double> mean_, covariance_;  // lower triangle
};

}  // namespace borel
