// borel new: an out-of-tree plugin project that builds and passes its tests as it is.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "loader/program_folders.hpp"
#include "session.hpp"

namespace borel::app {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string> k_families = {"attention", "position", "density", "optimizer", "problem"};

/// my_idea -> MyIdea; the templates add a suffix, because the SDK has types of its own (Band, Trace, Budget ...).
std::string type_name(const std::string& id) {
  std::string type;
  bool start = true;
  for (char c : id) {
    if (c != '_') type += start && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    start = c == '_';
  }
  return type;
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

void make_project(const std::string& family, const std::string& name, const fs::path& folder) {
  if (std::ranges::find(k_families, family) == k_families.end()) {
    const std::string hint = did_you_mean(family, k_families);
    throw RegistryError(fmt::format("new: no family named '{}'{} Known: {}", family,
                                    hint.empty() ? "." : hint, fmt::join(k_families, " ")));
  }
  if (!is_snake_case(name))
    throw ParamError(fmt::format(
        "new: the name must be snake_case (lower-case words, digits, single underscores); got '{}'", name));
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw Error(fmt::format("new: '{}' exists already and is not an empty folder; choose another with --dir",
                            folder.string()));

  const fs::path templates = share_folder() / "templates";
  const std::pair<std::string, fs::path> files[] = {{family + ".cpp.in", folder / (name + ".cpp")},
                                                    {"CMakeLists.txt.in", folder / "CMakeLists.txt"},
                                                    {"README.md.in", folder / "README.md"}};
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw Error(fmt::format("new: the folder '{}' cannot be made: {}", folder.string(), error.message()));
  for (const auto& [source, target] : files) {
    std::ifstream in(templates / source);
    if (!in)
      throw Error(fmt::format("new: the template '{}' is missing; is the installation complete?",
                              (templates / source).string()));
    std::stringstream content;
    content << in.rdbuf();
    std::string text = content.str();
    replace_all(text, "@FAMILY@", family);
    replace_all(text, "@NAME@", name);
    replace_all(text, "@TYPE@", type_name(name));
    replace_all(text, "@VERSION@", BOREL_VERSION);
    std::ofstream out(target);
    out << text;
    out.close();
    if (!out) throw Error(fmt::format("new: '{}' cannot be written", target.string()));
  }
  fmt::print(
      "{}\n\nNext:\n  cmake -S {} -B {}\n  cmake --build {}\n  ctest --test-dir {} --output-on-failure\n",
      fmt::format("Made {} with {}.cpp, CMakeLists.txt, README.md", folder.string(), name), folder.string(),
      (folder / "build").string(), (folder / "build").string(), (folder / "build").string());
}

}  // namespace

void add_new(CLI::App& app, Session&) {
  struct NewOptions {
    std::string family, name, folder;
  };
  auto* command =
      app.add_subcommand("new", "Write a plugin project that builds and passes its tests as it is");
  auto options = std::make_shared<NewOptions>();
  command->add_option("family", options->family, "attention, position, density, optimizer or problem")
      ->required();
  command->add_option("name", options->name, "Id of the method, snake_case")->required();
  command->add_option("--dir", options->folder, "Folder to make; default: ./<name>");
  command->callback([options] {
    make_project(options->family, options->name, options->folder.empty() ? options->name : options->folder);
  });
}

}  // namespace borel::app
