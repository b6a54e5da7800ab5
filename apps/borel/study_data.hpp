// What a study needs before it can run: datasets from recipes, and networks that are trained for it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "session.hpp"
#include "study/study_models.hpp"

namespace borel::app {

struct StudyNeeds {
  std::vector<std::string> recipes;  ///< sorted, each once; texts of networks among them
  std::vector<StudyModel> models;    ///< in the order of the study file
};

/// @param folder  where relative paths begin; empty: the current folder  @throws StudyError, ParamError as study_model()
StudyNeeds study_needs(const Study& study, const std::filesystem::path& folder);

/// Trains what is not trained yet, one network after the other, in this many seconds at most (0 = no limit); a stopped one goes
/// on next time. @return as run_training(); 0 also when there is nothing to do  @throws DatasetError: one is outdated
int train_models(Session& session, const std::vector<StudyModel>& models, double time_limit_s, bool quiet);

}  // namespace borel::app
