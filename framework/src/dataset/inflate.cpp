#include "dataset/inflate.hpp"

#include <fmt/format.h>
#include <zlib.h>

#include <array>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr std::size_t k_inflated_cap = 256U << 20;

}  // namespace

std::string inflated(std::string_view packed, const std::string& who) {
  z_stream stream{};
  constexpr int zlib_or_gzip = 15 + 32;
  if (inflateInit2(&stream, zlib_or_gzip) != Z_OK)
    throw DatasetError(fmt::format("{}: zlib does not start", who));
  std::string out;
  std::array<char, 1 << 16> buffer{};
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int status = Z_OK;
  while (status == Z_OK && out.size() < k_inflated_cap) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    status = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END) throw DatasetError(fmt::format("{}: damaged compressed data", who));
  return out;
}

}  // namespace borel
