// One benchmark case: a method, a size, its input, a check of the result, the measured work.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "borel/registry.hpp"
#include "borel/tensor.hpp"

namespace borel::bench {

struct Case {
  std::string name;   ///< family/id{params}/operation/n:512
  std::string group;  ///< name without the size; the cost exponent is fitted over a group
  index_t n = 0;
  std::function<void()> work;
  std::function<std::string()>
      check;                    ///< "" or what is wrong; compares with a float64 reference or an invariant
  double flops = 0, bytes = 0;  ///< per call of work; 0 = not known
};

/// Cases of one method for one size n: attention forward (4 heads of 64, causal where it can be, n tokens),
/// position plan (n tokens), density fit and log_pdf (n samples), optimizer (least squares n/2 x n, at most
/// 200 iterations).
/// @throws ParamError, RegistryError, MethodError
std::vector<Case> make_cases(const Registry& registry, const MethodSpec& spec, index_t n);

}  // namespace borel::bench
