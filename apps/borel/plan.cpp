// borel plan <study.toml>
#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "study/cell_id.hpp"
#include "study/journal.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

struct Request {
  std::string study, out, shard = "1/1";
  bool json = false;
};

std::string state_of(const Journal& journal, const std::string& id) {
  const auto found = journal.cells.find(id);
  if (found == journal.cells.end() || !found->second.has_result) return "missing";
  return std::string(to_string(found->second.result.outcome));
}

void print_plan(Session& session, const Request& request) {
  const Study study = read_study(request.study);
  const Shard shard = parse_shard(request.shard);
  StudyDatasets datasets(session.registry(), study);
  const Plan plan = make_plan(study, workshop(session, datasets));
  const RunFolder folder{request.out.empty() ? default_run_folder(study, shard)
                                             : std::filesystem::path(request.out)};
  const Journal journal = read_journal(folder.journal());
  std::map<std::string, std::size_t> states;
  std::size_t n_cells = 0;
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const PlannedCell& cell : plan.cells) {
    const CellRecord& record = cell.record;
    if (shard_of(record.cell_id, shard.count) != shard.index) continue;
    ++n_cells;
    const std::string state = state_of(journal, record.cell_id);
    ++states[state];
    if (!request.json) {
      fmt::print("{}  {:<8}  {}  {} on {}  repetition {}\n", record.cell_id, state, record.protocol,
                 record.label, record.dataset, record.repetition);
      continue;
    }
    nlohmann::ordered_json specs = nlohmann::ordered_json::array();
    for (const MethodUse& use : record.methods) specs.push_back(use.spec);
    list.push_back({{"id", record.cell_id},
                    {"state", state},
                    {"protocol", record.protocol},
                    {"options", record.options},
                    {"dataset", record.dataset},
                    {"dataset_digest", record.dataset_digest},
                    {"label", record.label},
                    {"methods", specs},
                    {"repetition", record.repetition},
                    {"seed", record.seed}});
  }
  if (request.json) {
    const nlohmann::ordered_json all = {{"title", plan.title},
                                        {"digest", plan.digest},
                                        {"run_folder", folder.root.string()},
                                        {"cells", list}};
    fmt::print("{}\n", all.dump(1));
    return;
  }
  std::string counts;
  for (const auto& [state, count] : states)
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count, state);
  fmt::print("{} cells ({}) in {}\n", n_cells, counts, folder.root.string());
}

}  // namespace

void add_plan(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("plan", "Check a study and list its cells, with ids and state; runs nothing");
  auto request = std::make_shared<Request>();
  command->add_option("study", request->study, "Study file (TOML)")->required();
  command->add_option("--out", request->out, "Run folder whose state is shown; default as for `borel run`");
  command->add_option("--shard", request->shard, "Only part i of n, such as 1/3");
  command->add_flag("--json", request->json, "JSON on standard output");
  command->callback([&session, request] { print_plan(session, *request); });
}

}  // namespace borel::app
