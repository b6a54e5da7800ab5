// Timed tasks of several sizes as a curve.
#pragma once

#include "results/run_results.hpp"

namespace borel {

/// Adds to each cell a curve of median seconds against n for every task that was timed at two sizes or more. Tasks of one
/// kind are told apart by their names: forward_n256_s, forward_n1024_s, ...
void add_scaling_curves(RunResults& results);

/// True for a name of that form.
bool is_scaling_timing(const std::string& name);

}  // namespace borel
