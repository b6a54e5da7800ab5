// NumPy's array files (.npy, format 1.0 to 3.0).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "dataset/dataset_writer.hpp"

namespace borel {

struct NpyArray {
  h5::ElementType type = h5::ElementType::float64;
  h5::Shape shape{};
  DatasetWriter::Values values{};
};

/// Reads floats of 4 and 8 bytes and integers of 1 to 8 bytes, either byte order. uint8 stays uint8, other
/// integers become int64. `who` starts the messages. @throws DatasetError: damaged, other element types,
/// Fortran order
NpyArray parse_npy(std::string_view bytes, std::string_view who);

/// Format 1.0, little-endian, C order.
template <class T>
std::string npy_bytes(std::span<const T> values, const h5::Shape& shape);

}  // namespace borel
