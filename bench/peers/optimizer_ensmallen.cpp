// Least squares over the simplex: our pairwise Frank-Wolfe to a gap of 1e-10 against ensmallen's Frank-Wolfe after 10 000
// iterations, side by side, three rounds, fastest shown. ensmallen has no oracle for the simplex and returns no gap: both
// are supplied here. It is given its better rule (classic steps) and a product
// A'(A p - b) by BLAS, as its users would write it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include <armadillo>
#include <ensmallen.hpp>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "dataset/dataset.hpp"
#include "loader/plugin_set.hpp"
#include "protocols/simplex_problems.hpp"

namespace {

constexpr std::size_t k_rows = 500, k_columns = 1000;
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

struct Squares {
  const arma::mat& a;
  const arma::vec& b;
  double Evaluate(const arma::mat& p) { return 0.5 * arma::accu(arma::square(a * p - b)); }
  void Gradient(const arma::mat& p, arma::mat& g) { g = a.t() * (a * p - b); }
  double EvaluateWithGradient(const arma::mat& p, arma::mat& g) {
    const arma::vec residual = a * p - b;
    g = a.t() * residual;
    return 0.5 * arma::dot(residual, residual);
  }
};

struct SimplexOracle {
  void Optimize(const arma::mat& gradient, arma::mat& vertex) {
    vertex.zeros(gradient.n_rows, 1);
    vertex(gradient.index_min()) = 1;
  }
};

}  // namespace

int main() try {
  const auto data = borel::find_dataset("problem_simplex_ls");  // borel data make problem_simplex_ls
  const std::span<const double> given_a = data->doubles("a"), given_b = data->doubles("b");
  const std::vector<double> a(given_a.begin(), given_a.end()), b(given_b.begin(), given_b.end());
  arma::mat matrix(k_rows, k_columns);
  for (std::size_t r = 0; r < k_rows; ++r)
    for (std::size_t i = 0; i < k_columns; ++i) matrix(r, i) = a[r * k_columns + i];
  const arma::vec right(b);

  borel::Registry registry;
  borel::load_plugins({{}, false, true}, registry);
  // The best vertex, as in the paper on pairwise steps; ensmallen's first step, t = 1, leads to a vertex from anywhere.
  std::vector<double> start(k_columns, 0.0);
  {
    const auto f = borel::least_squares_problem({"least squares"}, a, b);
    const borel::QuadraticForm& form = *f->quadratic();
    std::size_t best = 0;
    const auto value_at = [&](std::size_t i) {
      return 0.5 * form.diagonal(static_cast<borel::index_t>(i)) + form.linear()[i];
    };
    for (std::size_t i = 1; i < k_columns; ++i)
      if (value_at(i) < value_at(best)) best = i;
    start[best] = 1;
  }
  double ours_s = 1e9, theirs_s = 1e9, our_gap = 0, their_gap = 0, our_value = 0, their_value = 0;
  long iterations = 0;
  for (int round = 0; round < 3; ++round) {
    const auto f = borel::least_squares_problem({"least squares"}, a, b);
    const auto method = registry.make<borel::Optimizer>("frank_wolfe{variant=pairwise}");
    borel::StopRule stop;
    stop.gap_tolerance = 1e-10;
    borel::Trace silent;
    auto begin = Clock::now();
    const borel::OptimizerResult result = method->minimize(*f, start, stop, borel::Seed{1}, silent);
    ours_s = std::min(ours_s, seconds_since(begin));
    our_gap = borel::frank_wolfe_gap(*f, result.state);
    our_value = f->value(result.state);
    iterations = static_cast<long>(result.outcome.iterations);

    Squares squares{matrix, right};
    arma::mat p(start.data(), k_columns, 1);
    ens::FrankWolfe<SimplexOracle, ens::UpdateClassic> solver(SimplexOracle(), ens::UpdateClassic(), 10000,
                                                              1e-12);
    begin = Clock::now();
    solver.Optimize(squares, p);
    theirs_s = std::min(theirs_s, seconds_since(begin));
    const std::vector<double> found(p.begin(), p.end());
    their_gap = borel::frank_wolfe_gap(*f, found);
    their_value = f->value(found);
  }
  std::printf("borel frank_wolfe{pairwise}: %8.2f ms, gap %.2e, F %.15g, %ld iterations\n", 1e3 * ours_s,
              our_gap, our_value, iterations);
  std::printf("ensmallen FrankWolfe 10000:  %8.2f ms, gap %.2e, F %.15g\n", 1e3 * theirs_s, their_gap,
              their_value);
  std::printf("ratio of times: %.1f\n", theirs_s / ours_s);
} catch (const borel::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return error.exit_code();
}
