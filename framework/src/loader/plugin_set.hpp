// All plugins of a program: where they are looked for, what was loaded, what was refused and why.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "borel/registry.hpp"

namespace borel {

struct LoadedPlugin {
  std::filesystem::path file;
  std::string id;  ///< family.id
};

struct RefusedPlugin {
  std::filesystem::path file;
  std::string reason;  ///< complete message, names the file
  bool named = false;  ///< the user asked for this file or folder: an error, not a remark
};

struct LoadReport {
  std::vector<LoadedPlugin> loaded;
  std::vector<RefusedPlugin> refused;
  std::vector<std::filesystem::path> searched;  ///< in order

  /// @throws PluginError with the first refusal of something the user named
  void throw_if_named_was_refused() const;
};

struct PluginSearch {
  std::vector<std::string> paths;  ///< files or folders that the user named, each may be a list with ':'
  bool use_environment = true;     ///< BOREL_PLUGIN_PATH, a list with ':'
  bool use_builtin = true;         ///< the plugins of the install or build tree
};

/// Loads *.so from the named paths, then the environment's, then the program's own; inside a folder in sorted
/// order. The current directory is never searched: empty and relative list items of the environment are
/// refused. A refused plugin does not stop the others. Not thread-safe; call once per registry.
LoadReport load_plugins(const PluginSearch& search, Registry& registry);

}  // namespace borel
