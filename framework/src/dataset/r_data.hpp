// Character vectors from the data of an R package (lazy-load files .rdx and .rdb), without R.
//
// Format: "R Internals", section Serialization Formats. The .rdx file is a gzip stream of a serialised list
// whose element `variables` maps names to (offset, length) in the .rdb file; each piece there is a 4-byte
// big-endian length and a zlib stream of a serialised object (XDR).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace borel {

/// @param base path of the pair without its extension, e.g. .../data/Rdata
/// @throws DatasetError: no such variable (with the nearest), another type, or a damaged file
std::vector<std::string> read_r_strings(const std::filesystem::path& base, std::string_view name);

}  // namespace borel
