// Objectives on the probability simplex, made from arrays. Sizes: n coordinates, m rows. Matrices are
// row-major. All makers throw DatasetError when sizes do not fit or values break the rule that is named.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "borel/mixture_objective.hpp"
#include "borel/objective.hpp"

namespace borel {

/// Name for messages and the known minimum of F, when there is one.
struct ProblemInfo {
  std::string name;
  std::optional<double> optimum = std::nullopt;
};

using SimplexProblem = std::unique_ptr<SimplexObjective>;

// Quadratic: all offer QuadraticForm, smoothness, exact steps and curvature products.

/// 1/2 |A p - b|^2, A [m, n]. A gradient costs 4 m n operations in one pass over A.
SimplexProblem least_squares_problem(ProblemInfo info, std::vector<double> a, std::vector<double> b);
/// 1/2 |p - x|^2, whose minimiser is the projection (sparsemax). The optimum is computed when not given.
SimplexProblem projection_problem(ProblemInfo info, std::vector<double> x);
/// 1/2 p'Q p + b'p + c, Q [n, n] symmetric positive semidefinite (Markowitz, MMD).
SimplexProblem quadratic_problem(ProblemInfo info, std::vector<double> q, std::vector<double> b, double c);

// With entropy: smooth relative to sum p log p, not in the 2-norm. Where p_i = 0 the true derivative is
// -infinity; the logarithm of the smallest normal number stands for it, so that gradients are finite and gaps
// are still upper bounds.

/// c.p + epsilon sum p log p; minimum -epsilon logsumexp(-c / epsilon), computed when not given.
SimplexProblem linear_entropy_problem(ProblemInfo info, std::vector<double> c, double epsilon);
/// sum p log(p / target), target > 0 with any sum.
SimplexProblem kl_problem(ProblemInfo info, std::vector<double> target);
/// sum p log p + penalty / 2 |M p - b|^2, M [m, n].
SimplexProblem max_entropy_problem(ProblemInfo info, std::vector<double> moments, std::vector<double> b,
                                   double penalty);
/// sum p log p under M p = b, M [m, n]: constraints that narrow the domain.
SimplexProblem moment_entropy_problem(ProblemInfo info, std::vector<double> moments, std::vector<double> b);

// Logarithmic: +infinity on part of the boundary, no global smoothness.

/// -sum target_i log p_i, target >= 0. Minimum at target / sum(target).
SimplexProblem cross_entropy_problem(ProblemInfo info, std::vector<double> target);
/// -1/m sum_i log (L p)_i, L [m, n] >= 0 with a positive number in each row: mixture proportions, NPMLE.
SimplexProblem mixture_problem(ProblemInfo info, std::vector<double> likelihood, index_t n);
SimplexProblem mixture_problem(ProblemInfo info, SparseLikelihood likelihood);
/// -log det sum_i p_i f_i f_i', features f [n, d]: D-optimal design.
SimplexProblem d_optimal_problem(ProblemInfo info, std::vector<double> features, index_t d);

/// Entropic transport, p = P [n_source, n_target]: <C, P> + epsilon sum P (log P - 1) with marginals.
SimplexProblem transport_problem(ProblemInfo info, std::vector<double> cost, std::vector<double> source,
                                 std::vector<double> target, double epsilon);

}  // namespace borel
