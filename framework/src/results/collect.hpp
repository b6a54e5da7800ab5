// From a journal to results in memory.
#pragma once

#include "results/run_results.hpp"
#include "study/journal.hpp"

namespace borel {

/// The planned cells that have a result, in plan order. Provenance: the facts of the last start, the counts
/// of planned and finished cells, and, when facts differ between starts, all values.
RunResults collect_results(const Journal& journal);

}  // namespace borel
