// Kernel density of one bandwidth: p(x) = sum_i w_i K((x - x_i) / h) / h.
#pragma once

#include <array>
#include <vector>

#include "borel/density.hpp"

enum class Kernel { gaussian, epanechnikov };

class KdeDensity final : public borel::FittedDensity {
 public:
  /// @param x sorted  @param w positive, sum 1  @param tabulate Chebyshev panels in place of sums over samples
  KdeDensity(std::vector<double> x, std::vector<double> w, Kernel kernel, double h, bool tabulate,
             borel::Outcome outcome);
  /// @throws MethodError when the saved state is not complete
  explicit KdeDensity(const borel::StateReader& in);

  void log_pdf(borel::TensorView<const double, 2> x, std::span<double> out) const override;
  bool log_pdf_gradient(borel::TensorView<const double, 2> x,
                        borel::TensorView<double, 2> out) const override;
  void cdf(std::span<const double> x, std::span<double> out) const override;
  void sample(borel::Rng& rng, borel::TensorView<double, 2> out) const override;
  borel::RealInterval support(borel::index_t dim = 0) const override;
  borel::index_t parameter_count() const override {
    return 1;
  }  // the bandwidth; the samples are kept as well
  borel::Outcome outcome() const override { return outcome_; }
  void save(borel::StateWriter& out) const override;

 private:
  static constexpr int k_nodes = 26;  ///< Chebyshev coefficients of a panel
  struct Panel {                      ///< t in [-1, 1] over width h; both polynomials in Chebyshev form
    std::array<double, k_nodes> p;    ///< h p(x)
    std::array<double, k_nodes + 1> integral;  ///< cdf(x) - cdf(panel begin)
    double before = 0;                         ///< cdf at the panel's begin
    bool used = false;
  };

  template <std::size_t N>
  static double evaluate(const std::array<double, N>& c, double t) {  // Clenshaw
    double b1 = 0, b2 = 0;
    for (std::size_t k = N - 1; k > 0; --k) {
      const double b0 = c[k] + 2 * t * b1 - b2;
      b2 = b1, b1 = b0;
    }
    return c[0] + t * b1 - b2;
  }

  double log_pdf_at(double x) const;
  double slope_at(double x) const;
  double cdf_at(double x) const;
  std::size_t first_at_least(double x) const;
  double nearest(double x) const;
  double log_gaussian(double x) const;
  double log_epanechnikov(double x) const;
  const Panel* panel_at(double x) const;
  double local(const Panel& panel, double x) const;
  void make_table();

  std::vector<double> x_, w_, cumulative_;
  Kernel kernel_;
  double h_, log_h_;
  double reach_ = 0;  ///< 2 T
  borel::Outcome outcome_;
  double table_begin_ = 0;
  std::vector<Panel> panels_;
};
