// borel completion: scripts for bash, zsh and fish, made from the commands and options themselves.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "session.hpp"

namespace borel::app {
namespace {

std::vector<const CLI::App*> visible_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

/// --json and -h of a command; positions are left out.
std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option :
       app.get_options([](const CLI::Option* o) { return !o->get_group().empty(); })) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

/// Words of a command's arguments, as shell text that prints them; empty = file names.
std::string words_command(const CLI::App& command) {
  const std::string& name = command.get_name();
  if (name == "info") return "borel list 2>/dev/null | cut -d' ' -f1";
  if (name == "list" || name == "new") return "echo attention position density optimizer";
  if (name == "completion") return "echo bash zsh fish";
  std::string inner;
  for (const CLI::App* sub : visible_commands(command)) inner += " " + sub->get_name();
  return inner.empty() ? "" : "echo" + inner;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : visible_commands(app)) names.push_back(command->get_name());
  return names;
}

std::string bash_script(const CLI::App& app) {
  std::string cases;
  for (const CLI::App* command : visible_commands(app)) {
    const std::string words = words_command(*command);
    cases += fmt::format("    {}) options='{}'; words=\"{}\" ;;\n", command->get_name(),
                         fmt::join(option_names(*command), " "), words.empty() ? "" : "$(" + words + ")");
  }
  return fmt::format(R"(# bash completion of borel; load it with: source <(borel completion bash)
_borel() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} command='' options words word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
      {}) command=$word; break ;;
    esac
  done
  case $command in
    '') options='{}'; words='{}' ;;
{}  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -o default -F _borel borel
)",
                     fmt::join(command_names(app), "|"), fmt::join(option_names(app), " "),
                     fmt::join(command_names(app), " "), cases);
}

std::string fish_quoted(std::string text) {
  for (std::size_t at = 0; (at = text.find_first_of("'\\", at)) != std::string::npos; at += 2)
    text.insert(at, 1, '\\');
  return "'" + text + "'";
}

std::string fish_options(const CLI::App& app, const std::string& condition) {
  std::string out;
  for (const CLI::Option* option :
       app.get_options([](const CLI::Option* o) { return !o->get_group().empty(); }))
    for (const std::string& name : option->get_lnames())
      out += fmt::format("complete -c borel -n {} -l {} -d {}\n", fish_quoted(condition), name,
                         fish_quoted(option->get_description()));
  return out;
}

std::string fish_script(const CLI::App& app) {
  std::string out = "# fish completion of borel; load it with: borel completion fish | source\n";
  out += fish_options(app, "__fish_use_subcommand");
  for (const CLI::App* command : visible_commands(app)) {
    const std::string& name = command->get_name();
    const std::string condition = "__fish_seen_subcommand_from " + name;
    out += fmt::format("complete -c borel -n __fish_use_subcommand -f -a {} -d {}\n", name,
                       fish_quoted(command->get_description()));
    out += fish_options(*command, condition);
    if (const std::string words = words_command(*command); !words.empty())
      out += fmt::format("complete -c borel -n {} -a \"({})\"\n", fish_quoted(condition), words);
  }
  return out;
}

/// zsh runs bash completions through its own emulation; one script less to keep right.
std::string zsh_script(const CLI::App& app) {
  return "#compdef borel\n# zsh completion of borel; load it with: source <(borel completion zsh)\n"
         "autoload -U +X bashcompinit && bashcompinit\n" +
         bash_script(app);
}

}  // namespace

void add_completion(CLI::App& app, Session&) {
  auto* completion = app.add_subcommand("completion", "Print a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  completion->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([shell, &app] {
    fmt::print("{}", *shell == "bash"  ? bash_script(app)
                     : *shell == "zsh" ? zsh_script(app)
                                       : fish_script(app));
  });
}

}  // namespace borel::app
