// L-BFGS as a means of fitting: minimises a smooth function without constraints. The optimizer family compares methods;
// this one only serves them. Nocedal (1980), line search of More and Thuente; libLBFGS.
#pragma once

#include <span>
#include <vector>

#include "borel/parallel.hpp"

namespace borel {

struct LbfgsSettings {
  double tolerance = 1e-8;  ///< norm of the gradient, relative to max(1, |x|)
  index_t max_iterations = 2000;
  int memory = 20;  ///< correction pairs
  StopToken stop = {};
};

struct LbfgsResult {
  std::vector<double> x = {};
  double value = 0;
  index_t iterations = 0;
  bool converged =
      false;  ///< the tolerance holds, or 100 times it where the line search met the end of floating point
};

/// @param loss value at x [n]; writes the gradient [n]. A value that is not finite is taken as a step too far.
/// @param start [n]  Memory O(memory * n). Same bits every time. @throws Stopped, and whatever loss throws
BOREL_EXPORT LbfgsResult
minimise_lbfgs(FunctionRef<double(std::span<const double> x, std::span<double> gradient)> loss,
               std::vector<double> start, const LbfgsSettings& settings = {});

}  // namespace borel
