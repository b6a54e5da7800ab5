// A study from plan to results: which cells are missing, run them, time them, write the outputs.
#pragma once

#include <array>
#include <atomic>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "study/plan.hpp"
#include "study/run_folder.hpp"

namespace borel {

struct Shard {
  int index = 1, count = 1;  ///< index in [1, count]
};

struct RunOptions {
  std::filesystem::path
      folder;  ///< noted as the place where relative dataset paths begin; empty: the current folder
  int threads = 1;
  bool retry_failed =
      false;               ///< failed, timeout and crashed cells run again; otherwise only missing ones run
  bool fail_fast = false;  ///< start no further cell after one that failed, and time nothing
  bool timing = true;      ///< false: no timing phase, whatever the study says
  Shard shard;
  const std::atomic<bool>* interrupted = nullptr;
};

/// Counts over the planned cells of this shard.
struct RunSummary {
  std::size_t n_cells = 0;
  std::size_t n_found = 0;                  ///< had a result before
  std::size_t n_run = 0;                    ///< got one now
  std::size_t n_timed = 0;                  ///< timing cells measured now
  std::array<std::size_t, 5> by_outcome{};  ///< indexed by CellOutcome
  std::size_t n_missing = 0;                ///< without a result: interrupted, or --fail-fast
  bool interrupted = false;
  bool outputs_written = false;
  std::size_t count(CellOutcome outcome) const { return by_outcome[static_cast<std::size_t>(outcome)]; }
  bool all_good() const {
    return n_missing == 0 && count(CellOutcome::ok) + count(CellOutcome::skipped) == n_cells;
  }
};

/// Told what happens. One call at a time, from any thread; must be quick.
class RunListener {
 public:
  virtual ~RunListener() = default;
  virtual void begin(const Plan& plan, const RunFolder& folder, std::size_t n_cells,
                     std::size_t n_to_run) = 0;
  virtual void cell_started(const CellRecord& cell) = 0;
  virtual void cell_finished(const CellRecord& cell) = 0;  ///< with its result
  virtual void timing_begin(std::size_t n_cells) = 0;
  virtual void timing_progress(std::size_t n_done, std::size_t n_cells) = 0;
  virtual void outputs_begin() = 0;
  virtual void warning(std::string_view text) = 0;
  virtual void end(const RunSummary& summary, const RunResults& results) = 0;
};

/// Runs what is missing. Everything that counts is in the journal when it returns, interrupted or not; after
/// an interruption the outputs are left for the next run. @throws Error: folder in use or not writable,
/// output failed
RunSummary run_plan(const Plan& plan, const Workshop& workshop, const RunFolder& folder,
                    const RunOptions& options, RunListener& listener);

/// "1/3" -> {1, 3}. @throws Error
Shard parse_shard(std::string_view text);

}  // namespace borel
