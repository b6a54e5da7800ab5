#include "bench/compare.hpp"

#include <algorithm>
#include <fstream>
#include <map>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "borel/error.hpp"
#include "statistics/rank_tests.hpp"

namespace borel::bench {
namespace {

struct Times {
  std::vector<std::string> order;
  std::map<std::string, std::vector<double>> nanoseconds;
};

double nanoseconds_per(const std::string& unit) {
  return unit == "s" ? 1e9 : unit == "ms" ? 1e6 : unit == "us" ? 1e3 : 1;
}

Times read_times(const std::filesystem::path& file) {
  std::ifstream in(file);
  if (!in) throw Error(fmt::format("bench: cannot read '{}'", file.string()));
  Times times;
  try {
    const nlohmann::json document = nlohmann::json::parse(in);
    for (const nlohmann::json& run : document.at("benchmarks")) {
      if (run.value("run_type", "iteration") != "iteration" || run.value("error_occurred", false)) continue;
      const std::string name = run.value("run_name", run.at("name").get<std::string>());
      if (!times.nanoseconds.contains(name)) times.order.push_back(name);
      times.nanoseconds[name].push_back(run.at("real_time").get<double>() *
                                        nanoseconds_per(run.value("time_unit", "ns")));
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(
        fmt::format("bench: '{}' is not a benchmark result in JSON: {}", file.string(), error.what()));
  }
  return times;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

}  // namespace

std::vector<BenchComparison> compare_runs(const std::filesystem::path& before,
                                          const std::filesystem::path& after) {
  const Times old_times = read_times(before), new_times = read_times(after);
  std::vector<BenchComparison> comparisons;
  for (const std::string& name : old_times.order) {
    const auto found = new_times.nanoseconds.find(name);
    if (found == new_times.nanoseconds.end()) continue;
    BenchComparison one{name, old_times.nanoseconds.at(name), found->second};
    one.median_ratio = median(one.after) / median(one.before);
    one.p_value = mann_whitney_u(one.before, one.after).p_value;
    comparisons.push_back(std::move(one));
  }
  return comparisons;
}

std::string comparison_text(const std::vector<BenchComparison>& comparisons) {
  if (comparisons.empty()) return "No benchmark is in both files.\n";
  std::size_t width = 9;
  for (const BenchComparison& one : comparisons) width = std::max(width, one.name.size());
  std::string text = fmt::format("{:<{}}  {:>12}  {:>12}  {:>7}  {:>8}  n\n", "benchmark", width,
                                 "before [us]", "after [us]", "ratio", "p");
  bool too_few = false;
  for (const BenchComparison& one : comparisons) {
    const std::size_t n = std::min(one.before.size(), one.after.size());
    too_few |= n < k_repetitions_wanted;
    const bool significant = n >= k_repetitions_wanted && one.p_value < 0.05;
    text += fmt::format("{:<{}}  {:>12.4g}  {:>12.4g}  {:>7.3f}  {:>8.2g}  {}+{}{}\n", one.name, width,
                        median(one.before) * 1e-3, median(one.after) * 1e-3, one.median_ratio, one.p_value,
                        one.before.size(), one.after.size(),
                        !significant             ? ""
                        : one.median_ratio < 1.0 ? "  faster"
                                                 : "  slower");
  }
  text +=
      "ratio = median after / median before; p: two-sided Mann-Whitney U test, not corrected for many "
      "comparisons.\n";
  if (too_few)
    text += fmt::format(
        "Fewer than {} repetitions on a side: no difference is called; run both with --repetitions {}.\n",
        k_repetitions_wanted, k_repetitions_wanted);
  return text;
}

}  // namespace borel::bench
