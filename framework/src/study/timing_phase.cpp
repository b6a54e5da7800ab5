#include "study/timing_phase.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>

#include <fmt/format.h>
#include <tbb/task_arena.h>

#include "study/quality_phase.hpp"

namespace borel {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double k_min_measurement_s = 1e-3;

struct Task {
  CellTiming* cell = nullptr;
  TimedTask timed;
  std::vector<double> seconds;
  double sum_s = 0;
  std::int64_t executions = 1;  // within one measurement
};

double measure(const Task& task) {
  const auto begin = Clock::now();
  for (std::int64_t i = 0; i < task.executions; ++i) task.timed.work();
  const double elapsed = std::chrono::duration<double>(Clock::now() - begin).count();
  return elapsed / static_cast<double>(task.executions);
}

class TimingRun {
 public:
  TimingRun(const Registry& registry, OpenDatasets& datasets, const TimingRules& rules, double memory_bytes,
            const std::atomic<bool>* interrupted)
      : registry_(registry),
        datasets_(datasets),
        rules_(rules),
        memory_bytes_(memory_bytes),
        interrupted_(interrupted) {}

  /// Empty when interrupted.
  std::vector<CellTiming> run_group(std::span<const PlannedCell* const> cells) {
    std::vector<CellTiming> out(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) out[i].cell = cells[i];
    // Prepared tasks hold memory; a group that would not fit is measured in several parts.
    for (std::size_t begin = 0; begin < out.size();) {
      std::vector<Task> tasks;
      double memory = 0;
      std::size_t end = begin;
      for (; end < out.size(); ++end) {
        const double needed = prepare(out[end], memory, tasks);
        if (needed < 0) break;
        memory += needed;
      }
      measure_all(tasks);
      if (stopped()) return {};
      for (Task& task : tasks)
        if (task.cell->problem.empty())
          task.cell->timings.push_back({std::move(task.timed.name), std::move(task.seconds)});
      begin = end;
    }
    return out;
  }

  bool stopped() const { return interrupted_ && interrupted_->load(); }

 private:
  /// Adds the cell's tasks; returns their memory, negative when they must wait for the next part.
  double prepare(CellTiming& timing, double memory, std::vector<Task>& tasks) {
    double needed = 0;
    guarded(timing, [&] {
      const CellRecord& record = timing.cell->record;
      const CellInput input =
          cell_input(*timing.cell, registry_, datasets_.get(record.dataset, record.dataset_digest),
                     StopToken(interrupted_, StopToken::Clock::time_point::max()));
      needed = timing.cell->protocol->memory_bytes(input);
      if (memory > 0 && memory + needed > memory_bytes_) {
        needed = -1;
        return;
      }
      for (TimedTask& timed : timing.cell->protocol->timed_tasks(input)) {
        Task task;
        task.cell = &timing;
        task.timed = std::move(timed);
        tasks.push_back(std::move(task));
      }
    });
    return needed;
  }

  void measure_all(std::vector<Task>& tasks) {
    for (Task& task : tasks) {
      if (stopped()) return;
      guarded(*task.cell, [&] {
        const double warm_up_s = measure(task);
        if (warm_up_s >= rules_.max_task_s)
          add(task, warm_up_s);
        else if (warm_up_s < k_min_measurement_s)
          task.executions =
              static_cast<std::int64_t>(std::ceil(k_min_measurement_s / std::max(warm_up_s, 1e-8)));
      });
    }
    Rng rng(Seed{1});
    std::vector<std::size_t> order(tasks.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::int64_t round = 0; round < rules_.rounds; ++round) {
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
      for (std::size_t i : order) {
        if (stopped()) return;
        Task& task = tasks[i];
        if (task.sum_s >= rules_.max_task_s || !task.cell->problem.empty()) continue;
        guarded(*task.cell, [&] { add(task, measure(task)); });
      }
    }
  }

  static void add(Task& task, double seconds) {
    task.seconds.push_back(seconds);
    task.sum_s += seconds * static_cast<double>(task.executions);
  }

  /// A timing that fails says so and changes nothing else: the quality result stands.
  template <class Body>
  static void guarded(CellTiming& timing, Body&& body) {
    if (!timing.problem.empty()) return;
    try {
      body();
    } catch (const std::exception& error) {
      timing.problem = error.what();
    } catch (...) {
      timing.problem = "threw something that is not an exception of the standard library";
    }
  }

  const Registry& registry_;
  OpenDatasets& datasets_;
  const TimingRules& rules_;
  double memory_bytes_;
  const std::atomic<bool>* interrupted_;
};

}  // namespace

void run_timing_cells(std::span<const PlannedCell* const> cells, const Registry& registry,
                      OpenDatasets& datasets, const TimingRules& rules, double memory_bytes,
                      const std::atomic<bool>* interrupted,
                      const std::function<void(const std::vector<CellTiming>&)>& finished) {
  std::map<std::tuple<std::string, std::string, std::string>, std::vector<const PlannedCell*>> groups;
  for (const PlannedCell* cell : cells)
    groups[{cell->record.dataset, cell->record.protocol, cell->record.options}].push_back(cell);
  TimingRun run(registry, datasets, rules, memory_bytes, interrupted);
  tbb::task_arena arena(1);
  std::string dataset;
  for (const auto& [key, group] : groups) {
    if (!dataset.empty() && dataset != std::get<0>(key)) datasets.release(dataset);
    dataset = std::get<0>(key);
    std::vector<CellTiming> timings;
    arena.execute([&, &members = group] { timings = run.run_group(members); });
    if (run.stopped()) return;
    finished(timings);
  }
}

}  // namespace borel
