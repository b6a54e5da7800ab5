#include "statistics/bootstrap.hpp"

#include <algorithm>
#include <boost/math/distributions/students_t.hpp>
#include <cassert>
#include <cmath>
#include <vector>

namespace borel {

double quantile_of_sorted(std::span<const double> ascending, double share) {
  assert(!ascending.empty());
  const double place = share * static_cast<double>(ascending.size() - 1);
  const auto low = static_cast<std::size_t>(std::floor(place));
  const std::size_t high = std::min(low + 1, ascending.size() - 1);
  const double part = place - static_cast<double>(low);
  return part == 0 ? ascending[low] : ascending[low] + part * (ascending[high] - ascending[low]);
}

ConfidenceInterval bootstrap_mean(std::span<const double> values, std::span<const std::int64_t> strata,
                                  double level, Seed seed, int n_resamples) {
  assert(values.size() == strata.size());
  struct Stratum {
    std::size_t begin, end;
  };
  std::vector<Stratum> parts;
  double n_free = 0;  // degrees of freedom
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i == 0 || strata[i] != strata[i - 1]) parts.push_back({i, i});
    parts.back().end = i + 1;
  }
  for (const Stratum& part : parts) n_free += static_cast<double>(part.end - part.begin - 1);
  if (n_free == 0 || n_resamples < 1) return {};
  const double t = boost::math::quantile(boost::math::students_t(n_free), (1 + level) / 2);
  const double tail = std::erfc(t / std::sqrt(2.0)) / 2;

  Rng rng{seed.derive("bootstrap")};
  std::vector<double> means(static_cast<std::size_t>(n_resamples));
  for (double& mean : means) {
    double sum_of_means = 0;
    for (const Stratum& part : parts) {
      const std::size_t n = part.end - part.begin;
      if (n == 1) {
        sum_of_means += values[part.begin];
        continue;
      }
      const std::size_t left_out = rng.below(n);
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t drawn = rng.below(n - 1);
        sum += values[part.begin + drawn + (drawn >= left_out)];
      }
      sum_of_means += sum / static_cast<double>(n);
    }
    mean = sum_of_means / static_cast<double>(parts.size());
  }
  std::sort(means.begin(), means.end());
  return {quantile_of_sorted(means, tail), quantile_of_sorted(means, 1 - tail)};
}

ConfidenceInterval bootstrap_mean(std::span<const double> values, double level, Seed seed, int n_resamples) {
  const std::vector<std::int64_t> one(values.size(), 0);
  return bootstrap_mean(values, one, level, seed, n_resamples);
}

}  // namespace borel
