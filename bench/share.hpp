// A benchmark's loop beside the ceiling of the same run.
#pragma once

#include <chrono>
#include <map>

#include <benchmark/benchmark.h>

#include "bench/ceilings.hpp"

namespace borel::bench {

/// Measured at the first call for this number of threads.
inline double sgemm_gflops(int threads) {
  static std::map<int, double> measured;
  if (!measured.contains(threads)) measured[threads] = measure_ceilings(threads).sgemm_gflops;
  return measured[threads];
}

/// Runs the loop. @return wall seconds of one iteration
template <class Work>
double seconds_of(benchmark::State& state, Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  for (auto unused : state) work();
  const std::chrono::duration<double> all = std::chrono::steady_clock::now() - start;
  return all.count() / static_cast<double>(state.iterations());
}

/// Plain counters: a rate counter would print its share "per second".
inline void report_share(benchmark::State& state, double flops, double seconds, int threads) {
  const double sgemm = sgemm_gflops(threads);
  state.counters["GFLOP/s"] = 1e-9 * flops / seconds;
  state.counters["sgemm"] = sgemm;
  state.counters["share"] = 1e-9 * flops / seconds / sgemm;
}

}  // namespace borel::bench
