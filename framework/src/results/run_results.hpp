// All that is known about a run, in memory. Made from the journal; results.h5, CSV and the report are made from this.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "study/outcome.hpp"

namespace borel {

struct MethodUse {
  std::string family, id;
  std::string spec;   ///< canonical, with all used parameters
  std::string label;  ///< short name for figures: given parameters only, unique within the run
  std::string plugin_file, plugin_sha256;
};

struct CellRecord {
  std::string cell_id;            ///< 32 hex digits
  std::string protocol, options;  ///< id and canonical options
  std::string dataset, dataset_digest;
  std::vector<MethodUse> methods;  ///< one per role
  /// What tables call it: the compared method's label, and those of the other roles that vary in the run's cells
  /// of this protocol: "softmax + rope".
  std::string label;
  std::int64_t repetition = 0;
  std::uint64_t seed = 0;
  CellResult result;
};

struct RunResults {
  std::string title, description, study_file, study_text, study_digest;
  std::vector<std::pair<std::string, std::string>>
      provenance;                 ///< host, cpu, compiler, versions, git, times, threads
  std::vector<CellRecord> cells;  ///< sorted by (protocol, options, dataset, label, repetition)
};

}  // namespace borel
