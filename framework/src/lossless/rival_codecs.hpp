// What image formats in common use need for the same image.
#pragma once

#include <optional>

#include "dataset/png.hpp"

namespace borel {

/// Size of the file in bytes; empty where the program is not installed.
struct RivalSizes {
  double png = 0;                 ///< libpng, best compression, all filters
  std::optional<double> webp;     ///< cwebp -lossless -z 9 (Debian package webp)
  std::optional<double> jpeg_xl;  ///< cjxl -d 0 -e 9 (Debian package libjxl-tools)
};

/// Some seconds for a million samples; programs run in a temporary folder. @throws Error: a program that is there fails
RivalSizes rival_sizes(const Image& image);

}  // namespace borel
