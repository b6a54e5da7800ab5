#include "borel/draft/lbfgs.hpp"

#include <lbfgs.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <memory>

namespace borel {
namespace {

struct Run {
  const FunctionRef<double(std::span<const double>, std::span<double>)>* loss;
  const StopToken* stop;
  std::size_t n;
  index_t iterations = 0;
  std::exception_ptr error;  // no exception may cross the C library
};

double evaluate(void* instance, const lbfgsfloatval_t* x, lbfgsfloatval_t* gradient, int n_padded,
                lbfgsfloatval_t) {
  Run& run = *static_cast<Run*>(instance);
  std::fill(gradient, gradient + n_padded, 0.0);
  constexpr double k_too_far =
      std::numeric_limits<double>::max() / 4;  // an infinity would stop the line search
  if (run.error) return k_too_far;
  try {
    const double value = (*run.loss)({x, run.n}, {gradient, run.n});
    return std::isfinite(value) ? value : k_too_far;
  } catch (...) {
    run.error = std::current_exception();
    return k_too_far;
  }
}

int report(void* instance, const lbfgsfloatval_t*, const lbfgsfloatval_t*, lbfgsfloatval_t, lbfgsfloatval_t,
           lbfgsfloatval_t, lbfgsfloatval_t, int, int iteration, int) {
  Run& run = *static_cast<Run*>(instance);
  run.iterations = iteration;
  return run.error || run.stop->stop_requested() ? 1 : 0;
}

double norm(std::span<const double> v) {
  double square = 0;
  for (const double value : v) square += value * value;
  return std::sqrt(square);
}

}  // namespace

LbfgsResult minimise_lbfgs(FunctionRef<double(std::span<const double>, std::span<double>)> loss,
                           std::vector<double> start, const LbfgsSettings& settings) {
  settings.stop.throw_if_stopped();
  const std::size_t n = start.size();
  // libLBFGS may pad to its SIMD width when it allocates itself.
  const std::unique_ptr<lbfgsfloatval_t, decltype(&lbfgs_free)> x(lbfgs_malloc(static_cast<int>(n)),
                                                                  &lbfgs_free);
  std::copy(start.begin(), start.end(), x.get());

  lbfgs_parameter_t parameters;
  lbfgs_parameter_init(&parameters);
  parameters.m = settings.memory;
  parameters.epsilon = settings.tolerance;
  parameters.max_iterations = static_cast<int>(std::min<index_t>(settings.max_iterations, 1 << 30));
  parameters.max_linesearch = 60;
  Run run{&loss, &settings.stop, n, 0, nullptr};
  LbfgsResult result;
  const int status =
      lbfgs(static_cast<int>(n), x.get(), &result.value, &evaluate, &report, &run, &parameters);
  if (run.error) std::rethrow_exception(run.error);
  settings.stop.throw_if_stopped();

  result.x.assign(x.get(), x.get() + n);
  result.iterations = run.iterations;
  result.converged =
      status == LBFGS_SUCCESS || status == LBFGS_ALREADY_MINIMIZED || status == LBFGSERR_ROUNDING_ERROR;
  std::vector<double> gradient(n);
  result.value = loss(result.x, gradient);
  // A failed line search at the end of floating point counts as converged when the gradient is as good as gone.
  if (!result.converged && status != LBFGSERR_MAXIMUMITERATION)
    result.converged = norm(gradient) <= 100 * settings.tolerance * std::max(1.0, norm(result.x));
  return result;
}

}  // namespace borel
