// optimizer.convergence: how far, how fast, and how surely a method minimises a problem on the simplex.
//
// The gap is computed here from the returned p, never taken from the method; a method that claims convergence
// without it fails. So it is for the work to reach a gap of 1e-3, 1e-6 and 1e-9: each is a run of its own that is
// told to stop there, and counts when the framework finds that gap at its result; else it is left out. The timings
// to_1e_3_s and the like are those runs, solve_s is the run to `tolerance`.
//
// `fitted_order` and `contraction` are those of convergence_rates.hpp; `guaranteed_order` is what the method claims for
// every smooth convex function.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "protocols/convergence_rates.hpp"
#include "protocols/options.hpp"
#include "protocols/problems.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  std::int64_t max_iterations = 2000;
  double tolerance = 1e-9;

  void declare(ParamBinder& p) {
    p.integer("max_iterations", max_iterations, Range::closed(1, 1e8), "1", "Steps that a method may take.");
    p.real("tolerance", tolerance, Range::closed(0, 1e6), "1", "Frank-Wolfe gap at which a method may stop.");
  }
};

struct Level {
  double gap;
  const char* iterations;
  const char* calls;
  const char* seconds;
};
constexpr Level k_levels[] = {{1e-3, "iterations_to_1e_3", "calls_to_1e_3", "to_1e_3_s"},
                              {1e-6, "iterations_to_1e_6", "calls_to_1e_6", "to_1e_6_s"},
                              {1e-9, "iterations_to_1e_9", "calls_to_1e_9", "to_1e_9_s"}};
/// What rounding may add to a gap when it is computed again.
constexpr double k_gap_slack = 1e-6, k_gap_rounding = 1e-15;
constexpr double k_domain_tolerance = 1e-12;
/// Marginals and constraints of problems that have them.
constexpr double k_constraint_tolerance = 1e-8;
constexpr index_t k_max_snapshots = 64;
/// The logarithmic axis of gaps ends here.
constexpr double k_smallest_gap = 1e-17;
constexpr index_t k_max_trace_points = 100000;
constexpr std::size_t k_max_curve_points = 300;

/// The uniform point in repetition 0, then uniform draws from the simplex.
std::vector<double> starting_point(index_t n, std::int64_t repetition, Seed seed) {
  std::vector<double> p(static_cast<std::size_t>(n), 1.0);
  if (repetition > 0) {
    Rng rng(seed.derive("start"));
    for (double& value : p) value = -std::log(rng.uniform_open());
  }
  double sum = 0;
  for (double value : p) sum += value;
  for (double& value : p) value /= sum;
  return p;
}

/// One run of a method on its own copy of the problem.
struct Problem {
  std::unique_ptr<Optimizer> method;
  std::unique_ptr<Objective> objective;
  std::vector<double> start;
  StopRule stop;

  Problem(const CellInput& input, const Options& options)
      : method(input.registry->make<Optimizer>(input.methods.at(0))),
        objective(make_problem(*input.dataset, *input.registry)) {
    start = starting_point(objective->size(), input.repetition, input.seed);
    stop.gap_tolerance = options.tolerance;
    stop.budget.max_iterations = options.max_iterations;
    stop.budget.stop = input.stop;
  }
  const SimplexObjective& simplex() const { return static_cast<const SimplexObjective&>(*objective); }
  OptimizerResult solve(Seed seed, Trace& trace) const {
    return method->minimize(*objective, start, stop, seed.derive("method"), trace);
  }
};

bool reaches(const SimplexObjective& objective, const OptimizerResult& found, double gap) {
  return certified_gap(objective, found.state, found.multipliers) <= gap * (1 + k_gap_slack) + k_gap_rounding;
}

struct Work {
  double iterations = 0, calls = 0;
};

/// A run that is told to stop at the gap; nothing when it does not get there.
std::optional<Work> work_to(const CellInput& input, const Options& options, double gap) {
  Options to_level = options;
  to_level.tolerance = gap;
  const Problem problem(input, to_level);
  Trace silent;
  const OptimizerResult found = problem.solve(input.seed, silent);
  if (found.outcome.termination == Termination::stopped_by_user) input.stop.throw_if_stopped();
  const double calls = problem.objective->counts().work();
  if (!reaches(problem.simplex(), found, gap)) return std::nullopt;
  return Work{static_cast<double>(found.outcome.iterations), calls};
}

/// Corners of the triangle that stands for the simplex of three coordinates.
Curve triangle() {
  return {"the simplex", "", "", false, false, {0, 1, 0.5, 0}, {0, 0, std::sqrt(0.75), 0}, "path"};
}

/// The path in that triangle.
Curve triangle_path(const Trace& trace, const std::vector<double>& end) {
  Curve path{"path", "p_2 + p_3 / 2", "sqrt(3) p_3 / 2", false, false, {}, {}};
  const auto add = [&](const std::vector<double>& p) {
    path.x.push_back(p[1] + 0.5 * p[2]);
    path.y.push_back(std::sqrt(0.75) * p[2]);
  };
  for (const Trace::Snapshot& snapshot : trace.snapshots()) add(snapshot.state);
  add(end);
  return path;
}

/// Points evenly spread over log(index).
template <class X, class Y>
Curve thinned_curve(Curve curve, const std::vector<Trace::Point>& points, X&& x, Y&& y) {
  std::size_t next = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if ((i < next && i + 1 < points.size()) || !std::isfinite(y(points[i]))) continue;
    curve.x.push_back(x(points[i]));
    curve.y.push_back(y(points[i]));
    next = i + 1 + i * 12 / k_max_curve_points;
  }
  return curve;
}

class OptimizerConvergence final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "optimizer.convergence"; }
  int version() const override { return 4; }
  std::string_view summary() const override {
    return "Value, certified gap, and work to reach a gap, on problems over the simplex";
  }
  std::vector<Role> roles() const override { return {{"optimizer", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::problem; }

  std::vector<MetricInfo> metrics() const override {
    std::vector<MetricInfo> list{
        {"gap", "", Direction::lower_is_better,
         "Frank-Wolfe gap at the returned point, an upper bound of F(p) - F*, computed by the framework",
         true},
        {"suboptimality", "", Direction::lower_is_better, "F(p) - F*, where the minimum is known", false},
        {"value", "", Direction::lower_is_better, "F at the returned point", false},
        {"iterations", "", Direction::lower_is_better, "steps taken", false},
        {"oracle_calls", "", Direction::lower_is_better,
         "values, gradients and curvature products asked for, and columns of quadratic forms at their cost "
         "in gradients",
         false},
        {"support", "", Direction::none, "coordinates of the returned point that are not zero", false},
        {"constraint_violation", "", Direction::lower_is_better,
         "largest error of constraints or marginals, for problems that have them", false},
        {"fitted_order", "", Direction::higher_is_better,
         "q of F - F* ~ k^-q, fitted to the trace (the gap where F* is not known)", false},
        {"guaranteed_order", "", Direction::none,
         "q of F - F* = O(k^-q) that theory promises for smooth convex F; absent when it promises none",
         false},
        {"contraction", "", Direction::lower_is_better,
         "r of F - F* ~ r^k, fitted to the trace (the gap where F* is not known)", false},
    };
    for (const Level& level : k_levels) {
      list.push_back({level.iterations, "", Direction::lower_is_better,
                      fmt::format("steps to a certified gap of at most {:g}; absent when that is not reached",
                                  level.gap),
                      false});
      list.push_back(
          {level.calls, "", Direction::lower_is_better,
           fmt::format("oracle calls to a certified gap of at most {:g}; absent when that is not reached",
                       level.gap),
           level.gap == 1e-6});
    }
    return list;
  }

  std::string refuses(const CellInput& input) const override {
    if (const std::string domain = input.dataset->attribute("", "domain"); domain != "simplex")
      return fmt::format("the problem is on {}, this protocol is for the simplex", domain);
    const Problem problem(input, read(input.options));
    return problem.method->refuses(*problem.objective);
  }

  double memory_bytes(const CellInput& input) const override {
    double size_bytes = 64.0 * static_cast<double>(k_max_trace_points);
    for (const char* array : {"a", "likelihood", "features", "covariance", "kernel", "moments", "cost", "x",
                              "c", "target", "value"})
      if (input.dataset->has(array)) {
        double count = 1;
        for (std::int64_t extent : input.dataset->shape(array)) count *= static_cast<double>(extent);
        // the copy in the objective; methods on quadratics may keep as much again
        size_bytes += 3 * sizeof(double) * count;
      }
    return size_bytes;
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const Problem problem(input, options);
    Trace trace(*problem.objective, std::min<index_t>(options.max_iterations + 2, k_max_trace_points),
                problem.objective->size() == 3 ? k_max_snapshots : 0);
    const OptimizerResult found = problem.solve(input.seed, trace);
    if (found.outcome.termination == Termination::stopped_by_user) input.stop.throw_if_stopped();
    const double calls = problem.objective->counts().work();

    const std::string who = input.methods.at(0).text();
    if (const double violation = domain_violation(*problem.objective, found.state);
        !(violation <= k_domain_tolerance))
      throw MethodError(fmt::format("{}: the result leaves the simplex by {:.3g}, allowed is {:g}", who,
                                    violation, k_domain_tolerance));
    const double gap = certified_gap(problem.simplex(), found.state, found.multipliers);
    if (found.outcome.termination == Termination::converged &&
        !reaches(problem.simplex(), found, options.tolerance))
      throw MethodError(
          fmt::format("{}: says converged ({}), but the gap at its result is {:.6g}, not <= {:g}", who,
                      found.outcome.sentence, gap, options.tolerance));

    const double missed = constraint_violation(problem.simplex(), found.state);
    if (found.outcome.termination == Termination::converged && !(missed <= k_constraint_tolerance))
      throw MethodError(fmt::format("{}: says converged ({}), but misses constraints by {:.6g}, not <= {:g}",
                                    who, found.outcome.sentence, missed, k_constraint_tolerance));

    CellResult result;
    const auto add = [&](const char* name, double value, Direction direction) {
      result.metrics.push_back({name, "", value, direction});
    };
    const double value = problem.simplex().value(found.state);
    if (std::isfinite(gap)) add("gap", gap, Direction::lower_is_better);  // none without multipliers
    const std::optional<double> optimum = problem.objective->optimum();
    if (optimum) add("suboptimality", value - *optimum, Direction::lower_is_better);
    add("value", value, Direction::lower_is_better);
    add("iterations", static_cast<double>(found.outcome.iterations), Direction::lower_is_better);
    add("oracle_calls", calls, Direction::lower_is_better);
    add("support", static_cast<double>(std::ranges::count_if(found.state, [](double p) { return p > 0; })),
        Direction::none);
    if (problem.simplex().constraints() || problem.simplex().transport())
      add("constraint_violation", missed, Direction::lower_is_better);
    const ConvergenceRates rates = fit_convergence_rates(trace.points(), optimum);
    if (std::isfinite(rates.order)) add("fitted_order", rates.order, Direction::higher_is_better);
    if (const double order = problem.method->traits().order; order > 0)
      add("guaranteed_order", order, Direction::none);
    if (std::isfinite(rates.contraction)) add("contraction", rates.contraction, Direction::lower_is_better);
    for (const Level& level : k_levels) {
      if (!(gap <= level.gap * (1 + k_gap_slack) + k_gap_rounding))
        continue;  // the longest run is not there either
      const std::optional<Work> work = level.gap == options.tolerance
                                           ? Work{static_cast<double>(found.outcome.iterations), calls}
                                           : work_to(input, options, level.gap);
      if (!work) continue;
      add(level.iterations, work->iterations, Direction::lower_is_better);
      add(level.calls, work->calls, Direction::lower_is_better);
    }

    if (problem.objective->size() == 3) {
      result.curves.push_back(triangle());
      result.curves.push_back(triangle_path(trace, found.state));
    }
    const auto iteration = [](const Trace::Point& point) { return static_cast<double>(point.iteration + 1); };
    const auto gap_of = [](const Trace::Point& point) { return std::max(point.gap, k_smallest_gap); };
    result.curves.push_back(thinned_curve({"gap", "iteration + 1", "Frank-Wolfe gap", true, true, {}, {}},
                                          trace.points(), iteration, gap_of));
    result.curves.push_back(thinned_curve(
        {"gap_by_calls", "oracle calls", "Frank-Wolfe gap", true, true, {}, {}}, trace.points(),
        [](const Trace::Point& point) { return std::max(1.0, point.oracle_calls); }, gap_of));
    if (optimum)
      result.curves.push_back(thinned_curve(
          {"suboptimality", "iteration + 1", "F - F*", true, true, {}, {}}, trace.points(), iteration,
          [&](const Trace::Point& point) { return std::max(point.value - *optimum, k_smallest_gap); }));
    else
      result.curves.push_back(thinned_curve({"value", "iteration + 1", "F", true, false, {}, {}},
                                            trace.points(), iteration,
                                            [](const Trace::Point& point) { return point.value; }));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    std::vector<TimedTask> tasks;
    const auto add = [&](const char* name, double gap) {
      Options to_level = options;
      to_level.tolerance = gap;
      const auto problem = std::make_shared<const Problem>(input, to_level);
      tasks.push_back({name, [problem, seed = input.seed] {
                         Trace silent;
                         problem->solve(seed, silent);
                       }});
    };
    add("solve_s", options.tolerance);
    for (const Level& level : k_levels)
      if (work_to(input, options, level.gap)) add(level.seconds, level.gap);
    return tasks;
  }
};

}  // namespace

const Protocol& optimizer_convergence() {
  static const OptimizerConvergence protocol;
  return protocol;
}

}  // namespace borel
