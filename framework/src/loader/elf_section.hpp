// Reads one section of an ELF shared library without loading it.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace borel {

/// Bytes of the named section. Every offset and size is checked against the file, so any bytes may be given.
/// @throws PluginError with a reason that continues "<file> ": not ELF, another machine, truncated, no such
/// section.
///         `missing` is the reason for the last.
std::string_view read_elf_section(std::span<const std::byte> file, std::string_view name,
                                  std::string_view missing);

}  // namespace borel
