#include "borel/draft/flow_run.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr double k_start_tolerance = 1e-9;
/// A rest of the horizon that is smaller than this part of it is rounding.
constexpr double k_time_rounding = 1e-12;

}  // namespace

FlowRun::FlowRun(std::string_view method, Objective& objective, std::span<const double> start,
                 const StopRule& stop, Trace& trace)
    : method_(method),
      objective_(objective),
      stop_(stop),
      trace_(trace),
      start_(start.begin(), start.end()),
      first_call_(objective.counts().total()),
      begin_(StopToken::Clock::now()) {
  if (objective.domain() == Domain::simplex)
    throw MethodError(fmt::format("{}: works on grids or particles, the problem '{}' is on the simplex",
                                  method, objective.name()));
  if (objective.size() == 0 || static_cast<index_t>(start.size()) != objective.size())
    throw MethodError(fmt::format("{}: the start has {} numbers, the problem '{}' has {}", method,
                                  start.size(), objective.name(), objective.size()));
  const bool on_grid = objective.domain() == Domain::grid;
  long double mass = 0;
  for (std::size_t i = 0; i < start_.size(); ++i) {
    if (!std::isfinite(start_[i]) || (on_grid && start_[i] < 0))
      throw MethodError(fmt::format("{}: number {} of the start is {}, must be {}", method, i, start_[i],
                                    on_grid ? ">= 0" : "finite"));
    mass += start_[i];
  }
  if (on_grid) {
    cell_volume_ = static_cast<const GridObjective&>(objective).grid().cell_volume();
    mass *= cell_volume_;
    if (!(std::abs(mass - 1) <= k_start_tolerance))
      throw MethodError(fmt::format("{}: the start has mass {} (sum of cells times cell volume), must be 1",
                                    method, static_cast<double>(mass)));
    for (double& cell : start_) cell = static_cast<double>(cell / mass);
  }
  record(start_);
}

void FlowRun::end(Termination termination, std::string sentence) {
  if (over_) return;
  over_ = true;
  outcome_ = {termination, std::move(sentence), iteration_};
}

void FlowRun::record(std::span<const double> state) {
  if (!trace_.active()) return;
  const std::int64_t before = objective_.counts().total();
  double value = 0;
  if (objective_.domain() == Domain::grid) {
    value = static_cast<const GridObjective&>(objective_).value(state);
  } else {
    const auto& particles = static_cast<const ParticleObjective&>(objective_);
    value = particles.value({state.data(), {particles.n_particles(), particles.n_dims()}});
  }
  trace_calls_ += objective_.counts().total() - before;
  trace_.record(iteration_, value, std::numeric_limits<double>::quiet_NaN(), time_);
  trace_.snapshot(iteration_, state, time_);
}

bool FlowRun::may_call(index_t calls) {
  const std::int64_t used = objective_.counts().total() - first_call_ - trace_calls_;
  if (static_cast<std::int64_t>(stop_.budget.max_oracle_calls) - used < static_cast<std::int64_t>(calls))
    end(Termination::budget_used_up, fmt::format("{} oracle calls used up after {} steps, at time {:.6g}",
                                                 stop_.budget.max_oracle_calls, iteration_, time_));
  return !over_;
}

bool FlowRun::go_on() {
  const Budget& budget = stop_.budget;
  if (over_) return false;
  if (budget.stop.stop_requested())
    end(Termination::stopped_by_user,
        fmt::format("stopped on request after {} steps, at time {:.6g}", iteration_, time_));
  else if (iteration_ >= budget.max_iterations)
    end(Termination::budget_used_up, fmt::format("{} steps used up at time {:.6g}{}", iteration_, time_,
                                                 horizon() > 0 ? fmt::format(" of {:.6g}", horizon()) : ""));
  else if (std::isfinite(budget.max_seconds) &&
           std::chrono::duration<double>(StopToken::Clock::now() - begin_).count() >= budget.max_seconds)
    end(Termination::budget_used_up, fmt::format("{:.3g} s used up after {} steps, at time {:.6g}",
                                                 budget.max_seconds, iteration_, time_));
  return !over_;
}

double FlowRun::next_step(double wanted) const {
  if (!(horizon() > 0)) return wanted;
  const double left = horizon() - time_;
  if (left <= wanted * (1 + k_time_rounding)) return left;
  return left < 2 * wanted ? left / 2 : wanted;
}

void FlowRun::advance(double dt, double speed, std::span<const double> state) {
  for (std::size_t i = 0; i < state.size(); ++i)
    if (!std::isfinite(state[i]))
      throw MethodError(
          fmt::format("{}: after step {} number {} of the state is {}; choose a smaller time step", method_,
                      iteration_ + 1, i, state[i]));
  ++iteration_;
  time_ += dt;
  if (horizon() > 0 && time_ >= horizon() * (1 - k_time_rounding)) time_ = horizon();
  record(state);
  if (over_)
    outcome_.iterations = iteration_;
  else if (horizon() > 0 && time_ == horizon())
    end(Termination::converged, fmt::format("time {:.6g} reached after {} steps", time_, iteration_));
  else if (!(horizon() > 0) && speed <= stop_.stationarity_tolerance)
    end(Termination::converged, fmt::format("velocity {:.3g} <= {:.3g} after {} steps, at time {:.6g}", speed,
                                            stop_.stationarity_tolerance, iteration_, time_));
}

void FlowRun::stall(std::string_view why) {
  end(Termination::stalled,
      fmt::format("no progress after {} steps, at time {:.6g}: {}", iteration_, time_, why));
}

OptimizerResult FlowRun::result(std::vector<double> state, std::string_view remark) const {
  if (cell_volume_ > 0) {
    long double mass = 0;
    for (double& cell : state) {
      cell = std::max(cell, 0.0);
      mass += cell;
    }
    mass *= cell_volume_;
    for (double& cell : state) cell = static_cast<double>(cell / mass);
  }
  OptimizerResult result{std::move(state), outcome_, {}};
  if (!remark.empty()) result.outcome.sentence.append("; ").append(remark);
  return result;
}

}  // namespace borel
