// What general compressors need for a held-out text: the yardstick of byte-level networks.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace borel {

/// Bits per byte of the held-out text, headers of the file format included.
struct CompressedText {
  std::string compressor;
  double alone = 0;  ///< the held-out text by itself
  double after_training =
      0;  ///< growth of the compressed size when it follows the training text: what a network has seen
};

/// xz -9e (liblzma), zstd --ultra -22 (libzstd) and PPMd (7-Zip's variant H by libarchive: order 6, 16 MiB). The dictionaries of
/// xz and zstd hold 64 and 128 MiB; text before that is forgotten. About three seconds a megabyte and 1 GB.
/// Threads: compressors run in parallel. @throws Error with the library's reason
std::vector<CompressedText> compressed_text(std::span<const std::uint8_t> held_out,
                                            std::span<const std::uint8_t> training);

}  // namespace borel
