// A study file as written: TOML in, checked keys and types out, every value with its place in the file. Names
// of methods, protocols and datasets are checked by the plan, which knows them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "borel/error.hpp"
#include "borel/method_spec.hpp"

namespace borel {

/// A study file that cannot be run. The text holds one line per problem, each `file:line:column: ...`.
class StudyError : public Error {
 public:
  using Error::Error;
};

/// Place in the study file, from 1; 0 = the file as a whole.
struct Spot {
  std::uint32_t line = 0, column = 0;
};

/// Collects everything that is wrong with a study, so that one run of the program shows it all.
class Problems {
 public:
  explicit Problems(std::string file) : file_(std::move(file)) {}
  void add(Spot spot, std::string_view text);
  bool empty() const { return lines_.empty(); }
  /// @throws StudyError when there are any
  void throw_if_any() const;

 private:
  std::string file_;
  std::vector<std::pair<Spot, std::string>> lines_;
};

struct WrittenName {
  std::string name;
  Spot spot;
};

/// A method or an options table. A value that is a list [a, b] stands for one spec per element, unless the
/// parameter itself is a list.
struct WrittenSpec {
  MethodSpec spec;
  Spot spot;
};

/// One [[model]] table: a network that is trained for the study, whose datasets and protocols know it as `model/<name>`.
struct ModelTable {
  Spot spot;
  std::string name;
  std::string config;   ///< training configuration, relative to the study file
  std::string changes;  ///< the other keys as TOML: they replace those of the configuration
};

/// One [[compare]] table: every dataset x every combination of methods (one per role) x every repetition.
struct CompareTable {
  Spot spot;
  WrittenName protocol;
  std::vector<WrittenName> datasets;
  /// By key: `methods` for the compared family, `positions`, `attentions`, `densities`, `optimizers` for
  /// other roles.
  std::map<std::string, std::vector<WrittenSpec>> methods;
  std::map<std::string, Spot> keys;
  WrittenSpec options;
  std::optional<std::int64_t> repetitions;  ///< the study's when not given
};

struct Limits {
  double time_per_cell_s = 300;
  double memory_gb = 4;  ///< sum over the cells that run at the same time, 10^9 bytes
};

struct TimingRules {
  bool enabled = true;
  std::int64_t rounds = 5;  ///< measurements per task, one per round
  double max_task_s = 2;    ///< a task takes part in further rounds while its measurements sum to less
};

struct Study {
  std::string file, text, name;  ///< name: the file's stem, also the name of the run folder
  std::string title, description;
  std::int64_t repetitions = 3;
  std::uint64_t seed = 1;
  Limits limits;
  TimingRules timing;
  std::vector<ModelTable> models;
  std::vector<CompareTable> comparisons;
  Problems problems{std::string()};
};

/// @throws StudyError when the file is not TOML; all other problems are in Study::problems.
Study parse_study(std::string_view text, std::string_view file);
/// The same for a file. @throws StudyError also when it cannot be read
Study read_study(const std::filesystem::path& file);

/// Names of the datasets that a study uses, sorted, each once.
std::vector<std::string> study_datasets(const Study& study);

/// Key in [[compare]] for a role that is not compared: "position" -> "positions", "density" -> "densities".
std::string role_key(std::string_view family);

}  // namespace borel
