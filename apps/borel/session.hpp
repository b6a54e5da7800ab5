// What all sub-commands share: global options, the plugin set (loaded when first asked for), the exit code.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "borel/registry.hpp"
#include "loader/plugin_set.hpp"

namespace CLI {
class App;
}

namespace borel::app {

class Session {
 public:
  PluginSearch search;  ///< from --plugin-path and --no-builtin-plugins
  int exit_code = 0;    ///< set by a sub-command that ends without an exception

  /// Loads the plugins at the first call; refusals go to standard error. @throws PluginError when a plugin
  /// that the user named was refused
  const Registry& registry();
  const LoadReport& plugins();

 private:
  void load();
  // Never freed: plugins stay loaded until the process ends, and so does what they registered.
  Registry* registry_ = nullptr;
  LoadReport report_;
};

// One file per sub-command. Each adds itself; its callback does the work, and errors leave it as
// borel::Error.
void add_bench(CLI::App& app, Session& session);
void add_check(CLI::App& app, Session& session);
void add_completion(CLI::App& app, Session& session);
void add_data(CLI::App& app, Session& session);
void add_generate(CLI::App& app, Session& session);
void add_info(CLI::App& app, Session& session);
void add_list(CLI::App& app, Session& session);
void add_man(CLI::App& app, Session& session);
void add_merge(CLI::App& app, Session& session);
void add_new(CLI::App& app, Session& session);
void add_plan(CLI::App& app, Session& session);
void add_report(CLI::App& app, Session& session);
void add_resume(CLI::App& app, Session& session);
void add_run(CLI::App& app, Session& session);
void add_train(CLI::App& app, Session& session);
void add_why(CLI::App& app, Session& session);

/// `family/id`, or an id alone when only one family has it. Parameters may follow in braces. @throws RegistryError: an id that
/// no family or several have, with the nearest; ParamError
MethodSpec resolve_method(const std::string& text, const Registry& registry);

/// Columns of the terminal, or 0 when standard output is not a terminal (then nothing is cut).
int terminal_width();

/// Text cut to a width in characters, with "..." when something is missing; width 0 = whole text.
std::string fit(const std::string& text, int width);

/// Text in lines of at most `width` characters, each line after `indent` spaces; width 0 = one line.
std::string wrap(const std::string& text, int indent, int width);

}  // namespace borel::app
