#include "study_session.hpp"

#include <thread>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dataset/recipes.hpp"
#include "loader/plugin_file.hpp"
#include "signals.hpp"
#include "study_data.hpp"

namespace borel::app {
namespace {

/// Makes what is missing and has a recipe, trains the study's networks; the plan reports the rest. @return 0, or the exit code
/// of a training that was stopped
int make_datasets(Session& session, const Study& study, const RunRequest& request) {
  const StudyNeeds needs = study_needs(study, request.folder);
  for (const std::string& name : needs.recipes) {
    if (std::filesystem::exists(data_folder() / (name + ".h5"))) continue;
    if (!request.json) fmt::print("making dataset {}\n", name);
    std::fflush(stdout);
    make_dataset(name);
  }
  return train_models(session, needs.models, 0, request.json || request.quiet);
}

}  // namespace

Workshop workshop(Session& session, DatasetSource& datasets) {
  return {session.registry(), protocols(), datasets, plugin_file_digests(), file_sha256(library_file())};
}

void add_run_options(CLI::App& command, RunRequest& request) {
  command
      .add_option("--threads", request.threads,
                  "Threads for quality cells; 0 = one per core. Changes no result")
      ->check(CLI::Range(0, 4096));
  command.add_flag("--retry-failed", request.retry_failed, "Run failed, timed-out and crashed cells again");
  command.add_flag("--fail-fast", request.fail_fast, "Start no further cell after one that failed");
  command.add_flag("--no-timing", request.no_timing, "Skip the timing phase");
  command.add_flag("--make-data", request.make_data,
                   "First make missing datasets that have a recipe, and train the study's networks");
  command.add_flag("--json", request.json, "One JSON event a line on standard output");
  command.add_flag("--quiet", request.quiet, "Only warnings, failures and the summary");
}

std::filesystem::path default_run_folder(const Study& study, const Shard& shard) {
  const std::filesystem::path folder = std::filesystem::path("runs") / study.name;
  if (shard.count == 1) return folder;
  return folder.string() + fmt::format(".shard-{}-of-{}", shard.index, shard.count);
}

int run_study(Session& session, const Study& study, const RunFolder& folder, const RunRequest& request) {
  if (request.make_data)
    if (const int code = make_datasets(session, study, request)) return code;
  StudyDatasets datasets(session.registry(), study, request.folder);
  const Workshop world = workshop(session, datasets);
  const Plan plan = make_plan(study, world);
  RunOptions options;
  options.folder = request.folder;
  options.threads = request.threads > 0 ? request.threads
                                        : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  options.retry_failed = request.retry_failed;
  options.fail_fast = request.fail_fast;
  options.timing = !request.no_timing;
  options.shard = parse_shard(request.shard);
  const SignalGuard signals;
  options.interrupted = &signals.stop_requested();
  const std::unique_ptr<RunListener> display = make_display(request.json, request.quiet);
  const RunSummary summary = run_plan(plan, world, folder, options, *display);
  if (summary.interrupted) return signals.exit_code();
  return summary.all_good() ? 0 : 1;
}

}  // namespace borel::app
