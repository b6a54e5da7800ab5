// One plugin file: checked in full before any of its code runs, then loaded and never unloaded.
#pragma once

#include <filesystem>
#include <string>

#include "borel/registry.hpp"
#include "loader/manifest.hpp"

namespace borel {

/// Checks that need none of the plugin's code: path and permissions, ELF file, manifest, ABI, build facts.
/// @throws PluginError with the file's path and the rule that it breaks
Manifest inspect_plugin(const std::filesystem::path& file);

/// inspect_plugin(), then loads the file (RTLD_NOW | RTLD_LOCAL) and lets it register its methods.
/// Static constructors of the file run here. @return id of the plugin
/// @throws PluginError; the registry is then as before
std::string load_plugin(const std::filesystem::path& file, Registry& registry);

/// SHA-256 of a file as 64 hexadecimal digits. @throws Error when it cannot be read
std::string file_sha256(const std::filesystem::path& file);

/// The file that this process has the library (registry, engines, free functions of the SDK) from.
std::filesystem::path library_file();

}  // namespace borel
