// The lossless image codec: every image comes back bit by bit, damage is noticed, and the code is as short as the model says.
#include "lossless/image_codec.hpp"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/error.hpp"
#include "borel/registry.hpp"
#include "built_plugins.hpp"
#include "lossless/rival_codecs.hpp"
#include "lossless/text_compressors.hpp"

namespace {

using borel::Image;
using borel::Rng;
using borel::Seed;
using testing::HasSubstr;

using borel::test::registry;

Image image_of(std::int64_t height, std::int64_t width, std::int64_t channels, auto&& value) {
  Image image{height, width, channels, {}};
  for (std::int64_t y = 0; y < height; ++y)
    for (std::int64_t x = 0; x < width; ++x)
      for (std::int64_t c = 0; c < channels; ++c)
        image.pixels.push_back(static_cast<std::uint8_t>(value(y, x, c)));
  return image;
}

Image noise(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Rng rng(Seed{1});
  return image_of(height, width, channels, [&](auto, auto, auto) { return std::floor(256 * rng.uniform()); });
}

/// Smooth, with a texture and an edge; the colours lean on each other.
Image scene(std::int64_t height, std::int64_t width, std::int64_t channels) {
  Rng rng(Seed{2});
  std::vector<double> draw(1);
  return image_of(height, width, channels, [&](std::int64_t y, std::int64_t x, std::int64_t c) {
    rng.fill_normal(draw);
    const double light = 110 + 60 * std::sin(0.07 * static_cast<double>(x + 2 * y)) + (x > y ? 40.0 : 0.0);
    return std::clamp(std::round(light + 7 * static_cast<double>(c) + 2 * draw[0]), 0.0, 255.0);
  });
}

double bits_per_sample(const borel::CodedImage& coded, const Image& image) {
  return 8 * static_cast<double>(coded.bytes.size()) / static_cast<double>(image.pixels.size());
}

TEST(RangeCoder, RestoresSymbolsAtTheirIdealLength) {
  constexpr std::uint32_t k_total = 1U << borel::k_frequency_bits;
  // Frequencies from 1 to nearly all; the carry runs through long rows of 255.
  const std::vector<std::uint32_t> begins{0, 1, 2, 1000, 1 << 12, 1 << 20, k_total - 2, k_total};
  Rng rng(Seed{3});
  std::vector<std::size_t> symbols;
  borel::RangeEncoder encoder;
  double bits = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto at = static_cast<std::uint32_t>(rng.uniform() * k_total);
    std::size_t symbol = 0;
    if (i % 7 == 0)
      symbol = static_cast<std::size_t>(i / 7) % (begins.size() - 1);
    else
      while (begins[symbol + 1] <= at) ++symbol;
    symbols.push_back(symbol);
    const std::uint32_t size = begins[symbol + 1] - begins[symbol];
    encoder.encode(begins[symbol], size);
    bits += borel::k_frequency_bits - std::log2(size);
  }
  const std::vector<std::uint8_t> bytes = encoder.finish();
  EXPECT_NEAR(8 * static_cast<double>(bytes.size()), bits, 1e-4 * bits + 64);
  borel::RangeDecoder decoder(bytes);
  for (const std::size_t symbol : symbols) {
    const std::uint32_t target = decoder.target();
    ASSERT_GE(target, begins[symbol]);
    ASSERT_LT(target, begins[symbol + 1]);
    decoder.take(begins[symbol], begins[symbol + 1] - begins[symbol]);
  }
}

TEST(RangeCoder, CarriesThroughRowsOfFullBytes) {
  constexpr std::uint32_t k_total = 1U << borel::k_frequency_bits;
  for (int n = 1; n < 40; ++n) {
    borel::RangeEncoder encoder;  // the upper end of the range, n times, then its last unit
    for (int i = 0; i < n; ++i) encoder.encode(k_total - 1, 1);
    encoder.encode(0, 1);
    for (int i = 0; i < n; ++i) encoder.encode(k_total / 2 - 1, 2);
    const std::vector<std::uint8_t> bytes = encoder.finish();
    borel::RangeDecoder decoder(bytes);
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ(decoder.target(), k_total - 1) << n << ' ' << i;
      decoder.take(k_total - 1, 1);
    }
    ASSERT_EQ(decoder.target(), 0U);
    decoder.take(0, 1);
    for (int i = 0; i < n; ++i) {
      ASSERT_EQ((decoder.target() - (k_total / 2 - 1)) / 2, 0U) << n << ' ' << i;
      decoder.take(k_total / 2 - 1, 2);
    }
  }
}

TEST(Lossless, RestoresImagesOfEverySizeAndKind) {
  const auto estimator = registry().make<borel::DensityEstimator>("histogram");
  borel::LosslessSettings settings;
  settings.fit_samples = 64;  // so that small images see fits
  for (const std::int64_t channels : {1, 3})
    for (const auto& [height, width] :
         {std::pair{1, 1}, {1, 2}, {2, 1}, {1, 70}, {70, 1}, {7, 5}, {33, 40}}) {
      for (const Image& image : {noise(height, width, channels), scene(height, width, channels),
                                 image_of(height, width, channels, [](auto, auto, auto) { return 255; }),
                                 image_of(height, width, channels, [](auto, auto, auto) { return 0; }),
                                 image_of(height, width, channels,
                                          [](auto y, auto x, auto c) { return (x + y + c) % 2 * 255; })}) {
        const borel::CodedImage coded = encode_image(image, *estimator, settings);
        const Image again = decode_image(coded.bytes, *estimator, settings);
        EXPECT_EQ(again.height, height);
        EXPECT_EQ(again.width, width);
        EXPECT_EQ(again.channels, channels);
        EXPECT_EQ(again.pixels, image.pixels) << height << " x " << width << " x " << channels;
      }
    }
}

TEST(Lossless, RestoresWithEveryEstimator) {
  const Image image = scene(24, 24, 1);
  borel::LosslessSettings settings;
  settings.fit_samples = 200;
  for (const std::string& id : registry().ids<borel::DensityEstimator>()) {
    const auto estimator = registry().make<borel::DensityEstimator>(id);
    const borel::CodedImage coded = encode_image(image, *estimator, settings);
    EXPECT_EQ(decode_image(coded.bytes, *estimator, settings).pixels, image.pixels) << id;
    EXPECT_GT(coded.n_fits, 0) << id << ": " << coded.refusal;
  }
}

/// Gaussian noise of sd 2 has log2(2 sqrt(2 pi e)) = 3.05 bits; noise of all values has 8; a constant nearly none.
TEST(Lossless, ComesNearTheEntropy) {
  const auto estimator = registry().make<borel::DensityEstimator>("gmm");
  const Image smooth = scene(128, 128, 1), random = noise(64, 64, 1),
              constant = image_of(64, 64, 1, [](auto, auto, auto) { return 77; });
  const double bits = bits_per_sample(encode_image(smooth, *estimator, {}), smooth);
  EXPECT_LT(bits, 3.05 + 0.45);  // 16384 samples to learn from
  EXPECT_GT(bits, 3.05);
  EXPECT_LT(bits, 8 * borel::rival_sizes(smooth).png / static_cast<double>(smooth.pixels.size()));
  EXPECT_LT(bits_per_sample(encode_image(random, *estimator, {}), random), 8.5);
  EXPECT_LT(bits_per_sample(encode_image(constant, *estimator, {}), constant), 0.2);
}

TEST(Lossless, NoticesDamage) {
  const auto estimator = registry().make<borel::DensityEstimator>("histogram");
  const Image image = scene(24, 24, 1);
  const std::vector<std::uint8_t> good = encode_image(image, *estimator, {}).bytes;
  const auto message = [&](const std::vector<std::uint8_t>& bytes) -> std::string {
    try {
      decode_image(bytes, *estimator, {});
    } catch (const borel::DatasetError& error) {
      return error.what();
    }
    return "accepted";
  };
  for (std::size_t at = 24; at + 8 < good.size(); at += 7) {
    std::vector<std::uint8_t> bad = good;
    bad[at] ^= 0x10;
    EXPECT_THAT(message(bad), HasSubstr("checksum")) << at;
  }
  EXPECT_THAT(message({good.begin(), good.begin() + 40}), HasSubstr("checksum"));
  EXPECT_THAT(message({}), HasSubstr("not a coded image"));
  EXPECT_THAT(message(std::vector<std::uint8_t>(100, 1)), HasSubstr("not a coded image"));
  std::vector<std::uint8_t> huge = good;
  huge[8] = huge[9] = huge[10] = huge[11] = 0xff;
  EXPECT_THAT(message(huge), HasSubstr("claims 4294967295"));
  EXPECT_THROW(encode_image({0, 4, 1, {}}, *estimator, {}), borel::Error);
  EXPECT_THROW(encode_image({1, 1, 2, {1, 2}}, *estimator, {}), borel::Error);
}

TEST(TextCompressors, KnowNoiseRepetitionAndWhatTheyHaveSeen) {
  Rng rng(Seed{4});
  std::vector<std::uint8_t> noise(40000), same(40000, 'a');
  for (std::uint8_t& byte : noise) byte = static_cast<std::uint8_t>(rng.below(256));
  const std::vector<borel::CompressedText> unseen = borel::compressed_text(noise, same),
                                           seen = borel::compressed_text(noise, noise),
                                           plain = borel::compressed_text(same, noise);
  ASSERT_EQ(unseen.size(), 3U);
  for (std::size_t i = 0; i < unseen.size(); ++i) {
    EXPECT_GE(unseen[i].alone, 8) << unseen[i].compressor;
    EXPECT_LT(unseen[i].alone, 8.5) << unseen[i].compressor;
    EXPECT_GE(unseen[i].after_training, 7.99) << unseen[i].compressor;
    // PPMd predicts from six bytes before; xz and zstd copy, xz 273 bytes at most.
    EXPECT_LT(seen[i].after_training, seen[i].compressor == "PPMd" ? 4 : 0.2) << seen[i].compressor;
    EXPECT_LT(plain[i].alone, 0.1) << plain[i].compressor;
  }
}

TEST(Lossless, WritesPngThatReadsBack) {
  for (const std::int64_t channels : {1, 3}) {
    const Image image = noise(9, 13, channels);
    EXPECT_EQ(borel::decode_png(borel::encode_png(image), "image").pixels, image.pixels);
  }
}

}  // namespace
