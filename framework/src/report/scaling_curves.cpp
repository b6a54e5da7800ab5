#include "report/scaling_curves.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

namespace borel {
namespace {

/// ("forward", 256) of forward_n256_s.
std::optional<std::pair<std::string, double>> task_and_size(const std::string& name) {
  constexpr std::string_view k_seconds = "_s";
  const std::size_t mark = name.rfind("_n");
  if (mark == std::string::npos || mark == 0 || !name.ends_with(k_seconds)) return std::nullopt;
  const char* first = name.data() + mark + 2;
  const char* last = name.data() + name.size() - k_seconds.size();
  long long size = 0;
  const auto [end, error] = std::from_chars(first, last, size);
  if (first >= last || end != last || error != std::errc() || size < 1) return std::nullopt;
  return std::pair{name.substr(0, mark), static_cast<double>(size)};
}

double median(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  const std::size_t n = seconds.size();
  return n % 2 == 1 ? seconds[n / 2] : 0.5 * (seconds[n / 2 - 1] + seconds[n / 2]);
}

}  // namespace

bool is_scaling_timing(const std::string& name) { return task_and_size(name).has_value(); }

void add_scaling_curves(RunResults& results) {
  for (CellRecord& cell : results.cells) {
    std::map<std::string, std::map<double, double>> tasks;
    for (const Timing& timing : cell.result.timings)
      if (const auto task = task_and_size(timing.name); task && !timing.seconds.empty())
        tasks[task->first][task->second] = median(timing.seconds);
    for (const auto& [task, seconds] : tasks) {
      if (seconds.size() < 2) continue;
      Curve curve{"time of " + task, "n", "median seconds", true, true, {}, {}};
      for (const auto& [n, time] : seconds) curve.x.push_back(n), curve.y.push_back(time);
      cell.result.curves.insert(cell.result.curves.begin(), std::move(curve));
    }
  }
}

}  // namespace borel
