// Whole streams of zlib or gzip in memory.
#pragma once

#include <string>
#include <string_view>

namespace borel {

/// The contents of a zlib or gzip stream, at most 256 MiB. `who` starts the message.
/// @throws DatasetError: damaged, cut off, or larger
std::string inflated(std::string_view packed, const std::string& who);

}  // namespace borel
