// Kernel densities made of several: local bandwidths, and reflection at the ends of the support.
#pragma once

#include <memory>
#include <vector>

#include "borel/density.hpp"
#include "kde_density.hpp"

/// Sample-point estimate (Breiman, Meisel, Purcell 1977; Abramson 1982): sample i has the bandwidth
/// h_i = h (p(x_i) / g)^(-alpha), p the pilot with h everywhere, g its geometric mean over the samples. Factors are
/// rounded to whole powers of 2^(1/8), so that this is a mixture of some tens of fixed-bandwidth densities.
class AdaptiveKde final : public borel::FittedDensity {
 public:
  AdaptiveKde(const std::vector<double>& x, const std::vector<double>& w, Kernel kernel, double h,
              double alpha, bool tabulate, borel::Outcome outcome);
  explicit AdaptiveKde(const borel::StateReader& in);

  void log_pdf(borel::TensorView<const double, 2> x, std::span<double> out) const override;
  void cdf(std::span<const double> x, std::span<double> out) const override;
  void sample(borel::Rng& rng, borel::TensorView<double, 2> out) const override;
  borel::RealInterval support(borel::index_t dim = 0) const override;
  borel::index_t parameter_count() const override { return 2; }  // the bandwidth and g
  borel::Outcome outcome() const override { return outcome_; }
  void save(borel::StateWriter& out) const override;

 private:
  std::vector<std::unique_ptr<KdeDensity>> classes_;
  std::vector<double> weight_;
  borel::Outcome outcome_;
};

/// sum over images of the density within [low, high]: both ends (or one, the other infinite) act as mirrors, so the mass
/// is exactly 1 and the slope at a mirror is 0.
class ReflectedDensity final : public borel::FittedDensity {
 public:
  /// @param h the inner density has no mass to speak of further than 40 h beyond its samples
  ReflectedDensity(std::unique_ptr<borel::FittedDensity> inner, borel::RealInterval bounds, double h);
  explicit ReflectedDensity(const borel::StateReader& in);

  void log_pdf(borel::TensorView<const double, 2> x, std::span<double> out) const override;
  void cdf(std::span<const double> x, std::span<double> out) const override;
  void sample(borel::Rng& rng, borel::TensorView<double, 2> out) const override;
  borel::RealInterval support(borel::index_t = 0) const override { return bounds_; }
  borel::index_t parameter_count() const override { return inner_->parameter_count(); }
  borel::Outcome outcome() const override { return inner_->outcome(); }
  void save(borel::StateWriter& out) const override;

 private:
  int n_images() const;

  std::unique_ptr<borel::FittedDensity> inner_;
  borel::RealInterval bounds_;
  double h_;
};
