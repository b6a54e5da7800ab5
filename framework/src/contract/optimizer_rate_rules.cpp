// The rates that methods on the simplex claim, on problems that do not give more than theory promises.
#include <fmt/format.h>

#include "contract/optimizer_subject.hpp"
#include "dataset/recipes.hpp"
#include "protocols/convergence_rates.hpp"
#include "protocols/problems.hpp"

namespace borel::contract {
namespace {

/// A fit over two decades may miss the exponent by so much.
constexpr double k_order_slack = 0.15;
constexpr index_t k_iterations = 1000;
constexpr std::string_view k_merely_convex = "problem_merely_convex";
/// What is left of F - F* when convergence is linear.
constexpr double k_share_left = 1e-7;

/// 1/2 |A (p - p*)|^2 with few coordinates and p* well inside: Frank-Wolfe methods contract by 1 - c (r / diameter)^2, r the
/// distance of p* from the boundary.
SimplexProblem strongly_convex(Seed seed) {
  constexpr std::size_t m = 40, n = 4;
  constexpr double target[n] = {0.3, 0.2, 0.26, 0.24};
  std::vector<double> a(m * n), b(m, 0.0);
  Rng(seed.derive("strongly convex")).fill_normal(a);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) b[i] += a[i * n + j] * target[j];
  return least_squares_problem({"strongly_convex"}, std::move(a), std::move(b));
}

/// Empty when the method refuses the problem.
std::vector<Trace::Point> trace_of(const Optimizer& method, Objective& f, Seed seed) {
  if (!method.refuses(f).empty()) return {};
  Trace trace(f, k_iterations + 2, 0);
  method.minimize(f, random_point(f.size(), seed), stop_after(k_iterations, 1e-15), seed, trace);
  return trace.points();
}

Verdict keeps_the_order_it_claims(const Subject& subject) {
  bool tried = false;
  std::shared_ptr<const Dataset>
      problem;  // made for the first variant that claims an order; F* = 0 but for rounding
  for (const OptimizerVariant& variant : simplex_variants(subject)) {
    const double claimed = variant.method->traits().order;
    if (!(claimed > 0)) continue;
    if (!problem) problem = Dataset::from(run_recipe(*find_recipe(k_merely_convex)));
    const auto f = make_objective(*problem);
    const auto points = trace_of(*variant.method, *f, subject.seed);
    if (points.empty()) continue;
    tried = true;
    const ConvergenceRates rates = fit_convergence_rates(points, 0.0);
    if (rates.order < claimed - k_order_slack)
      return broken(
          fmt::format("{}: F - F* on {} falls as k^-{:.3g} over {} iterations, claimed is k^-{:g} (seed {})",
                      variant.spec, k_merely_convex, rates.order, k_iterations, claimed, subject.seed.value));
  }
  return tried ? kept() : not_applicable("the method claims no order, or refuses least squares");
}

Verdict converges_linearly_when_it_claims_so(const Subject& subject) {
  bool tried = false;
  for (const OptimizerVariant& variant : simplex_variants(subject)) {
    if (!variant.method->traits().linear) continue;
    const SimplexProblem f = strongly_convex(subject.seed);
    const auto points = trace_of(*variant.method, *f, subject.seed);
    if (points.empty()) continue;
    tried = true;
    const double first = points.front().value, last = points.back().value;
    if (!(last <= k_share_left * first))
      return broken(fmt::format("{}: {:.3g} of F - F* is left after {} iterations, expected {:g} (seed {})",
                                variant.spec, last / first, points.back().iteration, k_share_left,
                                subject.seed.value));
  }
  return tried ? kept() : not_applicable("the method claims no linear convergence, or refuses least squares");
}

constexpr Rule k_rules[] = {
    {"KeepsTheOrderItClaims",
     "F - F* of a convex problem falls at least as fast as k to the power that is claimed",
     keeps_the_order_it_claims},
    {"ConvergesLinearlyWhenItClaimsSo",
     "F - F* of a strongly convex problem falls to 1e-7 in 1000 iterations",
     converges_linearly_when_it_claims_so},
};

}  // namespace

std::span<const Rule> optimizer_rate_rules() { return k_rules; }

}  // namespace borel::contract
