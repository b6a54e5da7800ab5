// Two benchmark runs side by side.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace borel::bench {

/// A difference can only be called significant with at least this many repetitions on each side.
inline constexpr std::size_t k_repetitions_wanted = 9;

struct BenchComparison {
  std::string name;
  std::vector<double> before, after;  ///< real time of each repetition, nanoseconds
  double median_ratio = 0;            ///< after / before
  double p_value = 1;                 ///< Mann-Whitney U, two-sided
};

/// Benchmarks that are in both files, in the order of the first; errors and aggregates are left out. The
/// files are what `borel bench --json` or Google Benchmark wrote. @throws Error naming the file that cannot
/// be read
std::vector<BenchComparison> compare_runs(const std::filesystem::path& before,
                                          const std::filesystem::path& after);

/// Table for people, with a remark where repetitions are too few.
std::string comparison_text(const std::vector<BenchComparison>& comparisons);

}  // namespace borel::bench
