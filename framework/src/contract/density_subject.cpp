#include "contract/density_subject.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/error.hpp"

namespace borel::contract {

std::vector<DensityVariant> density_variants(const Subject& subject) {
  std::vector<DensityVariant> variants;
  const auto add = [&](const MethodSpec& spec) {
    variants.push_back({subject.method.canonical(spec), subject.registry.make<DensityEstimator>(spec)});
  };
  add(subject.spec);
  for (const ParamInfo& param : subject.method.params) {
    if (param.type != ParamType::choice) continue;
    for (const std::string& choice : param.choices) {
      if (choice == param.default_text) continue;
      MethodSpec spec = subject.spec;
      spec.params[param.name] = choice;
      try {
        add(spec);
      } catch (const ParamError&) {
        continue;  // this choice needs another one beside it
      }
    }
  }
  return variants;
}

Verdict for_every_variant(const Subject& subject,
                          const std::function<std::string(const DensityEstimator&, Seed)>& check) {
  for (const DensityVariant& variant : density_variants(subject)) {
    const std::string failure = check(*variant.method, subject.seed.derive(variant.name));
    if (!failure.empty()) return broken(variant.name + ": " + failure);
  }
  return kept();
}

Samples as_samples(std::span<const double> x, std::span<const double> weights) {
  return {TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), weights};
}

std::vector<double> two_humps(std::size_t n, Seed seed) {
  Rng rng(seed);
  std::vector<double> x(n);
  for (double& value : x) value = rng.uniform() < 0.6 ? -1 + 0.5 * rng.normal() : 2 + rng.normal();
  return x;
}

std::vector<double> log_pdf_of(const FittedDensity& density, std::span<const double> x) {
  std::vector<double> out(x.size(), std::numeric_limits<double>::quiet_NaN());
  density.log_pdf(TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), out);
  return out;
}

std::vector<double> cdf_of(const FittedDensity& density, std::span<const double> x) {
  std::vector<double> out(x.size(), std::numeric_limits<double>::quiet_NaN());
  density.cdf(x, out);
  return out;
}

std::vector<double> quantile_of(const FittedDensity& density, std::span<const double> p) {
  std::vector<double> out(p.size(), std::numeric_limits<double>::quiet_NaN());
  density.quantile(p, out);
  return out;
}

std::unique_ptr<FittedDensity> fit_or_decline(const DensityEstimator& method, const Samples& samples,
                                              Seed seed, std::string* reason) {
  FitContext context;
  context.seed = seed;
  try {
    return method.fit(samples, context);
  } catch (const MethodError& error) {
    if (reason) *reason = error.what();
    return nullptr;
  }
}

std::string sanity(const FittedDensity& density, std::span<const double> samples, bool adapts) {
  const std::vector<double> log_p = log_pdf_of(density, samples);
  for (std::size_t i = 0; i < samples.size(); ++i)
    if (!std::isfinite(log_p[i]))
      return fmt::format("log_pdf is {} at sample {} = {}", log_p[i], i, samples[i]);
  constexpr double k_infinity = std::numeric_limits<double>::infinity();
  const double ends[] = {-k_infinity, k_infinity};
  const std::vector<double> at_ends = cdf_of(density, ends);
  if (!(at_ends[0] == 0) || !(at_ends[1] == 1))
    return fmt::format("cdf is {} and {} at -infinity and infinity", at_ends[0], at_ends[1]);
  const double half = 0.5;
  const double median = quantile_of(density, {&half, 1})[0];
  const double low = *std::min_element(samples.begin(), samples.end());
  const double high = *std::max_element(samples.begin(), samples.end());
  if (!std::isfinite(median)) return fmt::format("the median is {}", median);
  // Far from 0 the cdf is a staircase of rounded x: 1/2 must lie within a few steps.
  const double steps = 8 * std::numeric_limits<double>::epsilon() * std::abs(median) + 1e-323;
  const double around[] = {median - steps, median + steps};
  const std::vector<double> f = cdf_of(density, around);
  if (!(f[1] >= half - 1e-9) || !(f[0] <= half + 1e-9))
    return fmt::format("cdf at the median {} is {} (just below: {})", median, f[1], f[0]);
  const double spread = std::max(high - low, std::numeric_limits<double>::min());
  if (adapts && samples.size() > 2 && !(median >= low - spread && median <= high + spread))
    return fmt::format("the median {} is far outside of the samples, {} to {}", median, low, high);
  return "";
}

}  // namespace borel::contract
