// optimizer.flow: how well a method follows a Wasserstein gradient flow, or reaches its rest.
//
// At the time horizon the state is compared with the exact solution of the problem, without a horizon with the known
// minimiser. With a horizon, on grids of problems with an exact solution, the run is repeated with half the step and half
// the cell width, which gives the order and the work that an accuracy takes. Particles are compared by mean and variance,
// in units of the standard error of as many exact draws, and in one dimension by the transport distance.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "protocols/options.hpp"
#include "protocols/problems.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  double time_horizon = 1;
  double stationarity_tolerance = 1e-8;
  std::int64_t max_steps = 20000;
  std::int64_t halvings = 1;

  void declare(ParamBinder& p) {
    p.real("time_horizon", time_horizon, Range::at_least(0), "flow time",
           "Time to which the flow is followed; 0 = until it rests.");
    p.real("stationarity_tolerance", stationarity_tolerance, Range::at_least(0), "1",
           "Without a horizon: norm of the velocity that counts as rest.");
    p.integer("max_steps", max_steps, Range::closed(1, 1e8), "1", "Steps that a method may take.");
    p.integer(
        "halvings", halvings, Range::closed(0, 5), "1",
        "Times that time step and cells are halved to measure the order, where the exact flow is known.");
  }
};

constexpr double k_domain_tolerance = 1e-12;
constexpr index_t k_max_trace_points = 2000, k_max_snapshots = 24;
constexpr index_t k_histogram_bins = 64;
/// Accuracies at which the work is compared.
struct Level {
  double error;
  const char* calls;
};
constexpr Level k_levels[] = {{1e-2, "calls_to_1e_2"}, {1e-3, "calls_to_1e_3"}, {1e-4, "calls_to_1e_4"}};
/// Points per axis for moments of an exact density, in one and two dimensions.
constexpr index_t k_quadrature[] = {0, 20000, 600};

/// The method's parameters at 1/2^halvings of the step: time_step is the flow methods' common name for its length,
/// n_quantiles the resolution of methods that work on quantiles.
MethodSpec finer(const Registry& registry, MethodSpec spec, std::int64_t halvings) {
  const double factor = std::pow(2.0, static_cast<double>(halvings));
  for (const ParamInfo& param : registry.entry("optimizer", spec.id).params) {
    if (param.name != "time_step" && param.name != "n_quantiles") continue;
    const auto given = spec.params.find(param.name);
    const double value = std::stod(given == spec.params.end() ? param.default_text : given->second);
    spec.params[param.name] = param.name == "time_step" ? fmt::format("{:.17g}", value / factor)
                                                        : fmt::format("{}", std::llround(value * factor));
  }
  return spec;
}

/// One run on its own copy of the problem.
struct FlowCase {
  std::unique_ptr<Optimizer> method;
  std::unique_ptr<Objective> objective;
  std::vector<double> start;
  StopRule stop;

  FlowCase(const CellInput& input, const Options& options, std::int64_t halvings)
      : method(input.registry->make<Optimizer>(finer(*input.registry, input.methods.at(0), halvings))),
        objective(halvings == 0 ? make_problem(*input.dataset, *input.registry)
                                : make_free_energy(*input.dataset, index_t{1} << halvings)),
        start(objective->start(input.seed.derive("start"))) {
    stop.time_horizon = options.time_horizon;
    stop.stationarity_tolerance = options.stationarity_tolerance;
    stop.budget.max_iterations = static_cast<index_t>(options.max_steps) << (2 * halvings);
    stop.budget.stop = input.stop;
  }
  const FreeEnergy& energy() const { return static_cast<const FreeEnergy&>(*objective); }
  bool on_grid() const { return objective->domain() == Domain::grid; }
  OptimizerResult solve(Seed seed, Trace& trace) const {
    return method->minimize(*objective, start, stop, seed.derive("method"), trace);
  }
};

/// Density that the state should have: the exact flow at the horizon, or the minimiser. Empty when neither is known.
std::vector<double> reference_density(const FreeEnergy& energy, double horizon,
                                      TensorView<const double, 2> x) {
  std::vector<double> p(static_cast<std::size_t>(x.shape(0)));
  if (horizon > 0) return energy.exact_density(horizon, x, p) ? p : std::vector<double>();
  if (!energy.stationary_log_density(x, p)) return {};
  for (double& value : p) value = std::exp(value);
  return p;
}

double l1_error(const FlowCase& run, const Options& options, std::span<const double> state) {
  const auto& grid = static_cast<const GridObjective&>(*run.objective).grid();
  const std::vector<double> x = grid.centres();
  const std::vector<double> exact =
      reference_density(run.energy(), options.time_horizon, {x.data(), {grid.size(), grid.n_axes()}});
  if (exact.empty()) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) sum += std::abs(state[i] - exact[i]);
  return sum * grid.cell_volume();
}

class OptimizerFlow final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "optimizer.flow"; }
  int version() const override { return 2; }
  std::string_view summary() const override {
    return "Wasserstein gradient flows against exact solutions: errors, orders, mass, energy";
  }
  std::vector<Role> roles() const override { return {{"optimizer", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::problem; }

  std::vector<MetricInfo> metrics() const override {
    std::vector<MetricInfo> list{
        {"l1_error", "", Direction::lower_is_better, "grid: integral of |p - exact|", true},
        {"w1_error", "", Direction::lower_is_better, "one dimension: transport distance to the exact density",
         true},
        {"order", "", Direction::higher_is_better,
         "log2 of the ratio of l1_error before and after the last halving of time step and cell width",
         false},
    };
    for (const Level& level : k_levels)
      list.push_back(
          {level.calls, "", Direction::lower_is_better,
           fmt::format("oracle calls of the first run with l1_error <= {:g}, time step and cells halved "
                       "from run to run; absent when none gets there",
                       level.error),
           false});
    const std::vector<MetricInfo> others{
        {"mean_error", "", Direction::lower_is_better,
         "particles: |mean - exact| in standard errors of as many exact draws, the worst dimension", false},
        {"variance_error", "", Direction::lower_is_better, "the same for the variance", false},
        {"energy", "", Direction::lower_is_better, "F at the end (particles: without the internal energy)",
         false},
        {"energy_excess", "", Direction::lower_is_better, "F - F*, where the minimum on the grid is known",
         false},
        {"mass_error", "", Direction::lower_is_better, "grid: |sum of cells times volume - 1|", false},
        {"steps", "", Direction::lower_is_better, "steps taken", false},
        {"oracle_calls", "", Direction::lower_is_better,
         "velocities and values asked for, those of the trace included", false},
        {"end_time", "", Direction::none, "flow time at the end", false},
    };
    list.insert(list.end(), others.begin(), others.end());
    return list;
  }

  std::string refuses(const CellInput& input) const override {
    if (input.dataset->attribute("", "domain") == "simplex")
      return fmt::format(
          "the problem is {} on the simplex, this protocol is for free energies on grids and of particles",
          input.dataset->attribute("", "objective"));
    const FlowCase run(input, read(input.options), 0);
    return run.method->refuses(*run.objective);
  }

  double memory_bytes(const CellInput& input) const override {
    const auto objective = make_problem(*input.dataset, *input.registry);
    return 8.0 * 64 * static_cast<double>(objective->size()) + 64.0 * k_max_trace_points;
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const FlowCase main(input, options, 0);
    Trace trace(*main.objective, k_max_trace_points, k_max_snapshots);
    const OptimizerResult found = main.solve(input.seed, trace);
    if (found.outcome.termination == Termination::stopped_by_user) input.stop.throw_if_stopped();
    const std::int64_t calls = main.objective->counts().total();
    const std::string who = input.methods.at(0).text();
    if (const double violation = domain_violation(*main.objective, found.state);
        !(violation <= k_domain_tolerance))
      throw MethodError(fmt::format("{}: the result leaves its domain by {:.3g}, allowed is {:g}", who,
                                    violation, k_domain_tolerance));
    if (options.time_horizon > 0 && found.outcome.termination != Termination::converged)
      throw MethodError(fmt::format("{}: the horizon {:g} was not reached: {}", who, options.time_horizon,
                                    found.outcome.sentence));

    CellResult result;
    const auto add = [&](const char* name, double value, Direction direction) {
      if (std::isfinite(value)) result.metrics.push_back({name, "", value, direction});
    };
    if (main.on_grid())
      compare_cells(input, options, main, trace, found, add, result);
    else
      compare_particles(options, main, trace, found, add, result);
    const double energy =
        main.on_grid()
            ? static_cast<const GridObjective&>(*main.objective).value(found.state)
            : static_cast<const ParticleObjective&>(*main.objective).value(points(main, found.state));
    add("energy", energy, Direction::lower_is_better);
    if (main.objective->optimum())
      add("energy_excess", energy - *main.objective->optimum(), Direction::lower_is_better);
    add("steps", static_cast<double>(found.outcome.iterations), Direction::lower_is_better);
    add("oracle_calls", static_cast<double>(calls), Direction::lower_is_better);
    if (!trace.points().empty()) add("end_time", trace.points().back().flow_time, Direction::none);

    Curve fall{"energy", "flow time", "F", false, false, {}, {}};
    for (const Trace::Point& point : trace.points()) {
      fall.x.push_back(point.flow_time);
      fall.y.push_back(point.value);
    }
    result.curves.push_back(std::move(fall));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const auto prepared = std::make_shared<const FlowCase>(input, read(input.options), 0);
    return {{"solve_s", [prepared, seed = input.seed] {
               Trace silent;
               prepared->solve(seed, silent);
             }}};
  }

 private:
  static TensorView<const double, 2> points(const FlowCase& run, const std::vector<double>& state) {
    const index_t d = run.energy().n_dims();
    return {state.data(), {static_cast<index_t>(state.size()) / d, d}};
  }

  template <class Add>
  void compare_cells(const CellInput& input, const Options& options, const FlowCase& main, const Trace& trace,
                     const OptimizerResult& found, Add&& add, CellResult& result) const {
    const auto& grid = static_cast<const GridObjective&>(*main.objective).grid();
    const double mass = std::accumulate(found.state.begin(), found.state.end(), 0.0) * grid.cell_volume();
    double error = l1_error(main, options, found.state);
    add("l1_error", error, Direction::lower_is_better);
    add("mass_error", std::abs(mass - 1), Direction::lower_is_better);
    if (std::isfinite(error) && options.halvings > 0 && options.time_horizon > 0 &&
        !input.dataset->has("start") && !is_problem_plugin(input.dataset->attribute("", "objective"))) {
      Curve errors{"error_by_cells", "cells per axis", "integral of |p - exact|", true, true, {}, {}};
      double before = error;
      std::array<bool, std::size(k_levels)> reached{};
      // From the first run again: without a trace, whose oracle calls are not the method's.
      for (std::int64_t halving = 0; halving <= options.halvings; ++halving) {
        const FlowCase fine(input, options, halving);
        Trace silent;
        const OptimizerResult finer_result = fine.solve(input.seed, silent);
        if (finer_result.outcome.termination == Termination::stopped_by_user) input.stop.throw_if_stopped();
        before = std::exchange(error, l1_error(fine, options, finer_result.state));
        errors.x.push_back(static_cast<double>(grid.n_cells[0] << halving));
        errors.y.push_back(error);
        const auto calls = static_cast<double>(fine.objective->counts().total());
        for (std::size_t level = 0; level < reached.size(); ++level)
          if (!reached[level] && error <= k_levels[level].error) {
            reached[level] = true;
            add(k_levels[level].calls, calls, Direction::lower_is_better);
          }
      }
      add("order", std::log2(before / error), Direction::higher_is_better);
      result.curves.push_back(std::move(errors));
    }
    if (grid.n_axes() != 1) {
      result.pictures.push_back(
          {"density", "axis 1", "axis 0", grid.n_cells[0], grid.n_cells[1], found.state});
      return;
    }
    const std::vector<double> x = grid.centres();
    const std::vector<double> exact =
        reference_density(main.energy(), options.time_horizon, {x.data(), {grid.size(), 1}});
    if (!exact.empty()) {
      double below = 0, distance = 0;
      for (std::size_t i = 0; i < exact.size(); ++i) {
        below += (found.state[i] - exact[i]) * grid.width(0);
        distance += std::abs(below) * grid.width(0);
      }
      add("w1_error", distance, Direction::lower_is_better);
      result.curves.push_back({"exact density", "x", "p", false, false, x, exact, "density"});
    }
    result.curves.push_back({"density", "x", "p", false, false, x, found.state});
    std::vector<std::vector<double>> states;
    for (const Trace::Snapshot& snapshot : trace.snapshots()) states.push_back(snapshot.state);
    states.push_back(found.state);
    result.pictures.push_back(evolution(states, grid.begin[0], grid.end[0]));
  }

  /// Densities at the snapshots of the trace (steps 0, 1, 2, 4, 8 ...) and at the end, from above to below.
  static Picture evolution(const std::vector<std::vector<double>>& densities, double begin, double end) {
    Picture picture{"density in time",
                    fmt::format("x from {:g} to {:g}", begin, end),
                    "steps 0, 1, 2, 4, 8 … and the last one",
                    static_cast<std::int64_t>(densities.size()),
                    static_cast<std::int64_t>(densities.front().size()),
                    {}};
    for (const std::vector<double>& density : densities)
      picture.values.insert(picture.values.end(), density.begin(), density.end());
    return picture;
  }

  template <class Add>
  static void compare_particles(const Options& options, const FlowCase& main, const Trace& trace,
                                const OptimizerResult& found, Add&& add, CellResult& result) {
    const index_t d = main.energy().n_dims();
    const TensorView<const double, 2> x = points(main, found.state);
    if (d <= 2) compare_moments(options, main, x, add);
    if (d != 1) return;
    const auto [low, high] = std::ranges::minmax(found.state);
    if (!(low < high)) return;
    const double width = (high - low) / static_cast<double>(k_histogram_bins);
    Curve density{"density", "x", "p", false, false, {}, particle_density(found.state, low, high)};
    for (index_t bin = 0; bin < k_histogram_bins; ++bin)
      density.x.push_back(low + (static_cast<double>(bin) + 0.5) * width);
    result.curves.push_back(std::move(density));

    double first = low, last = high;
    for (const Trace::Snapshot& snapshot : trace.snapshots()) {
      const auto ends = std::ranges::minmax(snapshot.state);
      first = std::min(first, ends.min);
      last = std::max(last, ends.max);
    }
    std::vector<std::vector<double>> densities;
    for (const Trace::Snapshot& snapshot : trace.snapshots())
      densities.push_back(particle_density(snapshot.state, first, last));
    densities.push_back(particle_density(found.state, first, last));
    result.pictures.push_back(evolution(densities, first, last));
  }

  /// Histogram of particles in one dimension, as a density.
  static std::vector<double> particle_density(const std::vector<double>& particles, double low, double high) {
    const double width = (high - low) / static_cast<double>(k_histogram_bins);
    std::vector<double> density(static_cast<std::size_t>(k_histogram_bins));
    for (double x : particles) {
      const auto bin = std::clamp(static_cast<index_t>((x - low) / width), index_t{0}, k_histogram_bins - 1);
      density[static_cast<std::size_t>(bin)] += 1 / (static_cast<double>(particles.size()) * width);
    }
    return density;
  }

  /// Mean and variance against those of the exact density, which is integrated over a box around the particles.
  template <class Add>
  static void compare_moments(const Options& options, const FlowCase& main, TensorView<const double, 2> x,
                              Add&& add) {
    const index_t d = main.energy().n_dims(), n = x.shape(0);
    GridSpec box;
    for (index_t c = 0; c < d; ++c) {
      double low = x(0, c), high = x(0, c);
      for (index_t i = 0; i < n; ++i) {
        low = std::min(low, x(i, c));
        high = std::max(high, x(i, c));
      }
      box.begin.push_back(low - (high - low) - 1);
      box.end.push_back(high + (high - low) + 1);
      box.n_cells.push_back(k_quadrature[d]);
    }
    const std::vector<double> at = box.centres();
    const std::vector<double> exact =
        reference_density(main.energy(), options.time_horizon, {at.data(), {box.size(), d}});
    if (exact.empty()) return;
    const double mass = std::accumulate(exact.begin(), exact.end(), 0.0) * box.cell_volume();
    if (!(std::abs(mass - 1) < 1e-3)) return;  // the box misses part of it
    double worst_mean = 0, worst_variance = 0;
    for (index_t c = 0; c < d; ++c) {
      double moment[5] = {};
      for (int power = 1; power <= 4; ++power)
        for (std::size_t i = 0; i < exact.size(); ++i)
          moment[power] += exact[i] / mass * box.cell_volume() *
                           std::pow(at[i * static_cast<std::size_t>(d) + static_cast<std::size_t>(c)] -
                                        moment[1] * (power > 1),
                                    power);
      double mean = 0, variance = 0;
      for (index_t i = 0; i < n; ++i) mean += x(i, c) / static_cast<double>(n);
      for (index_t i = 0; i < n; ++i)
        variance += (x(i, c) - mean) * (x(i, c) - mean) / static_cast<double>(std::max<index_t>(1, n - 1));
      const auto count = static_cast<double>(n);
      worst_mean = std::max(worst_mean, std::abs(mean - moment[1]) / std::sqrt(moment[2] / count));
      worst_variance = std::max(worst_variance, std::abs(variance - moment[2]) /
                                                    std::sqrt((moment[4] - moment[2] * moment[2]) / count));
    }
    add("mean_error", worst_mean, Direction::lower_is_better);
    add("variance_error", worst_variance, Direction::lower_is_better);
    if (d != 1) return;
    // W1 = int |F_N - F|
    std::vector<double> sorted(x.data(), x.data() + n);
    std::ranges::sort(sorted);
    double below = 0, distance = 0;
    std::size_t passed = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      below += exact[i] / mass * box.width(0);
      while (passed < sorted.size() && sorted[passed] <= at[i] + 0.5 * box.width(0)) ++passed;
      distance += std::abs(static_cast<double>(passed) / static_cast<double>(n) - below) * box.width(0);
    }
    add("w1_error", distance, Direction::lower_is_better);
  }
};

}  // namespace

const Protocol& optimizer_flow() {
  static const OptimizerFlow protocol;
  return protocol;
}

}  // namespace borel
