// The Fourier likelihood with the placement held, and Newton's method for it.
#pragma once

#include <complex>
#include <span>
#include <vector>

#include "borel/draft/lbfgs.hpp"
#include "fourier_fit.hpp"

double map_to_unit(FourierMap map, double v);

/// gamma pi^2 sum_n n^2 |c_n|^2 / c_0^2 = gamma int p'^2: the paper's eq. 10 for the normalised density. Adds
/// the gradient.
double add_fourier_penalty(double gamma, std::span<const std::complex<double>> a, std::span<double> gradient);

/// A problem with the placement held: the points as z, and the loss in x (the map's Jacobian is constant). Values are
/// [re a, im a]; the loss depends on neither their common factor nor their common phase.
class HeldProblem {
 public:
  explicit HeldProblem(const FourierProblem& problem);

  /// @param gradient the same size, written
  double loss(std::span<const double> values, std::span<double> gradient) const {
    return loss(values, gradient, {});
  }
  /// @param curvature  [2 (2 N - 1)], re and im of S_m = sum_j w_j z_j^m / A_j^2, written
  double loss(std::span<const double> values, std::span<double> gradient, std::span<double> curvature) const;
  /// The Hessian is a Hankel matrix of S without a penalty; beyond some frequencies its factors cost too much.
  bool has_curvature(std::size_t n_frequencies) const;

 private:
  std::vector<double> z_re_, z_im_, w_;
  double penalty_;
};

/// Newton's method, damped where the Hessian is not positive or its model fails (Levenberg-Marquardt), with |values| = 1.
/// -log |A|^2 has the Hessian 2 [[Re S, Im S], [Im S, -Re S]], S_{k+l}, because A is linear and holomorphic in conj(a):
/// 3 N sums per point in place of 2 N^2. Converged: a step promises less than 1e-3 tolerance nats. A small gradient says
/// little here: where the best density touches 0 there are directions of curvature 1e-7.
/// @pre problem.has_curvature() @throws borel::Stopped
borel::LbfgsResult minimise_newton(const HeldProblem& problem, std::vector<double> values, double tolerance,
                                   borel::index_t max_iterations, const borel::StopToken& stop);
