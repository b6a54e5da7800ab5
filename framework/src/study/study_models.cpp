#include "study/study_models.hpp"

#include <fmt/format.h>

#include "dataset/dataset.hpp"
#include "dataset/digest.hpp"
#include "probe/training_file.hpp"

namespace borel {
namespace {

constexpr std::string_view k_prefix = "model/";

// Today's content digest; empty when the text is not there. A file from elsewhere is screened before it is read.
std::string text_digest(const std::string& name) {
  const bool is_path = name.find('/') != std::string::npos || name.ends_with(".h5");
  const std::filesystem::path file = is_path ? std::filesystem::path(name) : data_folder() / (name + ".h5");
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return {};
  return is_path ? find_dataset(name)->info().content_digest : read_dataset_info(file).content_digest;
}

}  // namespace

bool is_study_model(std::string_view dataset) {
  return dataset.starts_with(k_prefix) && !dataset.ends_with(".h5");
}

StudyModel study_model(const Study& study, std::string_view dataset, const std::filesystem::path& folder) {
  const std::string name(dataset.substr(k_prefix.size()));
  std::vector<std::string> known;
  for (const ModelTable& table : study.models) {
    known.push_back(table.name);
    if (table.name != name) continue;
    const std::filesystem::path config =
        folder / std::filesystem::path(study.file).parent_path() / table.config;
    try {
      StudyModel out{name, probe::read_training(config, table.changes, "its own keys"), {}, study.file};
      const std::string hash = sha256_hex(probe::training_text(out.config));
      constexpr std::size_t k_digits = 16;
      out.file = data_folder() / "models" / fmt::format("{}.h5", hash.substr(0, k_digits));
      return out;
    } catch (const ParamError& error) {
      throw ParamError(fmt::format("{}: [[model]] '{}': {}", study.file, name, error.what()));
    }
  }
  throw StudyError(fmt::format("'{}{}': the study has no [[model]] of that name{}", k_prefix, name,
                               did_you_mean(name, known)));
}

ModelState model_state(const StudyModel& model) {
  std::error_code error;
  if (!std::filesystem::exists(model.file, error)) return ModelState::missing;
  const h5::Reader reader(model.file);
  for (const char* name : {"step", "training", "text_digest"})
    if (!reader.has_attribute("", name)) return ModelState::outdated;
  const std::string today = text_digest(model.config.dataset);
  if (reader.text_attribute("", "training") != probe::training_text(model.config) ||
      (!today.empty() && reader.text_attribute("", "text_digest") != today))
    return ModelState::outdated;
  return reader.number_attribute("", "step") == static_cast<double>(model.config.n_steps)
             ? ModelState::trained
             : ModelState::unfinished;
}

std::string untrained_message(const StudyModel& model, ModelState state) {
  if (state == ModelState::outdated)
    return fmt::format(
        "network '{}' ({}) learned another text than today's '{}', or with another configuration; run: "
        "borel data make --for {} --again",
        model.name, model.file.string(), model.config.dataset, model.study);
  return fmt::format("network '{}' is not trained yet; run: borel data make --for {}", model.name,
                     model.study);
}

}  // namespace borel
