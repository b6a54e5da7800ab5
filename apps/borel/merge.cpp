// borel merge <run>... --out <folder>
#include <memory>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "results/merge.hpp"
#include "study_session.hpp"

namespace borel::app {
namespace {

struct Request {
  std::vector<std::string> runs;
  std::string out;
};

int merge(const Request& request) {
  const RunFolder out{request.out};
  const MergeSummary summary = merge_runs({request.runs.begin(), request.runs.end()}, out);
  for (const std::string& warning : summary.warnings) fmt::print(stderr, "borel: warning: {}\n", warning);
  fmt::print("merged {} runs: {} of {} cells have a result, {} of them failed\n", request.runs.size(),
             summary.n_finished, summary.n_planned, summary.n_failed);
  if (summary.n_finished < summary.n_planned)
    fmt::print("{} cells are missing; run them with: borel resume {}\n",
               summary.n_planned - summary.n_finished, out.root.string());
  fmt::print("results: {}\nreport:  {}\n", out.results().string(), out.report().string());
  return summary.n_failed == 0 && summary.n_finished == summary.n_planned ? 0 : 1;
}

}  // namespace

void add_merge(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("merge", "Combine runs (shards, machines) into one run folder");
  auto request = std::make_shared<Request>();
  command->add_option("runs", request->runs, "Run folders")->required();
  command->add_option("--out", request->out, "New run folder")->required();
  command->callback([&session, request] { session.exit_code = merge(*request); });
}

}  // namespace borel::app
