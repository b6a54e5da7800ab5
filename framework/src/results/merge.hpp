// Several runs (shards, machines, later repetitions) as one.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "study/run_folder.hpp"

namespace borel {

struct MergeSummary {
  std::size_t n_planned = 0, n_finished = 0, n_failed = 0;
  std::vector<std::string> warnings;  ///< damaged journal lines that were left out
};

/// Writes a run folder that holds the cells of all given runs. A cell that ended well in one run and failed
/// in another counts as ended well. @throws Error naming every conflict: a cell with two different results,
/// or two cells that would stand in the same place (same methods, dataset, repetition) but were made from
/// different plugin files, data or protocol versions. `out` must not hold a run already.
MergeSummary merge_runs(const std::vector<std::filesystem::path>& runs, const RunFolder& out);

}  // namespace borel
