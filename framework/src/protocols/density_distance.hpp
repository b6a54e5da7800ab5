// Distances between a fitted density and the true one, and between samples and a distribution.
#pragma once

#include <span>
#include <vector>

#include "borel/density.hpp"
#include "dataset/truth.hpp"

namespace borel {

struct DensityDistance {
  double kl = 0;  ///< KL(truth || fit) in nats; infinite when the fit has no mass where the truth has some
  double l1 = 0;  ///< integral of |p - q|, in [0, 2]
  double w1 = 0;  ///< integral of |P - Q| over the bulk of the truth
};

/// Composite 4-point Gauss-Legendre, 8192 panels over the bulk of the truth. The tails beyond (1e-12 of the
/// truth) count for l1 with the mass that the fit has there.
DensityDistance distance_to_truth(const FittedDensity& density, const GaussianMixture& truth);

struct ModeRecovery {
  index_t matched = 0, missed = 0, spurious = 0;
};
/// Pairs modes one to one, nearest first, within the tolerance.
ModeRecovery match_modes(std::span<const double> found, std::span<const double> true_modes, double tolerance);

/// Largest |i/n - F(x_i)| over sorted samples, from both sides of each step.
double ks_distance(std::span<const double> cdf_at_sorted_samples);
/// P(D >= distance) for n samples of the distribution: Kolmogorov's limit with Stephens's correction (1970).
double ks_p_value(double distance, double n);
/// Of two sorted samples: largest difference, and integral of the difference, of their empirical cdfs.
double ks_distance(std::span<const double> a, std::span<const double> b);
double w1_distance(std::span<const double> a, std::span<const double> b);

}  // namespace borel
