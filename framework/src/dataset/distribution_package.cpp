#include "dataset/distribution_package.hpp"

#include <fmt/format.h>

#include <fstream>

#include "borel/error.hpp"
#include "dataset/digest.hpp"
#include "dataset/run_program.hpp"

namespace borel {
namespace {

std::string last_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  const std::size_t start = text.rfind('\n');
  return start == std::string::npos ? text : text.substr(start + 1);
}

std::filesystem::path only_deb_in(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".deb") return entry.path();
  return {};
}

}  // namespace

DistributionPackage::DistributionPackage(const std::string& name, const std::filesystem::path& probe)
    : name_(name) {
  if (std::filesystem::exists(probe)) return;
  temporary_.emplace("package");
  const std::filesystem::path& folder = temporary_->path();
  const auto fetched =
      run_program({"apt-get", "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o",
                   "Acquire::https::Timeout=20", "download", name},
                  folder);
  const std::filesystem::path archive = only_deb_in(folder);
  if (fetched.exit_code != 0 || archive.empty())
    throw DatasetError(
        fmt::format("cannot fetch the Debian package '{0}': apt-get download ended with code {1} ({2}); "
                    "it needs a network connection and current package lists (apt-get update); or "
                    "install '{0}' and try again",
                    name, fetched.exit_code, last_line(fetched.output)));
  root_ = folder / "unpacked";
  const auto unpacked = run_program({"dpkg-deb", "-x", archive.string(), root_.string()}, folder);
  if (unpacked.exit_code != 0)
    throw DatasetError(fmt::format("cannot unpack {}: dpkg-deb ended with code {} ({})", archive.string(),
                                   unpacked.exit_code, last_line(unpacked.output)));
}

std::filesystem::path DistributionPackage::file(const std::filesystem::path& absolute) const {
  const std::filesystem::path path = root_ / absolute.relative_path();
  if (!std::filesystem::is_regular_file(path))
    throw DatasetError(fmt::format("package '{}' has no file {}: this recipe was written for Debian 12",
                                   name_, absolute.string()));
  return path;
}

void require_sha256(std::string_view bytes, std::string_view expected, std::string_view what) {
  const std::string found = sha256_hex(bytes);
  if (found != expected)
    throw DatasetError(
        fmt::format("{} is not the one this recipe was written for: SHA-256 {} instead of {}; the package "
                    "has changed, a new version of the recipe is needed",
                    what, found, expected));
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream || std::filesystem::is_directory(file))
    throw DatasetError(fmt::format("{}: cannot open the file", file.string()));
  std::string text((std::istreambuf_iterator<char>(stream)), {});
  if (stream.bad()) throw DatasetError(fmt::format("{}: cannot read the file", file.string()));
  return text;
}

}  // namespace borel
