// Photographs of a dataset of kind `images`: one array per image, or sets of images of one size.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/tensor.hpp"
#include "dataset/dataset.hpp"

namespace borel {

struct ImageArray {
  index_t n_images = 0, height = 0, width = 0, channels = 0;
  std::span<const std::uint8_t> samples =
      {};  ///< [n_images, height, width, channels]; lives as long as the dataset
  std::span<const std::uint8_t> image(index_t i) const {
    const auto size = static_cast<std::size_t>(height * width * channels);
    return samples.subspan(static_cast<std::size_t>(i) * size, size);
  }
  /// Mean of the channels of a pixel, 0 .. 255.
  double grey(index_t i, index_t y, index_t x) const {
    double sum = 0;
    for (const std::uint8_t sample : image(i).subspan(static_cast<std::size_t>((y * width + x) * channels),
                                                      static_cast<std::size_t>(channels)))
      sum += sample;
    return sum / static_cast<double>(channels);
  }
};

/// Names of the arrays; at least one.
std::vector<std::string> image_names(const Dataset& dataset);
/// @throws DatasetError: no array of that name
ImageArray image_array(const Dataset& dataset, std::string_view name);

}  // namespace borel
