// All files that are made from a journal.
#pragma once

#include <atomic>

#include "study/journal.hpp"
#include "study/run_folder.hpp"

namespace borel {

/// Writes results.h5, csv/ and report.html with its figures unless they are there and were made from this
/// very journal by this very program with all figures drawn. Returns whether they were written.
/// @param interrupted  ends it when it becomes true. @throws Error; Stopped when interrupted
bool write_outputs(const RunFolder& folder, const Journal& journal, bool again = false,
                   const std::atomic<bool>* interrupted = nullptr);

}  // namespace borel
