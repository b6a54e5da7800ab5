// Density estimators on the sizes where their peers are known: bench/peers/density_peers.py runs these and the peers on the
// same samples (a claw, Marron-Wand density 10) and prints the ratios. Counters hold what was reached, not only how fast.
// BOREL_BENCH_DATA=<folder> writes the samples there as raw doubles for the peers.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "loader/own_plugins.hpp"

namespace {

using namespace borel;

/// 1/2 N(0, 1) + sum_l 1/10 N(l/2 - 1, 1/10^2), l = 0 .. 4.
const std::vector<double>& claw() {
  static const std::vector<double> samples = [] {
    std::vector<double> x(1'000'000);
    Rng rng(Seed{1992});
    for (double& value : x) {
      const double u = rng.uniform();
      value = u < 0.5 ? rng.normal() : 0.5 * std::floor(10 * u - 5) - 1 + 0.1 * rng.normal();
    }
    if (const char* folder = std::getenv("BOREL_BENCH_DATA")) {
      std::ofstream out(std::string(folder) + "/claw.f64", std::ios::binary);
      out.write(reinterpret_cast<const char*>(x.data()),
                static_cast<std::streamsize>(x.size() * sizeof(double)));
    }
    return x;
  }();
  return samples;
}

TensorView<const double, 2> column(const std::vector<double>& x, std::size_t n) {
  return {x.data(), {static_cast<index_t>(n), 1}};
}

double mean_log_pdf(const FittedDensity& density, std::size_t n) {
  std::vector<double> log_p(n);
  density.log_pdf(column(claw(), n), log_p);
  double sum = 0;
  for (const double value : log_p) sum += value / static_cast<double>(n);
  return sum;
}

std::vector<double> grid(double low, double high, std::size_t n) {
  std::vector<double> x(n);
  for (std::size_t i = 0; i < n; ++i)
    x[i] = low + (high - low) * (static_cast<double>(i) + 0.37) / static_cast<double>(n);
  return x;
}

void fit(benchmark::State& state, const char* spec, std::size_t n) {
  const auto method = own_plugins().make<DensityEstimator>(spec);
  const Samples samples{column(claw(), n), {}};
  std::unique_ptr<FittedDensity> density;
  for (auto _ : state) density = method->fit(samples, {});
  state.counters["mean_log_likelihood"] = mean_log_pdf(*density, n);
  state.counters["iterations_inside"] = static_cast<double>(density->outcome().iterations);
}

/// Fit and evaluation together, as scipy.stats.gaussian_kde(x)(at); Scott's bandwidth n^(-1/5) sd, given as a value.
void kde_off_grid(benchmark::State& state) {
  constexpr std::size_t n = 100'000;
  double mean = 0, square = 0;
  for (std::size_t i = 0; i < n; ++i) mean += claw()[i] / n;
  for (std::size_t i = 0; i < n; ++i) square += (claw()[i] - mean) * (claw()[i] - mean);
  const double h = std::sqrt(square / (n - 1)) * std::pow(n, -0.2);
  const std::string settings = "bandwidth=value, h=" + std::to_string(h);
  const auto method = own_plugins().make<DensityEstimator>("kde{" + settings + "}");
  const std::vector<double> at = grid(-4, 4, 10'000);
  std::vector<double> log_p(at.size()), exact(at.size());
  for (auto _ : state) method->fit({column(claw(), n), {}}, {})->log_pdf(column(at, at.size()), log_p);
  own_plugins()
      .make<DensityEstimator>("kde{evaluation=exact, " + settings + "}")
      ->fit({column(claw(), n), {}}, {})
      ->log_pdf(column(at, at.size()), exact);
  double top = -1e300, error = 0;
  for (const double value : exact) top = std::max(top, value);
  for (std::size_t i = 0; i < at.size(); ++i)
    if (exact[i] > top + std::log(1e-10)) error = std::max(error, std::abs(log_p[i] - exact[i]));
  state.counters["max_log_density_error"] = error;
  state.counters["h"] = h;
}

/// As R's density(x, n = 16384): rule-of-thumb bandwidth, fit and 16384 points of a grid.
void kde_on_grid(benchmark::State& state) {
  const auto method = own_plugins().make<DensityEstimator>("kde{evaluation=binned, bandwidth=silverman}");
  const std::vector<double> at = grid(-6, 6, 16384);
  std::vector<double> log_p(at.size()), exact(at.size());
  for (auto _ : state)
    method->fit({column(claw(), claw().size()), {}}, {})->log_pdf(column(at, at.size()), log_p);
  state.counters["log_density_at_0"] = log_p[at.size() / 2];
}

}  // namespace

// SQUAREM needs fewer steps than plain EM: 60 pass the likelihood that scikit-learn has after 178 (the script prints both).
BENCHMARK_CAPTURE(fit, gmm_k10_n1e5, "gmm{n_components=10, n_starts=1, max_iterations=60}", 100'000)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(kde_off_grid)->Unit(benchmark::kMillisecond);
BENCHMARK(kde_on_grid)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, fourier_64_n1e6, "fourier{n_frequencies=64}", 1'000'000)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, kde_isj_n1e5, "kde", 100'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, gmm_bic_n1e5, "gmm", 100'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, logspline_n1e5, "logspline", 100'000)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(fit, spline_flow_n1e5, "spline_flow", 100'000)->Unit(benchmark::kMillisecond);
BENCHMARK_MAIN();
