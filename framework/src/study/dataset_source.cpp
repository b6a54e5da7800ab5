#include "study/dataset_source.hpp"

#include <fmt/format.h>

#include "probe/capture.hpp"
#include "protocols/problems.hpp"
#include "study/plan.hpp"
#include "study/study_models.hpp"

namespace borel {

namespace {

bool is_path(const std::string& name) { return name.find('/') != std::string::npos || name.ends_with(".h5"); }

}  // namespace

DatasetInfo StudyDatasets::info(const std::string& name) {
  const std::filesystem::path file = data_folder() / (name + ".h5");
  // A file from elsewhere is screened before the library reads it, and a missing one has its message there.
  if (is_path(name) || !std::filesystem::exists(file)) return open(name)->info();
  return read_dataset_info(file);
}

std::shared_ptr<const Dataset> StudyDatasets::open(const std::string& name) {
  if (is_problem_plugin(name)) {
    const std::string& origin = registry_.entry("problem", parse_method_spec(name, "problem").id).origin;
    return problem_plugin_dataset(name, registry_, plugin_file_digests()(origin));
  }
  if (is_study_model(name)) {
    const StudyModel model = study_model(study_, name, folder_);
    if (const ModelState state = model_state(model); state != ModelState::trained)
      throw DatasetError(untrained_message(model, state));
    return find_dataset(model.file.string());
  }
  if (probe::is_capture(name)) {
    const probe::CaptureOptions options = probe::parse_capture(name);
    DatasetWriter writer = probe::capture(*open(options.model), options, name, registry_);
    writer.seal();
    return Dataset::from(writer);
  }
  return find_dataset(is_path(name) && !folder_.empty() ? (folder_ / name).string() : name);
}

std::shared_ptr<const Dataset> OpenDatasets::get(const std::string& name,
                                                 const std::string& expected_digest) {
  std::shared_ptr<Slot> slot;
  {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Slot>& found = slots_[name];
    if (!found) found = std::make_shared<Slot>();
    slot = found;
  }
  const std::lock_guard lock(slot->mutex);
  if (!slot->dataset) slot->dataset = source_.open(name);
  if (slot->dataset->info().content_digest != expected_digest)
    throw DatasetError(
        fmt::format("dataset '{}' changed after the plan was made: its digest was {} and is now {}; "
                    "run the study again",
                    name, expected_digest, slot->dataset->info().content_digest));
  return slot->dataset;
}

void OpenDatasets::release(const std::string& name) {
  const std::lock_guard lock(mutex_);
  slots_.erase(name);
}

}  // namespace borel
