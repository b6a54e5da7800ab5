#include "loader/plugin_set.hpp"

#include <algorithm>
#include <cstdlib>
#include <set>

#include <fmt/format.h>

#include "loader/plugin_file.hpp"
#include "loader/program_folders.hpp"

namespace borel {
namespace fs = std::filesystem;
namespace {

constexpr const char* k_environment_variable = "BOREL_PLUGIN_PATH";

std::vector<std::string> split_list(std::string_view list) {
  std::vector<std::string> items;
  for (;;) {
    const std::size_t colon = std::min(list.find(':'), list.size());
    items.emplace_back(list.substr(0, colon));
    if (colon == list.size()) return items;
    list.remove_prefix(colon + 1);
  }
}

class Loader {
 public:
  Loader(Registry& registry, LoadReport& report) : registry_(registry), report_(report) {}

  void load_path(const fs::path& path, bool named) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
      load_folder(path, named);
    } else if (named || fs::exists(path, ignored)) {
      load_file(path, named);
    }
  }

  void refuse(const fs::path& path, std::string reason, bool named) {
    report_.refused.push_back({path, std::move(reason), named});
  }

 private:
  void load_folder(const fs::path& folder, bool named) {
    report_.searched.push_back(folder);
    std::vector<fs::path> files;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
      if (it->path().extension() == ".so") files.push_back(it->path());
    if (error)
      refuse(folder, fmt::format("plugin folder {} cannot be read: {}", folder.string(), error.message()),
             named);
    std::ranges::sort(files);
    for (const fs::path& file : files) load_file(file, false);
  }

  void load_file(const fs::path& file, bool named) {
    std::error_code error;
    fs::path real = fs::canonical(file, error);
    if (!error && !seen_.insert(std::move(real)).second)
      return;  // the same folder named twice is no conflict
    try {
      std::string id = load_plugin(file, registry_);
      report_.loaded.push_back({file, std::move(id)});
    } catch (const PluginError& refused) {
      refuse(file, refused.what(), named);
    }
  }

  Registry& registry_;
  LoadReport& report_;
  std::set<fs::path> seen_;
};

}  // namespace

void LoadReport::throw_if_named_was_refused() const {
  for (const RefusedPlugin& plugin : refused)
    if (plugin.named) throw PluginError(plugin.reason);
}

LoadReport load_plugins(const PluginSearch& search, Registry& registry) {
  LoadReport report;
  Loader loader(registry, report);
  for (const std::string& list : search.paths)
    for (const std::string& item : split_list(list)) {
      if (item.empty())
        loader.refuse({}, "--plugin-path: an item of the list is empty; name the current directory in full",
                      true);
      else
        loader.load_path(fs::absolute(item), true);
    }
  const char* environment = search.use_environment ? std::getenv(k_environment_variable) : nullptr;
  if (environment && *environment)
    for (const std::string& item : split_list(environment)) {
      const auto refuse = [&](std::string_view rule) {
        loader.refuse(item, fmt::format("{}: '{}' {}", k_environment_variable, item, rule), false);
      };
      if (!fs::path(item).is_absolute())
        refuse("is not an absolute path; the current directory is never searched");
      else if (!fs::exists(item))
        refuse("does not exist");
      else
        loader.load_path(item, false);
    }
  if (search.use_builtin) loader.load_path(builtin_plugin_folder(), false);
  return report;
}

}  // namespace borel
