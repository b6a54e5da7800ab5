#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include "dataset/dataset.hpp"
#include "dataset/recipes.hpp"
#include "dataset/screen.hpp"

namespace borel {
namespace {

std::shared_ptr<const Dataset> open_shared(const std::filesystem::path& file, bool screen) {
  // Waiting for an opening of the same file by another thread is what we want, so one lock over the opening
  // will do.
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const Dataset>> opened;
  const std::lock_guard lock(mutex);
  std::error_code error;
  const auto written = std::filesystem::last_write_time(file, error).time_since_epoch().count();
  std::weak_ptr<const Dataset>& known = opened[fmt::format("{}|{}", file.string(), error ? 0 : written)];
  if (auto dataset = known.lock()) return dataset;
  if (screen && std::filesystem::is_regular_file(file, error)) screen_dataset(file);
  auto dataset = Dataset::open(file);
  known = dataset;
  return dataset;
}

}  // namespace

std::filesystem::path data_folder() {
  const auto set = [](const char* name) {
    const char* value = std::getenv(name);
    return value && *value ? std::filesystem::path(value) : std::filesystem::path();
  };
  if (const auto folder = set("BOREL_DATA"); !folder.empty()) return folder;
  if (const auto cache = set("XDG_CACHE_HOME"); !cache.empty()) return cache / "borel";
  if (const auto home = set("HOME"); !home.empty()) return home / ".cache" / "borel";
  throw DatasetError(
      "no folder for datasets: set BOREL_DATA to one (HOME and XDG_CACHE_HOME are not set either)");
}

std::shared_ptr<const Dataset> find_dataset(std::string_view id_or_path) {
  const std::string name(id_or_path);
  if (name.ends_with(".h5") || name.find('/') != std::string::npos) return open_shared(name, true);
  const std::filesystem::path file = data_folder() / (name + ".h5");
  if (std::filesystem::exists(file)) return open_shared(file, false);
  if (find_recipe(name))
    throw DatasetError(fmt::format(
        "dataset '{}' is not made yet; run: borel data make {} (all of a study: borel data make --for "
        "STUDY.toml)",
        name, name));
  throw DatasetError(
      fmt::format("unknown dataset '{}' (ids: borel data list; a file's name must end in .h5){}", name,
                  did_you_mean(name, recipe_ids())));
}

}  // namespace borel
