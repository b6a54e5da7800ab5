// All files that are made from a journal.
#pragma once

#include "study/journal.hpp"
#include "study/run_folder.hpp"

namespace borel {

/// Writes results.h5, csv/ and report.html with its figures unless they are there and were made from this
/// very journal by this very program. Returns whether they were written. @throws Error
bool write_outputs(const RunFolder& folder, const Journal& journal, bool again = false);

}  // namespace borel
