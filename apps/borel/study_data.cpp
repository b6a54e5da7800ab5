#include "study_data.hpp"

#include <algorithm>
#include <chrono>
#include <set>

#include <fmt/format.h>

#include "dataset/recipes.hpp"
#include "probe/capture.hpp"
#include "training_run.hpp"

namespace borel::app {

StudyNeeds study_needs(const Study& study, const std::filesystem::path& folder) {
  std::set<std::string> names;
  for (const std::string& name : study_datasets(study))
    names.insert(probe::is_capture(name) ? probe::parse_capture(name).model : name);
  StudyNeeds needs;
  std::set<std::string> recipes;
  for (const std::string& name : names)
    if (find_recipe(name)) recipes.insert(name);
  for (const ModelTable& table : study.models) {
    const std::string dataset = "model/" + table.name;
    if (!names.contains(dataset)) continue;
    needs.models.push_back(study_model(study, dataset, folder));
    if (find_recipe(needs.models.back().config.dataset)) recipes.insert(needs.models.back().config.dataset);
  }
  needs.recipes.assign(recipes.begin(), recipes.end());
  return needs;
}

int train_models(Session& session, const std::vector<StudyModel>& models, double time_limit_s, bool quiet) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  std::size_t number = 0;
  for (const StudyModel& model : models) {
    ++number;
    if (is_trained(model)) continue;
    TrainingOptions options;
    options.portable = true, options.compare = false, options.quiet = quiet;
    options.validate_every = std::max<index_t>(1, model.config.n_steps / 4);
    if (time_limit_s > 0) {
      // At least a step, after which the training says that it stops.
      options.time_limit_s =
          std::max(1e-3, time_limit_s - std::chrono::duration<double>(Clock::now() - start).count());
    }
    if (!quiet) fmt::print("network '{}', {} of {}\n", model.name, number, models.size());
    std::filesystem::create_directories(model.file.parent_path());
    if (const int code = run_training(session, model.config, model.file, options)) return code;
    if (!is_trained(model)) return 0;  // out of time
  }
  return 0;
}

}  // namespace borel::app
