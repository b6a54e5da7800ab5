#include "study/study_models.hpp"

#include <fmt/format.h>

#include "dataset/dataset.hpp"
#include "dataset/digest.hpp"
#include "probe/training_file.hpp"

namespace borel {
namespace {

constexpr std::string_view k_prefix = "model/";

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
      StudyModel out{name, probe::read_training(config, table.changes), {}};
      const std::string hash = sha256_hex(probe::training_text(out.config));
      constexpr std::size_t k_digits = 16;
      out.file = data_folder() / "models" / fmt::format("{}.h5", hash.substr(0, k_digits));
      return out;
    } catch (const ParamError& error) {
      throw ParamError(fmt::format("[[model]] '{}': {}", name, error.what()));
    }
  }
  throw StudyError(fmt::format("'{}{}': the study has no [[model]] of that name{}", k_prefix, name,
                               did_you_mean(name, known)));
}

bool is_trained(const StudyModel& model) {
  std::error_code error;
  if (!std::filesystem::exists(model.file, error)) return false;
  const h5::Reader reader(model.file);
  return reader.has_attribute("", "step") &&
         static_cast<index_t>(reader.number_attribute("", "step")) == model.config.n_steps;
}

}  // namespace borel
