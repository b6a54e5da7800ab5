// Euclidean projection onto the simplex: x_i -> max(x_i - tau, 0) with tau such that the sum is 1.
// Condat, Math. Prog. 158 (2016), algorithm 1: one pass collects the entries above a running lower bound of
// tau, then passes over the collected entries alone remove those below it. Differs from the paper in two
// ways: the maximum is found and subtracted first, so that no entry is lost to rounding when x is large (the
// bound then starts at -1 and the paper's second list stays empty), and tau is computed anew from the final
// support, because the running update drifts.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "borel/parallel.hpp"

namespace borel {
namespace {

/// Compensated (Neumaier): the support may be a million entries of size 1e-6.
double accurate_sum(std::span<const double> x) {
  double sum = 0, lost = 0;
  for (double v : x) {
    const double next = sum + v;
    lost += std::abs(sum) >= std::abs(v) ? (sum - next) + v : (v - next) + sum;
    sum = next;
  }
  return sum + lost;
}

/// Index of the largest entry. @throws MethodError when an entry is not finite
std::size_t index_of_maximum(std::span<const double> x) {
  if (x.empty())
    throw MethodError("project_onto_simplex: the vector is empty; the simplex needs at least 1 coordinate");
  double sum = 0;
  for (double v : x) sum += 0 * v;
  if (!(sum == 0)) {
    const auto bad = std::find_if(x.begin(), x.end(), [](double v) { return !std::isfinite(v); });
    throw MethodError(
        fmt::format("project_onto_simplex: coordinate {} is {}, it must be finite", bad - x.begin(), *bad));
  }
  return static_cast<std::size_t>(std::max_element(x.begin(), x.end()) - x.begin());
}

}  // namespace

double project_onto_simplex(std::span<double> x) {
  const std::size_t at_maximum = index_of_maximum(x);
  const double maximum = x[at_maximum];
  Scratch<double> candidates(static_cast<index_t>(x.size()));
  double* const v = candidates.data();
  index_t n = 1;
  v[0] = 0;  // the maximum itself
  double bound = -1;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double z = x[i] - maximum;
    if (z > bound && i != at_maximum) {
      v[n++] = z;
      bound += (z - bound) / static_cast<double>(n);
    }
  }
  for (bool removed = true; removed;) {
    removed = false;
    index_t n_kept = n, write = 0;
    for (index_t i = 0; i < n; ++i) {
      if (v[i] > bound) {
        v[write++] = v[i];
      } else {
        --n_kept;
        removed = true;
        bound += (bound - v[i]) / static_cast<double>(n_kept);
      }
    }
    n = write;
  }
  const double threshold = (accurate_sum({v, static_cast<std::size_t>(n)}) - 1) / static_cast<double>(n);

  double sum = 0;
  for (double& value : x) {
    value = std::max(value - maximum - threshold, 0.0);
    sum += value;
  }
  const double scale = 1 / sum;  // 1 up to rounding
  for (double& value : x) value *= scale;
  return maximum + threshold;
}

}  // namespace borel
