// Where a study gets its datasets from: facts without reading values for the plan, contents when a cell runs.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "borel/registry.hpp"
#include "dataset/dataset.hpp"
#include "study/study_file.hpp"

namespace borel {

class DatasetSource {
 public:
  virtual ~DatasetSource() = default;
  /// Kind and digest. @throws DatasetError when there is no such dataset (with the nearest name and what to
  /// do)
  virtual DatasetInfo info(const std::string& name) = 0;
  /// Checked contents. Any thread. @throws DatasetError
  virtual std::shared_ptr<const Dataset> open(const std::string& name) = 0;
};

/// Datasets in the data folder (by id), files (by path), problems that plugins make (problem/<id>{...}), networks that a study
/// trains (model/<name>), and queries and keys of networks (qkv{model=..., layer=...}).
class StudyDatasets final : public DatasetSource {
 public:
  /// @param registry, study  outlive this object
  /// @param folder  where relative paths begin; empty: the current folder
  StudyDatasets(const Registry& registry, const Study& study, std::filesystem::path folder = {})
      : registry_(registry), study_(study), folder_(std::move(folder)) {}
  DatasetInfo info(const std::string& name) override;
  std::shared_ptr<const Dataset> open(const std::string& name) override;

 private:
  const Registry& registry_;
  const Study& study_;
  std::filesystem::path folder_;
};

/// Keeps what it opened until told that it is not needed any more, and checks that it is what the plan saw.
class OpenDatasets {
 public:
  explicit OpenDatasets(DatasetSource& source) : source_(source) {}
  /// Any thread; two threads that want the same dataset open it once. @throws DatasetError
  std::shared_ptr<const Dataset> get(const std::string& name, const std::string& expected_digest);
  void release(const std::string& name);

 private:
  struct Slot {
    std::mutex mutex;
    std::shared_ptr<const Dataset> dataset;
  };
  DatasetSource& source_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
};

}  // namespace borel
