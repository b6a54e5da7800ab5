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
  const auto out_of_time = [&] {
    if (!quiet)
      fmt::print("time limit reached: {} of {} networks trained; the same command goes on\n",
                 std::ranges::count_if(models, is_trained), models.size());
    return 0;
  };
  std::size_t number = 0;
  for (const StudyModel& model : models) {
    ++number;
    const ModelState state = model_state(model);
    if (state == ModelState::trained) continue;
    if (state == ModelState::outdated) throw DatasetError(untrained_message(model, state));
    TrainingOptions options;
    options.portable = true, options.compare = false, options.quiet = options.silent = quiet;
    options.validate_every = std::max<index_t>(1, model.config.n_steps / 4);
    if (time_limit_s > 0) {
      options.time_limit_s = time_limit_s - std::chrono::duration<double>(Clock::now() - start).count();
      if (options.time_limit_s <= 0) return out_of_time();
    }
    if (!quiet) fmt::print("network '{}', {} of {}\n", model.name, number, models.size());
    std::filesystem::create_directories(model.file.parent_path());
    if (const int code = run_training(session, model.config, model.file, options)) return code;
    if (!is_trained(model)) return out_of_time();
  }
  return 0;
}

}  // namespace borel::app
