// What the study commands share: the study's world, how progress is shown, and the run itself.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "session.hpp"
#include "study/engine.hpp"

namespace borel::app {

/// The plugins, protocols and datasets of this program. The source must outlive it.
Workshop workshop(Session& session, DatasetSource& datasets);

/// How a run speaks: a progress bar on a terminal, a line per cell into a pipe, JSON events with --json.
std::unique_ptr<RunListener> make_display(bool json, bool quiet);

struct RunRequest {
  std::string study, out, shard = "1/1";
  std::filesystem::path folder;  ///< where relative dataset paths begin; empty: the current folder
  int threads = 0;               ///< 0 = all cores
  bool retry_failed = false, fail_fast = false, no_timing = false, make_data = false;
  bool json = false, quiet = false;
};

/// Options that `run` and `resume` have in common.
void add_run_options(CLI::App& command, RunRequest& request);

/// Plans and runs; SIGINT and SIGTERM stop it cleanly. Exit code: 0 all cells ended well, 1 some failed or
/// are missing, 130 and 143 after a signal.
int run_study(Session& session, const Study& study, const RunFolder& folder, const RunRequest& request);

/// Where a study runs when --out does not say: runs/<name>, with the shard in the name when there are
/// several.
std::filesystem::path default_run_folder(const Study& study, const Shard& shard);

/// Table per protocol: methods x datasets, mean of the first headline metric that is reported, and how many cells ended well.
std::string summary_tables(const RunResults& results, std::span<const Protocol* const> protocols, int width);

}  // namespace borel::app
