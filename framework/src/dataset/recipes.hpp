// Recipes: how each dataset is made, from values, from a generator or from a package of the distribution.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataset/dataset_writer.hpp"

namespace borel {

/// Same recipe, same version: same content digest, on every machine.
struct Recipe {
  std::string id;
  DatasetKind kind = DatasetKind::samples;
  std::string title, licence, source;
  std::uint64_t seed = 0;
  int version = 1;
  bool large = false;  ///< gigabytes: made only when named or needed by a study, not by --all
  std::vector<std::string> needs = {};  ///< recipes whose datasets are used together with this one
  /// Fills arrays and attributes. @throws DatasetError, for instance when a package cannot be fetched
  std::function<void(DatasetWriter&)> make;
};

/// Sorted by id.
const std::vector<Recipe>& recipes();
const Recipe* find_recipe(std::string_view id);
std::vector<std::string> recipe_ids();

struct MadeDataset {
  std::filesystem::path file;
  std::string content_digest;
  bool was_there = false;  // made earlier, by this version of the recipe
};

/// Makes the dataset in `folder` (created when missing) unless this version of it is there; `again` makes it
/// anyway. What it needs is made before it. Safe against other processes that do the same. @throws DatasetError: unknown id (with the
/// nearest), or the recipe's
MadeDataset make_dataset(std::string_view id, const std::filesystem::path& folder, bool again = false);
/// The same in data_folder().
MadeDataset make_dataset(std::string_view id);

/// The contents in memory, for tests.
DatasetWriter run_recipe(const Recipe& recipe);

}  // namespace borel
