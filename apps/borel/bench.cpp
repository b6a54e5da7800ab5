// borel bench: Google Benchmark over any methods of the plugin set, and two of its results side by side.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "bench/compare.hpp"
#include "bench/run.hpp"
#include "session.hpp"
#include "study/provenance.hpp"

extern char** environ;

namespace borel::app {
namespace {

struct BenchOptions {
  std::vector<std::string> methods, compare;
  std::string sizes = "n=512,2048", threads = "1", json, memory_probe;
  double min_time_s = 0.2;
  int repetitions = 1;
  bool no_ceilings = false, no_memory = false;
};

std::vector<long> positive_list(std::string text, const std::string& option, long largest) {
  if (text.rfind("n=", 0) == 0) text.erase(0, 2);
  std::vector<long> list;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string item = text.substr(begin, end - begin);
    char* rest = nullptr;
    const long value = std::strtol(item.c_str(), &rest, 10);
    if (item.empty() || *rest != '\0' || value < 1 || value > largest)
      throw ParamError(
          fmt::format("{} needs whole numbers from 1 to {} with commas between them, as in {}; got '{}'",
                      option, largest, option == "--sizes" ? "n=512,4096" : "1,2", text));
    list.push_back(value);
    begin = end + 1;
  }
  return list;
}

/// `attention` means all methods of the family; nothing means all methods.
std::vector<MethodSpec> chosen_methods(const std::vector<std::string>& texts, const Registry& registry) {
  std::vector<MethodSpec> specs;
  const std::vector<std::string> families = registry.families();
  const auto add_family = [&](const std::string& family) {
    for (const std::string& id : registry.ids(family)) specs.push_back({family, id, {}});
  };
  if (texts.empty()) std::ranges::for_each(families, add_family);
  for (const std::string& text : texts) {
    if (std::ranges::find(families, text) != families.end()) {
      add_family(text);
      continue;
    }
    MethodSpec spec = parse_method_spec(text);
    if (spec.family.empty())
      throw RegistryError(
          fmt::format("'{}': write family/id, or a family{} Known families: {}", text,
                      did_you_mean(text, families).empty() ? "." : did_you_mean(text, families),
                      fmt::join(families, " ")));
    registry.canonical(spec);  // refuses what does not exist before anything is timed
    specs.push_back(std::move(spec));
  }
  return specs;
}

/// OpenBLAS reads OPENBLAS_CORETYPE once, when it is loaded: to change it, the program starts itself again.
void restart_with_better_blas_core() {
  const std::string core = std::getenv("OPENBLAS_CORETYPE") ? "" : bench::better_blas_core();
  if (core.empty()) return;
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> arguments;
  for (std::string argument; std::getline(in, argument, '\0');) arguments.push_back(argument);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  setenv("OPENBLAS_CORETYPE", core.c_str(), 1);
  std::fflush(nullptr);
  execv("/proc/self/exe", argv.data());
  fmt::print(stderr,
             "borel: could not start again with OPENBLAS_CORETYPE={}: {}; the sgemm ceiling may be low\n",
             core, std::strerror(errno));
}

/// One call in a fresh process: memory that earlier cases left behind cannot hide what this one needs.
double peak_memory_in_child(const Session& session, const MethodSpec& spec, index_t n,
                            const std::string& case_name) {
  std::vector<std::string> arguments{"borel"};
  for (const std::string& path : session.search.paths)
    arguments.insert(arguments.end(), {"--plugin-path", path});
  if (!session.search.use_builtin) arguments.push_back("--no-builtin-plugins");
  arguments.insert(arguments.end(),
                   {"bench", spec.text(), "--sizes", fmt::format("n={}", n), "--memory-probe", case_name});
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string text;
  std::array<char, 256> block;
  for (ssize_t got = 0;
       error == 0 && ((got = read(ends[0], block.data(), block.size())) > 0 || (got < 0 && errno == EINTR));)
    if (got > 0) text.append(block.data(), static_cast<std::size_t>(got));
  close(ends[0]);
  int status = 0;
  if (error == 0) waitpid(pid, &status, 0);
  return error == 0 && status == 0 ? std::strtod(text.c_str(), nullptr) : 0;
}

void run(const BenchOptions& options, Session& session) {
  if (!options.compare.empty()) {
    fmt::print("{}",
               bench::comparison_text(bench::compare_runs(options.compare.at(0), options.compare.at(1))));
    return;
  }
  const Registry& registry = session.registry();
  bench::Request request;
  request.methods = chosen_methods(options.methods, registry);
  request.sizes.clear();
  for (const long n : positive_list(options.sizes, "--sizes", 1L << 26)) request.sizes.push_back(n);
  if (!options.memory_probe.empty()) {
    fmt::print("{:.0f}\n", bench::peak_memory_of(registry, request.methods.at(0), request.sizes.at(0),
                                                 options.memory_probe));
    return;
  }
  if (!options.no_ceilings) restart_with_better_blas_core();
  request.threads.clear();
  for (const long count : positive_list(options.threads, "--threads", 1024))
    request.threads.push_back(static_cast<int>(count));
  request.min_time_s = options.min_time_s;
  request.repetitions = options.repetitions;
  request.json_file = options.json;
  request.ceilings = !options.no_ceilings;
  request.context = gather_provenance(request.threads.back());
  std::string folders;
  for (const LoadedPlugin& plugin : session.plugins().loaded) {
    const std::string folder = plugin.file.parent_path().string();
    if (folders.find(folder) == std::string::npos) folders += (folders.empty() ? "" : ":") + folder;
  }
  request.context.emplace_back("plugin_folders", folders);
  if (!options.no_memory)
    request.peak_memory = [&session](const MethodSpec& spec, index_t n, const std::string& name) {
      return peak_memory_in_child(session, spec, n, name);
    };
  if (bench::run(registry, request) > 0) session.exit_code = 1;
}

}  // namespace

void add_bench(CLI::App& app, Session& session) {
  auto* command =
      app.add_subcommand("bench", "Time methods with Google Benchmark, against this machine's ceilings");
  auto options = std::make_shared<BenchOptions>();
  command->add_option("methods", options->methods,
                      "Families or methods, as in attention optimizer/frank_wolfe{variant=away}; none = all");
  command->add_option("--sizes", options->sizes, "Problem sizes, as in n=512,4096")->capture_default_str();
  command->add_option("--threads", options->threads, "Thread counts, as in 1,2")->capture_default_str();
  command->add_option("--json", options->json,
                      "File for the result, readable by Google Benchmark's compare.py");
  command->add_option("--min-time", options->min_time_s, "Seconds of measuring per repetition")
      ->check(CLI::Range(1e-4, 3600.0))
      ->capture_default_str();
  command->add_option("--repetitions", options->repetitions, "Repetitions; 9 or more for --compare")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_flag("--no-ceilings", options->no_ceilings, "Do not measure FMA, sgemm and stream first");
  command->add_flag("--no-memory", options->no_memory, "Do not measure peak memory in child processes");
  command
      ->add_option("--compare", options->compare, "Two JSON results, before and after: ratios and a U test")
      ->expected(2);
  command->add_option("--memory-probe", options->memory_probe)->group("");
  command->callback([options, &session] { run(*options, session); });
}

}  // namespace borel::app
