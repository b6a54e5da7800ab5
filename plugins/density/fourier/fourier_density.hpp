// The fitted Fourier density: closed forms of log p and cdf from the coefficients.
#pragma once

#include <complex>
#include <vector>

#include "borel/density.hpp"
#include "fourier_fit.hpp"

struct FourierPlacement {
  FourierMap map = FourierMap::tanh;
  double offset = 0, scale = 1;
  borel::index_t n_fitted = 2;
};

/// log(1 - tanh(u)^2) without the cancellation.
double log_sech_squared(double u);

class FourierDensity final : public borel::FittedDensity {
 public:
  FourierDensity(std::vector<std::complex<double>> a, FourierPlacement placement, borel::Outcome outcome);

  void log_pdf(borel::TensorView<const double, 2> y, std::span<double> out) const override;
  bool log_pdf_gradient(borel::TensorView<const double, 2> y,
                        borel::TensorView<double, 2> out) const override;
  void cdf(std::span<const double> y, std::span<double> out) const override;
  borel::RealInterval support(borel::index_t dim = 0) const override;
  borel::index_t parameter_count() const override {
    return 2 * static_cast<borel::index_t>(a_.size()) - 2 + placement_.n_fitted;
  }
  borel::Outcome outcome() const override { return outcome_; }
  void save(borel::StateWriter& out) const override;

 private:
  double log_pdf_at(double y) const;
  double slope_at(double y) const;
  double cdf_at(double y) const;

  std::vector<std::complex<double>> a_, c_;
  FourierPlacement placement_;
  borel::Outcome outcome_;
  double log_norm_ = 0;
};
