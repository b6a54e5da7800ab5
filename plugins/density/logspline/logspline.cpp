// Logspline (Stone 1990; Kooperberg and Stone 1991, Stone et al. 1997): log p is a natural cubic spline, hence the tails
// are exponential. Maximum likelihood by Newton's method (the likelihood is concave); knots start at quantiles and are
// deleted one by one by their Wald statistic, the best BIC is kept.
// Where we differ from R's logspline 2.1: a spline is given by its values at the knots, not by truncated powers (better
// conditioned); the start has 5 n^(1/5) knots in place of 2.5 n^(1/5) and no limit of 25, so that narrow peaks of large
// samples are found; no knots are added back.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"
#include "fit.hpp"
#include "spline.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr index_t k_grain = 1024;
constexpr std::size_t k_least_knots = 3;
constexpr double k_quadrature_error = 1e-8;
constexpr double k_rounding = 1e-12;  // of cumulative weights

class LogsplineDensity final : public FittedDensity {
 public:
  LogsplineDensity(std::vector<double> knots, std::vector<double> values, double shift, double scale,
                   Outcome outcome)
      : knots_(std::move(knots)),
        values_(std::move(values)),
        shift_(shift),
        scale_(scale),
        spline_(NaturalSpline(knots_), values_),
        outcome_(std::move(outcome)) {
    if (!spline_.proper())
      throw MethodError("density logspline: the tails do not fall; the values are no density");
  }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    const double log_scale = std::log(scale_);
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        const double u = (x(i, 0) - shift_) / scale_;
        out[static_cast<std::size_t>(i)] = std::isinf(u) ? -k_infinity : spline_.log_pdf(u) - log_scale;
      }
    });
  }
  bool log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out(i, 0) = spline_.slope((x(i, 0) - shift_) / scale_) / scale_;
    return true;
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    parallel_for(static_cast<index_t>(x.size()), k_grain, [&](index_t begin, index_t end) {
      for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        const double u = (x[i] - shift_) / scale_;
        out[i] = std::isinf(u) ? (u > 0 ? 1.0 : 0.0) : spline_.cdf(u);
      }
    });
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(knots_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("knots", knots_);
    out.put("values", values_);
    out.put("placement", std::vector<double>{shift_, scale_});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  std::vector<double> knots_, values_;
  double shift_, scale_;
  LogSpline spline_;
  Outcome outcome_;
};

class Logspline final : public DensityEstimator, public HistogramFit {
 public:
  struct Params {
    std::int64_t n_knots = 0, max_knots = 80;
    double penalty = 0;
    void declare(ParamBinder& p) {
      p.integer("n_knots", n_knots, Range::closed(0, 400), "1",
                "Knots at quantiles, all kept; 0 = 5 n^(1/5) at first, deleted down to the best BIC.");
      p.integer("max_knots", max_knots, Range::closed(3, 400), "1", "Most knots at first.");
      p.real("penalty", penalty, Range::at_least(0), "1",
             "Price of a knot in -2 log-likelihood; 0 = log n, which is BIC and R's default.");
    }
    void check() const {
      if (n_knots == 1 || n_knots == 2)
        throw ParamError("'n_knots' must be 0 or at least 3, got " + std::to_string(n_knots) +
                         "; use 0 for the choice by BIC");
    }
  };

  explicit Logspline(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = false,
            .closed_form_quantile = false,
            .affine_equivariant = true,
            .smooth = true,
            .follows_any_data = params_.n_knots == 0};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_points(standardise(weighted_points(samples), "density logspline"), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_points(standardise(weighted_points(fine), "density logspline"), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> knots = in.get("knots"), values = in.get("values");
    const std::vector<double> placement = in.get("placement");
    if (knots.size() < k_least_knots || knots.size() != values.size() || placement.size() != 2 ||
        !(placement[1] > 0))
      throw MethodError("density logspline: the saved state is not complete; save the fitted density again");
    return std::make_unique<LogsplineDensity>(std::move(knots), std::move(values), placement[0], placement[1],
                                              Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  std::unique_ptr<FittedDensity> fit_points(StandardPoints points, const FitContext& context) const {
    // A few repeated rows tell nothing new about the shape, and must not differ from weights: the number of different
    // values stands for n where it is near.
    double distinct = 1;
    for (std::size_t i = 1; i < points.size(); ++i) distinct += points.u[i] != points.u[i - 1];
    if (distinct < 2 * points.n_effective && points.n_effective < 2 * distinct) points.n_effective = distinct;
    const double n = points.n_effective;
    const std::int64_t automatic =
        std::clamp<std::int64_t>(std::llround(5 * std::pow(n, 0.2)), k_least_knots, params_.max_knots);
    const std::vector<double> knots =
        place_knots(points, static_cast<std::size_t>(params_.n_knots > 0 ? params_.n_knots : automatic));
    const double penalty = params_.penalty > 0 ? params_.penalty : std::log(std::max(n, 2.0));
    LogsplineFit found = fit_logspline(points, knots, penalty, params_.n_knots == 0, context);
    const LogSpline spline(NaturalSpline(found.knots), found.values);
    bool resolved =
        spline.proper() && std::isfinite(spline.log_z()) && spline.quadrature_error() <= k_quadrature_error;
    for (std::size_t i = 0; resolved && i < points.size(); ++i)
      resolved = std::isfinite(spline.log_pdf(points.u[i]));
    if (!resolved)
      throw MethodError(
          "density logspline: between two knots the density changes over too many magnitudes to be "
          "integrated (an outlier far from all other samples?); take logarithms of the data, or use kde");
    Outcome outcome;
    outcome.termination = found.converged ? Termination::converged : Termination::stalled;
    outcome.iterations = found.iterations;
    outcome.sentence = std::to_string(found.knots.size()) + " of " + std::to_string(knots.size()) +
                       " knots, log-likelihood " +
                       param_text(n * (found.mean_log_likelihood - std::log(points.scale))) + " after " +
                       std::to_string(found.iterations) + " Newton steps";
    return std::make_unique<LogsplineDensity>(std::move(found.knots), std::move(found.values), points.shift,
                                              points.scale, std::move(outcome));
  }

  /// Quantiles at equal distances, the extremes included; fewer where ties would make knots equal. Five different values
  /// a knot at least, or the likelihood has no maximum.
  static std::vector<double> place_knots(const StandardPoints& points, std::size_t wanted) {
    std::size_t distinct = 1;
    for (std::size_t i = 1; i < points.size(); ++i) distinct += points.u[i] != points.u[i - 1];
    wanted = std::min(wanted, std::max(k_least_knots, distinct / 5));
    std::vector<double> knots{points.u.front()};
    const double intervals = static_cast<double>(wanted - 1);
    const double closest = 1e-6 * (points.u.back() - points.u.front()) / intervals;
    double before = 0;
    std::size_t next = 1;
    for (std::size_t i = 0; i < points.size() && next < wanted - 1; ++i) {
      before += points.weight[i];
      if (before * intervals < static_cast<double>(next) - k_rounding) continue;
      while (next < wanted - 1 && before * intervals >= static_cast<double>(next) - k_rounding) ++next;
      if (points.u[i] - knots.back() > closest && points.u.back() - points.u[i] > closest)
        knots.push_back(points.u[i]);
    }
    knots.push_back(points.u.back());
    if (knots.size() < k_least_knots) knots.insert(knots.begin() + 1, 0.5 * knots[0] + 0.5 * knots[1]);
    return knots;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Logspline>(
      "logspline",
      {.summary = "Natural cubic spline for the log density, knots deleted by BIC",
       .formula =
           "log p(x) = g(x) - log int exp g, g cubic between knots, linear beyond; max sum_i w_i log p(x_i)",
       .source = "Kooperberg, Stone (1991) Comput. Stat. Data Anal. 12; Stone, Hansen, Kooperberg, Truong "
                 "(1997) Ann. "
                 "Stat. 25(4)",
       .complexity = "fit O(n + K^4) for K first knots; evaluation O(log K), cdf 20 exponentials",
       .notes =
           "knot values as coordinates; 5 n^(1/5) knots at first where R has 2.5 n^(1/5) and at most 25"});
}
