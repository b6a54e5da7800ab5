// Results as CSV: RFC 4180, UTF-8, one header line, numbers that read back to the same bits.
//
//   <protocol>.csv   one row per cell: what it was, how it ended, its metrics. Holds no times: equal studies
//                    give equal files, whatever the machine, the number of threads or the shards
//   cells.csv        one row per cell of all protocols, with outcome, reason and wall-clock seconds
//   curves.csv       one row per point: cell, curve, x, y
//   timings.csv      one row per measurement: cell, task, round, seconds
#pragma once

#include <filesystem>

#include "results/run_results.hpp"

namespace borel {

/// Replaces the files in `folder` (made when missing). @throws Error
void write_csv(const RunResults& results, const std::filesystem::path& folder);

}  // namespace borel
