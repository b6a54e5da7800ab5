// Taylor moments of the samples of one box, one version per instruction set.
#pragma once

#include <cstddef>

inline constexpr std::size_t k_moments = 24;  ///< see kde_density.cpp for the error that this leaves

/// Adds sum_i w_i ((x_i - centre) / h)^k / k! to moments[k], k = 0 .. k_moments - 1.
void add_moments(const double* x, const double* w, std::size_t n, double centre, double inverse_h,
                 double* moments);
