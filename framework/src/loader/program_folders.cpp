#include "loader/program_folders.hpp"

namespace borel {

std::filesystem::path program_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

std::filesystem::path builtin_plugin_folder() {
  const std::filesystem::path root = program_folder().parent_path();
  return exists(root / "CMakeCache.txt") ? root / "plugins"
                                         : root / BOREL_INSTALL_LIBDIR / "borel" / "plugins";
}

std::filesystem::path share_folder() {
  const std::filesystem::path root = program_folder().parent_path();
  return exists(root / "CMakeCache.txt") ? root / "share" / "borel" : root / BOREL_INSTALL_DATADIR / "borel";
}

}  // namespace borel
