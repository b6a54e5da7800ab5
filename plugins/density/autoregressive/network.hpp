// A conditional density by a committee of small networks: context -> parameters of a density head -> p(y | context).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "borel/density.hpp"

/// What the committee is and how long it learns.
struct CommitteeSettings {
  std::vector<borel::index_t> hidden = {};  ///< widths of the layers of rectified units
  borel::index_t n_networks = 1, max_epochs = 1;
  double learning_rate = 1e-3;
};

/// p(y | c) = 1/M sum_m h(y; theta_m(c)), h the head's density, theta_m a network with linear shortcut:
///   a_1 = max(0, W_1 c + b_1), a_l = max(0, W_l a_(l-1) + b_l), theta = V a_L + S c + b.
/// Immutable; every member may be called from many threads at once.
class NetworkCommittee {
 public:
  /// Each network is fitted by Adam to all rows but a fold of its own, whose likelihood says when to stop.
  /// @param context [n, n_context] standardised   @param y [n] standardised   @param weight [n] >= 0, any unit
  /// @pre n >= 2 folds() rows   O(n parameters) per epoch; networks in parallel. Same bits for any number of threads.
  /// @throws Stopped
  static NetworkCommittee fit(const borel::DensityHead& head, borel::TensorView<const double, 2> context,
                              std::span<const double> y, std::span<const double> weight,
                              const CommitteeSettings& settings, borel::Seed seed, borel::StopToken stop);
  static borel::index_t folds(borel::index_t n_networks);

  /// @param out [n] log densities in nats
  void log_pdf(const borel::DensityHead& head, borel::TensorView<const double, 2> context,
               std::span<const double> y, std::span<double> out) const;
  /// One draw of y given one context [n_context].
  double sample(const borel::DensityHead& head, std::span<const double> context, borel::Rng& rng) const;
  borel::index_t parameter_count() const;
  bool converged() const { return converged_; }
  borel::index_t epochs() const { return epochs_; }

  void save(borel::StateWriter& out) const;
  /// @throws MethodError when the state does not fit the head
  static NetworkCommittee load(const borel::DensityHead& head, const borel::StateReader& in);

 private:
  std::vector<borel::index_t> widths_ = {};           ///< n_context, hidden ..., n_outputs
  std::vector<std::vector<double>> parameters_ = {};  ///< per network
  bool converged_ = true;
  borel::index_t epochs_ = 0;
};
