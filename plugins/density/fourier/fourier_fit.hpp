// The Fourier density's likelihood with exact gradient, and its maximisation. Coordinates: v = (y - offset) /
// scale for a first offset and scale; x = tanh((v - tau) / sigma), or x = v on [-1, 1].
#pragma once

#include <complex>
#include <span>
#include <string>
#include <vector>

#include "borel/density.hpp"

enum class FourierMap { tanh, identity };

struct FourierModel {
  std::vector<std::complex<double>> a;
  double tau = 0, log_sigma = 0;
};

struct FourierProblem {
  std::span<const double> v, w;  ///< w sums to 1
  FourierMap map = FourierMap::tanh;
  bool train_placement = false;
  double penalty = 0;  ///< times the integral of p'(x)^2 over [-1, 1]
};

/// -mean log density (in v) + penalty, and its gradient in the order re a, im a, tau, log sigma. O(n N).
double fourier_loss(const FourierProblem& problem, const FourierModel& model, std::span<double> gradient);

struct FourierFit {
  FourierModel model;
  double loss = 0;
  borel::index_t iterations = 0;
  bool converged = false;
};

/// L-BFGS from `start`. @throws borel::Stopped
FourierFit minimise_fourier_loss(const FourierProblem& problem, FourierModel start, double tolerance,
                                 borel::index_t max_iterations, const borel::StopToken& stop);

/// The optimum for all samples from the optimum for groups of them, placement held: the grouped loss plus a linear term
/// that gives it the exact gradient at the last point is minimised, until the exact gradient is small. A handful of
/// passes over the samples. @throws borel::Stopped
FourierFit polish_fourier_fit(const FourierProblem& all, const FourierProblem& search, FourierModel start,
                              double tolerance, borel::index_t max_iterations, const borel::StopToken& stop);

/// Mean loss without penalty, placement held: a held-out score in x; differences are those of the log-likelihood.
double fourier_mean_loss(const FourierProblem& problem, const FourierModel& model);

/// A(x) = square root of a histogram of x on [-1, 1], cut to the lowest n frequencies: |A|^2 is near the
/// density at once.
FourierModel spectral_start(const FourierProblem& problem, std::size_t n_frequencies);
