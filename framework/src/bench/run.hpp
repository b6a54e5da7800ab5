// Google Benchmark over methods that are only known at run time.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/ceilings.hpp"
#include "borel/registry.hpp"

namespace borel::bench {

struct Request {
  std::vector<MethodSpec> methods;
  std::vector<index_t> sizes{512, 2048};
  std::vector<int> threads{1};
  double min_time_s = 0.2;
  int repetitions = 1;
  std::string json_file;                                     ///< "" = none
  bool ceilings = true;                                      ///< false: rates without shares; for quick looks
  std::vector<std::pair<std::string, std::string>> context;  ///< provenance, for the JSON
  /// Peak memory of one call in bytes, measured in a child process; 0 = not known.
  std::function<double(const MethodSpec&, index_t n, const std::string& case_name)> peak_memory;
};

/// Runs all cases alone, one after the other, and prints the table and the fitted cost exponents to standard
/// output. A case whose result is wrong is not timed (its line says why). @return number of cases that were
/// not timed
/// @throws Error when there is nothing to run
int run(const Registry& registry, const Request& request);

/// Slope of log(seconds) over log(n) by least squares: the k of a cost ~ n^k. NaN with fewer than two sizes.
double cost_exponent(const std::vector<std::pair<double, double>>& size_and_seconds);

/// Growth of the peak resident memory over one call of a case; call it in a process of its own.
double peak_memory_of(const Registry& registry, const MethodSpec& spec, index_t n,
                      const std::string& case_name);

}  // namespace borel::bench
