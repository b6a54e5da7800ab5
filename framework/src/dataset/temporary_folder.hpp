// A folder of its own for files that are needed for a while.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace borel {

/// Made in TMPDIR (else /tmp) under a name that nobody else has; gone with all it holds when this object goes.
class TemporaryFolder {
 public:
  /// @param purpose  part of the name: letters, digits, '-'. @throws Error when it cannot be made
  explicit TemporaryFolder(std::string_view purpose = "files");
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

}  // namespace borel
