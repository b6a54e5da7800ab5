// Exact quantities of one-dimensional Gaussian mixtures, the ground truth of many datasets.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "borel/rng.hpp"
#include "dataset/dataset.hpp"

namespace borel {

/// sum_k weight_k N(mean_k, sd_k^2). Immutable. Double precision throughout.
class GaussianMixture {
 public:
  /// @throws DatasetError: sizes differ, weights do not sum to 1 (1e-9), sd <= 0
  GaussianMixture(std::vector<double> weight, std::vector<double> mean, std::vector<double> sd);
  /// From /truth of a samples dataset; null when it holds no Gaussian mixture.
  static std::shared_ptr<const GaussianMixture> from(const Dataset& dataset);

  double pdf(double x) const;
  /// In nats; finite for every finite x (log-sum-exp), -1e308 or so far out.
  double log_pdf(double x) const;
  double cdf(double x) const;
  /// 1 - cdf(x) without cancellation.
  double survival(double x) const;
  /// @pre 0 < u < 1. Bracketed Newton, |cdf(x) - u| <= 1e-14 or so.
  double quantile(double u) const;
  double mean() const;
  double variance() const;
  /// Differential entropy in nats: adaptive Gauss-Legendre on pieces between all mean +- k sd; absolute error
  /// <= 1e-9.
  double entropy() const;
  /// Local maxima of the density, ascending; found between the sign changes of its derivative on a grid of
  /// 1/20 of the smallest scale present, to 1e-10.
  std::vector<double> modes() const;
  /// Where all but 1e-12 or so of the mass lies: [min(mean - 7.5 sd), max(mean + 7.5 sd)].
  std::pair<double, double> bulk() const;
  double sample(Rng& rng) const;

  std::span<const double> weights() const { return weight_; }
  std::span<const double> means() const { return mean_; }
  std::span<const double> sds() const { return sd_; }

 private:
  double slope(double x) const;
  std::vector<double> breakpoints() const;

  std::vector<double> weight_, mean_, sd_;
};

}  // namespace borel
