// Networks that a study trains for itself: [[model]] tables, datasets named `model/<name>`.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "probe/training.hpp"
#include "study/study_file.hpp"

namespace borel {

struct StudyModel {
  std::string name;
  probe::TrainingConfig config;
  /// In the data folder, named by a hash of the whole configuration: another configuration is another file, and studies
  /// that train the same network share it.
  std::filesystem::path file;
  std::string study;  ///< its file, for messages
};

enum class ModelState {
  missing,
  unfinished,  ///< steps are left
  outdated,    ///< it learned another text than today's, or the file holds another configuration
  trained,
};

/// Whether a dataset's name stands for such a network.
bool is_study_model(std::string_view dataset);

/// @param folder  where relative paths begin; empty: the current folder
/// @throws StudyError: no [[model]] table of that name (with the nearest); ParamError: what is wrong with its configuration
StudyModel study_model(const Study& study, std::string_view dataset, const std::filesystem::path& folder);

/// A text that is not there has not changed. @throws DatasetError: the file, or the text, is damaged
ModelState model_state(const StudyModel& model);
inline bool is_trained(const StudyModel& model) { return model_state(model) == ModelState::trained; }

/// Why a network that is not trained cannot be used, and the command that mends it.
std::string untrained_message(const StudyModel& model, ModelState state);

}  // namespace borel
