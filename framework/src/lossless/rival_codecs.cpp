#include "lossless/rival_codecs.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "dataset/run_program.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

constexpr int k_not_started = 127;

std::optional<double> size_by(const std::vector<std::string>& command, const std::filesystem::path& folder,
                              const char* output) {
  const ProgramResult result = run_program(command, folder);
  if (result.exit_code == k_not_started) return std::nullopt;
  if (result.exit_code != 0)
    throw Error(fmt::format("{} ends with code {}: {}", command.front(), result.exit_code, result.output));
  return static_cast<double>(std::filesystem::file_size(folder / output));
}

}  // namespace

RivalSizes rival_sizes(const Image& image) {
  const std::string png = encode_png(image);
  const TemporaryFolder folder("image");
  std::ofstream file(folder.path() / "image.png", std::ios::binary);
  if (!file.write(png.data(), static_cast<std::streamsize>(png.size())).flush())
    throw Error(fmt::format("cannot write to {}", folder.path().string()));
  return {static_cast<double>(png.size()),
          size_by({"cwebp", "-quiet", "-lossless", "-z", "9", "image.png", "-o", "image.webp"}, folder.path(),
                  "image.webp"),
          size_by({"cjxl", "-d", "0", "-e", "9", "image.png", "image.jxl"}, folder.path(), "image.jxl")};
}

}  // namespace borel
