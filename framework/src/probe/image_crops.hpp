// Squares cut from grey images, as the tokens of a denoiser: patches row after row, inside a patch pixels row after row.
#pragma once

#include <vector>

#include "probe/architecture.hpp"

namespace borel::probe {

struct GreyImage {
  index_t height = 0, width = 0;
  std::vector<float> pixels = {};  ///< row-major, -1 black, 1 white
};

/// Immutable. Threads: any number of readers.
class ImageCrops {
 public:
  /// @throws ParamError when `side` is no multiple of `patch`, or an image is smaller than a crop
  ImageCrops(std::vector<GreyImage> images, index_t side, index_t patch);

  index_t side() const { return side_; }
  index_t n_pixels() const { return side_ * side_; }
  /// Without sigma_data.
  PatchGrid grid() const;
  /// Mean and standard deviation of all pixels of all images.
  double mean() const { return mean_; }
  double standard_deviation() const { return standard_deviation_; }

  /// Every place where a crop fits, image after image.
  index_t n_places() const { return first_place_.back(); }
  /// The crop at a place as tokens [n_tokens, n_values].
  void cut(index_t place, std::span<float> tokens) const;
  /// Places whose crops do not overlap, image after image, row after row.
  std::vector<index_t> separate_places() const;
  /// Tokens back to a row-major square.
  void square(std::span<const float> tokens, std::span<double> pixels) const;

 private:
  /// Where a pixel of the square stands among the tokens.
  index_t token_index(index_t row, index_t column) const;

  std::vector<GreyImage> images_;
  index_t side_, patch_;
  std::vector<index_t> first_place_;  // of each image, and the end
  double mean_ = 0, standard_deviation_ = 0;
};

}  // namespace borel::probe
