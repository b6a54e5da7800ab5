// What the density rules share: variants of a method, test data, evaluation in blocks. Internal to the rules.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "contract/contract.hpp"

namespace borel::contract {

struct DensityVariant {
  std::string name;  ///< canonical spec
  std::unique_ptr<DensityEstimator> method;
};

/// The method as given, and once more for each other value of each of its choices, as far as that is a valid
/// combination.
std::vector<DensityVariant> density_variants(const Subject& subject);

/// Runs check on every variant; the first failure text, with the variant's name, or kept.
Verdict for_every_variant(const Subject& subject,
                          const std::function<std::string(const DensityEstimator&, Seed)>& check);

Samples as_samples(std::span<const double> x, std::span<const double> weights = {});

/// 0.6 N(-1, 0.5^2) + 0.4 N(2, 1): skewed, two modes.
std::vector<double> two_humps(std::size_t n, Seed seed);

std::vector<double> log_pdf_of(const FittedDensity& density, std::span<const double> x);
std::vector<double> cdf_of(const FittedDensity& density, std::span<const double> x);
std::vector<double> quantile_of(const FittedDensity& density, std::span<const double> p);

/// Fits; null when the method declines with a MethodError (its text in `reason`).
std::unique_ptr<FittedDensity> fit_or_decline(const DensityEstimator& method, const Samples& samples,
                                              Seed seed, std::string* reason = nullptr);

/// "" or what is wrong with a density that was accepted for `samples`: finite log p at every sample, cdf
/// 1/2 at the median, 0 and 1 at the ends; where the method adapts to the data's scale, a median near them.
std::string sanity(const FittedDensity& density, std::span<const double> samples, bool adapts);

std::span<const Rule>
density_data_rules();  ///< rules about what is fitted; density_rules.cpp: about the fitted density

}  // namespace borel::contract
