// Where the running program finds its files: next to itself, in the build tree and in the install tree alike.
#pragma once

#include <filesystem>

namespace borel {

/// Folder of the running executable, symbolic links resolved.
std::filesystem::path program_folder();

/// Folder of the plugins that come with the program: <build>/plugins or <prefix>/lib/borel/plugins.
std::filesystem::path builtin_plugin_folder();

/// Studies and small data files: <build>/share/borel (links into the source tree) or <prefix>/share/borel.
std::filesystem::path share_folder();

}  // namespace borel
