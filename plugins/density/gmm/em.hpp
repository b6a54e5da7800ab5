// Expectation maximisation for one-dimensional normal mixtures on standardised data.
#pragma once

#include <span>
#include <vector>

#include "borel/density.hpp"

struct Mixture {
  std::vector<double> weight, mean, sd;
  std::size_t size() const { return weight.size(); }
};

struct EmResult {
  Mixture mixture;
  double mean_log_likelihood = 0;
  borel::index_t iterations = 0;
  bool converged = false;
};

struct EmLimits {
  double min_sd = 0;         ///< no standard deviation goes below; the likelihood has no maximum without it
  double tolerance = 1e-10;  ///< gain of the mean log-likelihood per cycle of three EM steps
  borel::index_t max_iterations = 10000;
  borel::StopToken stop;
};

/// EM accelerated by SQUAREM (Varadhan, Roland 2008, scheme S3), never down in likelihood. @throws
/// borel::Stopped
EmResult maximise(const borel::StandardPoints& data, Mixture start, const EmLimits& limits);

/// Gradient ascent on the likelihood by L-BFGS: logits of the weights, means, log(sd - min_sd). @throws borel::Stopped
EmResult ascend(const borel::StandardPoints& data, const Mixture& start, const EmLimits& limits);

/// k-means++ seeding (Arthur, Vassilvitskii 2007), a few Lloyd rounds, then the moments of the clusters.
Mixture k_means_start(const borel::StandardPoints& data, std::size_t n_components, double min_sd,
                      borel::Rng& rng);
/// Clusters of equal weight along the axis.
Mixture quantile_start(const borel::StandardPoints& data, std::size_t n_components, double min_sd);
/// The mixture with its component k split in two along the axis.
Mixture split(const Mixture& mixture, std::size_t k);
