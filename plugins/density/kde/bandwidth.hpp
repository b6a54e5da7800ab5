// Bandwidth rules for the Gaussian kernel.
#pragma once

#include <span>
#include <string>

#include "borel/parallel.hpp"

enum class BandwidthRule { isj, sheather_jones, silverman, cross_validation, value };

struct Bandwidth {
  double h = 0;
  std::string sentence;  ///< which rule gave it, and why if it is not the one that was asked for
};

/// @param x sorted   @param w positive, sum 1   @param n effective number of samples
/// @pre borel::check_spread()   @throws borel::Stopped
Bandwidth select_bandwidth(BandwidthRule rule, std::span<const double> x, std::span<const double> w, double n,
                           const borel::StopToken& stop);
