// The hot loop of the Fourier density's likelihood, one version per instruction set.
#pragma once

#include <cstddef>

/// Points in one fit: z_j = exp(i pi x_j) and weights. All arrays [n], n a multiple of k_fourier_pad, padded with
/// weight 0.
struct FourierPoints {
  const double* z_re;
  const double* z_im;
  const double* w;
  std::size_t n;
};

inline constexpr std::size_t k_fourier_pad = 32;

/// With A_j = sum_k conj(a_k) z_j^k: adds  -sum_j w_j log |A_j|^2  to sums[2 N], and
/// -2 sum_j w_j Re, Im (z_j^k / A_j)  to sums[k], sums[N + k]. 18 N flops per point.
/// @param curvature  null, or [2 (2 N - 1)]: sum_j w_j Re, Im (z_j^m / A_j^2), m = 0 .. 2 N - 2, is added to [m] and
///   [2 N - 1 + m], for another 20 N flops per point
void add_fourier_sums(const FourierPoints& points, const double* a_re, const double* a_im,
                      std::size_t n_frequencies, double* sums, double* curvature = nullptr);
