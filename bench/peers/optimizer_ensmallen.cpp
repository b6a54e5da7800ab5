// Least squares over the simplex: our pairwise Frank-Wolfe to a gap of 1e-10 against ensmallen's Frank-Wolfe after 10 000
// iterations, side by side, three rounds, fastest shown. ensmallen has no oracle for the simplex and returns no gap: both
// are supplied here. It is given its better rule (classic steps; its line search drags the dense start along) and a product
// A'(A p - b) by BLAS, as its users would write it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <limits>

#include <armadillo>
#include <ensmallen.hpp>

#include "borel/optimizer.hpp"
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

int main() {
  // A sparse target and noise, the shape of the published comparison (research: 500 x 1000, support about 157).
  std::vector<double> a(k_rows * k_columns), b(k_rows, 0.0), weight(k_columns, 0.0);
  borel::Rng rng(borel::Seed{3});
  rng.fill_normal(a);
  for (std::size_t i = 0; i < 200; ++i) weight[5 * i] = rng.uniform() / 100;
  for (std::size_t r = 0; r < k_rows; ++r) {
    b[r] = 0.05 * rng.normal();
    for (std::size_t i = 0; i < k_columns; ++i) b[r] += a[r * k_columns + i] * weight[i];
  }
  arma::mat matrix(k_rows, k_columns);
  for (std::size_t r = 0; r < k_rows; ++r)
    for (std::size_t i = 0; i < k_columns; ++i) matrix(r, i) = a[r * k_columns + i];
  const arma::vec right(b);

  borel::Registry registry;
  borel::load_plugins({{}, false, true}, registry);
  const std::vector<double> start(k_columns, 1.0 / k_columns);
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
    arma::mat p(k_columns, 1);
    p.fill(1.0 / k_columns);
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
}
