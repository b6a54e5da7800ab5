// What every method on the simplex does besides its own steps: check the start, keep to the budget, record
// the trace, say why it ended, hand back a point of the simplex.
//
//   SimplexRun run("frank_wolfe", objective, start, stop, trace);
//   std::vector<double> p = run.start();
//   for (index_t k = 0; run.go_on(k, value, gap, p); ++k) { ... one step, with run.calls_left() in mind ... }
//   return run.result(std::move(p));
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/optimizer.hpp"

namespace borel {

class BOREL_EXPORT SimplexRun {
 public:
  /// @throws MethodError when the objective is not on the simplex, n is 0, or the start is not a point of the
  /// simplex to 1e-9 (it names the coordinate)
  SimplexRun(std::string_view method, Objective& objective, std::span<const double> start,
             const StopRule& stop, Trace& trace);

  const SimplexObjective& objective() const { return objective_; }
  index_t size() const { return objective_.size(); }
  /// The start, with rounding errors of its sum removed.
  std::vector<double> start() const { return start_; }

  double gap_tolerance() const { return stop_.gap_tolerance; }
  /// Oracle calls that the budget still allows.
  index_t calls_left() const;
  /// Ends the run as used up and returns false when fewer than `calls` are left. Ask before every oracle
  /// call.
  bool may_call(index_t calls = 1);

  /// Call once per iteration, with the value and the Frank-Wolfe gap at p, before the step. Records the
  /// trace. False when the run is over: gap small enough, budget, stop token, or no better gap for a long
  /// time.
  bool go_on(index_t iteration, double value, double gap, std::span<const double> p);
  /// Ends the run; `why` follows "no progress: ".
  void stall(std::string_view why);
  bool over() const { return over_; }

  /// p with negative rounding dust removed and the sum set to 1, and the outcome.
  OptimizerResult result(std::vector<double> p) const;

 private:
  void end(Termination termination, std::string sentence);

  const SimplexObjective& objective_;
  const StopRule& stop_;
  Trace& trace_;
  std::vector<double> start_;
  std::int64_t first_call_;
  StopToken::Clock::time_point begin_;
  index_t iteration_ = 0, best_iteration_ = 0;
  double best_gap_;
  bool over_ = false;
  Outcome outcome_;
};

}  // namespace borel
