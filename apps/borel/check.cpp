// borel check: the contract suite over one plugin file, in child processes.
#include <filesystem>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "contract/check_runner.hpp"
#include "session.hpp"

namespace borel::app {
namespace {

using contract::CheckRequest;
using contract::CheckResult;
using contract::Verdict;

struct CheckOptions {
  CheckRequest request;
  std::string file;
  bool json = false;
};

std::string_view kind_name(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kept:
      return "kept";
    case Verdict::Kind::broken:
      return "broken";
    case Verdict::Kind::not_applicable:
      return "not_applicable";
  }
  return "";
}

void print_result(const CheckResult& result, const CheckOptions& options) {
  const auto repeat = [&] {
    return fmt::format("borel check {} --spec '{}' --rule {} --seed {}", options.file, result.method,
                       result.rule, options.request.seed.value);
  };
  switch (result.verdict.kind) {
    case Verdict::Kind::kept:
      fmt::print("  ok      {}\n", result.rule);
      break;
    case Verdict::Kind::not_applicable:
      fmt::print("  n/a     {}: {}\n", result.rule, result.verdict.text);
      break;
    case Verdict::Kind::broken:
      fmt::print("  BROKEN  {}\n{}\n{}\n{}\n", result.rule,
                 wrap("Rule: " + std::string(result.description), 10, 0), wrap(result.verdict.text, 10, 0),
                 wrap("Repeat: " + repeat(), 10, 0));
      break;
  }
}

void run(CheckOptions& options, Session& session) {
  options.request.file = std::filesystem::absolute(options.file);
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  int kept = 0, broken = 0, not_applicable = 0;
  std::string method;
  contract::check_plugin(options.request, {"borel", "check-worker"}, [&](const CheckResult& result) {
    ++(result.verdict.kind == Verdict::Kind::kept     ? kept
       : result.verdict.kind == Verdict::Kind::broken ? broken
                                                      : not_applicable);
    if (options.json) {
      results.push_back({{"method", result.method},
                         {"rule", result.rule},
                         {"description", result.description},
                         {"verdict", kind_name(result.verdict.kind)},
                         {"text", result.verdict.text},
                         {"seconds", result.seconds}});
      return;
    }
    if (method != result.method) fmt::print("{}\n", method = result.method);
    print_result(result, options);
    std::fflush(stdout);
  });
  if (options.json) {
    const nlohmann::ordered_json out = {{"file", options.request.file.string()},
                                        {"seed", options.request.seed.value},
                                        {"kept", kept},
                                        {"broken", broken},
                                        {"not_applicable", not_applicable},
                                        {"results", results}};
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  } else {
    fmt::print("{} rules kept, {} broken, {} not applicable\n", kept, broken, not_applicable);
  }
  session.exit_code = broken > 0 ? 1 : 0;
}

}  // namespace

void add_check(CLI::App& app, Session& session) {
  auto options = std::make_shared<CheckOptions>();
  auto* check = app.add_subcommand("check", "Run the contract rules over a plugin file, in child processes");
  check->add_option("file", options->file, "Plugin file (.so)")->required();
  check->add_option("--spec", options->request.spec, "One method with parameters, e.g. 'my_idea{width=2}'");
  check->add_option("--rule", options->request.rule, "One rule only");
  check->add_option("--seed", options->request.seed.value, "Seed of everything random in the rules")
      ->capture_default_str();
  check
      ->add_option("--time-limit", options->request.time_limit_s,
                   "Seconds per rule; default: the rule's own limit")
      ->check(CLI::PositiveNumber);
  check->add_flag("--json", options->json, "Machine-readable");
  check->callback([options, &session] { run(*options, session); });

  // The child. Its arguments are positions, because only check_plugin() writes them.
  auto child = std::make_shared<CheckOptions>();
  auto n_done = std::make_shared<std::size_t>(0);
  auto* worker = app.add_subcommand("check-worker")->group("");
  worker->add_option("file", child->file)->required();
  worker->add_option("spec", child->request.spec)->required();
  worker->add_option("rule", child->request.rule)->required();
  worker->add_option("seed", child->request.seed.value)->required();
  worker->add_option("time_limit", child->request.time_limit_s)->required();
  worker->add_option("n_done", *n_done)->required();
  worker->callback([child, n_done, &session] {
    child->request.file = child->file;
    session.exit_code = contract::run_check_worker(child->request, *n_done);
  });
}

}  // namespace borel::app
