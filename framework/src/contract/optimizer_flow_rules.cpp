// Rules for methods on grids and particles. Each runs over all variants of a method and over flows of every kind; what a
// variant refuses is passed over.
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include <fmt/format.h>
#include <tbb/task_arena.h>

#include "borel/error.hpp"
#include "contract/optimizer_subject.hpp"

namespace borel::contract {
namespace {

constexpr double k_domain_tolerance = 1e-12;  // optimizer.hpp promises this
constexpr double k_rounding = 1e-12;

struct FlowResult {
  OptimizerResult result;
  std::int64_t calls = 0;
  std::vector<Trace::Point> points;
};

FlowResult run(const Optimizer& method, FreeEnergy& energy, const StopRule& stop, Seed seed,
               bool with_trace) {
  const std::int64_t before = energy.counts().total();
  Trace trace = with_trace ? Trace(energy, 100000, 8) : Trace();
  FlowResult done;
  done.result = method.minimize(energy, energy.start(seed), stop, seed, trace);
  done.calls = energy.counts().total() - before;
  done.points = trace.points();
  return done;
}

StopRule until(double time_horizon, index_t max_steps = 100000) {
  StopRule stop;
  stop.budget.max_iterations = max_steps;
  stop.time_horizon = time_horizon;
  return stop;
}

/// Calls look(variant, flow) until one gives a text.
Verdict for_each_flow(const Subject& subject,
                      const std::function<std::string(const OptimizerVariant&, FreeEnergy&)>& look) {
  const std::vector<OptimizerVariant> variants = flow_variants(subject);
  if (variants.empty()) return not_applicable("the method works on the simplex");
  for (const OptimizerVariant& variant : variants)
    for (const std::unique_ptr<FreeEnergy>& flow : assorted_flows()) {
      if (!variant.method->refuses(*flow).empty()) continue;
      if (const std::string text = look(variant, *flow); !text.empty())
        return broken(fmt::format("{}, {}{}: {} (seed {})", variant.spec, flow->name(),
                                  flow->domain() == Domain::grid ? " on a grid" : " by particles", text,
                                  subject.seed.value));
    }
  return kept();
}

Verdict stays_in_its_domain(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    for (const double horizon : {0.05, 0.3}) {
      const FlowResult done =
          run(*variant.method, flow, until(horizon, horizon < 0.1 ? 3 : 100000), subject.seed, true);
      const double violation = domain_violation(flow, done.result.state);
      if (!(violation <= k_domain_tolerance))
        return fmt::format("the state leaves its domain by {:.3g}, allowed {:g}", violation,
                           k_domain_tolerance);
    }
    return {};
  });
}

Verdict ends_exactly_at_the_horizon(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    const double horizon = 0.137;  // no multiple of a usual step
    const FlowResult done = run(*variant.method, flow, until(horizon), subject.seed, true);
    if (done.result.outcome.termination != Termination::converged)
      return fmt::format("the horizon {} was not reached: {}", horizon, done.result.outcome.sentence);
    if (done.points.empty()) return "the trace is empty";
    if (done.points.back().flow_time != horizon)
      return fmt::format("says converged at time {:.17g}, the horizon is {:.17g}",
                         done.points.back().flow_time, horizon);
    return {};
  });
}

Verdict keeps_to_its_budget(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    for (const index_t limit : {0, 1, 2, 5, 9}) {
      const FlowResult by_steps = run(*variant.method, flow, until(10, limit), subject.seed, true);
      if (by_steps.result.outcome.iterations > limit)
        return fmt::format("{} steps, the budget has {}", by_steps.result.outcome.iterations, limit);
      StopRule calls = until(10);
      calls.budget.max_oracle_calls = limit;
      const FlowResult by_calls = run(*variant.method, flow, calls, subject.seed, false);
      if (by_calls.calls > limit)
        return fmt::format("{} oracle calls, the budget has {}", by_calls.calls, limit);
      if (by_calls.result.outcome.termination != Termination::budget_used_up)
        return fmt::format("with {} oracle calls it says '{}'", limit, by_calls.result.outcome.sentence);
    }
    return {};
  });
}

Verdict repeats_bit_by_bit(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    std::vector<double> results[4];
    for (int attempt = 0; attempt < 4; ++attempt) {
      tbb::task_arena arena(attempt == 2 ? 2 : 1);
      arena.execute([&] {
        results[attempt] = run(*variant.method, flow, until(0.1), subject.seed, attempt != 3).result.state;
      });
    }
    const char* const names[] = {"", "a second run", "two threads", "a run without trace"};
    for (int attempt = 1; attempt < 4; ++attempt)
      if (results[0].size() != results[attempt].size() ||
          std::memcmp(results[0].data(), results[attempt].data(), results[0].size() * sizeof(double)) != 0)
        return fmt::format("{} gives other bits with the same seed", names[attempt]);
    return {};
  });
}

Verdict energy_falls_when_it_claims_so(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    if (!variant.method->traits().monotone) return {};
    const FlowResult done = run(*variant.method, flow, until(0.4), subject.seed, true);
    for (std::size_t i = 1; i < done.points.size(); ++i) {
      const double before = done.points[i - 1].value, after = done.points[i].value;
      if (!(after <= before + k_rounding * (1 + std::abs(before))))
        return fmt::format("F rises from {:.17g} to {:.17g} at step {}", before, after,
                           done.points[i].iteration);
    }
    return {};
  });
}

/// From N(2, 1/4) to N(0, 1): after a long time mean and variance are those of the target, to what 120 particles or 96
/// cells allow.
Verdict approaches_the_minimiser(const Subject& subject) {
  constexpr double k_mean = 0.4,
                   k_variance = 0.5;  // 4 standard errors of 120 draws, and the bias of smoothing kernels
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    if (flow.name() != "Ornstein-Uhlenbeck") return {};
    const FlowResult done = run(*variant.method, flow, until(20), subject.seed, false);
    const std::vector<double>& state = done.result.state;
    double mass = 0, mean = 0, variance = 0;
    const std::vector<double> x =
        flow.domain() == Domain::grid ? static_cast<const GridObjective&>(flow).grid().centres() : state;
    const auto weight = [&](std::size_t i) { return flow.domain() == Domain::grid ? state[i] : 1.0; };
    for (std::size_t i = 0; i < x.size(); ++i) mass += weight(i);
    for (std::size_t i = 0; i < x.size(); ++i) mean += weight(i) * x[i] / mass;
    for (std::size_t i = 0; i < x.size(); ++i) variance += weight(i) * (x[i] - mean) * (x[i] - mean) / mass;
    if (!(std::abs(mean) <= k_mean) || !(std::abs(variance - 1) <= k_variance))
      return fmt::format("mean {:.4g} (target 0, allowed {:g}), variance {:.4g} (target 1, allowed {:g})",
                         mean, k_mean, variance, k_variance);
    return {};
  });
}

Verdict refuses_bad_starts(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    const std::vector<double> good = flow.start(subject.seed);
    std::vector<std::vector<double>> starts(2, good);
    starts[0].pop_back();
    starts[1][1] = std::numeric_limits<double>::quiet_NaN();
    if (flow.domain() == Domain::grid) {
      starts.push_back(good);
      starts.back()[0] = -0.1;
      starts.push_back(std::vector<double>(good.size(), 7.0));
    }
    for (std::size_t i = 0; i < starts.size(); ++i) try {
        Trace trace;
        variant.method->minimize(flow, starts[i], until(0.1), subject.seed, trace);
        return fmt::format("accepts a bad start (number {}: too short, NaN, negative, wrong mass)", i);
      } catch (const MethodError&) {
      }
    return {};
  });
}

Verdict ends_when_asked_to(const Subject& subject) {
  return for_each_flow(subject, [&](const OptimizerVariant& variant, FreeEnergy& flow) -> std::string {
    const std::atomic<bool> flag = true;
    StopRule stop = until(1e9);
    stop.budget.stop = StopToken(&flag, StopToken::Clock::time_point::max());
    const FlowResult done = run(*variant.method, flow, stop, subject.seed, false);
    if (done.result.outcome.termination != Termination::stopped_by_user || done.result.outcome.iterations > 1)
      return fmt::format("a set stop token gave {} after {} steps",
                         to_string(done.result.outcome.termination), done.result.outcome.iterations);
    return {};
  });
}

Verdict refuses_the_simplex(const Subject& subject) {
  const std::vector<OptimizerVariant> variants = flow_variants(subject);
  if (variants.empty()) return not_applicable("the method works on the simplex");
  for (const OptimizerVariant& variant : variants) {
    if (variant.method->traits().simplex) continue;
    const SimplexProblem f = projection_problem({"three numbers"}, {0.1, 0.2, 0.3});
    if (variant.method->refuses(*f).empty())
      return broken(fmt::format("{} accepts a simplex problem", variant.spec));
    try {
      Trace trace;
      variant.method->minimize(*f, uniform_point(3), until(1), subject.seed, trace);
      return broken(
          fmt::format("{} refuses a simplex problem when asked, but takes it all the same", variant.spec));
    } catch (const MethodError&) {
    }
  }
  return kept();
}

constexpr Rule k_rules[] = {
    {"FlowStaysInItsDomain", "cells are >= 0 with mass 1 to 1e-12, particles are finite",
     stays_in_its_domain},
    {"FlowEndsExactlyAtTheHorizon", "a horizon is reached exactly, and only then converged is said",
     ends_exactly_at_the_horizon},
    {"FlowKeepsToItsBudget", "steps and counted oracle calls stay within the budget", keeps_to_its_budget},
    {"FlowRepeatsBitByBit", "the same seed gives the same bits: again, with two threads, without trace",
     repeats_bit_by_bit},
    {"FlowEnergyFallsWhenItClaimsSo", "the free energy of a method that claims to be monotone never rises",
     energy_falls_when_it_claims_so},
    {"FlowApproachesTheMinimiser", "the Ornstein-Uhlenbeck flow ends near mean 0 and variance 1",
     approaches_the_minimiser},
    {"FlowRefusesBadStarts", "starts of wrong size, mass or with NaN are refused", refuses_bad_starts},
    {"FlowEndsWhenAskedTo", "a stop token ends the run, with a result", ends_when_asked_to},
    {"FlowRefusesTheSimplex", "a problem on the simplex is refused by methods that do not claim it",
     refuses_the_simplex},
};

}  // namespace

std::span<const Rule> optimizer_flow_rules() { return k_rules; }

}  // namespace borel::contract
