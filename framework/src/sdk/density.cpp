// The density family's checks, streams and texts. The default members of FittedDensity are in
// fitted_density.cpp.
#include "borel/density.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "borel/error.hpp"

namespace borel {

DensityEstimator::~DensityEstimator() = default;

double DensityEstimator::fit_memory_bytes(index_t n_samples, index_t n_dims) const {
  // A sorted copy of the samples and of the weights, twice over: what a method without own estimate may well
  // use.
  return 4.0 * sizeof(double) * static_cast<double>(n_samples) *
         static_cast<double>(std::max<index_t>(1, n_dims));
}

TraitList DensityEstimator::describe() const {
  const DensityTraits t = traits();
  const auto text = [](bool value) { return std::string(value ? "yes" : "no"); };
  return {{"max_dims", std::to_string(t.max_dims)},
          {"weights", text(t.accepts_weights)},
          {"closed_form_cdf", text(t.closed_form_cdf)},
          {"closed_form_quantile", text(t.closed_form_quantile)},
          {"affine_equivariant", text(t.affine_equivariant)},
          {"smooth", text(t.smooth)},
          {"follows_any_data", text(t.follows_any_data)},
          {"fits_streams", text(stream_fit() != nullptr)},
          {"fits_histograms", text(histogram_fit() != nullptr)},
          {"conditional_head", text(head() != nullptr)}};
}

void check_samples(const Samples& samples, const DensityTraits& traits) {
  const index_t n = samples.n_samples(), n_dims = samples.n_dims();
  if (n <= 0) throw MethodError("samples: a density needs at least 1 sample; 0 rows were given");
  if (n_dims < 1 || n_dims > traits.max_dims)
    throw MethodError(fmt::format(
        "samples: {} dimensions were given; this method accepts 1 to {}{}", n_dims, traits.max_dims,
        traits.max_dims == 1 ? "; select one column, or wrap the method in autoregressive" : ""));
  for (index_t i = 0; i < n; ++i)
    for (index_t d = 0; d < n_dims; ++d)
      if (!std::isfinite(samples.x(i, d)))
        throw MethodError(
            fmt::format("samples: row {} dimension {} is {}; every value must be finite; remove the row", i,
                        d, samples.x(i, d)));
  if (samples.weights.empty()) return;
  if (!traits.accepts_weights)
    throw MethodError("samples: weights were given; this method takes samples of equal weight only");
  if (static_cast<index_t>(samples.weights.size()) != n)
    throw MethodError(fmt::format("samples: {} weights were given for {} rows; give one weight per row",
                                  samples.weights.size(), n));
  double sum = 0;
  for (index_t i = 0; i < n; ++i) {
    const double weight = samples.weights[static_cast<std::size_t>(i)];
    if (!(weight >= 0) || !std::isfinite(weight))
      throw MethodError(
          fmt::format("samples: row {} has weight {}; weights must be finite and >= 0", i, weight));
    sum += weight;
  }
  if (!(sum > 0) || !std::isfinite(sum))
    throw MethodError(
        fmt::format("samples: the weights sum to {}; the sum must be positive and finite", sum));
}

std::unique_ptr<FittedDensity> fit_from_stream(const DensityEstimator& method, SampleStream& samples,
                                               const FitContext& context) {
  if (samples.n_samples() <= 0) throw MethodError("sample stream: 0 rows; a density needs at least 1 sample");
  if (const StreamFit* ability = method.stream_fit()) return ability->fit_stream(samples, context);
  if (const HistogramFit* ability = method.histogram_fit(); ability && samples.n_dims() == 1)
    return ability->fit_histogram(make_fine_histogram(samples, ability->bins_wanted()), context);

  const index_t n = samples.n_samples(), n_dims = samples.n_dims();
  const double bytes = static_cast<double>(n) * static_cast<double>(n_dims + 1) * sizeof(double) +
                       method.fit_memory_bytes(n, n_dims);
  if (bytes > context.budget.memory_bytes)
    throw MethodError(
        fmt::format("sample stream: this method fits neither streams nor histograms, and its {} rows would "
                    "take {:.3g} bytes in memory (budget {:.3g}); raise the budget or thin the data",
                    n, bytes, context.budget.memory_bytes));
  std::vector<double> x, weights;
  x.reserve(static_cast<std::size_t>(n * n_dims));
  samples.rewind();
  for (Samples block = samples.next(); block.n_samples() > 0; block = samples.next()) {
    const std::size_t rows_before = x.size() / static_cast<std::size_t>(n_dims);
    for (index_t i = 0; i < block.n_samples(); ++i)
      for (index_t d = 0; d < n_dims; ++d) x.push_back(block.x(i, d));
    if (block.weights.empty() && weights.empty()) continue;
    weights.resize(rows_before, 1.0);  // earlier blocks had none
    if (block.weights.empty())
      weights.resize(rows_before + static_cast<std::size_t>(block.n_samples()), 1.0);
    else
      weights.insert(weights.end(), block.weights.begin(), block.weights.end());
  }
  const index_t n_read = static_cast<index_t>(x.size()) / n_dims;
  return method.fit({TensorView<const double, 2>(x.data(), {n_read, n_dims}), weights}, context);
}

}  // namespace borel
