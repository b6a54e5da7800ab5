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

}  // namespace

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
