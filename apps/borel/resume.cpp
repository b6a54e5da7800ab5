// borel resume <run>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "study/journal.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

/// What the run noted about its last start; `otherwise` when it did not.
std::string last_fact(const Journal& journal, std::string_view fact, std::string_view otherwise) {
  if (!journal.runs.empty())
    for (const auto& [name, value] : journal.runs.back())
      if (name == fact) return value;
  return std::string(otherwise);
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
    request->shard = last_fact(journal, "shard", "1/1");
    request->folder = last_fact(journal, "folder", "");
    session.exit_code = run_study(session, study, folder, *request);
  });
}

}  // namespace borel::app
