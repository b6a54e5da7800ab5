// Datasets: writing (shuffle, deflate, checksums, digest), opening with all checks, and the digest alone.
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "borel/rng.hpp"
#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"

namespace {

borel::DatasetWriter normal_samples(std::int64_t n) {
  std::vector<double> x(static_cast<std::size_t>(n));
  borel::Rng(borel::Seed{1}).fill_normal(x);
  borel::DatasetWriter writer(borel::DatasetKind::samples, "io_bench", "Normal numbers",
                              "made by the benchmark", "CC0");
  writer.array("x", std::move(x), {n, 1});
  return writer;
}

std::filesystem::path temporary_file() {
  return std::filesystem::temp_directory_path() / ("borel_io_bench_" + std::to_string(getpid()) + ".h5");
}

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<std::int64_t>(sizeof(double)));
}

void save(benchmark::State& state) {
  borel::DatasetWriter writer = normal_samples(state.range(0));
  for (auto unused : state) writer.save(temporary_file());
  set_bytes(state);
  std::filesystem::remove(temporary_file());
}
BENCHMARK(save)
    ->Name("dataset/save")
    ->Arg(1 << 14)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void open(benchmark::State& state) {
  normal_samples(state.range(0)).save(temporary_file());
  for (auto unused : state)
    benchmark::DoNotOptimize(borel::Dataset::open(temporary_file())->doubles("x").data());
  set_bytes(state);
  std::filesystem::remove(temporary_file());
}
BENCHMARK(open)
    ->Name("dataset/open_and_read")
    ->Arg(1 << 14)
    ->Arg(1 << 20)
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

void seal(benchmark::State& state) {
  borel::DatasetWriter writer = normal_samples(state.range(0));
  for (auto unused : state) benchmark::DoNotOptimize(writer.seal());
  set_bytes(state);
}
BENCHMARK(seal)->Name("dataset/check_and_digest")->Arg(1 << 20)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
