#include "dataset/temporary_folder.hpp"

#include <fmt/format.h>
#include <stdlib.h>

#include "borel/error.hpp"

namespace borel {

TemporaryFolder::TemporaryFolder(std::string_view purpose) {
  const std::filesystem::path parent = std::filesystem::temp_directory_path();
  std::string pattern = (parent / fmt::format("borel-{}-XXXXXX", purpose)).string();
  if (!::mkdtemp(pattern.data()))
    throw Error(
        fmt::format("cannot create a folder in {}; set TMPDIR to one that you may write", parent.string()));
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace borel
