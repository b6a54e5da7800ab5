// The samples of an image that are known so far, as numbers, with borders that make every neighbour readable.
#pragma once

#include <cstddef>
#include <vector>

#include "borel/tensor.hpp"

namespace borel {

/// A sample relative to another: `dy` rows down, `dx` columns right, in colour plane `plane`.
struct Neighbour {
  index_t dy, dx, plane;
};

/// Filled in raster order, the planes of a pixel one after the other. Beyond the left and right border lie copies of the
/// nearest known sample, above the first row copies of the sample before.
class PixelPlanes {
 public:
  static constexpr index_t k_side = 24, k_above = 16;

  PixelPlanes(index_t height, index_t width, index_t planes)
      : height_(height),
        width_(width),
        planes_(planes),
        stride_(width + 2 * k_side),
        values_(static_cast<std::size_t>(planes * plane_size()), k_grey) {}

  index_t height() const { return height_; }
  index_t width() const { return width_; }
  index_t planes() const { return planes_; }
  index_t stride() const { return stride_; }
  index_t offset(Neighbour n) const { return n.plane * plane_size() + n.dy * stride_ + n.dx; }
  /// Sample (y, x) of plane 0; offset() leads to the others.
  const double* at(index_t y, index_t x) const {
    return values_.data() + (y + k_above) * stride_ + k_side + x;
  }
  double get(index_t y, index_t x, index_t plane) const { return at(y, x)[plane * plane_size()]; }
  int integer(index_t y, index_t x, index_t plane) const { return static_cast<int>(get(y, x, plane)); }

  /// Before the first sample of a pixel.
  void begin_pixel(index_t y, index_t x) {
    for (index_t plane = 0; plane < planes_; ++plane) {
      if (x == 0 && y > 0)
        for (index_t i = 1; i <= k_side; ++i) {
          cell(y, -i, plane) = get(y - 1, 0, plane);
          cell(y - 1, width_ - 1 + i, plane) = get(y - 1, width_ - 1, plane);
        }
      if (y == 0 && x > 0)
        for (index_t above = 1; above <= k_above; ++above)
          for (index_t i = 0; i <= k_side; ++i) cell(-above, x + i, plane) = get(0, x - 1, plane);
    }
  }
  void set(index_t y, index_t x, index_t plane, int value) { cell(y, x, plane) = value; }

 private:
  static constexpr double k_grey = 128;
  index_t plane_size() const { return (height_ + k_above) * stride_; }
  double& cell(index_t y, index_t x, index_t plane) {
    return values_[static_cast<std::size_t>(plane * plane_size() + (y + k_above) * stride_ + k_side + x)];
  }

  index_t height_, width_, planes_, stride_;
  std::vector<double> values_;
};

}  // namespace borel
