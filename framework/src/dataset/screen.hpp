// First contact with a file that somebody else made.
#pragma once

#include <filesystem>

namespace borel {

/// Opens and verifies the file in a child process with limited memory and CPU time, because damaged metadata
/// can crash the HDF5 library itself. @throws DatasetError with the child's message, or saying that the
/// library crashed or hung on the file. Threads: may be called from any; HDF5 calls of other threads wait
/// while the child is started.
void screen_dataset(const std::filesystem::path& file);

}  // namespace borel
