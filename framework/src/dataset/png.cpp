#include "dataset/png.hpp"

#include <fmt/format.h>
#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr png_uint_32 k_side_cap = 1 << 17;
constexpr std::int64_t k_pixel_cap = 1 << 28;

// Everything that lives across libpng's longjmp, so that no destructor is jumped over.
struct Decoder {
  std::string_view bytes;
  std::size_t at = 0;
  std::string error;
  png_structp png = nullptr;
  png_infop info = nullptr;
  Image image;
  std::vector<png_bytep> rows;

  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
};

void on_error(png_structp png, png_const_charp message) {
  static_cast<Decoder*>(png_get_error_ptr(png))->error = message;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep out, std::size_t n) {
  auto& decoder = *static_cast<Decoder*>(png_get_io_ptr(png));
  if (n > decoder.bytes.size() - decoder.at) png_error(png, "the file ends too early");
  std::memcpy(out, decoder.bytes.data() + decoder.at, n);
  decoder.at += n;
}

bool read_header(Decoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png))) return false;
  png_set_user_limits(decoder.png, k_side_cap, k_side_cap);
  png_set_read_fn(decoder.png, &decoder, on_read);
  png_read_info(decoder.png, decoder.info);
  if (png_get_bit_depth(decoder.png, decoder.info) == 16)
    png_error(decoder.png, "16 bits a sample: convert it to 8");
  if ((png_get_color_type(decoder.png, decoder.info) & PNG_COLOR_MASK_ALPHA) ||
      png_get_valid(decoder.png, decoder.info, PNG_INFO_tRNS))
    png_error(decoder.png, "it has transparency: flatten it first");
  png_set_expand(decoder.png);
  png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  decoder.image.height = png_get_image_height(decoder.png, decoder.info);
  decoder.image.width = png_get_image_width(decoder.png, decoder.info);
  decoder.image.channels = png_get_channels(decoder.png, decoder.info);
  if (decoder.image.height * decoder.image.width > k_pixel_cap)
    png_error(decoder.png, "more than 2^28 pixels");
  return true;
}

bool read_rows(Decoder& decoder) {
  if (setjmp(png_jmpbuf(decoder.png))) return false;
  png_read_image(decoder.png, decoder.rows.data());
  png_read_end(decoder.png, nullptr);
  return true;
}

struct Encoder {
  std::string bytes, error;
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::vector<png_bytep> rows;

  ~Encoder() { png_destroy_write_struct(&png, &info); }
};

void on_encoder_error(png_structp png, png_const_charp message) {
  static_cast<Encoder*>(png_get_error_ptr(png))->error = message;
  png_longjmp(png, 1);
}

void on_write(png_structp png, png_bytep data, std::size_t n) {
  static_cast<Encoder*>(png_get_io_ptr(png))->bytes.append(reinterpret_cast<const char*>(data), n);
}

void on_flush(png_structp) {}

bool write_all(Encoder& encoder, const Image& image) {
  constexpr int k_best_compression = 9;
  if (setjmp(png_jmpbuf(encoder.png))) return false;
  png_set_user_limits(encoder.png, k_side_cap, k_side_cap);
  png_set_write_fn(encoder.png, &encoder, on_write, on_flush);
  png_set_compression_level(encoder.png, k_best_compression);
  png_set_filter(encoder.png, PNG_FILTER_TYPE_BASE, PNG_ALL_FILTERS);
  png_set_IHDR(encoder.png, encoder.info, static_cast<png_uint_32>(image.width),
               static_cast<png_uint_32>(image.height), 8,
               image.channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(encoder.png, encoder.info);
  png_write_image(encoder.png, encoder.rows.data());
  png_write_end(encoder.png, nullptr);
  return true;
}

}  // namespace

std::string encode_png(const Image& image) {
  Encoder encoder;
  encoder.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &encoder, on_encoder_error, on_warning);
  if (encoder.png) encoder.info = png_create_info_struct(encoder.png);
  if (!encoder.info) throw Error("libpng does not start");
  const auto row = static_cast<std::size_t>(image.width * image.channels);
  for (std::int64_t y = 0; y < image.height; ++y)  // libpng does not write through them
    encoder.rows.push_back(const_cast<png_bytep>(image.pixels.data()) + static_cast<std::size_t>(y) * row);
  if (!write_all(encoder, image)) throw Error("PNG is not written: " + encoder.error);
  return std::move(encoder.bytes);
}

Image decode_png(std::string_view bytes, std::string_view who) {
  Decoder decoder;
  decoder.bytes = bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
  if (decoder.png) decoder.info = png_create_info_struct(decoder.png);
  if (!decoder.info) throw DatasetError(fmt::format("{}: libpng does not start", who));
  bool good = read_header(decoder);
  if (good) {
    const auto row = static_cast<std::size_t>(decoder.image.width * decoder.image.channels);
    decoder.image.pixels.resize(static_cast<std::size_t>(decoder.image.height) * row);
    for (std::int64_t y = 0; y < decoder.image.height; ++y)
      decoder.rows.push_back(decoder.image.pixels.data() + static_cast<std::size_t>(y) * row);
    good = read_rows(decoder);
  }
  if (!good) throw DatasetError(fmt::format("{}: PNG refused: {}", who, decoder.error));
  return std::move(decoder.image);
}

}  // namespace borel
