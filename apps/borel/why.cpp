// borel why <cell> --run <folder>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "study/journal.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

struct Request {
  std::string cell, run;
};

using Planned = std::pair<CellRecord, std::string>;

const Planned& find_cell(const Journal& journal, const std::string& prefix, const std::string& run) {
  std::vector<const Planned*> found;
  for (const Planned& planned : journal.planned)
    if (planned.first.cell_id.starts_with(prefix)) found.push_back(&planned);
  if (found.empty())
    throw Error(fmt::format("no cell of {} begins with '{}'; `borel plan {} --out {}` lists the ids", run,
                            prefix, (std::filesystem::path(run) / "study.toml").string(), run));
  if (found.size() > 1)
    throw Error(fmt::format("{} cells of {} begin with '{}'; give more digits", found.size(), run, prefix));
  return *found.front();
}

void print_state(const CellRecord& record, const Journal& journal) {
  const auto found = journal.cells.find(record.cell_id);
  if (found == journal.cells.end() || !found->second.has_result) {
    fmt::print("state        missing: it has not run yet, or was stopped; `borel resume` runs it\n");
    return;
  }
  const JournalCell& cell = found->second;
  const CellResult& result = cell.result;
  fmt::print("state        {}{}{}\n", to_string(result.outcome), result.reason.empty() ? "" : ": ",
             result.reason);
  fmt::print("finished     {} after {:.3f} s, attempt {}\n", cell.finished_at, result.wall_s, cell.attempts);
  for (const Metric& metric : result.metrics)
    fmt::print("             {} = {} {}\n", metric.name, metric.value, metric.unit);
  if (!cell.has_timing)
    fmt::print("timing       none (only repetition 0 of what passed is timed)\n");
  else if (!cell.timing_problem.empty())
    fmt::print("timing       failed: {}\n", cell.timing_problem);
  else
    for (const Timing& timing : result.timings)
      fmt::print("timing       {}: {} measurements\n", timing.name, timing.seconds.size());
  fmt::print("next run     {}\n", is_final(result.outcome)
                                      ? "is taken from the journal, not run again"
                                      : "is kept as it is; --retry-failed runs it again");
}

/// Inputs that differ, by their path in the canonical JSON.
void print_changes(const std::string& then, const std::string& now) {
  const auto old_inputs = nlohmann::json::parse(then).flatten();
  const auto new_inputs = nlohmann::json::parse(now).flatten();
  for (const auto& [path, value] : old_inputs.items())
    if (!new_inputs.contains(path) || new_inputs[path] != value)
      fmt::print("             {}: {} -> {}\n", path, value.dump(),
                 new_inputs.contains(path) ? new_inputs[path].dump() : "gone");
}

/// Whether the same study would give the same cell today.
void print_today(Session& session, const Planned& planned, const RunFolder& folder, const Journal& journal) {
  const CellRecord& record = planned.first;
  try {
    Study study = read_study(folder.study());
    study.file = journal.study_file;  // where the configurations of its networks are looked for
    StudyDatasets datasets(session.registry(), study);
    const Plan plan = make_plan(study, workshop(session, datasets));
    const PlannedCell* same_place = nullptr;
    for (const PlannedCell& cell : plan.cells) {
      if (cell.record.cell_id == record.cell_id) {
        fmt::print("today        the same study, plugins and datasets still give this cell\n");
        return;
      }
      if (cell.record.protocol == record.protocol && cell.record.dataset == record.dataset &&
          cell.record.repetition == record.repetition && cell.record.label == record.label &&
          (!same_place || cell.record.options == record.options))
        same_place = &cell;
    }
    if (!same_place) {
      fmt::print("today        the study file of the run does not contain this cell any more\n");
      return;
    }
    fmt::print("today        other inputs, hence another cell ({}), which runs next time:\n",
               same_place->record.cell_id.substr(0, 8));
    print_changes(planned.second, same_place->inputs);
  } catch (const Error& error) {
    fmt::print("today        the study of the run cannot be planned: {}\n", error.what());
  }
}

void explain(Session& session, const Request& request) {
  const RunFolder folder = existing_run(request.run);
  const Journal journal = read_journal(folder.journal());
  const Planned& planned = find_cell(journal, request.cell, request.run);
  const CellRecord& record = planned.first;
  fmt::print("cell         {}\n", record.cell_id);
  fmt::print("what         {} {} on {}, repetition {}\n", record.protocol, record.label, record.dataset,
             record.repetition);
  print_state(record, journal);
  fmt::print("made from    (a change of any of these gives another cell, which runs anew)\n");
  const nlohmann::json inputs = nlohmann::json::parse(planned.second).flatten();
  for (const auto& [path, value] : inputs.items()) fmt::print("             {} = {}\n", path, value.dump());
  for (const MethodUse& use : record.methods)
    if (!use.plugin_file.empty()) fmt::print("plugin       {}: {}\n", use.id, use.plugin_file);
  fmt::print(
      "seed         {} (from study seed, protocol, options, dataset and repetition; the same for all "
      "methods)\n",
      record.seed);
  print_today(session, planned, folder, journal);
}

}  // namespace

void add_why(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("why", "Explain a cell: its state, what made it, what would run it again");
  auto request = std::make_shared<Request>();
  command->add_option("cell", request->cell, "Cell id or its first digits")->required();
  command->add_option("--run", request->run, "Run folder")->required();
  command->callback([&session, request] { explain(session, *request); });
}

}  // namespace borel::app
