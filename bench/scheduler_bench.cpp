// What a parallel loop costs when there is nothing to do, and what a reduction with fixed blocks costs
// against a plain sum.
#include <numeric>
#include <vector>

#include <benchmark/benchmark.h>

#include "borel/parallel.hpp"

namespace {

using borel::index_t;

void empty_blocks(benchmark::State& state) {
  const index_t n_blocks = state.range(0);
  for (auto unused : state)
    borel::parallel_for(n_blocks, 1, [](index_t begin, index_t) { benchmark::DoNotOptimize(begin); });
  state.SetItemsProcessed(state.iterations() * n_blocks);
}
BENCHMARK(empty_blocks)->Name("parallel_for/empty_blocks")->RangeMultiplier(8)->Range(1, 4096)->UseRealTime();

void nested_blocks(benchmark::State& state) {
  for (auto unused : state)
    borel::parallel_for(16, 1, [](index_t, index_t) {
      borel::parallel_for(16, 1, [](index_t begin, index_t) { benchmark::DoNotOptimize(begin); });
    });
  state.SetItemsProcessed(state.iterations() * 256);
}
BENCHMARK(nested_blocks)->Name("parallel_for/nested_16x16")->UseRealTime();

void sum_with_fixed_blocks(benchmark::State& state) {
  const std::vector<double> x(1 << 20, 0.5);
  const index_t grain = state.range(0);
  for (auto unused : state)
    benchmark::DoNotOptimize(borel::deterministic_reduce(
        static_cast<index_t>(x.size()), grain, 0.0,
        [&](index_t begin, index_t end) { return std::accumulate(x.begin() + begin, x.begin() + end, 0.0); },
        [](double a, double b) { return a + b; }));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(x.size() * sizeof(double)));
}
BENCHMARK(sum_with_fixed_blocks)
    ->Name("deterministic_reduce/sum_1M")
    ->RangeMultiplier(16)
    ->Range(256, 1 << 20)
    ->UseRealTime();

void scratch_memory(benchmark::State& state) {
  for (auto unused : state) {
    const borel::Scratch<double> memory(state.range(0));
    benchmark::DoNotOptimize(memory.data());
  }
}
BENCHMARK(scratch_memory)->Name("scratch")->Arg(64)->Arg(1 << 16);

}  // namespace

BENCHMARK_MAIN();
