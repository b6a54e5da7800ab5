// borel man: the manual page, made from the commands and options themselves.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "session.hpp"

namespace borel::app {
namespace {

/// Text for troff: backslashes, minus signs and leading dots have meanings there.
std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
      out.append("\\&").append(1, c);
    else
      out += c;
  }
  return out;
}

std::string option_entry(const CLI::Option& option) {
  std::string names;
  if (option.get_positional()) {
    names = "\\fI" + escaped(option.get_name(true, false)) + "\\fR";
  } else {
    for (const std::string& name : option.get_snames())
      names += (names.empty() ? "\\fB" : ", \\fB") + escaped("-" + name) + "\\fR";
    for (const std::string& name : option.get_lnames())
      names += (names.empty() ? "\\fB" : ", \\fB") + escaped("--" + name) + "\\fR";
    if (option.get_expected_max() > 0) names += " \\fI" + escaped(option.get_type_name()) + "\\fR";
  }
  std::string text = escaped(option.get_description());
  if (!option.get_default_str().empty()) text += " (default " + escaped(option.get_default_str()) + ")";
  return fmt::format(".TP\n{}\n{}\n", names, text);
}

std::string option_entries(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option :
       app.get_options([](const CLI::Option* o) { return !o->get_group().empty(); }))
    if (option->get_name() != "--help" && !option->check_lname("help")) out += option_entry(*option);
  return out;
}

std::string command_entries(const CLI::App& app, const std::string& before) {
  std::string out;
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* c) { return !c->get_group().empty(); })) {
    const std::string path = before + " " + command->get_name();
    out += fmt::format(".SS {}\n{}.\n{}", escaped(path), escaped(command->get_description()),
                       option_entries(*command));
    out += command_entries(*command, path);
  }
  return out;
}

std::string manual_page(const CLI::App& app) {
  std::string page = fmt::format(".TH BOREL 1 \"\" \"borel {}\" \"User commands\"\n", BOREL_VERSION);
  page +=
      ".SH NAME\nborel \\- " + escaped("comparative studies of methods that move probability mass") + "\n";
  page += ".SH SYNOPSIS\n.B borel\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n";
  page += ".SH DESCRIPTION\n" + escaped(app.get_description()) +
          ".\nEvery method is a plugin, a shared library loaded at run time; studies are TOML files.\n";
  page += ".SH OPTIONS\n" + option_entries(app);
  page += ".SH COMMANDS\n" + command_entries(app, "borel");
  page +=
      ".SH EXIT STATUS\n.TP\n0\nAll is well.\n.TP\n1\nSome cells or rules failed.\n.TP\n2\nThe input or the "
      "call is wrong.\n";
  page +=
      ".SH ENVIRONMENT\n.TP\nBOREL_PLUGIN_PATH\n" +
      escaped("Files and folders of plugins, full paths separated by ':', searched after --plugin-path.") +
      "\n.TP\nBOREL_DATA\n" +
      escaped("Folder of prepared datasets; by default borel in the user's cache folder.") +
      "\n.TP\nNO_COLOR\n" + escaped("When set, no colours are used.") + "\n";
  return page;
}

}  // namespace

void add_man(CLI::App& app, Session&) {
  app.add_subcommand("man", "Print the manual page (troff)")->callback([&app] {
    fmt::print("{}", manual_page(app));
  });
}

}  // namespace borel::app
