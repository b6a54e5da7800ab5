#include "protocols/convergence_rates.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace borel {
namespace {

/// Errors below this part of the first one, or of F*, are too near rounding to show a rate.
constexpr double k_floor = 1e-12;
constexpr index_t k_begin = 10;
constexpr double k_spacing = 1.1;
constexpr std::size_t k_least_points = 5;

}  // namespace

ConvergenceRates fit_convergence_rates(const std::vector<Trace::Point>& points,
                                       std::optional<double> optimum) {
  std::vector<std::array<double, 3>> rows;  // log k, k, log error
  double smallest = std::numeric_limits<double>::infinity(), floor = -1;
  index_t next = k_begin;
  for (const Trace::Point& point : points) {
    const double error = optimum ? point.value - *optimum : point.gap;
    if (!(error > 0) || !std::isfinite(error)) continue;
    if (floor < 0) floor = k_floor * std::max(error, std::abs(optimum.value_or(0)));
    smallest = std::min(smallest, error);
    if (point.iteration < next || smallest < floor) continue;
    const auto k = static_cast<double>(point.iteration);
    rows.push_back({std::log(k), k, std::log(smallest)});
    next = std::max(point.iteration + 1, static_cast<index_t>(k_spacing * k));
  }
  if (rows.size() < k_least_points) return {};
  const auto slope = [&](std::size_t column) {
    double x = 0, y = 0, xx = 0, xy = 0;
    for (const auto& row : rows) {
      x += row[column];
      y += row[2];
      xx += row[column] * row[column];
      xy += row[column] * row[2];
    }
    const auto n = static_cast<double>(rows.size());
    return (n * xy - x * y) / (n * xx - x * x);
  };
  return {-slope(0), std::exp(slope(1))};
}

}  // namespace borel
