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

/// From `start`: Newton's method with the placement held and no penalty, else L-BFGS. @throws borel::Stopped
FourierFit minimise_fourier_loss(const FourierProblem& problem, FourierModel start, double tolerance,
                                 borel::index_t max_iterations, const borel::StopToken& stop);

/// The optimum for all samples from the optimum for groups of them, placement held. Newton's method, a pass over the samples
/// a step; with a penalty the grouped loss plus a linear term that gives it the exact gradient at the last point is
/// minimised, until the exact gradient is small. A handful of passes either way. @throws borel::Stopped
FourierFit polish_fourier_fit(const FourierProblem& all, const FourierProblem& search, FourierModel start,
                              double tolerance, borel::index_t max_iterations, const borel::StopToken& stop);

/// Mean loss without penalty, placement held: a held-out score in x; differences are those of the log-likelihood.
double fourier_mean_loss(const FourierProblem& problem, const FourierModel& model);

/// A(x) with |A|^2 = a histogram of x on [-1, 1], cut to the lowest n frequencies: |A|^2 is near the density at once. Of
/// the many A with that modulus it is the one whose zeros lie on one side of the circle (minimum phase, by the causal part
/// of log |A|; Oppenheim and Schafer 1975, section 10.6). A real symmetric one would be a trap: gradients keep its
/// symmetry, and the best symmetric A is a saddle.
FourierModel spectral_start(const FourierProblem& problem, std::size_t n_frequencies);
/// A random density, normal coefficients, in the same form.
FourierModel random_start(std::size_t n_frequencies, borel::Rng& rng);
