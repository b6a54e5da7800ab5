#include "bench/ceilings.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include <cblas.h>
#include <tbb/task_arena.h>

#include "borel/parallel.hpp"

namespace borel::bench {
namespace {

constexpr int k_repetitions = 5;

double best_seconds(const std::function<void()>& work) {
  double best = 1e300;
  for (int i = 0; i < k_repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

double fma_gflops(int threads) {
  constexpr long k_rounds = 4'000'000;
  std::vector<float> sinks(static_cast<std::size_t>(threads));
  double flops = 0;
  const double seconds = best_seconds([&] {
    flops = deterministic_reduce(
        threads, 1, 0.0,
        [&](index_t begin, index_t) {
          return run_fma_loop(k_rounds, sinks[static_cast<std::size_t>(begin)]);
        },
        [](double a, double b) { return a + b; });
  });
  // The sums are used, so that no compiler may drop the loop.
  return std::count(sinks.begin(), sinks.end(), 0.f) == threads ? 0 : flops / seconds * 1e-9;
}

double sgemm_gflops(int threads) {
  constexpr int n = 1024;
  const std::vector<float> a(n * n, 1.f / n), b(n * n, 2.f);
  std::vector<float> c(n * n);
  openblas_set_num_threads(threads);
  const double seconds = best_seconds([&] {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(),
                n);
  });
  return 2.0 * n * n * n / seconds * 1e-9;
}

double stream_gbytes() {
  constexpr index_t n = index_t{1} << 23;
  std::vector<double> a(n), b(n, 1.0), c(n, 2.0);
  const double seconds = best_seconds([&] {
    parallel_for(n, n / 64, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i)
        a[static_cast<std::size_t>(i)] =
            b[static_cast<std::size_t>(i)] + 3.0 * c[static_cast<std::size_t>(i)];
    });
  });
  return 3.0 * sizeof(double) * static_cast<double>(n) / seconds * 1e-9;
}

}  // namespace

Ceilings measure_ceilings(int threads) {
  Ceilings found;
  found.threads = threads;
  tbb::task_arena arena(threads);
  arena.execute([&] {
    found.fma_gflops = fma_gflops(threads);
    found.sgemm_gflops = sgemm_gflops(threads);
    found.stream_gbytes = stream_gbytes();
  });
  found.instruction_set = best_instruction_set();
  found.blas_core = openblas_get_corename();
  return found;
}

std::string better_blas_core() {
  const std::string found = openblas_get_corename();
  const std::string best = best_instruction_set();
  if (best.rfind("AVX3", 0) == 0)
    return found == "SkylakeX" || found == "Cooperlake" || found == "Sapphirerapids" ? "" : "SkylakeX";
  return best == "AVX2" && (found == "Prescott" || found == "Core2" || found == "Nehalem") ? "Haswell" : "";
}

}  // namespace borel::bench
