// The text a plugin carries about itself, and whether it fits this program.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace borel {

struct Manifest {
  int abi = 0;
  std::string id;                            ///< family.id
  std::map<std::string, std::string> facts;  ///< headers, machine, standard_library, ... see borel/plugin.hpp
};

/// Reads the text of the manifest section. @throws PluginError (reason that continues "<file> "): wrong
/// magic, another ABI version, damaged text
Manifest parse_manifest(std::string_view section);

/// @throws PluginError that lists every fact that differs from this program: what the plugin has, what the
/// program has, how to rebuild
void check_build_facts(const Manifest& manifest);

/// This program's own facts, for `borel info` and provenance.
std::map<std::string, std::string> host_build_facts();

}  // namespace borel
