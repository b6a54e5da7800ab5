#include "bench/run.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <map>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <malloc.h>
#include <tbb/global_control.h>
#include <tbb/task_arena.h>

#include "bench/cases.hpp"
#include "borel/error.hpp"

namespace borel::bench {
namespace {

/// Prints as usual and keeps the seconds of every run, for the exponents.
class Reporter final : public benchmark::ConsoleReporter {
 public:
  Reporter() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) ++n_errors;
      if (run.error_occurred || run.run_type != Run::RT_Iteration) continue;
      seconds[run.run_name.function_name] = run.real_accumulated_time / static_cast<double>(run.iterations);
    }
    ConsoleReporter::ReportRuns(runs);
  }
  std::map<std::string, double> seconds;
  int n_errors = 0;
};

double status_kilobytes(std::string_view field) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.rfind(field, 0) == 0) return std::strtod(line.c_str() + field.size() + 1, nullptr);
  return 0;
}

void time_case(benchmark::State& state, const Case& one, const Ceilings* ceilings, double peak_bytes,
               int threads) {
  tbb::task_arena arena(threads);
  try {
    std::string wrong;
    arena.execute([&] { wrong = one.check(); });
    if (!wrong.empty()) return state.SkipWithError(wrong.c_str());
    for (auto unused : state) arena.execute(one.work);
  } catch (const std::exception& error) {
    return state.SkipWithError(error.what());
  }
  const auto rate = [&](double per_call) {
    return benchmark::Counter(per_call, benchmark::Counter::kIsIterationInvariantRate);
  };
  if (one.flops > 0) {
    state.counters["GFLOP/s"] = rate(one.flops * 1e-9);
    if (ceilings) {
      state.counters["of_fma"] = rate(one.flops * 1e-9 / ceilings->fma_gflops);
      state.counters["of_sgemm"] = rate(one.flops * 1e-9 / ceilings->sgemm_gflops);
    }
  } else if (one.bytes > 0) {
    state.counters["GB/s"] = rate(one.bytes * 1e-9);
    if (ceilings) state.counters["of_stream"] = rate(one.bytes * 1e-9 / ceilings->stream_gbytes);
  }
  if (peak_bytes > 0) state.counters["peak_MB"] = peak_bytes * 1e-6;
}

void print_exponents(const std::vector<Case>& cases, const std::vector<int>& threads,
                     const std::map<std::string, double>& seconds) {
  std::map<std::string, std::vector<std::pair<double, double>>> groups;
  for (const Case& one : cases)
    for (const int count : threads)
      if (const auto found = seconds.find(fmt::format("{}/threads:{}", one.name, count));
          found != seconds.end())
        groups[fmt::format("{}/threads:{}", one.group, count)].push_back(
            {static_cast<double>(one.n), found->second});
  for (const auto& [group, points] : groups)
    if (points.size() >= 2)
      fmt::print("{}: time ~ n^{:.2f} over n = {:g} .. {:g} (least squares, log-log, {} sizes)\n", group,
                 cost_exponent(points), points.front().first, points.back().first, points.size());
}

}  // namespace

double cost_exponent(const std::vector<std::pair<double, double>>& size_and_seconds) {
  if (size_and_seconds.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  const auto count = static_cast<double>(size_and_seconds.size());
  for (const auto& [n, seconds] : size_and_seconds) {
    mean_x += std::log(n) / count;
    mean_y += std::log(seconds) / count;
  }
  for (const auto& [n, seconds] : size_and_seconds) {
    xx += (std::log(n) - mean_x) * (std::log(n) - mean_x);
    xy += (std::log(n) - mean_x) * (std::log(seconds) - mean_y);
  }
  return xy / xx;
}

double peak_memory_of(const Registry& registry, const MethodSpec& spec, index_t n,
                      const std::string& case_name) {
  for (const Case& one : make_cases(registry, spec, n)) {
    if (one.name != case_name) continue;
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";  // forgets the peak so far
    const double before = status_kilobytes("VmRSS:");
    one.work();
    return std::max(0.0, status_kilobytes("VmHWM:") - before) * 1024;
  }
  return 0;
}

int run(const Registry& registry, const Request& request) {
  std::vector<Case> cases;
  std::vector<double> peaks;
  for (const MethodSpec& spec : request.methods)
    for (const index_t n : request.sizes) try {
        for (Case& one : make_cases(registry, spec, n)) {
          peaks.push_back(request.peak_memory ? request.peak_memory(spec, n, one.name) : 0);
          cases.push_back(std::move(one));
        }
      } catch (const MethodError& error) {
        fmt::print(stderr, "borel: {} with n = {} is left out: {}\n", spec.text(), n, error.what());
      }
  if (cases.empty())
    throw Error("bench: nothing to run; give methods, e.g. `borel bench attention/softmax optimizer`");

  int most_threads = 1;
  for (const int count : request.threads) most_threads = std::max(most_threads, count);
  const tbb::global_control allow(
      tbb::global_control::max_allowed_parallelism,
      static_cast<std::size_t>(std::max(most_threads, tbb::this_task_arena::max_concurrency())));
  std::map<int, Ceilings> ceilings;
  for (const auto& [key, value] : request.context) benchmark::AddCustomContext(key, value);
  for (const int count : request.threads) {
    if (!request.ceilings || ceilings.contains(count)) continue;
    const Ceilings& found = ceilings[count] = measure_ceilings(count);
    fmt::print(
        "ceilings with {} thread{}: {:.1f} GFLOP/s FMA ({}), {:.1f} GFLOP/s sgemm (OpenBLAS {}), {:.1f} GB/s "
        "stream triad\n",
        count, count == 1 ? "" : "s", found.fma_gflops, found.instruction_set, found.sgemm_gflops,
        found.blas_core, found.stream_gbytes);
    const std::string prefix = fmt::format("ceiling_threads_{}_", count);
    benchmark::AddCustomContext(prefix + "fma_gflops", fmt::format("{:.6g}", found.fma_gflops));
    benchmark::AddCustomContext(prefix + "sgemm_gflops", fmt::format("{:.6g}", found.sgemm_gflops));
    benchmark::AddCustomContext(prefix + "stream_gbytes", fmt::format("{:.6g}", found.stream_gbytes));
    benchmark::AddCustomContext("blas_core", found.blas_core);
    benchmark::AddCustomContext("instruction_set", found.instruction_set);
  }

  // Google Benchmark reads its own flags from argv; it gets ours only.
  std::vector<std::string> arguments{"borel"};
  if (!request.json_file.empty()) {
    arguments.push_back("--benchmark_out=" + request.json_file);
    arguments.push_back("--benchmark_out_format=json");
  }
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  for (std::size_t i = 0; i < cases.size(); ++i)
    for (const int count : request.threads) {
      const auto found = ceilings.find(count);
      const Ceilings* limit = found == ceilings.end() ? nullptr : &found->second;
      benchmark::RegisterBenchmark(fmt::format("{}/threads:{}", cases[i].name, count).c_str(),
                                   [&cases, &peaks, i, limit, count](benchmark::State& state) {
                                     time_case(state, cases[i], limit, peaks[i], count);
                                   })
          ->UseRealTime()
          ->MinTime(request.min_time_s)
          ->Repetitions(request.repetitions)
          ->Unit(benchmark::kMicrosecond);
    }
  fmt::print(
      "(A warning about a DEBUG build below speaks of Debian's libbenchmark itself, not of what is "
      "measured.)\n");
  std::fflush(stdout);
  Reporter reporter;
  if (request.json_file.empty())
    benchmark::RunSpecifiedBenchmarks(&reporter);
  else
    benchmark::RunSpecifiedBenchmarks(&reporter, nullptr);
  print_exponents(cases, request.threads, reporter.seconds);
  benchmark::Shutdown();
  return reporter.n_errors;
}

}  // namespace borel::bench
