// Phase 1: quality cells, in parallel. No result depends on the schedule.
#pragma once

#include <atomic>
#include <span>

#include "borel/parallel.hpp"
#include "study/plan.hpp"

namespace borel {

struct QualityRules {
  int threads = 1;
  double time_per_cell_s = 300;
  double memory_bytes = 4e9;  ///< for the estimates of all cells that run at the same time
  bool fail_fast = false;     ///< start no further cell after one that failed
  const std::atomic<bool>* interrupted = nullptr;
};

/// Called by worker threads, many at a time.
class QualityObserver {
 public:
  virtual ~QualityObserver() = default;
  virtual void cell_started(const PlannedCell& cell) = 0;
  /// Not called for cells that an interruption stopped: they have no outcome.
  virtual void cell_finished(const PlannedCell& cell, CellResult result) = 0;
};

/// Runs every cell: exceptions become `failed`, a refusal `skipped`, a missed deadline `timeout`. @throws
/// what the observer throws
void run_quality_cells(std::span<const PlannedCell* const> cells, const Registry& registry,
                       OpenDatasets& datasets, const QualityRules& rules, QualityObserver& observer);

/// What a protocol gets for a cell.
CellInput cell_input(const PlannedCell& cell, const Registry& registry,
                     std::shared_ptr<const Dataset> dataset, StopToken stop);

}  // namespace borel
