#include "study/engine.hpp"

#include <charconv>
#include <filesystem>
#include <map>
#include <mutex>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "results/collect.hpp"
#include "results/outputs.hpp"
#include "study/cell_id.hpp"
#include "study/journal.hpp"
#include "study/provenance.hpp"
#include "study/quality_phase.hpp"
#include "study/record_json.hpp"
#include "study/timing_phase.hpp"

namespace borel {
namespace {

using nlohmann::json;

json plan_record(const Plan& plan) {
  json cells = json::array();
  for (const PlannedCell& cell : plan.cells) {
    json item = to_json(cell.record);
    item["inputs"] = cell.inputs;
    cells.push_back(std::move(item));
  }
  return {{"type", "plan"},
          {"title", plan.title},
          {"description", plan.description},
          {"study_name", plan.study_name},
          {"study_file", plan.study_file},
          {"study_text", plan.study_text},
          {"study_digest", plan.digest},
          {"plan_digest", plan_record_digest(plan)},
          {"cells", std::move(cells)}};
}

json run_record(const RunOptions& options) {
  json facts = json::array();
  for (const auto& [name, value] : gather_provenance(options.threads)) facts.push_back({name, value});
  const std::filesystem::path folder =
      options.folder.empty() ? std::filesystem::current_path() : options.folder;
  facts.push_back({"folder", folder.string()});
  if (options.shard.count > 1)
    facts.push_back({"shard", fmt::format("{}/{}", options.shard.index, options.shard.count)});
  return {{"type", "run"}, {"provenance", std::move(facts)}};
}

/// Quality results on their way to the journal and to the listener.
class Recorder final : public QualityObserver {
 public:
  Recorder(JournalWriter& journal, RunListener& listener) : journal_(journal), listener_(listener) {}

  void cell_started(const PlannedCell& cell) override {
    const std::lock_guard lock(mutex_);
    listener_.cell_started(cell.record);
  }

  void cell_finished(const PlannedCell& cell, CellResult result) override {
    journal_.append(
        {{"type", "cell"}, {"id", cell.record.cell_id}, {"at", utc_now()}, {"result", to_json(result)}});
    const std::lock_guard lock(mutex_);
    CellRecord record = cell.record;
    record.result = std::move(result);
    listener_.cell_finished(record);
    ++n_finished_;
  }

  std::size_t n_finished() const { return n_finished_; }

 private:
  JournalWriter& journal_;
  RunListener& listener_;
  std::mutex mutex_;
  std::size_t n_finished_ = 0;
};

class Run {
 public:
  Run(const Plan& plan, const Workshop& workshop, const RunFolder& folder, const RunOptions& options,
      RunListener& listener)
      : plan_(plan),
        workshop_(workshop),
        folder_(folder),
        options_(options),
        listener_(listener),
        datasets_(workshop.datasets) {
    for (const PlannedCell& cell : plan.cells)
      if (shard_of(cell.record.cell_id, options.shard.count) == options.shard.index) mine_.push_back(&cell);
  }

  RunSummary go() {
    const RunLock lock(folder_);
    known_ = read_journal(folder_.journal());
    for (const std::string& line : known_.damage) listener_.warning(line);
    JournalWriter journal(folder_.journal());
    write_whole_file(folder_.study(), plan_.study_text);

    std::vector<const PlannedCell*> to_run;
    for (const PlannedCell* cell : mine_)
      if (must_run(*cell)) to_run.push_back(cell);
    summary_.n_cells = mine_.size();
    summary_.n_found = mine_.size() - to_run.size();
    listener_.begin(plan_, folder_, mine_.size(), to_run.size());

    // A start that finds everything done leaves the journal, and so the outputs, as they are.
    if (!known_.has_plan || known_.plan_digest != plan_record_digest(plan_))
      journal.append(plan_record(plan_));
    if (!to_run.empty()) {
      note_run(journal);
      run_quality(to_run, journal);
    }
    run_timing(journal);
    count_outcomes();
    if (!stopped()) {
      listener_.outputs_begin();
      try {
        summary_.outputs_written = write_outputs(folder_, known_, false, options_.interrupted);
      } catch (const Stopped&) {  // said by `interrupted` below
      }
    }
    summary_.interrupted = stopped();
    listener_.end(summary_, collect_results(known_));
    return summary_;
  }

 private:
  bool stopped() const { return options_.interrupted && options_.interrupted->load(); }

  bool must_run(const PlannedCell& cell) const {
    const auto found = known_.cells.find(cell.record.cell_id);
    if (found == known_.cells.end() || !found->second.has_result) return true;
    return options_.retry_failed && !is_final(found->second.result.outcome);
  }

  void note_run(JournalWriter& journal) {
    if (noted_) return;
    pin_blas_threads();
    journal.append(run_record(options_));
    noted_ = true;
  }

  void run_quality(const std::vector<const PlannedCell*>& cells, JournalWriter& journal) {
    QualityRules rules;
    rules.threads = options_.threads;
    rules.time_per_cell_s = plan_.limits.time_per_cell_s;
    rules.memory_bytes = plan_.limits.memory_gb * 1e9;
    rules.fail_fast = options_.fail_fast;
    rules.interrupted = options_.interrupted;
    Recorder recorder(journal, listener_);
    run_quality_cells(cells, workshop_.registry, datasets_, rules, recorder);
    summary_.n_run = recorder.n_finished();
    known_ = read_journal(folder_.journal());
  }

  /// Repetition 0 of everything that passed: the rounds are the repetitions of a timing.
  void run_timing(JournalWriter& journal) {
    if (!options_.timing || !plan_.timing.enabled || stopped()) return;
    std::vector<const PlannedCell*> cells;
    bool any_failed = false;
    for (const PlannedCell* cell : mine_) {
      const auto found = known_.cells.find(cell->record.cell_id);
      if (found == known_.cells.end() || !found->second.has_result) continue;
      any_failed = any_failed || !is_final(found->second.result.outcome);
      if (cell->record.repetition == 0 && found->second.result.outcome == CellOutcome::ok &&
          !found->second.has_timing)
        cells.push_back(cell);
    }
    if (cells.empty() || (options_.fail_fast && any_failed)) return;
    note_run(journal);
    listener_.timing_begin(cells.size());
    run_timing_cells(
        cells, workshop_.registry, datasets_, plan_.timing, plan_.limits.memory_gb * 1e9,
        options_.interrupted, [&](const std::vector<CellTiming>& group) {
          for (const CellTiming& timing : group) {
            json record = {{"type", "timing"},
                           {"id", timing.cell->record.cell_id},
                           {"timings", to_json(timing.timings)}};
            if (!timing.problem.empty()) {
              record["problem"] = timing.problem;
              listener_.warning(fmt::format("{} on {} was not timed: {}", timing.cell->record.label,
                                            timing.cell->record.dataset, timing.problem));
            }
            journal.append(record);
          }
          summary_.n_timed += group.size();
          listener_.timing_progress(summary_.n_timed, cells.size());
        });
  }

  void count_outcomes() {
    known_ = read_journal(folder_.journal());
    for (const PlannedCell* cell : mine_) {
      const auto found = known_.cells.find(cell->record.cell_id);
      if (found == known_.cells.end() || !found->second.has_result)
        ++summary_.n_missing;
      else
        ++summary_.by_outcome[static_cast<std::size_t>(found->second.result.outcome)];
    }
  }

  const Plan& plan_;
  const Workshop& workshop_;
  const RunFolder& folder_;
  const RunOptions& options_;
  RunListener& listener_;
  OpenDatasets datasets_;
  std::vector<const PlannedCell*> mine_;
  Journal known_;
  RunSummary summary_;
  bool noted_ = false;
};

}  // namespace

RunSummary run_plan(const Plan& plan, const Workshop& workshop, const RunFolder& folder,
                    const RunOptions& options, RunListener& listener) {
  return Run(plan, workshop, folder, options, listener).go();
}

Shard parse_shard(std::string_view text) {
  Shard shard;
  const std::size_t slash = text.find('/');
  const char* end = text.data() + text.size();
  if (slash != std::string_view::npos) {
    const auto first = std::from_chars(text.data(), text.data() + slash, shard.index);
    const auto second = std::from_chars(text.data() + slash + 1, end, shard.count);
    if (first.ec == std::errc() && first.ptr == text.data() + slash && second.ec == std::errc() &&
        second.ptr == end && shard.index >= 1 && shard.count >= 1 && shard.index <= shard.count)
      return shard;
  }
  throw Error(fmt::format("--shard must be i/n with 1 <= i <= n, such as 1/3, got '{}'", text));
}

}  // namespace borel
