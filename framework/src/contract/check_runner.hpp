// Runs the contract rules of one plugin file in child processes, so that a crash, a hang or a call of exit()
// in the plugin is one broken rule and not the end of the check.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "borel/parallel.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

struct CheckRequest {
  std::filesystem::path file;
  std::string
      spec;  ///< method with parameters to check instead of the defaults; "" = every method of the file
  std::string rule;  ///< one rule only; "" = all
  Seed seed{1};
  double time_limit_s = 0;  ///< per rule; 0 = the rule's own
};

struct CheckResult {
  std::string method;  ///< canonical spec
  std::string rule, description;
  Verdict verdict;
  double seconds = 0;
};

/// Runs the program itself as child with `worker_arguments` + (file, spec, rule, seed, number of rules to
/// leave out); the child calls run_check_worker(). Calls `report` for each result as it comes.
/// @throws PluginError when the file is refused, also when loading it crashes; ParamError, RegistryError for
/// a bad request
void check_plugin(const CheckRequest& request, const std::vector<std::string>& worker_arguments,
                  FunctionRef<void(const CheckResult&)> report);

/// Body of the child. Results go to file descriptor k_result_descriptor, one JSON object a line. @return exit
/// code
int run_check_worker(const CheckRequest& request, std::size_t n_done);

inline constexpr int k_result_descriptor = 3;

}  // namespace borel::contract
