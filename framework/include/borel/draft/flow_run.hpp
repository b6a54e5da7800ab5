// What every flow on grids and particles does besides its own steps: check the start, keep time and budget, record
// the trace, say why it ended, hand back a state of the domain.
//
//   FlowRun run("fokker_planck", objective, start, stop, trace);
//   std::vector<double> state = run.start();
//   while (run.go_on()) {
//     const double dt = run.next_step(params.time_step);
//     ... one step; run.may_call() before each oracle call ...
//     run.advance(dt, speed, state);
//   }
//   return run.result(std::move(state));
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/optimizer.hpp"

namespace borel {

class BOREL_EXPORT FlowRun {
 public:
  /// @throws MethodError when the objective is on the simplex, the start has a wrong size, holds a number that is not
  /// finite, or (grid) is negative or has another mass than 1 to 1e-9
  FlowRun(std::string_view method, Objective& objective, std::span<const double> start, const StopRule& stop,
          Trace& trace);

  /// The start; on grids with mass 1 to rounding.
  std::vector<double> start() const { return start_; }
  index_t iteration() const { return iteration_; }
  double time() const { return time_; }
  /// 0 when there is none: the flow runs to stationarity.
  double horizon() const { return stop_.time_horizon; }

  /// False when the run is over; asks for budget and stop token. Call before each step.
  bool go_on();
  /// Ends the run as used up and returns false when fewer than `calls` oracle calls are left.
  bool may_call(index_t calls = 1);
  /// `wanted`, or what is left to the horizon; when the rest is less than two steps it is divided evenly.
  double next_step(double wanted) const;

  /// After a step of flow time dt. Values for the trace are asked for here, on the framework's account: they are counted
  /// by the objective, not against the budget. Ends the run at the horizon, or without one when speed is at most the
  /// stationarity tolerance.
  /// @param speed norm of the velocity, by which stationarity is judged; NaN when the method has no such thing
  /// @throws MethodError when the state holds a number that is not finite (it names the coordinate)
  void advance(double dt, double speed, std::span<const double> state);
  /// Ends the run; `why` follows "no progress: ".
  void stall(std::string_view why);

  /// State and outcome. Grids: cells below 0 by rounding become 0, then the mass is set to 1.
  /// @param remark added to the sentence of the outcome
  OptimizerResult result(std::vector<double> state, std::string_view remark = {}) const;

 private:
  void end(Termination termination, std::string sentence);
  void record(std::span<const double> state);

  std::string method_;
  Objective& objective_;
  const StopRule& stop_;
  Trace& trace_;
  std::vector<double> start_;
  double cell_volume_ = 0;  // 0 on particles
  std::int64_t first_call_, trace_calls_ = 0;
  StopToken::Clock::time_point begin_;
  index_t iteration_ = 0;
  double time_ = 0;
  bool over_ = false;
  Outcome outcome_;
};

}  // namespace borel
