// The borel program: global options, one sub-command per file, errors to exit codes.
#include <algorithm>
#include <exception>
#include <filesystem>
#include <new>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "session.hpp"

namespace {

using namespace borel::app;

void add_commands(CLI::App& app, Session& session) {
  add_list(app, session);
  add_info(app, session);
  add_new(app, session);
  add_bench(app, session);
  add_check(app, session);
  add_run(app, session);
  add_plan(app, session);
  add_resume(app, session);
  add_merge(app, session);
  add_report(app, session);
  add_why(app, session);
  add_data(app, session);
  add_train(app, session);
  add_generate(app, session);
  add_completion(app, session);
  add_man(app, session);
}

/// CLI11 says which argument it did not expect; a mistyped sub-command deserves the nearest name.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!command->get_name().empty() && command->get_group() != "") names.push_back(command->get_name());
  if (app.get_subcommands().empty())
    for (int i = 1; i < argc; ++i)
      if (argv[i][0] != '-') {
        const std::string hint = borel::did_you_mean(argv[i], names);
        return fmt::format("no command named '{}'{} Known: {}", argv[i], hint.empty() ? "." : hint,
                           fmt::join(names, " "));
      }
  const std::string command =
      app.get_subcommands().empty() ? "" : " " + app.get_subcommands().front()->get_name();
  return fmt::format("{}; `borel{} --help` shows the usage", error.what(), command);
}

int run(int argc, char** argv) {
  CLI::App app{
      "Comparative studies of attention mechanisms, position encodings, density estimators and distribution "
      "optimizers",
      "borel"};
  Session session;
  app.set_version_flag("--version", "borel " BOREL_VERSION);
  app.add_option("--plugin-path", session.search.paths,
                 "File or folder of plugins, or a list with ':'; may be repeated. Comes before "
                 "BOREL_PLUGIN_PATH and the "
                 "program's own plugins")
      ->type_name("PATH")
      ->allow_extra_args(false);
  app.add_flag_callback(
      "--no-builtin-plugins", [&session] { session.search.use_builtin = false; },
      "Do not load the plugins that come with the program");
  app.require_subcommand(1);
  app.fallthrough();
  add_commands(app, session);
  try {
    app.parse(argc, argv);
    return session.exit_code;
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app.exit(version);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "borel: error: {}\n", usage_error(app, error, argc, argv));
    return 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const borel::Error& error) {
    fmt::print(stderr, "borel: error: {}\n", error.what());
    return error.exit_code();
  } catch (const std::filesystem::filesystem_error& error) {
    fmt::print(stderr, "borel: error: {}: {}\n", error.path1().string(), error.code().message());
    return 2;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "borel: error: not enough memory; choose smaller sizes\n");
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "borel: internal error: {}\n", error.what());
    return 1;
  }
}
