// Photographs: PNG files, bit for bit.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace borel {

struct Image {
  std::int64_t height = 0, width = 0, channels = 0;  // 1 (grey) or 3 (red, green, blue)
  std::vector<std::uint8_t> pixels;                  // [height width channels]
};

/// The stored samples as they are: no gamma, no colour management. Palettes and 1, 2, 4-bit greys are
/// expanded. `who` starts the messages. @throws DatasetError: damaged, 16 bits, transparency, more than 2^28
/// pixels
Image decode_png(std::string_view bytes, std::string_view who);

/// With zlib's best compression and the filter of each row chosen by libpng. @throws Error
std::string encode_png(const Image& image);

}  // namespace borel
