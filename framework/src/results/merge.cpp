#include "results/merge.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "borel/error.hpp"
#include "dataset/digest.hpp"
#include "results/outputs.hpp"
#include "study/journal.hpp"
#include "study/plan.hpp"
#include "study/record_json.hpp"

namespace borel {
namespace {

using nlohmann::json;

/// What must agree between two results of one cell: everything but the clock.
std::string content(const CellResult& result) {
  json out = to_json(result);
  out.erase("wall_s");
  return json_text(out);
}

struct Source {
  std::filesystem::path folder;
  Journal journal;
};

struct MergedCell {
  JournalCell cell;
  std::filesystem::path from;
};

class Merge {
 public:
  explicit Merge(const std::vector<std::filesystem::path>& runs) {
    for (const std::filesystem::path& run : runs) {
      const RunFolder folder = existing_run(run);
      sources_.push_back({run, read_journal(folder.journal())});
      const Journal& journal = sources_.back().journal;
      summary_.warnings.insert(summary_.warnings.end(), journal.damage.begin(), journal.damage.end());
      if (!journal.has_plan)
        throw Error(fmt::format("{}: the journal has no readable plan; finish the run first: borel resume {}",
                                run.string(), run.string()));
    }
  }

  MergeSummary write(const RunFolder& out) {
    collect();
    if (!conflicts_.empty())
      throw Error(fmt::format("the runs cannot be merged; {} conflict(s):\n  {}", conflicts_.size(),
                              fmt::join(conflicts_, "\n  ")));
    const RunLock lock(out);
    const Journal& first = sources_.front().journal;
    JournalWriter journal(out.journal());
    write_whole_file(out.study(), first.study_text);
    journal.append(plan(first));
    for (const Source& source : sources_)
      for (const auto& facts : source.journal.runs) {
        json list = json::array();
        for (const auto& [name, value] : facts)
          if (name != "shard")
            list.push_back({name, value});  // a merged run is no shard: resume does all of it
        journal.append({{"type", "run"}, {"provenance", std::move(list)}});
      }
    for (const auto& [id, merged] : cells_) {
      const JournalCell& cell = merged.cell;
      journal.append(
          {{"type", "cell"}, {"id", id}, {"at", cell.finished_at}, {"result", to_json(cell.result)}});
      if (!cell.has_timing) continue;
      json record = {{"type", "timing"}, {"id", id}, {"timings", to_json(cell.result.timings)}};
      if (!cell.timing_problem.empty()) record["problem"] = cell.timing_problem;
      journal.append(record);
    }
    write_outputs(out, read_journal(out.journal()));
    summary_.n_planned = planned_.size();
    summary_.n_finished = cells_.size();
    return summary_;
  }

 private:
  using Place = std::tuple<std::string, std::string, std::string, std::vector<std::string>, std::int64_t>;

  void collect() {
    std::map<Place, std::pair<std::string, std::filesystem::path>> places;
    for (const Source& source : sources_)
      for (const auto& [record, inputs] : source.journal.planned) {
        planned_.try_emplace(record.cell_id, record, inputs);
        const auto found = source.journal.cells.find(record.cell_id);
        if (found == source.journal.cells.end() || !found->second.has_result) continue;
        take(record, found->second, source.folder);
        std::vector<std::string> specs;
        for (const MethodUse& use : record.methods) specs.push_back(use.spec);
        const auto [place, is_new] = places.try_emplace(
            Place(record.protocol, record.options, record.dataset, specs, record.repetition), record.cell_id,
            source.folder);
        if (!is_new && place->second.first != record.cell_id)
          conflicts_.push_back(fmt::format(
              "{} {} on {} repetition {}: {} has cell {}, {} has cell {} (another plugin file, "
              "dataset content, "
              "protocol version or study seed; see: borel why <cell> --run <run>)",
              record.protocol, record.label, record.dataset, record.repetition, place->second.second.string(),
              place->second.first.substr(0, 8), source.folder.string(), record.cell_id.substr(0, 8)));
      }
    for (const auto& [id, merged] : cells_) summary_.n_failed += !is_final(merged.cell.result.outcome);
  }

  void take(const CellRecord& record, const JournalCell& cell, const std::filesystem::path& from) {
    const auto [place, is_new] = cells_.try_emplace(record.cell_id, MergedCell{cell, from});
    if (is_new) return;
    MergedCell& kept = place->second;
    const bool kept_good = is_final(kept.cell.result.outcome), good = is_final(cell.result.outcome);
    if (kept_good && good && content(kept.cell.result) != content(cell.result)) {
      conflicts_.push_back(
          fmt::format("cell {} ({} {} on {} repetition {}) has different results in {} and {}",
                      record.cell_id.substr(0, 8), record.protocol, record.label, record.dataset,
                      record.repetition, kept.from.string(), from.string()));
      return;
    }
    JournalCell next = good && !kept_good ? cell : kept.cell;
    if (!next.has_timing && (cell.has_timing || kept.cell.has_timing)) {
      const JournalCell& timed = cell.has_timing ? cell : kept.cell;
      next.result.timings = timed.result.timings;
      next.timing_problem = timed.timing_problem;
      next.has_timing = true;
    }
    kept.cell = std::move(next);
  }

  json plan(const Journal& first) const {
    json cells = json::array();
    std::string ids;
    for (const auto& [id, planned] : planned_) {
      json item = to_json(planned.first);
      item["inputs"] = planned.second;
      cells.push_back(std::move(item));
      ids += id;
    }
    return {{"type", "plan"},
            {"title", first.title},
            {"description", first.description},
            {"study_name", first.study_name},
            {"study_file", first.study_file},
            {"study_text", first.study_text},
            {"study_digest", sha256_hex(ids)},
            {"plan_digest", first.plan_digest},
            {"cells", std::move(cells)}};
  }

  std::vector<Source> sources_;
  std::map<std::string, std::pair<CellRecord, std::string>> planned_;
  std::map<std::string, MergedCell> cells_;
  std::vector<std::string> conflicts_;
  MergeSummary summary_;
};

}  // namespace

MergeSummary merge_runs(const std::vector<std::filesystem::path>& runs, const RunFolder& out) {
  if (std::filesystem::exists(out.journal()))
    throw Error(fmt::format("{} already holds a run; choose another folder for --out", out.root.string()));
  return Merge(runs).write(out);
}

}  // namespace borel
