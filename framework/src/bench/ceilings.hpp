// What this machine can do at best, measured in the same run as the benchmarks that are held against it.
#pragma once

#include <string>

namespace borel::bench {

struct Ceilings {
  int threads = 1;
  double fma_gflops =
      0;  ///< single precision multiply-adds in registers, widest instruction set found at run time
  double sgemm_gflops = 0;  ///< OpenBLAS, 1024 x 1024 x 1024
  double stream_gbytes =
      0;  ///< triad a = b + s c on doubles far larger than the caches, 3 x 8 bytes per element
  std::string instruction_set;  ///< of fma_gflops
  std::string blas_core;        ///< kernels that OpenBLAS uses
};

/// Best of several short repetitions, about a second in all. Memory: 200 MB while it runs.
Ceilings measure_ceilings(int threads);

/// Name for OPENBLAS_CORETYPE that fits this processor better than what OpenBLAS found by itself, or "". It
/// has to be in the environment before the program starts. OpenBLAS 0.3.21 takes AVX2 kernels on processors
/// younger than itself.
std::string better_blas_core();

/// Multiply-adds per call and lane; defined for each instruction set in fma_peak.cpp. @return floating-point
/// operations
double run_fma_loop(long n_rounds, float& sink);
std::string best_instruction_set();

}  // namespace borel::bench
