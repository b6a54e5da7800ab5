#include "lossless/image_codec.hpp"

#include <cmath>
#include <string_view>

#include <fmt/format.h>
#include <zlib.h>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr std::string_view k_magic = "BORELLI1";
constexpr std::size_t k_header = 8 + 4 * 4;  // magic, height, width, channels, checksum
constexpr std::uint32_t k_most_side = 1 << 16;
constexpr std::uint64_t k_most_samples = 1ULL << 28;

std::uint32_t checksum(const std::vector<std::uint8_t>& samples) {
  return static_cast<std::uint32_t>(crc32_z(crc32_z(0, nullptr, 0), samples.data(), samples.size()));
}

bool sizes_are_right(std::int64_t height, std::int64_t width, std::int64_t channels) {
  return height >= 1 && width >= 1 && height <= k_most_side && width <= k_most_side &&
         (channels == 1 || channels == 3) &&
         static_cast<std::uint64_t>(height * width * channels) <= k_most_samples;
}

template <class Sample>
void for_each_sample(const Image& image, const Budget& budget, Sample&& sample) {
  std::size_t at = 0;
  for (std::int64_t y = 0; y < image.height; ++y) {
    budget.stop.throw_if_stopped();
    for (std::int64_t x = 0; x < image.width; ++x)
      for (std::int64_t c = 0; c < image.channels; ++c) sample(y, x, c, at++);
  }
}

}  // namespace

CodedImage encode_image(const Image& image, const DensityEstimator& estimator,
                        const LosslessSettings& settings) {
  if (!sizes_are_right(image.height, image.width, image.channels))
    throw Error(fmt::format(
        "an image of {} x {} x {} samples cannot be coded: 1 to {} rows and columns, 1 or 3 channels",
        image.height, image.width, image.channels, k_most_side));
  CodedImage coded;
  coded.plane_bits.assign(static_cast<std::size_t>(image.channels), 0.0);
  PixelModel model(image.height, image.width, image.channels, estimator, settings);
  RangeEncoder encoder;
  for_each_sample(image, settings.budget,
                  [&](std::int64_t y, std::int64_t x, std::int64_t c, std::size_t at) {
                    model.begin(y, x, c);
                    const int v = image.pixels[at];
                    const std::uint32_t begin = model.cumulative(v), size = model.cumulative(v + 1) - begin;
                    encoder.encode(begin, size);
                    coded.plane_bits[static_cast<std::size_t>(c)] +=
                        k_frequency_bits - std::log2(static_cast<double>(size));
                    model.end(v);
                  });
  coded.bytes.assign(k_magic.begin(), k_magic.end());
  for (const std::uint32_t number :
       {static_cast<std::uint32_t>(image.height), static_cast<std::uint32_t>(image.width),
        static_cast<std::uint32_t>(image.channels), checksum(image.pixels)})
    for (int shift = 0; shift < 32; shift += 8)
      coded.bytes.push_back(static_cast<std::uint8_t>(number >> shift));
  const std::vector<std::uint8_t> code = encoder.finish();
  coded.bytes.insert(coded.bytes.end(), code.begin(), code.end());
  coded.n_fits = model.n_fits();
  coded.refusal = model.refusal();
  return coded;
}

Image decode_image(std::span<const std::uint8_t> bytes, const DensityEstimator& estimator,
                   const LosslessSettings& settings) {
  if (bytes.size() < k_header ||
      std::string_view(reinterpret_cast<const char*>(bytes.data()), k_magic.size()) != k_magic)
    throw DatasetError(
        fmt::format("not a coded image: {} bytes that do not begin with {}", bytes.size(), k_magic));
  const auto number = [&](std::size_t which) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
      value |= std::uint32_t{bytes[k_magic.size() + 4 * which + i]} << (8 * i);
    return value;
  };
  Image image{number(0), number(1), number(2), {}};
  if (!sizes_are_right(image.height, image.width, image.channels))
    throw DatasetError(
        fmt::format("a coded image claims {} x {} x {} samples", image.height, image.width, image.channels));
  image.pixels.resize(static_cast<std::size_t>(image.height * image.width * image.channels));
  PixelModel model(image.height, image.width, image.channels, estimator, settings);
  RangeDecoder decoder(bytes.subspan(k_header));
  for_each_sample(image, settings.budget,
                  [&](std::int64_t y, std::int64_t x, std::int64_t c, std::size_t at) {
                    model.begin(y, x, c);
                    const std::uint32_t target = decoder.target();
                    int low = 0, high = 256;  // cumulative(low) <= target < cumulative(high)
                    while (high - low > 1) {
                      const int middle = (low + high) / 2;
                      (model.cumulative(middle) <= target ? low : high) = middle;
                    }
                    const std::uint32_t begin = model.cumulative(low);
                    decoder.take(begin, model.cumulative(low + 1) - begin);
                    image.pixels[at] = static_cast<std::uint8_t>(low);
                    model.end(low);
                  });
  if (checksum(image.pixels) != number(3))
    throw DatasetError(
        "a coded image does not restore its samples (checksum): damaged bytes, or another estimator, setting "
        "or machine");
  return image;
}

}  // namespace borel
