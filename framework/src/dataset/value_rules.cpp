#include "dataset/value_rules.hpp"

#include <fmt/format.h>

#include <cmath>

namespace borel {
namespace {

constexpr double k_weight_sum_bound = 1e-9;
constexpr double k_row_sum_bound = 1e-7;  // many bins, each rounded

template <class T>
void check_finite_values(std::span<const T> values, std::string_view who, std::string_view array) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw DatasetError(fmt::format("{}: array /{} has {} at index {} (row-major): values must be finite",
                                     who, array, values[i], i));
}

void check_indices(const ValueSource& source, std::string_view name, std::int64_t n, const std::string& who) {
  if (source.objects.find(name) == source.objects.end()) return;
  for (std::int64_t index : source.integers(name))
    if (index < 0 || index >= n)
      throw DatasetError(
          fmt::format("{}: array /{} has index {}, but /x has rows 0 to {}", who, name, index, n - 1));
}

void check_positive(const ValueSource& source, std::string_view name, const std::string& who) {
  if (source.objects.find(name) == source.objects.end()) return;
  for (double value : source.doubles(name))
    if (!(value > 0)) throw DatasetError(fmt::format("{}: array /{} has {}: must be > 0", who, name, value));
}

void check_sums_to_one(const ValueSource& source, std::string_view name, const std::string& who) {
  if (source.objects.find(name) == source.objects.end()) return;
  double sum = 0;
  for (double value : source.doubles(name)) {
    if (!(value >= 0))
      throw DatasetError(fmt::format("{}: array /{} has {}: must be >= 0", who, name, value));
    sum += value;
  }
  if (!(std::abs(sum - 1) <= k_weight_sum_bound))
    throw DatasetError(fmt::format("{}: array /{} sums to {}, must sum to 1", who, name, sum));
}

/// Rows of probabilities over the bins of /truth/bin_centre, which ascend in equal steps.
void check_conditional(const ValueSource& source, const std::string& who) {
  const bool has_pmf = source.objects.find("truth/conditional_pmf") != source.objects.end(),
             has_centre = source.objects.find("truth/bin_centre") != source.objects.end();
  if (!has_pmf && !has_centre) return;
  if (!has_pmf || !has_centre)
    throw DatasetError(
        fmt::format("{}: /truth/conditional_pmf and /truth/bin_centre must stand together", who));
  const std::span<const double> centre = source.doubles("truth/bin_centre"),
                                pmf = source.doubles("truth/conditional_pmf");
  const std::size_t n = centre.size();
  const double step = n > 1 ? (centre.back() - centre.front()) / static_cast<double>(n - 1) : 0.0;
  bool equal = n > 1 && step > 0;
  for (std::size_t k = 1; k < n; ++k) equal &= std::abs(centre[k] - centre[k - 1] - step) <= 1e-6 * step;
  if (!equal)
    throw DatasetError(fmt::format(
        "{}: array /truth/bin_centre must hold two or more centres that ascend in equal steps", who));
  for (std::size_t row = 0; row * n < pmf.size(); ++row) {
    double sum = 0;
    bool good = true;
    for (const double value : pmf.subspan(row * n, n)) good &= value >= 0, sum += value;
    if (!good || !(std::abs(sum - 1) <= k_row_sum_bound))
      throw DatasetError(fmt::format(
          "{}: row {} of /truth/conditional_pmf must be >= 0 and sum to 1, it sums to {}", who, row, sum));
  }
}

}  // namespace

void check_finite(std::span<const double> values, std::string_view who, std::string_view array) {
  check_finite_values(values, who, array);
}
void check_finite(std::span<const float> values, std::string_view who, std::string_view array) {
  check_finite_values(values, who, array);
}

void check_values(DatasetKind kind, const ValueSource& source, const std::string& who) {
  if (kind == DatasetKind::samples) {
    const std::int64_t n = source.objects.find("x")->second.shape[0];
    check_indices(source, "split/train", n, who);
    check_indices(source, "split/test", n, who);
    check_sums_to_one(source, "truth/weight", who);
    check_positive(source, "truth/sd", who);
    check_positive(source, "weights", who);
    check_conditional(source, who);
  } else if (kind == DatasetKind::problem) {
    check_sums_to_one(source, "truth/p", who);
  }
}

}  // namespace borel
