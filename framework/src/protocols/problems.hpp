// Objectives from datasets of kind `problem` (schema: datasets/README.md).
#pragma once

#include <memory>

#include "borel/objective.hpp"
#include "borel/registry.hpp"
#include "dataset/dataset.hpp"

namespace borel {

/// Arrays are copied: one objective belongs to one run. @throws DatasetError for an objective that this
/// version does not know how to make, and for values that break the objective's rules
std::unique_ptr<Objective> make_objective(const Dataset& dataset);

/// "problem/mine{n=100}" stands where a dataset may: a problem that a plugin makes.
bool is_problem_plugin(std::string_view dataset_name);

/// Its dataset: no arrays, the attribute `objective` is the canonical spec, from which the seed of random data comes as
/// well; the digest covers spec and plugin. @throws RegistryError, ParamError, DatasetError
/// @param plugin_sha256  of the file that registered it
std::shared_ptr<const Dataset> problem_plugin_dataset(const std::string& name, const Registry& registry,
                                                      const std::string& plugin_sha256);

/// An objective for one run: by the plugin that such a dataset names, else make_objective().
std::unique_ptr<Objective> make_problem(const Dataset& dataset, const Registry& registry);

/// A free energy (domain grid or particles). @param refinement factor on the cells of each axis of a grid; other than 1
/// only when the start is that of an exact flow
std::unique_ptr<Objective> make_free_energy(const Dataset& dataset, index_t refinement);

}  // namespace borel
