// Files of a package of the distribution, without installing it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "dataset/temporary_folder.hpp"

namespace borel {

/// The files of a Debian package: those of the running system when the package is installed, else downloaded
/// with apt-get and unpacked into a temporary folder that goes away with this object. Needs no root rights.
class DistributionPackage {
 public:
  /// @param probe a file of the package, as an absolute path, that tells whether it is installed
  /// @throws DatasetError: not a Debian system, no network, unknown package; with apt-get's own last words
  DistributionPackage(const std::string& name, const std::filesystem::path& probe);

  /// Where a file of the package lies now. @throws DatasetError when the package has no such file
  std::filesystem::path file(const std::filesystem::path& absolute) const;

 private:
  std::string name_;
  std::filesystem::path root_ = "/";
  std::optional<TemporaryFolder> temporary_;
};

/// A package can change; the dataset that is made of it must not. @throws DatasetError for another SHA-256
void require_sha256(std::string_view bytes, std::string_view expected, std::string_view what);

/// Whole content of a file. @throws DatasetError
std::string read_file(const std::filesystem::path& file);

}  // namespace borel
