// What lies under the optimizers: projection onto the simplex against memcpy, mixture gradients, Cholesky factors. Whole
// methods are timed by `borel bench optimizer` and by studies; peers/optimizer_peers.cpp has other libraries.
//   --benchmark_filter=projection --benchmark_repetitions=15 --benchmark_report_aggregates_only=true
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include <benchmark/benchmark.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/mixture_objective.hpp"
#include "borel/optimizer.hpp"
#include "borel/rng.hpp"

namespace {

using borel::index_t;

/// Inputs of the projection, n doubles.
std::vector<double> projection_input(std::string_view kind, std::size_t n) {
  std::vector<double> x(n);
  borel::Rng rng(borel::Seed{5});
  const auto size = static_cast<double>(n);
  if (kind == "sparse") {
    rng.fill_normal(x);
    for (double& v : x) v *= 0.1;
  } else if (kind == "uniform") {
    rng.fill_uniform(x);
  } else if (kind == "dense") {
    rng.fill_normal(x);
    for (double& v : x) v = 1 / size + 0.3 / size * v;
  } else if (kind == "rising" || kind == "falling") {
    for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<double>(i) / size;
    if (kind == "falling") std::ranges::reverse(x);
  } else if (kind == "equal") {
    std::ranges::fill(x, 0.25);
  } else {
    // For Condat's running bound: each entry just above what the ones before it allow, so that all are kept.
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      x[i] = i == 0 ? 0 : (sum - 1) / static_cast<double>(i) + 1e-9;
      sum += x[i];
    }
  }
  return x;
}

void copy(benchmark::State& state) {
  const std::vector<double> x = projection_input("sparse", static_cast<std::size_t>(state.range(0)));
  std::vector<double> out(x.size());
  for (auto _ : state) {
    std::memcpy(out.data(), x.data(), x.size() * sizeof(double));
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
}

void projection(benchmark::State& state, const char* kind) {
  const std::vector<double> x = projection_input(kind, static_cast<std::size_t>(state.range(0)));
  std::vector<double> out(x.size());
  for (auto _ : state) {
    std::memcpy(out.data(), x.data(),
                x.size() * sizeof(double));  // the projection is in place; `copy` is this alone
    benchmark::DoNotOptimize(borel::project_onto_simplex(out));
    benchmark::ClobberMemory();
  }
  state.counters["support"] = static_cast<double>(std::ranges::count_if(out, [](double v) { return v > 0; }));
}

void mixture_gradient(benchmark::State& state) {
  const index_t n = state.range(0);
  borel::DenseLikelihood likelihood{std::vector<double>(static_cast<std::size_t>(n * n)), n, n};
  borel::Rng rng(borel::Seed{6});
  for (double& v : likelihood.values) v = rng.uniform_open();
  const auto f = borel::mixture_objective("bench", std::move(likelihood));
  const std::vector<double> p(static_cast<std::size_t>(n), 1.0 / static_cast<double>(n));
  std::vector<double> gradient(p.size());
  for (auto _ : state) benchmark::DoNotOptimize(f->value_and_gradient(p, gradient));
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * static_cast<double>(n * n), benchmark::Counter::kIsIterationInvariantRate);
}

void cholesky(benchmark::State& state) {
  const index_t n = state.range(0);
  std::vector<double> matrix(static_cast<std::size_t>(n * n), 0.0), work;
  borel::Rng rng(borel::Seed{7});
  for (double& v : matrix) v = rng.normal();
  for (index_t i = 0; i < n; ++i)
    matrix[static_cast<std::size_t>(i * (n + 1))] = 100.0 * static_cast<double>(n);
  for (auto _ : state) {
    work = matrix;
    benchmark::DoNotOptimize(borel::dense::cholesky({work.data(), {n, n}}));
  }
  const auto size = static_cast<double>(n);
  state.counters["GFLOP/s"] =
      benchmark::Counter(1e-9 * size * size * size / 3, benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(copy)->Arg(1000)->Arg(100000)->Arg(1000000);
BENCHMARK_CAPTURE(projection, sparse, "sparse")->Arg(1000)->Arg(100000)->Arg(1000000);
BENCHMARK_CAPTURE(projection, uniform, "uniform")->Arg(1000000);
BENCHMARK_CAPTURE(projection, dense, "dense")->Arg(1000)->Arg(100000)->Arg(1000000);
BENCHMARK_CAPTURE(projection, rising, "rising")->Arg(1000000);
BENCHMARK_CAPTURE(projection, falling, "falling")->Arg(1000000);
BENCHMARK_CAPTURE(projection, equal, "equal")->Arg(1000000);
BENCHMARK_CAPTURE(projection, adversarial, "adversarial")->Arg(1000000);
BENCHMARK(mixture_gradient)->Arg(300)->Arg(1000);
BENCHMARK(cholesky)->Arg(200)->Arg(1000);

}  // namespace

BENCHMARK_MAIN();
