#include "probe/image_crops.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace borel::probe {

ImageCrops::ImageCrops(std::vector<GreyImage> images, index_t side, index_t patch)
    : images_(std::move(images)), side_(side), patch_(patch), first_place_{0} {
  if (side < 1 || patch < 1 || side % patch != 0)
    throw ParamError(
        fmt::format("crops: the side must be a multiple of the patch; got {} and {}", side, patch));
  if (images_.empty()) throw ParamError("crops: there is no image");
  double n = 0, square = 0;
  for (const GreyImage& image : images_) {
    if (image.height < side || image.width < side)
      throw ParamError(fmt::format("crops: an image has {} x {} pixels, and a crop needs {} x {}",
                                   image.height, image.width, side, side));
    first_place_.push_back(first_place_.back() + (image.height - side + 1) * (image.width - side + 1));
    for (const float pixel : image.pixels) mean_ += static_cast<double>(pixel);
    n += static_cast<double>(image.pixels.size());
  }
  mean_ /= n;
  for (const GreyImage& image : images_)
    for (const float pixel : image.pixels) square += std::pow(static_cast<double>(pixel) - mean_, 2);
  standard_deviation_ = std::sqrt(square / n);
}

PatchGrid ImageCrops::grid() const { return {side_ / patch_, side_ / patch_, patch_ * patch_}; }

index_t ImageCrops::token_index(index_t row, index_t column) const {
  const index_t token = row / patch_ * (side_ / patch_) + column / patch_;
  return (token * patch_ + row % patch_) * patch_ + column % patch_;
}

void ImageCrops::cut(index_t place, std::span<float> tokens) const {
  const auto after = std::upper_bound(first_place_.begin(), first_place_.end(), place);
  const auto i = static_cast<std::size_t>(after - first_place_.begin() - 1);
  const GreyImage& image = images_[i];
  const index_t across = image.width - side_ + 1, at = place - first_place_[i];
  const index_t top = at / across, left = at % across;
  for (index_t row = 0; row < side_; ++row)
    for (index_t column = 0; column < side_; ++column)
      tokens[static_cast<std::size_t>(token_index(row, column))] =
          image.pixels[static_cast<std::size_t>((top + row) * image.width + left + column)];
}

std::vector<index_t> ImageCrops::separate_places() const {
  std::vector<index_t> places;
  for (std::size_t i = 0; i < images_.size(); ++i)
    for (index_t top = 0; top + side_ <= images_[i].height; top += side_)
      for (index_t left = 0; left + side_ <= images_[i].width; left += side_)
        places.push_back(first_place_[i] + top * (images_[i].width - side_ + 1) + left);
  return places;
}

void ImageCrops::square(std::span<const float> tokens, std::span<double> pixels) const {
  for (index_t row = 0; row < side_; ++row)
    for (index_t column = 0; column < side_; ++column)
      pixels[static_cast<std::size_t>(row * side_ + column)] =
          static_cast<double>(tokens[static_cast<std::size_t>(token_index(row, column))]);
}

}  // namespace borel::probe
