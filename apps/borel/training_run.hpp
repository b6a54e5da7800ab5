// Training of a network as the program does it: progress, checkpoints, a clean stop, and what the network learned in the end.
#pragma once

#include <cstdint>
#include <filesystem>

#include "probe/training.hpp"
#include "session.hpp"

namespace borel::app {

struct TrainingOptions {
  int threads = 0;          ///< for the record alone
  double time_limit_s = 0;  ///< 0 = none
  double checkpoint_every_s = 60;
  std::int64_t validate_every = 100;  ///< steps
  std::int64_t n_windows = 64;        ///< of the held-out text in a validation
  bool portable = false;  ///< the finished model has no optimizer state and no names of this machine
  bool compare = true;    ///< with compressors, in the end
  bool quiet = false;     ///< the last line alone
  bool silent = false;    ///< not even that
};

/// Starts, or goes on with what is in `file`; SIGINT and SIGTERM stop it cleanly. @return the exit code: 0 done or out of time,
/// 130 and 143 after a signal. @throws DatasetError: the file holds another network; as probe::Trainer
int run_training(Session& session, const probe::TrainingConfig& config, const std::filesystem::path& file,
                 const TrainingOptions& options);

}  // namespace borel::app
