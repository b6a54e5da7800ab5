// Phase 2: timing, alone on the machine, one thread, after all quality cells and only for what passed.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "study/plan.hpp"

namespace borel {

/// Raw seconds of one cell's tasks, or why there are none.
struct CellTiming {
  const PlannedCell* cell = nullptr;
  std::vector<Timing> timings;
  std::string problem;
};

/// Cells that differ in their methods only are measured together: every round runs each task once, in another
/// order, so that slow changes of the machine meet all methods alike. A task runs once to warm up and then
/// `rules.rounds` times, but takes part in no further round once its measurements sum to `rules.max_task_s`;
/// when the warm-up alone takes that long, it is the measurement. Tasks below 1 ms are repeated within a
/// measurement, which then holds the seconds of one execution.
/// @param finished  called per group, with all its cells
void run_timing_cells(std::span<const PlannedCell* const> cells, const Registry& registry,
                      OpenDatasets& datasets, const TimingRules& rules, double memory_bytes,
                      const std::atomic<bool>* interrupted,
                      const std::function<void(const std::vector<CellTiming>&)>& finished);

}  // namespace borel
