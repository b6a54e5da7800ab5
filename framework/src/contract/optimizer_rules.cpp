// Rules for methods on the simplex. Each runs over all variants (choice parameters) of a method; a variant
// that refuses a problem is passed over there.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include <fmt/format.h>
#include <tbb/task_arena.h>

#include "borel/error.hpp"
#include "contract/optimizer_subject.hpp"

namespace borel::contract {
namespace {

constexpr double k_domain_tolerance = 1e-12;  // optimizer.hpp promises this
/// Rounding when a value or gap is computed again, relative to the size of the numbers.
constexpr double k_rounding = 1e-12;
constexpr double k_gap_slack = 1e-6;
constexpr double k_constraint_tolerance = 1e-8;
constexpr index_t k_sizes[] = {1, 2, 3, 63, 65, 127};

struct Run {
  OptimizerResult result;
  double value = 0, gap = 0;
  std::int64_t calls = 0;
  std::vector<Trace::Point> points;
};

Run run(const Optimizer& method, SimplexObjective& f, std::span<const double> start, const StopRule& stop,
        Seed seed, bool with_trace = true) {
  const std::int64_t before = f.counts().total();
  Trace trace = with_trace ? Trace(f, 100000, 8) : Trace();
  Run done;
  done.result = method.minimize(f, start, stop, seed, trace);
  done.calls = f.counts().total() - before;
  done.points = trace.points();
  if (domain_violation(f, done.result.state) <= k_domain_tolerance) {
    done.value = f.value(done.result.state);
    done.gap = certified_gap(f, done.result.state, done.result.multipliers);
  } else {
    done.value = done.gap = std::numeric_limits<double>::quiet_NaN();
  }
  return done;
}

/// Calls look(variant) until one gives a text; that is the verdict.
Verdict for_each_variant(const Subject& subject,
                         const std::function<std::string(const OptimizerVariant&)>& look) {
  const std::vector<OptimizerVariant> variants = simplex_variants(subject);
  if (variants.empty()) return not_applicable("the method does not work on the simplex");
  for (const OptimizerVariant& variant : variants)
    if (const std::string text = look(variant); !text.empty())
      return broken(fmt::format("{}: {} (seed {})", variant.spec, text, subject.seed.value));
  return kept();
}

bool same_bits(const std::vector<double>& x, const std::vector<double>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0;
}

Verdict stays_in_the_simplex(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const index_t n : k_sizes)
      for (const SimplexProblem& f : assorted_problems(n, subject.seed)) {
        if (!variant.method->refuses(*f).empty()) continue;
        for (const index_t budget : {0, 1, 7, 150}) {
          const Run done =
              run(*variant.method, *f, random_point(n, subject.seed), stop_after(budget), subject.seed);
          const double violation = domain_violation(*f, done.result.state);
          if (!(violation <= k_domain_tolerance))
            return fmt::format(
                "problem {}, n = {}, {} iterations: the result leaves the simplex by {:.3g}, allowed {:g}",
                f->name(), n, budget, violation, k_domain_tolerance);
        }
      }
    return {};
  });
}

Verdict claims_convergence_only_with_a_certificate(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const index_t n : {2, 65})
      for (const SimplexProblem& f : assorted_problems(n, subject.seed))
        for (const double tolerance : {1e-1, 1e-4, 1e-8}) {
          if (!variant.method->refuses(*f).empty()) continue;
          const Run done =
              run(*variant.method, *f, uniform_point(n), stop_after(500, tolerance), subject.seed);
          if (done.result.outcome.sentence.empty()) return "the outcome has no sentence";
          if (done.result.outcome.termination == Termination::converged &&
              !(done.gap <= tolerance * (1 + k_gap_slack) + k_rounding * (1 + std::abs(done.value))))
            return fmt::format(
                "problem {}, n = {}: says converged ('{}'), the gap at its result is {:.6g} > {:g}",
                f->name(), n, done.result.outcome.sentence, done.gap, tolerance);
        }
    return {};
  });
}

/// All these problems are strongly convex (or the like, for likelihoods and transport) and n is small: every method must
/// get well ahead.
Verdict gets_near_the_minimum_of_easy_problems(const Subject& subject) {
  constexpr double k_share_left = 1e-2;
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    constexpr index_t n = 12;
    bool tried = false;
    std::vector<SimplexProblem> problems;
    problems.push_back(well_conditioned_least_squares(n, subject.seed));
    std::vector<double> x(n);
    Rng(subject.seed.derive("easy")).fill_normal(x);
    problems.push_back(projection_problem({"projection"}, x));
    problems.push_back(linear_entropy_problem({"entropy"}, x, 1.0));
    std::vector<double> target(n);
    for (std::size_t i = 0; i < target.size(); ++i) target[i] = 0.05 + x[i] * x[i];
    problems.push_back(cross_entropy_problem({"cross entropy"}, target));
    problems.push_back(small_transport_problem(subject.seed));
    for (const SimplexProblem& f : problems) {
      if (!variant.method->refuses(*f).empty()) continue;
      tried = true;
      const std::vector<double> start = random_point(n, subject.seed);
      const double first = frank_wolfe_gap(*f, start);  // for transport an upper bound as well
      const Run done = run(*variant.method, *f, start, stop_after(3000, 1e-10), subject.seed);
      if (const double missed = constraint_violation(*f, done.result.state);
          !(missed <= k_constraint_tolerance))
        return fmt::format("problem {}: the result misses constraints by {:.3g}, allowed is {:g}", f->name(),
                           missed, k_constraint_tolerance);
      if (!(done.gap <= k_share_left * first))
        return fmt::format(
            "problem {}: after {} iterations the gap is {:.3g}, it was {:.3g} at the start, expected at "
            "most {:g} of it",
            f->name(), done.result.outcome.iterations, done.gap, first, k_share_left);
      if (f->optimum() &&
          !(std::abs(done.value - *f->optimum()) <= done.gap + k_rounding * (1 + std::abs(done.value))))
        return fmt::format(
            "problem {}: F = {:.17g} against the exact minimum {:.17g}, allowed is the gap {:.3g}", f->name(),
            done.value, *f->optimum(), done.gap);
    }
    return tried ? std::string() : std::string("refuses every easy problem");
  });
}

Verdict never_increases_when_it_claims_so(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    if (!variant.method->traits().monotone) return {};
    for (const SimplexProblem& f : assorted_problems(65, subject.seed)) {
      if (!variant.method->refuses(*f).empty()) continue;
      const Run done =
          run(*variant.method, *f, random_point(65, subject.seed), stop_after(300), subject.seed);
      for (std::size_t i = 1; i < done.points.size(); ++i) {
        const double before = done.points[i - 1].value, after = done.points[i].value;
        if (!(after <= before + k_rounding * (1 + std::abs(before))))
          return fmt::format("problem {}: F rises from {:.17g} to {:.17g} at iteration {}", f->name(), before,
                             after, done.points[i].iteration);
      }
      if (done.points.empty()) return "the trace is empty";
    }
    return {};
  });
}

Verdict keeps_to_its_budget(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const SimplexProblem& f : assorted_problems(20, subject.seed))
      for (const index_t limit : {0, 1, 2, 3, 10, 37}) {
        if (!variant.method->refuses(*f).empty()) continue;
        StopRule calls = stop_after(1000000);
        calls.budget.max_oracle_calls = limit;
        const Run by_calls = run(*variant.method, *f, random_point(20, subject.seed), calls, subject.seed);
        if (by_calls.calls > limit)
          return fmt::format("problem {}: {} oracle calls, the budget has {}", f->name(), by_calls.calls,
                             limit);
        const Run by_steps =
            run(*variant.method, *f, random_point(20, subject.seed), stop_after(limit), subject.seed);
        if (by_steps.result.outcome.iterations > limit)
          return fmt::format("problem {}: {} iterations, the budget has {}", f->name(),
                             by_steps.result.outcome.iterations, limit);
      }
    return {};
  });
}

Verdict repeats_bit_by_bit(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const index_t n : {5, 127}) {
      std::vector<double> results[4];
      for (int attempt = 0; attempt < 4; ++attempt) {
        const SimplexProblem f = well_conditioned_least_squares(n, subject.seed);
        if (!variant.method->refuses(*f).empty()) return {};
        tbb::task_arena arena(attempt == 2 ? 2 : 1);
        arena.execute([&] {
          results[attempt] =
              run(*variant.method, *f, uniform_point(n), stop_after(100), subject.seed, attempt != 3)
                  .result.state;
        });
      }
      const char* const names[] = {"", "a second run", "two threads", "a run without trace"};
      for (int attempt = 1; attempt < 4; ++attempt)
        if (!same_bits(results[0], results[attempt]))
          return fmt::format("n = {}: {} gives other bits with the same seed", n, names[attempt]);
    }
    return {};
  });
}

Verdict does_not_see_the_order_of_coordinates(const Subject& subject) {
  constexpr double k_bound = 1e-9;
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    if (variant.method->traits().random) return {};
    constexpr index_t n = 23;
    std::vector<std::size_t> identity(n), order(n);
    std::iota(identity.begin(), identity.end(), 0);
    for (std::size_t i = 0; i < n; ++i) order[i] = (7 * i + 3) % n;
    PermutedObjective plain(well_conditioned_least_squares(n, subject.seed), identity);
    PermutedObjective renamed(well_conditioned_least_squares(n, subject.seed), order);
    if (!variant.method->refuses(plain).empty()) return {};
    const std::vector<double> start = random_point(n, subject.seed);
    std::vector<double> renamed_start(n);
    for (std::size_t i = 0; i < n; ++i) renamed_start[order[i]] = start[i];
    const Run a = run(*variant.method, plain, start, stop_after(25), subject.seed);
    const Run b = run(*variant.method, renamed, renamed_start, stop_after(25), subject.seed);
    for (std::size_t i = 0; i < n; ++i)
      if (!(std::abs(a.result.state[i] - b.result.state[order[i]]) <= k_bound))
        return fmt::format("coordinate {} is {:.17g}, and {:.17g} after renaming; allowed difference {:g}", i,
                           a.result.state[i], b.result.state[order[i]], k_bound);
    return {};
  });
}

Verdict finds_the_best_vertex_of_linear_functions(const Subject& subject) {
  constexpr double k_share_left = 2e-2;
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const index_t n : {2, 63}) {
      std::vector<double> c(static_cast<std::size_t>(n));
      Rng(subject.seed.derive("cost")).fill_normal(c);
      const auto [low, high] = std::ranges::minmax(c);
      const SimplexProblem f = linear_cost(c);
      if (!variant.method->refuses(*f).empty()) continue;
      const Run done = run(*variant.method, *f, uniform_point(n), stop_after(3000, 1e-12), subject.seed);
      if (!(done.value - low <= k_share_left * (high - low)))
        return fmt::format(
            "n = {}: F = {:.6g} after {} iterations, the best vertex has {:.6g} and the worst {:.6g}", n,
            done.value, done.result.outcome.iterations, low, high);
    }
    return {};
  });
}

Verdict ends_at_once_at_an_optimum(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    std::vector<double> x(17);
    Rng(subject.seed.derive("warm")).fill_normal(x);
    std::vector<double> projected = x;
    project_onto_simplex(projected);
    std::vector<std::pair<SimplexProblem, std::vector<double>>> cases;
    cases.emplace_back(projection_problem({"projection at its minimum"}, x), projected);
    cases.emplace_back(linear_cost(std::vector<double>(17, 2.5)), random_point(17, subject.seed));
    cases.emplace_back(linear_cost(std::vector<double>{4.0}), std::vector<double>{1.0});
    for (const auto& [f, start] : cases) {
      if (!variant.method->refuses(*f).empty()) continue;
      const Run done = run(*variant.method, *f, start, stop_after(1000, 1e-9), subject.seed);
      if (done.result.outcome.termination != Termination::converged || done.result.outcome.iterations > 1)
        return fmt::format("problem {}: '{}' after {} iterations, expected convergence at the start",
                           f->name(), done.result.outcome.sentence, done.result.outcome.iterations);
      for (std::size_t i = 0; i < start.size(); ++i)
        if (!(std::abs(done.result.state[i] - start[i]) <= 1e-7))
          return fmt::format("problem {}: coordinate {} moved from {:.9g} to {:.9g}", f->name(), i, start[i],
                             done.result.state[i]);
    }
    return {};
  });
}

Verdict names_faults_of_the_objective(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    for (const auto fault : {FaultyObjective::Fault::value, FaultyObjective::Fault::gradient})
      for (const std::int64_t at_call : {1, 3}) {
        FaultyObjective f(well_conditioned_least_squares(6, subject.seed), fault, at_call, 4);
        if (!variant.method->refuses(f).empty()) continue;
        try {
          Trace trace;
          const OptimizerResult result =
              variant.method->minimize(f, random_point(6, subject.seed), stop_after(50), subject.seed, trace);
          if (!f.was_faulty()) continue;  // done before the fault
          return fmt::format("NaN from call {} on was not refused; it says '{}'", at_call,
                             result.outcome.sentence);
        } catch (const MethodError& error) {
          const std::string_view text = error.what();
          if (text.find("call") == std::string_view::npos ||
              (fault == FaultyObjective::Fault::gradient &&
               text.find("coordinate 4") == std::string_view::npos))
            return fmt::format(
                "the message for NaN in coordinate 4 must name call and coordinate, it reads: {}", text);
        }
      }
    return {};
  });
}

Verdict ends_when_asked_to(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    const std::atomic<bool> flag = true;
    const SimplexProblem f = well_conditioned_least_squares(20, subject.seed);
    if (!variant.method->refuses(*f).empty()) return {};
    StopRule stop = stop_after(1000000);
    stop.budget.stop = StopToken(&flag, StopToken::Clock::time_point::max());
    const Run done = run(*variant.method, *f, random_point(20, subject.seed), stop, subject.seed);
    if (done.result.outcome.termination != Termination::stopped_by_user || done.result.outcome.iterations > 2)
      return fmt::format("a set stop token gave {} after {} iterations",
                         to_string(done.result.outcome.termination), done.result.outcome.iterations);
    return {};
  });
}

Verdict refuses_bad_starts(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    const std::vector<double> starts[] = {
        {}, {1}, {0.5, 0.25, 0.15, 0.1}, {1.5, -0.5, 0}, {0.5, 0, 0}, {nan, 0.5, 0.5}};
    for (const std::vector<double>& start : starts) {
      const SimplexProblem f = projection_problem({"three numbers"}, {0.1, 0.2, 0.3});
      try {
        Trace trace;
        variant.method->minimize(*f, start, stop_after(5), subject.seed, trace);
        return fmt::format("the start [{}] for 3 coordinates was accepted", fmt::join(start, ", "));
      } catch (const MethodError&) {
      }
    }
    return {};
  });
}

/// No simplex has 0 coordinates: there is no distribution over nothing.
class OverNothing final : public SimplexObjective {
 public:
  index_t size() const override { return 0; }
  std::string_view name() const override { return "over nothing"; }
  bool has_curvature() const override { return true; }
  std::optional<double> log_homogeneity() const override { return 1.0; }
  std::optional<double> smoothness() const override { return 1.0; }
  std::optional<double> relative_smoothness() const override { return 1.0; }

 private:
  double do_value(std::span<const double>) const override { return 0; }
  double do_value_and_gradient(std::span<const double>, std::span<double>) const override { return 0; }
};

Verdict refuses_the_empty_simplex(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    OverNothing f;
    try {
      Trace trace;
      variant.method->minimize(f, {}, stop_after(5), subject.seed, trace);
      return "a simplex with 0 coordinates was accepted";
    } catch (const MethodError&) {
      return {};
    }
  });
}

Verdict survives_huge_condition_numbers(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    constexpr std::size_t n = 17;
    std::vector<double> q(n * n, 0.0), b(n);
    Rng(subject.seed.derive("conditioned")).fill_normal(b);
    for (std::size_t i = 0; i < n; ++i) {
      q[i * (n + 1)] = std::pow(10.0, static_cast<double>(i) - 8);
      b[i] *= std::pow(10.0, static_cast<double>(n - i) / 3 - 3);
    }
    const SimplexProblem f = quadratic_problem({"condition 1e16"}, q, b, 0);
    if (!variant.method->refuses(*f).empty()) return {};
    const double first = f->value(uniform_point(n));
    const Run done = run(*variant.method, *f, uniform_point(n), stop_after(500), subject.seed);
    if (!(done.gap >= 0) || !(done.value <= first * (1 + 1e-9)))
      return fmt::format("F = {:.6g} (it was {:.6g} at the start), gap {:.3g}, outside by {:.3g}", done.value,
                         first, done.gap, domain_violation(*f, done.result.state));
    return {};
  });
}

Verdict refuses_domains_it_does_not_claim(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    if (variant.method->traits().transport) return {};
    const SimplexProblem plan = transport_problem({"plan"}, {0, 1, 1, 0}, {0.5, 0.5}, {0.5, 0.5}, 0.1);
    if (variant.method->refuses(*plan).empty())
      return "accepts a transport plan and would ignore its marginals";
    try {
      Trace trace;
      variant.method->minimize(*plan, uniform_point(4), stop_after(5), subject.seed, trace);
    } catch (const MethodError&) {
      return {};
    }
    return "refuses a transport plan when asked, but minimises it all the same";
  });
}

/// The spec and what golden.csv says about one run; see optimizer_subject.hpp.
Verdict matches_golden_values(const Subject& subject) {
  const Golden golden = read_golden(subject.method);
  if (golden.place != Golden::Place::found || golden.lines.empty()) return no_golden_values(golden);
  for (const GoldenLine& line : golden.lines) {
    const GoldenRun expected = golden_run(line);
    const auto method = subject.registry.make<Optimizer>(line.text(0));
    Trace trace;
    const OptimizerResult done =
        method->minimize(*expected.objective, expected.start, expected.stop, subject.seed, trace);
    if (expected.state.size() != done.state.size())
      return broken(fmt::format("line {}: {} golden numbers, {} in the result", line.number,
                                expected.state.size(), done.state.size()));
    for (std::size_t i = 0; i < done.state.size(); ++i)
      if (!(std::abs(done.state[i] - expected.state[i]) <= expected.bound))
        return broken(fmt::format("line {}, {}: number {} is {:.17g}, expected {:.17g} to {:g} ({})",
                                  line.number, line.text(0), i, done.state[i], expected.state[i],
                                  expected.bound, done.outcome.sentence));
  }
  return kept();
}

/// Columns that repeat, columns of zeros: whole faces are optimal, and Hessians are singular on them.
Verdict survives_degenerate_faces(const Subject& subject) {
  return for_each_variant(subject, [&](const OptimizerVariant& variant) -> std::string {
    constexpr std::size_t rows = 4, n = 24;
    std::vector<double> a(rows * n, 0.0), b(rows), likelihood(rows * n);
    Rng rng(subject.seed.derive("degenerate"));
    for (std::size_t r = 0; r < rows; ++r) {
      b[r] = rng.normal();
      for (std::size_t i = 0; i < n / 3; ++i) {
        a[r * n + 2 * i] = a[r * n + 2 * i + 1] = rng.normal();  // pairs, then zeros
        for (std::size_t copy = 0; copy < 3; ++copy)
          likelihood[r * n + 3 * i + copy] = -std::log(rng.uniform_open());
      }
      for (std::size_t i = 0; i < n; ++i) likelihood[r * n + i] = likelihood[r * n + i / 3 * 3];
    }
    std::vector<SimplexProblem> problems;
    problems.push_back(least_squares_problem({"repeated columns"}, a, b));
    problems.push_back(mixture_problem({"repeated components"}, likelihood, static_cast<index_t>(n)));
    for (const SimplexProblem& f : problems) {
      if (!variant.method->refuses(*f).empty()) continue;
      const std::vector<double> start = uniform_point(static_cast<index_t>(n));
      const double first = f->value(start);
      const Run done = run(*variant.method, *f, start, stop_after(400, 1e-9), subject.seed);
      if (!(done.gap >= 0) || !(done.value <= first + k_rounding * (1 + std::abs(first))))
        return fmt::format("problem {}: F = {:.9g} (it was {:.9g} at the start), gap {:.3g}: {}", f->name(),
                           done.value, first, done.gap, done.result.outcome.sentence);
    }
    return {};
  });
}

constexpr Rule k_rules[] = {
    {"MatchesGoldenValues", "points agree with an independent implementation, step by step or at the end",
     matches_golden_values},
    {"StaysInTheSimplex", "the result is in the simplex to 1e-12 for every size, problem and budget",
     stays_in_the_simplex},
    {"ClaimsConvergenceOnlyWithACertificate", "converged means that the framework finds the gap small enough",
     claims_convergence_only_with_a_certificate},
    {"GetsNearTheMinimumOfEasyProblems",
     "the gap of small strongly convex problems falls to 1 % in 3000 iterations",
     gets_near_the_minimum_of_easy_problems},
    {"NeverIncreasesWhenItClaimsSo", "the values of a method that claims to be monotone never rise",
     never_increases_when_it_claims_so},
    {"KeepsToItsBudget", "iterations and counted oracle calls stay within the budget", keeps_to_its_budget},
    {"RepeatsBitByBit", "the same seed gives the same bits: again, with two threads, without trace",
     repeats_bit_by_bit},
    {"DoesNotSeeTheOrderOfCoordinates", "renaming coordinates renames the result",
     does_not_see_the_order_of_coordinates},
    {"FindsTheBestVertexOfLinearFunctions", "linear functions are minimised at a vertex",
     finds_the_best_vertex_of_linear_functions},
    {"EndsAtOnceAtAnOptimum", "a start at the minimum, a constant F and n = 1 converge at once",
     ends_at_once_at_an_optimum},
    {"NamesFaultsOfTheObjective", "NaN in values and gradients gives an error that names call and coordinate",
     names_faults_of_the_objective},
    {"EndsWhenAskedTo", "a stop token ends the run, with a result", ends_when_asked_to},
    {"RefusesBadStarts", "starts of wrong size or outside the simplex are refused", refuses_bad_starts},
    {"RefusesTheEmptySimplex", "a problem with 0 coordinates is refused", refuses_the_empty_simplex},
    {"SurvivesHugeConditionNumbers", "condition 1e16: in the domain, finite, not worse than the start",
     survives_huge_condition_numbers},
    {"SurvivesDegenerateFaces", "repeated and empty columns: in the domain, finite, not worse than the start",
     survives_degenerate_faces},
    {"RefusesDomainsItDoesNotClaim", "constraints that a method would ignore are refused",
     refuses_domains_it_does_not_claim},
};

}  // namespace

std::span<const Rule> optimizer_rules() { return k_rules; }

}  // namespace borel::contract
