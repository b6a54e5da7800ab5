// From a study to its cells. The order of things in the study file changes nothing in the plan.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "protocols/protocol.hpp"
#include "results/run_results.hpp"
#include "study/dataset_source.hpp"
#include "study/study_file.hpp"

namespace borel {

/// What a study's names refer to.
struct Workshop {
  const Registry& registry;
  std::span<const Protocol* const> protocols;
  DatasetSource& datasets;
  /// SHA-256 (hex) of the file that registered a method; "" for methods of the program itself.
  std::function<std::string(const std::string& origin)> file_digest;
  std::string library_sha256 = {};  ///< of the library that the methods run on: library_file()
};

struct PlannedCell {
  CellRecord record;  ///< everything but the result
  const Protocol* protocol = nullptr;
  std::vector<MethodSpec> methods;  ///< the canonical specs, one per role
  MethodSpec options;
  std::string inputs;  ///< what the id is made of: cell_inputs()
};

struct Plan {
  std::string title, description, study_name, study_file, study_text;
  std::string digest;  ///< over the sorted cell ids
  std::uint64_t seed = 0;
  Limits limits;
  TimingRules timing;
  std::vector<PlannedCell> cells;  ///< in the order of RunResults; equal cells once
};

/// @throws StudyError with every problem that was found in the file
Plan make_plan(const Study& study, const Workshop& workshop);

/// Digests of plugin files, each file hashed once.
std::function<std::string(const std::string&)> plugin_file_digests();

/// Order of cells everywhere: protocol, options, dataset, label, repetition, id.
bool comes_before(const CellRecord& a, const CellRecord& b);

}  // namespace borel
