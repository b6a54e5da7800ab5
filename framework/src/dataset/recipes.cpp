#include "dataset/recipes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "dataset/dataset.hpp"
#include "dataset/recipe_lists.hpp"

namespace borel {

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = [] {
    std::vector<Recipe> list;
    add_value_recipes(list);
    add_mixture_recipes(list);
    add_berlinet_devroye_recipes(list);
    add_conditional_recipes(list);
    add_qk_recipes(list);
    add_problem_recipes(list);
    add_simplex_recipes(list);
    add_flow_recipes(list);
    add_table_recipes(list);
    add_package_recipes(list);
    add_recall_recipes(list);
    add_model_recipes(list);
    std::sort(list.begin(), list.end(), [](const Recipe& a, const Recipe& b) { return a.id < b.id; });
    return list;
  }();
  return all;
}

const Recipe* find_recipe(std::string_view id) {
  for (const Recipe& recipe : recipes())
    if (recipe.id == id) return &recipe;
  return nullptr;
}

std::vector<std::string> recipe_ids() {
  std::vector<std::string> ids;
  for (const Recipe& recipe : recipes()) ids.push_back(recipe.id);
  return ids;
}

DatasetWriter run_recipe(const Recipe& recipe) {
  DatasetWriter writer(recipe.kind, recipe.id, recipe.title, recipe.source, recipe.licence, recipe.seed);
  writer.attribute("", "recipe_version", static_cast<std::int64_t>(recipe.version));
  recipe.make(writer);
  return writer;
}

MadeDataset make_dataset(std::string_view id, const std::filesystem::path& folder, bool again) {
  const Recipe* recipe = find_recipe(id);
  if (!recipe)
    throw DatasetError(fmt::format("no recipe for dataset '{}' (see: borel data list){}", id,
                                   did_you_mean(id, recipe_ids())));
  for (const std::string& needed : recipe->needs) make_dataset(needed, folder);
  const std::filesystem::path file = folder / (recipe->id + ".h5");
  if (!again && std::filesystem::exists(file)) {
    try {
      const auto dataset = Dataset::open(file);
      if (dataset->has_attribute("", "recipe_version") &&
          dataset->number("", "recipe_version") == recipe->version)
        return {file, dataset->info().content_digest, true};
    } catch (const DatasetError&) {
      // A damaged file is replaced below: that is what the user asked for by "make".
    }
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw DatasetError(
        fmt::format("cannot create the data folder {}: {}; set BOREL_DATA to a folder you may write",
                    folder.string(), error.message()));
  DatasetWriter writer = run_recipe(*recipe);
  return {file, writer.save(file), false};
}

MadeDataset make_dataset(std::string_view id) { return make_dataset(id, data_folder()); }

}  // namespace borel
