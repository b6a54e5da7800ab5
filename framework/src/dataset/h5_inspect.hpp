// Internal to the h5 layer: walks the whole structure of an open file and refuses what Borel does not read.
#pragma once

#include "dataset/h5.hpp"
#include "dataset/h5_handle.hpp"

namespace borel::h5 {

/// @pre the caller holds an ApiLock. @throws DatasetError naming the object and the rule
std::map<std::string, Object, std::less<>> inspect(hid_t file_id, const std::filesystem::path& file,
                                                   const Caps& caps);

}  // namespace borel::h5
