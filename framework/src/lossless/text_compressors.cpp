#include "lossless/text_compressors.hpp"

#include <array>
#include <memory>
#include <string_view>

#include <archive.h>
#include <archive_entry.h>
#include <fmt/format.h>
#include <lzma.h>
#include <zstd.h>

#include "borel/error.hpp"
#include "borel/parallel.hpp"

namespace borel {
namespace {

using Bytes = std::span<const std::uint8_t>;

std::size_t xz_size(Bytes text) {
  std::vector<std::uint8_t> packed(lzma_stream_buffer_bound(text.size()));
  lzma_stream stream = LZMA_STREAM_INIT;
  lzma_ret code = lzma_easy_encoder(&stream, 9 | LZMA_PRESET_EXTREME, LZMA_CHECK_CRC64);
  stream.next_in = text.data(), stream.avail_in = text.size();
  stream.next_out = packed.data(), stream.avail_out = packed.size();
  if (code == LZMA_OK) code = lzma_code(&stream, LZMA_FINISH);
  lzma_end(&stream);
  if (code != LZMA_STREAM_END) throw Error(fmt::format("liblzma ends with code {}", static_cast<int>(code)));
  return packed.size() - stream.avail_out;
}

std::size_t zstd_size(Bytes text) {
  std::vector<std::uint8_t> packed(ZSTD_compressBound(text.size()));
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), ZSTD_maxCLevel());
  if (ZSTD_isError(size)) throw Error(fmt::format("libzstd: {}", ZSTD_getErrorName(size)));
  return size;
}

std::size_t ppmd_size(Bytes text) {
  constexpr std::size_t k_headers = 1 << 16;
  std::vector<std::uint8_t> packed(2 * text.size() + k_headers);
  std::size_t size = 0;
  const std::unique_ptr<archive, decltype(&archive_write_free)> file(archive_write_new(), archive_write_free);
  const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry(archive_entry_new(),
                                                                            archive_entry_free);
  const auto expect = [&](bool good) {
    if (!good) throw Error(fmt::format("libarchive, 7-Zip with PPMd: {}", archive_error_string(file.get())));
  };
  expect(archive_write_set_format_7zip(file.get()) == ARCHIVE_OK);
  expect(archive_write_set_options(file.get(), "compression=ppmd,compression-level=9") == ARCHIVE_OK);
  expect(archive_write_open_memory(file.get(), packed.data(), packed.size(), &size) == ARCHIVE_OK);
  archive_entry_set_pathname(entry.get(), "text");
  archive_entry_set_filetype(entry.get(), AE_IFREG);
  archive_entry_set_size(entry.get(), static_cast<la_int64_t>(text.size()));
  expect(archive_write_header(file.get(), entry.get()) == ARCHIVE_OK);
  expect(archive_write_data(file.get(), text.data(), text.size()) == static_cast<la_ssize_t>(text.size()));
  expect(archive_write_close(file.get()) == ARCHIVE_OK);
  return size;
}

struct Compressor {
  std::string_view name;
  std::size_t (*size_of)(Bytes);
};
constexpr std::array k_compressors{Compressor{"xz -9e", xz_size}, Compressor{"zstd --ultra -22", zstd_size},
                                   Compressor{"PPMd", ppmd_size}};

}  // namespace

std::vector<CompressedText> compressed_text(Bytes held_out, Bytes training) {
  std::vector<std::uint8_t> both(training.begin(), training.end());
  both.insert(both.end(), held_out.begin(), held_out.end());
  const std::array<Bytes, 3> texts{both, training, held_out};
  std::array<std::array<std::size_t, texts.size()>, k_compressors.size()> sizes{};
  parallel_for(static_cast<index_t>(texts.size() * k_compressors.size()), 1, [&](index_t i, index_t) {
    const auto text = static_cast<std::size_t>(i) / k_compressors.size(),
               compressor = static_cast<std::size_t>(i) % k_compressors.size();
    sizes[compressor][text] = k_compressors[compressor].size_of(texts[text]);
  });
  std::vector<CompressedText> out;
  for (std::size_t c = 0; c < k_compressors.size(); ++c) {
    const auto [with, before, alone] = sizes[c];
    const double bits = 8 / static_cast<double>(held_out.size());
    out.push_back({std::string(k_compressors[c].name), bits * static_cast<double>(alone),
                   bits * (static_cast<double>(with) - static_cast<double>(before))});
  }
  return out;
}

}  // namespace borel
