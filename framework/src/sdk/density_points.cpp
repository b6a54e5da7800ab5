// Points gathered for a fit in one dimension: sorted, weighted, standardised, thinned.
#include <fmt/format.h>
#include <hwy/contrib/sort/vqsort.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "borel/density.hpp"
#include "borel/error.hpp"

namespace borel {
namespace {

constexpr std::size_t k_vector_sort = 256;  // fewer: std::sort

void sort_values(std::vector<double>& x) {
  // -0 becomes 0: the two compare equal, and their order would be left to the algorithm.
  for (double& value : x) value += 0.0;
  if (x.size() < k_vector_sort) {
    std::sort(x.begin(), x.end());
    return;
  }
  hwy::Sorter sorter;  // holds scratch memory; the result does not depend on it
  sorter(x.data(), x.size(), hwy::SortAscending());
}

}  // namespace

WeightedPoints weighted_points(const Samples& samples) {
  const std::size_t n = static_cast<std::size_t>(samples.n_samples());
  WeightedPoints points;
  points.x.reserve(n), points.weight.reserve(n);
  if (samples.weights.empty()) {
    for (index_t i = 0; i < samples.n_samples(); ++i) points.x.push_back(samples.x(i, 0));
    sort_values(points.x);
    points.weight.assign(n, 1.0);
    points.weight_sum = points.n_effective = static_cast<double>(n);
    return points;
  }
  std::vector<std::pair<double, double>> pairs;
  pairs.reserve(n);
  double sum_of_squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double w = samples.weights[i];
    if (w == 0) continue;
    pairs.emplace_back(samples.x(static_cast<index_t>(i), 0), w);
    points.weight_sum += w, sum_of_squares += w * w;
  }
  std::sort(pairs.begin(), pairs.end());
  for (const auto& [x, w] : pairs) points.x.push_back(x), points.weight.push_back(w);
  points.n_effective = points.weight_sum * (points.weight_sum / sum_of_squares);
  return points;
}

WeightedPoints weighted_points(const FineHistogram& histogram) {
  WeightedPoints points;
  for (std::size_t k = 0; k < histogram.weight.size(); ++k) {
    if (!(histogram.weight[k] > 0)) continue;
    points.x.push_back(histogram.range.begin + (static_cast<double>(k) + 0.5) * histogram.bin_width());
    points.weight.push_back(histogram.weight[k]);
    points.weight_sum += histogram.weight[k];
  }
  points.n_effective = histogram.n_samples;
  return points;
}

void check_spread(const WeightedPoints& points, std::string_view who) {
  const double low = points.x.front(), high = points.x.back(), range = high - low;
  if (!(range > 0))
    throw MethodError(fmt::format("{}: all samples equal {}; the fit needs two different values", who, low));
  if (!std::isfinite(range) || !(range / 1e8 > 0))
    throw MethodError(
        fmt::format("{}: the range from {} to {} cannot be scaled in double precision; rescale the data", who,
                    low, high));
}

StandardPoints standardise(const WeightedPoints& points, std::string_view who) {
  check_spread(points, who);
  const double origin = points.x.front(), range = points.x.back() - origin, sum = points.weight_sum;
  // By way of [0, 1]: squares stay in range at any scale.
  double mean = 0, variance = 0;
  for (std::size_t i = 0; i < points.size(); ++i)
    mean += points.weight[i] / sum * ((points.x[i] - origin) / range);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const double d = (points.x[i] - origin) / range - mean;
    variance += points.weight[i] / sum * (d * d);
  }
  const double sd = std::sqrt(variance);
  StandardPoints out;
  out.u.reserve(points.size()), out.weight.reserve(points.size());
  for (std::size_t i = 0; i < points.size(); ++i) {
    out.u.push_back(((points.x[i] - origin) / range - mean) / sd);
    out.weight.push_back(points.weight[i] / sum);
  }
  out.shift = origin + range * mean;
  out.scale = range * sd;
  out.n_effective = points.n_effective;
  return out;
}

StandardPoints thin(const StandardPoints& points, std::size_t n_groups) {
  if (points.size() <= n_groups) return points;
  StandardPoints out;
  out.shift = points.shift, out.scale = points.scale, out.n_effective = points.n_effective;
  const double n = static_cast<double>(n_groups);
  double before = 0;
  for (std::size_t i = 0; i < points.size();) {
    const double until = (std::floor(before * n) + 1) / n;
    double weight = 0, moment = 0;
    std::size_t j = i;
    while (j < points.size() && (j == i || before + weight + 0.5 * points.weight[j] < until)) {
      weight += points.weight[j];
      moment += points.weight[j] * points.u[j];
      ++j;
    }
    const double mean = moment / weight;
    double square = 0;
    for (std::size_t k = i; k < j; ++k)
      square += points.weight[k] * ((points.u[k] - mean) * (points.u[k] - mean) +
                                    (points.variance.empty() ? 0.0 : points.variance[k]));
    out.u.push_back(mean);
    out.weight.push_back(weight);
    out.variance.push_back(square / weight);
    before += weight;
    i = j;
  }
  return out;
}

}  // namespace borel
