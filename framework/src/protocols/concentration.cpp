#include "protocols/concentration.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/error.hpp"

// LAPACK, column-major, all arguments by address.
extern "C" void dgesdd_(const char* job, const int* m, const int* n, double* a, const int* lda, double* s,
                        double* u, const int* ldu, double* vt, const int* ldvt, double* work,
                        const int* lwork, int* iwork, int* info);

namespace borel {

Concentration concentration_of(std::span<const float> row) {
  double sum_abs = 0, sum_square = 0, largest = 0;
  for (float weight : row) {
    const double a = std::abs(static_cast<double>(weight));
    sum_abs += a;
    sum_square += a * a;
    largest = std::max(largest, a);
  }
  const double n = static_cast<double>(row.size());
  if (!(sum_abs > 0)) return {1, std::log(n), n, 1 / n};
  double entropy = 0;
  for (float weight : row) {
    const double p = std::abs(static_cast<double>(weight)) / sum_abs;
    if (p > 0) entropy -= p * std::log(p);
  }
  return {sum_abs / std::sqrt(n * sum_square), entropy, std::exp(entropy), largest / sum_abs};
}

index_t numerical_rank(TensorView<const float, 2> matrix) {
  const int m = static_cast<int>(matrix.shape(0));
  const int n = static_cast<int>(matrix.shape(1));
  const int k = std::min(m, n);
  if (k == 0) return 0;
  // The transpose has the same singular values, so row-major memory can be handed over as it is.
  std::vector<double> a;
  a.reserve(static_cast<std::size_t>(m) * static_cast<std::size_t>(n));
  for (index_t i = 0; i < m; ++i)
    for (float value : matrix.row(i)) a.push_back(static_cast<double>(value));
  std::vector<double> s(static_cast<std::size_t>(k));
  std::vector<int> iwork(8 * static_cast<std::size_t>(k));
  double wanted = 0;
  int lwork = -1, info = 0;
  const int one = 1;
  dgesdd_("N", &n, &m, a.data(), &n, s.data(), nullptr, &one, nullptr, &one, &wanted, &lwork, iwork.data(),
          &info);
  lwork = static_cast<int>(wanted);
  std::vector<double> work(static_cast<std::size_t>(lwork));
  dgesdd_("N", &n, &m, a.data(), &n, s.data(), nullptr, &one, nullptr, &one, work.data(), &lwork,
          iwork.data(), &info);
  if (info != 0)
    throw MethodError(
        "numerical rank: the singular value decomposition of a weight matrix did not converge; "
        "look for non-finite weights");
  const double threshold = s[0] * std::max(m, n) * static_cast<double>(std::numeric_limits<float>::epsilon());
  return std::count_if(s.begin(), s.end(), [threshold](double value) { return value > threshold; });
}

}  // namespace borel
