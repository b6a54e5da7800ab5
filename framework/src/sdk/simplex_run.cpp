#include "borel/draft/simplex_run.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr double k_start_tolerance = 1e-9;
/// Iterations without a smaller gap before a run counts as stalled: at least this, and as many as were done
/// until then. Away steps on flat likelihoods have been seen to need more than 2000.
constexpr index_t k_patience = 10000;

const SimplexObjective& simplex_objective(std::string_view method, const Objective& objective) {
  const auto* simplex = dynamic_cast<const SimplexObjective*>(&objective);
  if (!simplex)
    throw MethodError(fmt::format("{}: works on the simplex, the problem '{}' is on another domain", method,
                                  objective.name()));
  return *simplex;
}

/// Negative dust away, sum 1.
void normalise(std::vector<double>& p) {
  long double sum = 0;
  for (double& value : p) {
    value = std::max(value, 0.0);
    sum += value;
  }
  for (double& value : p) value = static_cast<double>(value / sum);
}

}  // namespace

SimplexRun::SimplexRun(std::string_view method, Objective& objective, std::span<const double> start,
                       const StopRule& stop, Trace& trace)
    : objective_(simplex_objective(method, objective)),
      stop_(stop),
      trace_(trace),
      start_(start.begin(), start.end()),
      first_call_(objective.counts().total()),
      begin_(StopToken::Clock::now()),
      best_gap_(std::numeric_limits<double>::infinity()) {
  if (objective.size() == 0)
    throw MethodError(fmt::format("{}: the problem '{}' has 0 coordinates; the simplex needs at least 1",
                                  method, objective.name()));
  if (static_cast<index_t>(start.size()) != objective.size())
    throw MethodError(fmt::format("{}: the start has {} coordinates, the problem '{}' has {}", method,
                                  start.size(), objective.name(), objective.size()));
  long double sum = 0;
  for (std::size_t i = 0; i < start.size(); ++i) {
    if (!std::isfinite(start[i]) || start[i] < -k_start_tolerance)
      throw MethodError(
          fmt::format("{}: coordinate {} of the start is {}, must be >= 0", method, i, start[i]));
    sum += start[i];
  }
  if (!(std::abs(sum - 1) <= k_start_tolerance))
    throw MethodError(
        fmt::format("{}: the start sums to {}, must sum to 1", method, static_cast<double>(sum)));
  normalise(start_);
}

void SimplexRun::end(Termination termination, std::string sentence) {
  if (over_) return;
  over_ = true;
  outcome_ = {termination, std::move(sentence), iteration_};
}

index_t SimplexRun::calls_left() const {
  return static_cast<index_t>(stop_.budget.max_oracle_calls) -
         static_cast<index_t>(objective_.counts().total() - first_call_);
}

bool SimplexRun::may_call(index_t calls) {
  if (calls_left() < calls)
    end(Termination::budget_used_up,
        fmt::format("{} oracle calls used up after {} iterations, best gap {:.3g}",
                    stop_.budget.max_oracle_calls, iteration_, best_gap_));
  return !over_;
}

bool SimplexRun::go_on(index_t iteration, double value, double gap, std::span<const double> p) {
  iteration_ = iteration;
  trace_.record(iteration, value, gap);
  trace_.snapshot(iteration, p);
  if (gap < best_gap_) {
    best_gap_ = gap;
    best_iteration_ = iteration;
  }
  const Budget& budget = stop_.budget;
  if (over_) {
    outcome_.iterations = iteration;
  } else if (gap <= stop_.gap_tolerance) {
    end(Termination::converged,
        fmt::format("gap {:.3g} <= {:.3g} after {} iterations", gap, stop_.gap_tolerance, iteration));
  } else if (budget.stop.stop_requested()) {
    end(Termination::stopped_by_user,
        fmt::format("stopped on request after {} iterations, gap {:.3g}", iteration, gap));
  } else if (iteration >= budget.max_iterations) {
    end(Termination::budget_used_up,
        fmt::format("{} iterations used up, gap {:.3g} > {:.3g}", iteration, gap, stop_.gap_tolerance));
  } else if (std::isfinite(budget.max_seconds) &&
             std::chrono::duration<double>(StopToken::Clock::now() - begin_).count() >= budget.max_seconds) {
    end(Termination::budget_used_up,
        fmt::format("{:.3g} s used up after {} iterations, gap {:.3g}", budget.max_seconds, iteration, gap));
  } else if (iteration - best_iteration_ >= std::max(k_patience, best_iteration_)) {
    stall(fmt::format("the best gap {:.3g} is {} iterations old", best_gap_, iteration - best_iteration_));
  }
  return !over_;
}

void SimplexRun::stall(std::string_view why) {
  end(Termination::stalled,
      fmt::format("no progress after {} iterations: {}; gap {:.3g} is what rounding allows here "
                  "or the best this method can do",
                  iteration_, why, best_gap_));
}

OptimizerResult SimplexRun::result(std::vector<double> p) const {
  normalise(p);
  return {std::move(p), outcome_};
}

}  // namespace borel
