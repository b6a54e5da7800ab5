// borel resume <run>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "study/journal.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

/// The shard that the folder was last started with.
std::string shard_of_run(const Journal& journal) {
  if (!journal.runs.empty())
    for (const auto& [name, value] : journal.runs.back())
      if (name == "shard") return value;
  return "1/1";
}

}  // namespace

void add_resume(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("resume", "Run what is missing in a run folder, from its own study file");
  auto request = std::make_shared<RunRequest>();
  command->add_option("run", request->out, "Run folder")->required();
  add_run_options(*command, *request);
  command->callback([&session, request] {
    const RunFolder folder = existing_run(request->out);
    if (!std::filesystem::exists(folder.study()))
      throw Error(fmt::format("{} is missing; start again with: borel run <study.toml> --out {}",
                              folder.study().string(), request->out));
    Study study = read_study(folder.study());
    const Journal journal = read_journal(folder.journal());
    // The copy is named study.toml in every run folder; the run keeps the names of its origin.
    if (journal.has_plan) {
      study.file = journal.study_file;
      study.name = journal.study_name;
    }
    request->shard = shard_of_run(journal);
    session.exit_code = run_study(session, study, folder, *request);
  });
}

}  // namespace borel::app
