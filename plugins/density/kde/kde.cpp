// Kernel density estimate in one dimension:
//   p(x) = sum_i w_i K((x - x_i) / h) / h,  sum_i w_i = 1;  K = normal density, or Epanechnikov's 3/4 (1 - u^2) on [-1, 1]
// Bandwidth rules are in bandwidth.cpp, each with its source; they hold for the Gaussian kernel and are carried over to
// Epanechnikov by the canonical factor 15^(1/5) (4 pi)^(1/10) = 2.2138 (Marron and Nolan 1988).
// How one bandwidth is evaluated: kde_density.cpp. Several bandwidths, and ends of the support: variants.cpp.
//
// evaluation=binned spreads every sample linearly over the two nearest of 2^14 + 1 grid points first, so that neither
// sorting nor memory grows with n. With grid step d the kernel is interpolated linearly: |p_binned - p| is at most
// d^2 / (8 h^2) max|K''| / h = 0.0499 d^2 / h^3, stated in the outcome for the h that was found.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bandwidth.hpp"
#include "borel/density.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"
#include "kde_density.hpp"
#include "variants.hpp"

namespace {

using namespace borel;

constexpr double k_epanechnikov_factor = 2.2138043588613394;  // (15)^(1/5) / (1 / (2 sqrt(pi)))^(1/5)
constexpr std::size_t k_grid = (1 << 14) + 1;
constexpr double k_grid_error = 0.04986778505017909;  // max |phi''| / 8 = phi(0) / 8

class Kde final : public DensityEstimator, public HistogramFit {
 public:
  enum class Evaluation { tabulated, exact, binned };
  enum class Boundary { none, low, high, both };

  struct Params {
    Kernel kernel = Kernel::gaussian;
    BandwidthRule bandwidth = BandwidthRule::isj;
    Evaluation evaluation = Evaluation::tabulated;
    Boundary boundary = Boundary::none;
    double h = 1, adaptive = 0;
    std::vector<double> bounds = {};
    void declare(ParamBinder& p) {
      p.choice("kernel", kernel, {{"gaussian", Kernel::gaussian}, {"epanechnikov", Kernel::epanechnikov}},
               "Kernel K: normal density, or Epanechnikov's parabola on [-1, 1].");
      p.choice("bandwidth", bandwidth,
               {{"isj", BandwidthRule::isj},
                {"sheather_jones", BandwidthRule::sheather_jones},
                {"silverman", BandwidthRule::silverman},
                {"cross_validation", BandwidthRule::cross_validation},
                {"value", BandwidthRule::value}},
               "Rule for h: improved Sheather-Jones (Botev), Sheather-Jones, Silverman's rule of thumb, "
               "least-squares "
               "cross-validation, or the given value.");
      p.real("h", h, Range::greater_than(0), "unit of the data", "Bandwidth for bandwidth=value.");
      p.choice("evaluation", evaluation,
               {{"tabulated", Evaluation::tabulated},
                {"exact", Evaluation::exact},
                {"binned", Evaluation::binned}},
               "tabulated: Chebyshev panels, relative error below 1e-10; exact: sums over samples; binned: "
               "from a grid "
               "of 16385 points, error bound in the outcome.");
      p.real("adaptive", adaptive, Range::closed(0, 1), "1",
             "Exponent a of local bandwidths h (p(x_i) / g)^(-a), g the geometric mean of p; 0 = one "
             "bandwidth, 1/2 = "
             "Abramson's square root law.");
      p.choice("boundary", boundary,
               {{"none", Boundary::none},
                {"low", Boundary::low},
                {"high", Boundary::high},
                {"both", Boundary::both}},
               "Ends of the support where the estimate is reflected.");
      p.reals(
          "bounds", bounds, Range::any(), "unit of the data",
          "[low, high] of the support; empty = the samples' range, longer by range / n on reflected ends.");
    }
    void check() const {
      if (!bounds.empty() && (bounds.size() != 2 || !(bounds[0] < bounds[1])))
        throw ParamError("'bounds' must be two ascending numbers or empty, got " +
                         std::to_string(bounds.size()) + " numbers; write [low, high]");
    }
  };

  explicit Kde(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = params_.bandwidth != BandwidthRule::value && params_.bounds.empty(),
            .smooth = true,
            .follows_any_data = params_.bandwidth != BandwidthRule::value};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    if (params_.evaluation == Evaluation::binned) return fit_grid(samples, context);
    return fit_sorted(weighted_points(samples), "", context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 14; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_sorted(weighted_points(fine), "", context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    if (in.has("bounds")) return std::make_unique<ReflectedDensity>(in);
    if (in.has("class_weight")) return std::make_unique<AdaptiveKde>(in);
    return std::make_unique<KdeDensity>(in);
  }

 private:
  std::unique_ptr<FittedDensity> fit_grid(const Samples& samples, const FitContext& context) const {
    double low = samples.x(0, 0), high = low, sum = 0, sum_of_squares = 0;
    for (index_t i = 0; i < samples.n_samples(); ++i) {
      const double x = samples.x(i, 0);
      if (!samples.weights.empty()) {
        const double w = samples.weights[static_cast<std::size_t>(i)];
        sum += w, sum_of_squares += w * w;
        if (w == 0) continue;
      }
      low = std::min(low, x), high = std::max(high, x);
    }
    const double n = static_cast<double>(samples.n_samples());
    WeightedPoints points{{low, high}, {1, 1}, 2, samples.weights.empty() ? n : sum * (sum / sum_of_squares)};
    if (!samples.weights.empty() && !(samples.weights[0] > 0)) {  // low and high began with a row of weight 0
      points = weighted_points(samples);
      low = points.x.front(), high = points.x.back();
    }
    check_spread(points, "density kde");
    const double step = (high - low) / static_cast<double>(k_grid - 1);
    std::vector<double> cell(k_grid + 1);  // one more, so that the last sample needs no test
    const double inverse = 1 / step;
    for (index_t i = 0; i < samples.n_samples(); ++i) {
      const double w = samples.weights.empty() ? 1.0 : samples.weights[static_cast<std::size_t>(i)];
      if (w == 0) continue;
      const double at = std::clamp((samples.x(i, 0) - low) * inverse, 0.0, static_cast<double>(k_grid - 1));
      const std::size_t k = static_cast<std::size_t>(at);
      const double part = at - static_cast<double>(k);
      cell[k] += w * (1 - part);
      cell[k + 1] += w * part;
    }
    points.x.clear(), points.weight.clear();
    points.weight_sum = samples.weights.empty() ? n : sum;
    for (std::size_t k = 0; k < k_grid; ++k)
      if (cell[k] > 0)
        points.x.push_back(low + static_cast<double>(k) * step), points.weight.push_back(cell[k]);
    return fit_sorted(points, param_text(step), context);
  }

  /// @param grid_step text of the step when the points are a grid, else empty
  std::unique_ptr<FittedDensity> fit_sorted(const WeightedPoints& points, const std::string& grid_step,
                                            const FitContext& context) const {
    std::vector<double> w;
    w.reserve(points.size());
    for (const double weight : points.weight) w.push_back(weight / points.weight_sum);
    Bandwidth found{params_.h, "bandwidth given"};
    if (params_.bandwidth != BandwidthRule::value) {
      check_spread(points, "density kde");
      found = select_bandwidth(params_.bandwidth, points.x, w, points.n_effective, context.budget.stop);
      if (params_.kernel == Kernel::epanechnikov) found.h *= k_epanechnikov_factor;
    }
    Outcome outcome{Termination::converged, "h = " + param_text(found.h) + ", " + found.sentence, 0};
    if (!grid_step.empty())
      outcome.sentence += ", on a grid of step " + grid_step + ": density within " +
                          param_text(k_grid_error * std::pow(std::stod(grid_step) / found.h, 2) / found.h);
    const bool tabulate = params_.evaluation != Evaluation::exact;
    std::unique_ptr<FittedDensity> density;
    if (params_.adaptive > 0)
      density = std::make_unique<AdaptiveKde>(points.x, w, params_.kernel, found.h, params_.adaptive,
                                              tabulate, outcome);
    else
      density =
          std::make_unique<KdeDensity>(points.x, std::move(w), params_.kernel, found.h, tabulate, outcome);
    if (params_.boundary == Boundary::none) return density;

    const double range = points.x.back() - points.x.front(), beyond = range / points.n_effective;
    RealInterval bounds{points.x.front() - beyond, points.x.back() + beyond};
    if (!params_.bounds.empty()) bounds = {params_.bounds[0], params_.bounds[1]};
    const bool low = params_.boundary != Boundary::high, high = params_.boundary != Boundary::low;
    if (!low) bounds.begin = -std::numeric_limits<double>::infinity();
    if (!high) bounds.end = std::numeric_limits<double>::infinity();
    if (!(points.x.front() >= bounds.begin && points.x.back() <= bounds.end))
      throw MethodError("density kde: the samples from " + param_text(points.x.front()) + " to " +
                        param_text(points.x.back()) + " leave the bounds " + param_text(bounds.begin) +
                        " to " + param_text(bounds.end) + "; widen bounds");
    return std::make_unique<ReflectedDensity>(std::move(density), bounds, found.h);
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Kde>(
      "kde",
      {.summary = "Kernel density estimate: five bandwidth rules, local bandwidths, reflecting ends",
       .formula = "p(x) = sum_i w_i K((x - x_i) / h) / h",
       .source = "Silverman (1986) eq. 3.31; Sheather, Jones (1991) JRSS-B 53; Botev, Grotowski, "
                 "Kroese (2010) Ann. Stat. 38(5); Abramson (1982) Ann. Stat. 10(4)",
       .complexity =
           "fit O(n log n + range/h), binned O(n); evaluation O(1) tabulated or binned, O(window) exact",
       .notes = "bandwidths hold for the Gaussian kernel and are converted by canonical kernels for "
                "Epanechnikov"});
}
