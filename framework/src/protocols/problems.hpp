// Objectives from datasets of kind `problem` (schema: datasets/README.md).
#pragma once

#include <memory>

#include "borel/objective.hpp"
#include "dataset/dataset.hpp"

namespace borel {

/// Arrays are copied: one objective belongs to one run. @throws DatasetError for an objective that this
/// version does not know how to make, and for values that break the objective's rules
std::unique_ptr<Objective> make_objective(const Dataset& dataset);

/// A free energy (domain grid or particles). @param refinement factor on the cells of each axis of a grid; other than 1
/// only when the start is that of an exact flow
std::unique_ptr<Objective> make_free_energy(const Dataset& dataset, index_t refinement);

}  // namespace borel
