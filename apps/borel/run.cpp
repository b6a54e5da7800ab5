// borel run <study.toml>
#include <memory>

#include <CLI/CLI.hpp>

#include "study_session.hpp"

namespace borel::app {

void add_run(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("run", "Run a study; what is already done in its run folder is kept");
  auto request = std::make_shared<RunRequest>();
  command->add_option("study", request->study, "Study file (TOML)")->required();
  command->add_option("--out", request->out, "Run folder; default runs/<study name> in the current folder");
  command->add_option("--shard", request->shard,
                      "Run only part i of n, such as 1/3; combine with: borel merge");
  add_run_options(*command, *request);
  command->footer(
      "Exit code: 0 every cell ended well (ok or skipped), 1 some cells failed or are missing, 2 usage or "
      "input,\n"
      "130 after Ctrl-C, 143 after SIGTERM. A stopped or killed run goes on where it was with the same "
      "command.");
  command->callback([&session, request] {
    const Study study = read_study(request->study);
    const RunFolder folder{request->out.empty() ? default_run_folder(study, parse_shard(request->shard))
                                                : std::filesystem::path(request->out)};
    session.exit_code = run_study(session, study, folder, *request);
  });
}

}  // namespace borel::app
