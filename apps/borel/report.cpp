// borel report <run>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "results/collect.hpp"
#include "results/outputs.hpp"
#include "session.hpp"
#include "signals.hpp"
#include "study/run_folder.hpp"

namespace borel::app {
namespace {

struct Request {
  std::string run;
  bool json = false;
};

void report(Session& session, const Request& request) {
  const SignalGuard signals;
  const RunFolder folder = existing_run(request.run);
  const RunLock lock(folder);  // not while a run writes its own
  const Journal journal = read_journal(folder.journal());
  for (const std::string& damage : journal.damage)
    fmt::print(stderr, "borel: warning: {}: {}\n", folder.journal().string(), damage);
  try {
    write_outputs(folder, journal, true, &signals.stop_requested());
  } catch (const Stopped&) {
    fmt::print(stderr, "borel: stopped before the report was written\n");
    session.exit_code = signals.exit_code();
    return;
  }
  if (request.json)
    fmt::print(
        "{}\n",
        nlohmann::json{{"report", folder.report().string()}, {"results", folder.results().string()}}.dump());
  else
    fmt::print("report:  {}\nresults: {}\ncsv:     {}\n", folder.report().string(), folder.results().string(),
               folder.csv().string());
}

}  // namespace

void add_report(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand(
      "report",
      "Make the report, its figures, results.h5 and the CSV files of a run again, from its journal");
  auto request = std::make_shared<Request>();
  command->add_option("run", request->run, "Run folder")->required();
  command->add_flag("--json", request->json, "Print the paths as JSON");
  command->callback([&session, request] { report(session, *request); });
}

}  // namespace borel::app
