// The optimizer family: minimise F over probability distributions.
//
//   simplex(n)       p in R^n, p_i >= 0, sum p_i = 1
//   grid             a density on cells of a 1-D or 2-D grid: p >= 0, sum p_c * cell_volume = 1
//   particles(N, d)  the empirical measure of N points in R^d
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/objective.hpp"
#include "borel/rng.hpp"
#include "borel/tensor.hpp"
#include "borel/termination.hpp"
#include "borel/trait_list.hpp"

namespace borel {

/// When to end. The first limit that is met decides.
struct StopRule {
  Budget budget = {};
  double gap_tolerance = 1e-9;  ///< simplex: stop when the Frank-Wolfe gap is at most this (absolute)
  double time_horizon = 0;      ///< flows: evolve to this time; 0 = to stationarity
  double stationarity_tolerance = 1e-9;  ///< flows without horizon: norm of the velocity
};

/// What happened on the way. Recording is cheap and can be switched off for timing; the framework adds oracle counts and
/// seconds, and thins out points so that memory stays bounded.
class BOREL_EXPORT Trace {
 public:
  struct Point {
    index_t iteration = 0;
    double oracle_calls = 0;                 ///< OracleCounts::work()
    double seconds = 0, value = 0, gap = 0;  ///< gap: NaN where unknown
    double flow_time = 0;                    ///< t of a flow, else 0
  };
  struct Snapshot {
    index_t iteration = 0;
    double flow_time = 0;
    std::vector<double> state;  ///< p, cell values or particles
  };

  Trace() = default;  ///< records nothing
  Trace(const Objective& objective, index_t max_points, index_t max_snapshots);

  bool active() const { return objective_ != nullptr; }
  /// @param value F as the objective gives it (particles: without the internal energy, unless the method estimates it)
  void record(index_t iteration, double value, double gap, double flow_time = 0);
  /// Keeps a copy now and then: after 1, 2, 4, 8, ... iterations, thinned to max_snapshots.
  void snapshot(index_t iteration, std::span<const double> state, double flow_time = 0);

  const std::vector<Point>& points() const { return points_; }
  const std::vector<Snapshot>& snapshots() const { return snapshots_; }

 private:
  const Objective* objective_ = nullptr;
  StopToken::Clock::time_point start_{};
  index_t max_points_ = 0, max_snapshots_ = 0, stride_ = 1, next_snapshot_ = 0;
  std::vector<Point> points_;
  std::vector<Snapshot> snapshots_;
};

struct OptimizerResult {
  std::vector<double> state = {};  ///< p, cell values, or particles row-major [N, d]
  Outcome outcome = {};
  /// Multipliers y of the objective's linear constraints A p = b, signs as in grad F + A'y; for transport the rows'
  /// [n_source], then the columns' [n_target]. The framework turns any y into a certified gap. Empty = none found.
  std::vector<double> multipliers = {};
};

struct OptimizerTraits {
  bool simplex = false, grid = false, particles = false;  ///< domains it works on
  bool monotone = false;  ///< values in the trace never increase; contract-tested when claimed
  bool needs_smoothness = false;
  bool random = false;              ///< uses the seed
  bool linear_constraints = false;  ///< respects SimplexObjective::constraints()
  bool transport = false;           ///< respects SimplexObjective::transport()
  std::string rate = {};            ///< what theory says, e.g. "O(1/k^2)"
  double order =
      0;  ///< q of F - F* = O(k^-q) for every smooth convex F, logarithms aside; 0: none. Contract-tested
  bool linear =
      false;  ///< F - F* = O(r^k), r < 1, for smooth, strongly convex F with its minimum inside. Contract-tested
};

/// A distribution optimizer. Immutable after construction; every member may be called from many threads at once, each
/// with an objective of its own.
class BOREL_EXPORT Optimizer {
 public:
  static constexpr std::string_view family = "optimizer";
  virtual ~Optimizer();

  virtual OptimizerTraits traits() const = 0;

  /// "" when the method can work on this objective, else the reason (domain, missing structure); recorded as skipped. The
  /// default compares traits(): domain, and constraints or transport, which a method that ignores them would violate.
  virtual std::string refuses(const Objective& objective) const;

  /// @param start a point of the domain (n, number of cells, or N * d numbers)
  /// @return a point of the domain, to 1e-12, whatever happened; `converged` only when the method's test holds. Linear
  ///   constraints and marginals may be met less exactly; the framework measures constraint_violation()
  /// @throws MethodError for non-finite values or gradients (it names the call and the coordinate)
  virtual OptimizerResult minimize(Objective& objective, std::span<const double> start, const StopRule& stop,
                                   Seed seed, Trace& trace) const = 0;

  TraitList describe() const;
};

/// g(p) = p . grad F(p) - min_i grad_i F(p) >= F(p) - F* for convex F; computed in this order so that it cannot be
/// negative by rounding on the support. One gradient call.
BOREL_EXPORT double frank_wolfe_gap(const SimplexObjective& objective, std::span<const double> p);
BOREL_EXPORT double frank_wolfe_gap(std::span<const double> p, std::span<const double> gradient);

/// The same for a domain narrowed by constraints() or transport(), from any multipliers y:
///   p . grad F + y . b - min_i (grad F + A'y)_i  >= F(p) - F*.
/// Equals frank_wolfe_gap without either. NaN when y is empty though there are constraints. One gradient call.
BOREL_EXPORT double certified_gap(const SimplexObjective& objective, std::span<const double> p,
                                  std::span<const double> multipliers);

/// Largest |A p - b| over constraints and marginals; 0 without either.
BOREL_EXPORT double constraint_violation(const SimplexObjective& objective, std::span<const double> p);

/// Distance of a state from its domain: most negative entry and error of the total mass.
BOREL_EXPORT double domain_violation(const Objective& objective, std::span<const double> state);

/// Euclidean projection onto the simplex, in place. Condat, Math. Prog. 158 (2016); expected O(n); the threshold is
/// recomputed from the final support. @return the threshold tau
BOREL_EXPORT double project_onto_simplex(std::span<double> x);

}  // namespace borel
