// Rational-quadratic spline flow in one dimension (neural spline flow, Durkan et al. 2019, arXiv 1906.04032):
//   p(x) = b(f(u)) f'(u) / scale,   u = (x - shift) / scale,
// b the base density, standard normal or logistic, f the monotone spline of spline.hpp with straight tails: beyond the
// outer knots the density falls as the base does. cdf B(f(u)) and quantile f^-1(B^-1(p)) are closed forms.
// Fit: L-BFGS on the likelihood, from several sets of knots. The outer knots lie where some ten samples lie beyond them.
#include <algorithm>
#include <boost/math/special_functions/erf.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <numeric>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/draft/lbfgs.hpp"
#include "borel/plugin.hpp"
#include "spline.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_log_sqrt_two_pi = 0.918938533204672741780329736406;
constexpr index_t k_grain = 1024;
constexpr std::size_t k_search_points = 4096, k_final_points = 1 << 16;
constexpr double k_search_tolerance = 2e-4;
constexpr double k_floor = 0.14;  // of sd / sqrt(n): least width of a bin, where the bins have room for it
constexpr std::int64_t k_candidates[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48};
constexpr int k_patience =
    3;  // candidates in a row that do not lower AICc (Hurvich and Tsai 1989, Biometrika 76, 297)

constexpr double k_pseudo_samples = 0.5;
// On each side beyond the outer knots, where they make the tail; a half, so that no rounding of weights decides.
constexpr double k_tail_samples = 9.5, k_largest_tail = 0.095;

constexpr int k_restarts = 10;
constexpr double k_least_gain = 1e-7;  // nats per sample
constexpr int k_bits = 36;             // of u behind the point

enum class Base { normal, logistic };

double log_base(Base base, double z, double& slope) {
  if (base == Base::normal) {
    slope = -z;
    return -0.5 * z * z - k_log_sqrt_two_pi;
  }
  const double e = std::exp(-std::abs(z));
  slope = z >= 0 ? (e - 1) / (e + 1) : (1 - e) / (e + 1);
  return -std::abs(z) - 2 * std::log1p(e);
}

double base_cdf(Base base, double z) {
  if (base == Base::normal) return 0.5 * std::erfc(-z / std::numbers::sqrt2);
  return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z));
}

/// @pre 0 < p < 1
double base_quantile(Base base, double p) {
  if (base == Base::normal) return -std::numbers::sqrt2 * boost::math::erfc_inv(2 * p);
  return std::log(p) - std::log1p(-p);
}

class SplineFlowDensity final : public FittedDensity {
 public:
  SplineFlowDensity(RationalQuadraticSpline spline, Base base, double shift, double scale, Outcome outcome)
      : spline_(std::move(spline)), base_(base), shift_(shift), scale_(scale), outcome_(std::move(outcome)) {}

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    const double log_scale = std::log(scale_);
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      double slope = 0;
      for (index_t i = begin; i < end; ++i) {
        const auto f = spline_.at((x(i, 0) - shift_) / scale_);
        out[static_cast<std::size_t>(i)] = log_base(base_, f.z, slope) + f.log_slope - log_scale;
      }
    });
  }
  bool log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) {
      double slope = 0;
      const auto f = spline_.at((x(i, 0) - shift_) / scale_);
      log_base(base_, f.z, slope);
      out(i, 0) = (slope * std::exp(f.log_slope) + f.log_curvature) / scale_;
    }
    return true;
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i)
      out[i] = base_cdf(base_, spline_.at((x[i] - shift_) / scale_).z);
  }
  void quantile(std::span<const double> p, std::span<double> out) const override {
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (!(p[i] >= 0 && p[i] <= 1))
        throw MethodError("density spline_flow: a probability must lie in [0, 1], got " + param_text(p[i]));
      out[i] = p[i] == 0   ? -k_infinity
               : p[i] == 1 ? k_infinity
                           : shift_ + scale_ * spline_.inverse(base_quantile(base_, p[i]));
    }
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < out.shape(0); ++i) {
      const double z = base_ == Base::normal ? rng.normal() : base_quantile(base_, rng.uniform_open());
      out(i, 0) = shift_ + scale_ * spline_.inverse(z);
    }
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(3 * spline_.n_bins() + 1); }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("x", spline_.x());
    out.put("y", spline_.y());
    out.put("slope", spline_.slope());
    out.put("placement", std::vector<double>{base_ == Base::normal ? 0.0 : 1.0, shift_, scale_});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  RationalQuadraticSpline spline_;
  Base base_;
  double shift_, scale_;
  Outcome outcome_;
};

class SplineFlow final : public DensityEstimator, public HistogramFit {
 public:
  struct Params {
    std::int64_t n_bins = 0, n_starts = 4, max_iterations = 1000;
    Base base = Base::normal;
    double tolerance = 1e-8;
    void declare(ParamBinder& p) {
      p.integer("n_bins", n_bins, Range::closed(0, 256), "1",
                "Bins K of the spline; 0 = of 1, 2, 3, 4, 6, 8, 12, .. 48 the one with the smallest AICc.");
      p.choice("base", base, {{"normal", Base::normal}, {"logistic", Base::logistic}},
               "Density that the spline transforms; beyond the outer knots the tails are its tails.");
      p.integer("n_starts", n_starts, Range::closed(1, 1000), "1",
                "Knots at quantiles, at equal steps, and at random quantiles.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1", "L-BFGS steps per run.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Norm of the gradient, relative to max(1, |theta|).");
    }
  };

  explicit SplineFlow(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = true,
            .affine_equivariant = true,
            .smooth = true,
            .follows_any_data = params_.n_bins == 0 || params_.n_bins >= 4};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_points(standardise(weighted_points(samples), "density spline_flow"), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_points(standardise(weighted_points(fine), "density spline_flow"), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> x = in.get("x"), y = in.get("y"), slope = in.get("slope");
    const std::vector<double> placement = in.get("placement");
    bool good = x.size() >= 2 && y.size() == x.size() && slope.size() == x.size() && placement.size() == 3 &&
                placement[2] > 0;
    for (std::size_t k = 0; good && k < x.size(); ++k)
      good = slope[k] > 0 && (k == 0 || (x[k] > x[k - 1] && y[k] > y[k - 1]));
    if (!good)
      throw MethodError(
          "density spline_flow: the saved state is not complete; save the fitted density again");
    return std::make_unique<SplineFlowDensity>(
        RationalQuadraticSpline(std::move(x), std::move(y), std::move(slope)),
        placement[0] == 0 ? Base::normal : Base::logistic, placement[1], placement[2],
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  struct Fit {
    SplineParameters parameters = {};
    LbfgsResult run = {};
  };

  /// Where the samples' cdf takes a level.
  static double point_at(const StandardPoints& points, double level) {
    double before = 0;
    std::size_t i = 0;
    while (i + 1 < points.size() && before + points.weight[i] < level) before += points.weight[i++];
    return points.u[i];
  }

  SplineParameters parameters_for(const StandardPoints& points, std::int64_t n_bins) const {
    SplineParameters p;
    p.n_bins = static_cast<std::size_t>(n_bins);
    const double tail = std::min(k_tail_samples / points.n_effective, k_largest_tail);
    double end = point_at(points, 1 - tail);
    p.begin = point_at(points, tail);
    if (!(end > p.begin)) p.begin = points.u.front(), end = points.u.back();
    p.width = end - p.begin;
    p.least_width =
        std::min(k_floor / std::sqrt(points.n_effective), 0.25 * p.width / static_cast<double>(n_bins));
    return p;
  }

  /// All knots, ascending: start 0 at quantiles, start 1 at equal steps, the others at random quantiles.
  static std::vector<double> knots(const StandardPoints& points, const SplineParameters& parameters,
                                   std::int64_t number, Seed seed) {
    Rng rng(seed);
    const auto n_bins = static_cast<double>(parameters.n_bins);
    const double end = parameters.begin + parameters.width;
    std::vector<double> x{parameters.begin};
    for (std::size_t k = 1; k < parameters.n_bins; ++k) {
      const double level = number <= 1 ? static_cast<double>(k) / n_bins : rng.uniform();
      x.push_back(number == 1 ? std::lerp(parameters.begin, end, level)
                              : std::clamp(point_at(points, level), parameters.begin, end));
    }
    x.push_back(end);
    std::sort(x.begin(), x.end());
    return x;
  }

  /// The spline whose cdf at the knots is that of the samples.
  std::vector<double> start(const StandardPoints& points, const SplineParameters& parameters,
                            const std::vector<double>& x) const {
    const double least = 0.5 / points.n_effective;
    std::vector<double> y;
    double below = 0;
    std::size_t i = 0;
    for (const double knot : x) {
      while (i < points.size() && points.u[i] < knot) below += points.weight[i++];
      const double on = i < points.size() && points.u[i] == knot ? 0.5 * points.weight[i] : 0.0;
      y.push_back(base_quantile(params_.base, std::clamp(below + on, least, 1 - least)));
    }
    return parameters.through(x, y);
  }

  /// What the loss counts beyond the likelihood, nats per sample: a fraction of a sample in each bin, so that an empty bin
  /// keeps some density, and the optimum is not at infinity.
  static double pseudo_samples(const StandardPoints& points, const SplineParameters& parameters,
                               std::span<const double> raw) {
    const auto log_height = parameters.heights(raw);
    return k_pseudo_samples / points.n_effective * std::accumulate(log_height.begin(), log_height.end(), 0.0);
  }
  /// Mean log-likelihood in the unit of u.
  static double log_likelihood(const StandardPoints& points, const SplineParameters& parameters,
                               const LbfgsResult& run) {
    return -run.value - pseudo_samples(points, parameters, run.x);
  }

  LbfgsResult descend(const StandardPoints& points, const SplineParameters& parameters,
                      std::vector<double> raw, double tolerance, const FitContext& context) const {
    struct Sums {
      double loss = 0;
      RationalQuadraticSpline::Gradient gradient;
    };
    const auto base = [this](double z, double& slope) { return log_base(params_.base, z, slope); };
    const auto loss = [&](std::span<const double> at, std::span<double> gradient) {
      const RationalQuadraticSpline spline = parameters.spline(at);
      const Sums zero{0, RationalQuadraticSpline::Gradient(parameters.n_bins)};
      Sums sums = deterministic_reduce(
          static_cast<index_t>(points.size()), k_grain, zero,
          [&](index_t begin, index_t end) {
            Sums part = zero;
            std::size_t bin = 0;
            for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
              bin = spline.bin_after(bin, points.u[i]);
              part.loss -= points.weight[i] *
                           spline.add_gradient(points.u[i], bin, -points.weight[i], base, part.gradient);
            }
            return part;
          },
          [](Sums a, const Sums& b) {
            a.loss += b.loss;
            a.gradient.add(b.gradient);
            return a;
          });
      parameters.chain(at, spline, std::move(sums.gradient), gradient);
      const std::span<double> by_height = parameters.heights(gradient);
      for (double& value : by_height) value -= k_pseudo_samples / points.n_effective;
      sums.loss -= pseudo_samples(points, parameters, at);
      return sums.loss;
    };
    return minimise_lbfgs(loss, std::move(raw), {tolerance, params_.max_iterations, 20, context.budget.stop});
  }

  /// The best of all starts for K bins on points that were thinned for the search.
  Fit search(const StandardPoints& points, std::int64_t n_bins, index_t& iterations,
             const FitContext& context) const {
    Fit best;
    best.parameters = parameters_for(points, n_bins);
    const Seed seed = context.seed.derive(static_cast<std::uint64_t>(n_bins));
    for (std::int64_t s = 0; s < params_.n_starts; ++s) {
      const std::vector<double> x =
          knots(points, best.parameters, s, seed.derive(static_cast<std::uint64_t>(s)));
      LbfgsResult run = descend(points, best.parameters, start(points, best.parameters, x),
                                std::max(k_search_tolerance, params_.tolerance), context);
      iterations += run.iterations;
      if (s == 0 || run.value < best.run.value) best.run = std::move(run);
    }
    return best;
  }

  std::unique_ptr<FittedDensity> fit_points(StandardPoints points, const FitContext& context) const {
    // The last bits of u depend on the unit of the data; they must not decide between optima of equal likelihood.
    for (double& u : points.u) u = std::ldexp(std::nearbyint(std::ldexp(u, k_bits)), -k_bits);
    const StandardPoints coarse = thin(points, k_search_points), all = thin(points, k_final_points);
    index_t iterations = 0;
    Fit best;
    if (params_.n_bins > 0) {
      best = search(coarse, params_.n_bins, iterations, context);
    } else {
      double least = k_infinity;
      int worse = 0;
      const double n = points.n_effective;
      for (const std::int64_t n_bins : k_candidates) {
        const auto k = static_cast<double>(parameters_for(coarse, n_bins).degrees_of_freedom());
        if (n_bins > 1 && !(n > k + 2)) break;
        Fit fit = search(coarse, n_bins, iterations, context);
        const double aic = n > k + 2
                               ? k * n / (n - k - 1) - n * log_likelihood(coarse, fit.parameters, fit.run)
                               : k_infinity;
        if (aic < least || n_bins == 1) {
          least = aic, worse = 0, best = std::move(fit);
        } else if (++worse == k_patience) {
          break;
        }
      }
    }
    const SplineParameters& parameters = best.parameters;
    LbfgsResult run = descend(all, parameters, std::move(best.run.x), params_.tolerance, context);
    iterations += run.iterations;
    for (int again = 0; again < k_restarts;
         ++again) {  // a kink, where a knot passes a sample, may have ended it
      LbfgsResult next = descend(all, parameters, run.x, params_.tolerance, context);
      iterations += next.iterations;
      const bool better = next.value < run.value - k_least_gain;
      if (next.value < run.value) run = std::move(next);
      if (!better) break;
    }
    Outcome outcome;
    outcome.termination = run.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = iterations;
    outcome.sentence = std::to_string(parameters.n_bins) + " bins, mean log-likelihood " +
                       param_text(log_likelihood(all, parameters, run) - std::log(points.scale)) + " after " +
                       std::to_string(outcome.iterations) + " L-BFGS steps";
    return std::make_unique<SplineFlowDensity>(parameters.spline(run.x), params_.base, points.shift,
                                               points.scale, std::move(outcome));
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, SplineFlow>(
      "spline_flow",
      {.summary = "Normal or logistic density transformed by a monotone rational-quadratic spline",
       .formula = "p(x) = b(f(x)) f'(x), f rational-quadratic between knots, straight beyond them",
       .source = "Durkan, Bekasov, Murray, Papamakarios (2019) arXiv 1906.04032, eqs. 4-8",
       .complexity = "fit O(n + K) per L-BFGS step, n at most 65536 groups of samples; evaluation O(log K)",
       .notes =
           "bins have a least width of 0.14 / sqrt(n) standard deviations, slopes stay within a factor of "
           "20 of those of their bins"});
}
