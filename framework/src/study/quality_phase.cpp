#include "study/quality_phase.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <optional>

#include <fmt/format.h>

#include "study/workers.hpp"

namespace borel {
namespace {

using Clock = StopToken::Clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Clock::time_point deadline_after(double seconds) {
  // Centuries overflow the clock; they mean "no limit".
  if (seconds > 1e8) return Clock::time_point::max();
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

/// Lets a cell start when its estimate fits beside those that run. A cell alone may always start if it fits
/// at all.
class MemoryBudget {
 public:
  explicit MemoryBudget(double bytes) : free_(bytes) {}
  /// False when interrupted while waiting.
  bool take(double bytes, const std::atomic<bool>* interrupted) {
    std::unique_lock lock(mutex_);
    while (bytes > free_) {
      if (interrupted && interrupted->load()) return false;
      changed_.wait_for(lock, std::chrono::milliseconds(50));  // signal handlers cannot notify
    }
    free_ -= bytes;
    return true;
  }
  void give_back(double bytes) {
    const std::lock_guard lock(mutex_);
    free_ += bytes;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  double free_;
};

CellResult ended(CellOutcome outcome, std::string reason) {
  CellResult result;
  result.outcome = outcome;
  result.reason = std::move(reason);
  return result;
}

/// Protocols promise names and finite headline numbers; a broken promise must not reach a ranking.
void check_metrics(const Protocol& protocol, const CellResult& result) {
  const std::vector<MetricInfo> declared = protocol.metrics();
  for (const Metric& metric : result.metrics) {
    const auto info = std::find_if(declared.begin(), declared.end(),
                                   [&](const MetricInfo& m) { return m.name == metric.name; });
    if (info == declared.end())
      throw Error(fmt::format("protocol {} returned the metric '{}' without declaring it", protocol.id(),
                              metric.name));
    if (info->headline && std::isnan(metric.value))
      throw MethodError(fmt::format("the headline metric '{}' is not a number", metric.name));
  }
}

class QualityRun {
 public:
  QualityRun(std::span<const PlannedCell* const> cells, const Registry& registry, OpenDatasets& datasets,
             const QualityRules& rules, QualityObserver& observer)
      : cells_(cells),
        registry_(registry),
        datasets_(datasets),
        rules_(rules),
        observer_(observer),
        memory_(rules.memory_bytes) {
    for (const PlannedCell* cell : cells) ++users_[cell->record.dataset];
  }

  void run() {
    run_workers(std::max(1, rules_.threads), [this] { work(); });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  /// One worker: takes the next cell until there is none.
  void work() {
    while (!stopped()) {
      const std::size_t i = next_.fetch_add(1);
      if (i >= cells_.size()) return;
      try {
        isolated([&] { run_one(*cells_[i]); });
      } catch (...) {  // the journal or the display, not the cell
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        halt_.store(true);
      }
    }
  }

  bool interrupted() const { return rules_.interrupted && rules_.interrupted->load(); }
  bool stopped() const { return halt_.load() || interrupted(); }

  void run_one(const PlannedCell& cell) {
    observer_.cell_started(cell);
    const auto begin = Clock::now();
    std::optional<CellResult> result = evaluate(cell);
    forget_dataset(cell.record.dataset);
    if (!result) return;
    result->wall_s = seconds_since(begin);
    if (rules_.fail_fast && !is_final(result->outcome)) halt_.store(true);
    observer_.cell_finished(cell, std::move(*result));
  }

  /// nullopt when an interruption stopped the cell.
  std::optional<CellResult> evaluate(const PlannedCell& cell) {
    const Protocol& protocol = *cell.protocol;
    double reserved = 0;
    std::optional<CellResult> result;
    bool has_failed = false;  // for a reason of its own, whatever the time
    const auto failed = [&](std::string reason) {
      has_failed = true;
      result = ended(CellOutcome::failed, std::move(reason));
    };
    StopToken stop(rules_.interrupted, Clock::time_point::max());
    try {
      CellInput input =
          cell_input(cell, registry_, datasets_.get(cell.record.dataset, cell.record.dataset_digest), stop);
      if (std::string reason = protocol.refuses(input); !reason.empty())
        return ended(CellOutcome::skipped, std::move(reason));
      const double needed = protocol.memory_bytes(input);
      if (needed > rules_.memory_bytes)
        return ended(
            CellOutcome::failed,
            fmt::format(
                "needs about {:.2f} GB of memory, and the study's budget is {:.2f} GB; raise memory_gb "
                "in [limits] or make the cell smaller",
                needed / 1e9, rules_.memory_bytes / 1e9));
      if (!memory_.take(needed, rules_.interrupted)) return std::nullopt;
      reserved = needed;
      stop = StopToken(rules_.interrupted, deadline_after(rules_.time_per_cell_s));
      input.stop = stop;
      result = protocol.run(input);
      check_metrics(protocol, *result);
    } catch (const Stopped& error) {
      result = ended(CellOutcome::failed, error.what());
    } catch (const std::bad_alloc&) {
      failed("ran out of memory (std::bad_alloc)");
    } catch (const Error& error) {
      failed(error.what());
    } catch (const std::exception& error) {
      failed(fmt::format("unexpected error: {}", error.what()));
    } catch (...) {
      failed("threw something that is not an exception of the standard library");
    }
    if (reserved > 0) memory_.give_back(reserved);
    if (interrupted()) return std::nullopt;
    // A method may return early instead of throwing; such numbers would depend on the machine's speed.
    if (!has_failed && stop.stop_requested())
      result = ended(
          CellOutcome::timeout,
          fmt::format("did not finish within {} s (time_per_cell_s in [limits])", rules_.time_per_cell_s));
    return result;
  }

  void forget_dataset(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (--users_[name] == 0) datasets_.release(name);
  }

  std::span<const PlannedCell* const> cells_;
  const Registry& registry_;
  OpenDatasets& datasets_;
  const QualityRules& rules_;
  QualityObserver& observer_;
  MemoryBudget memory_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> halt_{false};
  std::mutex mutex_;
  std::map<std::string, std::size_t> users_;  // cells that still need a dataset
  std::exception_ptr error_;
};

}  // namespace

CellInput cell_input(const PlannedCell& cell, const Registry& registry,
                     std::shared_ptr<const Dataset> dataset, StopToken stop) {
  CellInput input;
  input.dataset = std::move(dataset);
  input.registry = &registry;
  input.methods = cell.methods;
  input.options = cell.options;
  input.repetition = cell.record.repetition;
  input.seed = Seed{cell.record.seed};
  input.stop = stop;
  return input;
}

void run_quality_cells(std::span<const PlannedCell* const> cells, const Registry& registry,
                       OpenDatasets& datasets, const QualityRules& rules, QualityObserver& observer) {
  QualityRun(cells, registry, datasets, rules, observer).run();
}

}  // namespace borel
