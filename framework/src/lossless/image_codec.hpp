// Lossless coding of 8-bit images by the model of pixel_model.hpp and a range coder.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataset/png.hpp"
#include "lossless/pixel_model.hpp"

namespace borel {

struct CodedImage {
  std::vector<std::uint8_t> bytes;
  std::vector<double> plane_bits;  ///< [channels] where the bits went
  std::int64_t n_fits = 0;
  std::string refusal;  ///< of the last fit that was refused
};

/// Sizes, a checksum (CRC-32 of the samples), then the code. Time and memory as PixelModel. Decodes on the same build and
/// kind of processor, because the model's numbers must have the same bits: a measurement of information, not an archive
/// format. @throws Error: sizes out of range; Stopped
CodedImage encode_image(const Image& image, const DensityEstimator& estimator,
                        const LosslessSettings& settings);

/// With the estimator and settings of the encoder. @throws DatasetError: no such code, or the checksum does not match;
/// Stopped
Image decode_image(std::span<const std::uint8_t> bytes, const DensityEstimator& estimator,
                   const LosslessSettings& settings);

}  // namespace borel
