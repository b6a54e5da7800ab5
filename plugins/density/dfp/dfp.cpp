// Deep factorized probability model (Balle, Minnen, Singh, Hwang, Johnston 2018, arXiv 1802.01436, appendix 6.1): the cdf
// is sigma(L(x)) for a monotone network L; network.hpp has the layers. With filters [3, 3], as tensorflow/compression has
// it, 28 parameters; [3, 3, 3], as google/codex, 43.
// Where we differ: fitted by L-BFGS with the exact gradient from several random starts, on standardised data, in place of
// stochastic gradients; the published initialisation is kept (weights log(expm1(1 / scale / fan_out)), biases U(-1/2, 1/2),
// factors 0) for the first start, with init_scale in standard deviations; the others begin with kinks at random samples.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/draft/lbfgs.hpp"
#include "borel/plugin.hpp"
#include "network.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr index_t k_grain = 256;
constexpr std::size_t k_search_points = 512, k_final_points = 2048;
constexpr double k_rounding = 0x1p-36;  // of u: the last bits would choose among the network's many optima
constexpr double k_search_tolerance = 1e-4;
constexpr double k_octaves_of_slope = 3;
constexpr std::size_t k_most_filters = 8;
constexpr double k_widest_filter = 32;

class DfpDensity final : public FittedDensity {
 public:
  DfpDensity(MonotoneNetwork network, std::vector<double> theta, double shift, double scale, Outcome outcome)
      : network_(std::move(network)),
        theta_(std::move(theta)),
        layers_(network_.layers(theta_)),
        shift_(shift),
        scale_(scale),
        outcome_(std::move(outcome)) {}

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    const double log_scale = std::log(scale_);
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) {
        const double u = (x(i, 0) - shift_) / scale_;
        out[static_cast<std::size_t>(i)] =
            std::isinf(u) ? -k_infinity : network_.log_pdf(layers_, u, 0, {}) - log_scale;
      }
    });
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double u = (x[i] - shift_) / scale_;
      double slope = 0;
      const double l = std::isinf(u) ? u : network_.logits(layers_, u, slope);
      out[i] = l >= 0 ? 1 / (1 + std::exp(-l)) : std::exp(l) / (1 + std::exp(l));
    }
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(theta_.size()); }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    std::vector<double> filters;
    for (std::size_t layer = 1; layer + 1 < network_.widths().size(); ++layer)
      filters.push_back(network_.widths()[layer]);
    out.put("filters", filters);
    out.put("theta", theta_);
    out.put("placement", std::vector<double>{shift_, scale_});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  MonotoneNetwork network_;
  std::vector<double> theta_;
  MonotoneNetwork::Layers layers_;
  double shift_, scale_;
  Outcome outcome_;
};

std::vector<int> widths_of(const std::vector<double>& filters) {
  std::vector<int> widths;
  for (const double filter : filters) widths.push_back(static_cast<int>(filter));
  return widths;
}

class Dfp final : public DensityEstimator, public HistogramFit, public DensityHead {
 public:
  struct Params {
    std::vector<double> filters = {3, 3};
    std::int64_t n_starts = 8, max_iterations = 500;
    double init_scale = 3, tolerance = 1e-6;
    void declare(ParamBinder& p) {
      p.reals("filters", filters, Range::closed(1, k_widest_filter), "1",
              "Widths of the hidden layers, whole numbers, 1 to 8 of them.");
      p.integer("n_starts", n_starts, Range::closed(1, 1000), "1",
                "Random starts; the best one is finished.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1", "L-BFGS steps per run.");
      p.real("init_scale", init_scale, Range::greater_than(0), "standard deviations",
             "Width of the density at the start.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Norm of the gradient, relative to max(1, |theta|).");
    }
    void check() const {
      if (filters.empty() || filters.size() > k_most_filters)
        throw ParamError("'filters' must hold 1 to 8 widths, got " + std::to_string(filters.size()) +
                         "; [3, 3] is usual");
      for (const double filter : filters)
        if (filter != std::floor(filter))
          throw ParamError("'filters' must hold whole numbers, got " + param_text(filter) +
                           "; [3, 3] is usual");
    }
  };

  explicit Dfp(const Params& params) : params_(params), network_(widths_of(params.filters)) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = true,
            .smooth = true};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_points(standardise(weighted_points(samples), "density dfp"), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_points(standardise(weighted_points(fine), "density dfp"), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> filters = in.get("filters"), placement = in.get("placement");
    std::vector<double> theta = in.get("theta");
    const auto check = [](bool good) {
      if (!good)
        throw MethodError("density dfp: the saved state is not complete; save the fitted density again");
    };
    check(filters.size() <= k_most_filters && placement.size() == 2 && placement[1] > 0);
    for (const double filter : filters) check(filter >= 1 && filter <= k_widest_filter);
    MonotoneNetwork network(widths_of(filters));
    check(theta.size() == network.n_parameters());
    return std::make_unique<DfpDensity>(std::move(network), std::move(theta), placement[0], placement[1],
                                        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

  const DensityHead* head() const override { return this; }
  index_t n_outputs() const override { return static_cast<index_t>(network_.n_parameters()); }
  void initialise(std::span<const double> y, Seed seed, std::span<double> theta) const override {
    const TensorView<const double, 2> rows(y.data(), {static_cast<index_t>(y.size()), 1});
    StandardPoints points = standardise(weighted_points({rows, {}}), "density dfp");
    // theta works in the unit of y here: the first layer takes the place of shift and scale.
    for (double& u : points.u) u = points.shift + points.scale * u;
    const std::vector<double> made = start(seed, params_.init_scale * points.scale);
    std::copy(made.begin(), made.end(), theta.begin());
    double slope = 0;
    theta[theta.size() - 1] -= network_.logits(network_.layers(theta), points.shift, slope);
  }
  void log_pdf(TensorView<const double, 2> theta, std::span<const double> y, std::span<double> log_p,
               TensorView<double, 2> d_theta) const override {
    MonotoneNetwork::Layers layers;
    for (index_t row = 0; row < theta.shape(0); ++row) {
      network_.layers(theta.row(row), layers);
      const std::size_t at = static_cast<std::size_t>(row);
      std::span<double> gradient;
      if (!d_theta.empty()) {
        gradient = d_theta.row(row);
        std::fill(gradient.begin(), gradient.end(), 0.0);
      }
      log_p[at] = network_.log_pdf(layers, y[at], 1, gradient);
    }
  }
  void cdf(TensorView<const double, 2> theta, std::span<const double> y,
           std::span<double> out) const override {
    MonotoneNetwork::Layers layers;
    for (index_t row = 0; row < theta.shape(0); ++row) {
      network_.layers(theta.row(row), layers);
      double slope = 0;
      const double l = network_.logits(layers, y[static_cast<std::size_t>(row)], slope);
      out[static_cast<std::size_t>(row)] = l >= 0 ? 1 / (1 + std::exp(-l)) : std::exp(l) / (1 + std::exp(l));
    }
  }
  std::unique_ptr<FittedDensity> density(std::span<const double> theta) const override {
    return std::make_unique<DfpDensity>(network_, std::vector<double>(theta.begin(), theta.end()), 0.0, 1.0,
                                        Outcome{Termination::converged, "a row of theta", 0});
  }

 private:
  /// The published initialisation.
  std::vector<double> start(Seed seed, double init_scale) const {
    Rng rng(seed);
    const std::vector<int>& widths = network_.widths();
    const double scale = std::pow(init_scale, 1 / static_cast<double>(widths.size() - 1));
    std::vector<double> theta;
    for (std::size_t layer = 1; layer < widths.size(); ++layer) {
      theta.insert(theta.end(), static_cast<std::size_t>(widths[layer] * widths[layer - 1]),
                   std::log(std::expm1(1 / scale / widths[layer])));
      for (int o = 0; o < widths[layer]; ++o) theta.push_back(rng.uniform() - 0.5);
      if (layer + 1 < widths.size()) theta.insert(theta.end(), static_cast<std::size_t>(widths[layer]), 0.0);
    }
    return theta;
  }

  /// A start with structure at the scale of the data: every unit has its kink (h = 0) at a sample, rises by 1 to 8 between
  /// the quartiles and has a factor of either sign; the logits of the quartiles are 2 log 3 apart, as those of their probabilities.
  /// The published one is a density of a single mode, as are small moves of it: the search then ends where modes are missing.
  std::vector<double> start_at_samples(Seed seed, const StandardPoints& points) const {
    Rng rng(seed);
    const std::vector<int>& widths = network_.widths();
    const std::size_t n = points.size(), low = quantile(points, 0.25), high = quantile(points, 0.75);
    std::vector<double> theta;
    std::vector<std::vector<double>> s{points.u};  // values of the layer before at the points
    for (std::size_t layer = 1; layer < widths.size(); ++layer) {
      const bool last = layer + 1 == widths.size();
      std::vector<double> v, b, f;
      std::vector<std::vector<double>> next;
      for (int o = 0; o < widths[layer]; ++o) {
        const double rise = last ? 2 * std::log(3) : std::exp2(k_octaves_of_slope * rng.uniform());
        const std::size_t kink = quantile(points, last ? 0.5 : rng.uniform());
        std::vector<double> share(s.size()), h(n);
        double total = 0;
        for (double& value : share) total += value = std::exp(rng.normal());
        for (std::size_t i = 0; i < s.size(); ++i) {
          const double spread = s[i][high] - s[i][low];
          const double weight = rise * share[i] / total / (spread > 0 ? spread : 1);
          v.push_back(weight > 30 ? weight : std::log(std::expm1(weight)));
          for (std::size_t k = 0; k < n; ++k) h[k] += weight * s[i][k];
        }
        b.push_back(-h[kink]);
        f.push_back(rng.normal());
        const double a = std::tanh(f.back());
        for (std::size_t k = 0; k < n; ++k) h[k] += b.back(), h[k] += a * std::tanh(h[k]);
        next.push_back(std::move(h));
      }
      theta.insert(theta.end(), v.begin(), v.end());
      theta.insert(theta.end(), b.begin(), b.end());
      if (!last) theta.insert(theta.end(), f.begin(), f.end());
      s = std::move(next);
    }
    return theta;
  }
  static std::size_t quantile(const StandardPoints& points, double p) {
    std::size_t i = 0;
    for (double sum = points.weight[0]; sum < p && i + 1 < points.size(); sum += points.weight[i]) ++i;
    return i;
  }

  LbfgsResult descend(const StandardPoints& points, std::vector<double> theta, double tolerance,
                      const FitContext& context) const {
    const auto loss = [&](std::span<const double> at, std::span<double> gradient) {
      const std::size_t n = at.size();
      const MonotoneNetwork::Layers layers = network_.layers(at);
      const std::vector<double> sums = deterministic_reduce(
          static_cast<index_t>(points.size()), k_grain, std::vector<double>(n + 1),
          [&](index_t begin, index_t end) {
            std::vector<double> part(n + 1);
            for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
              part[n] -= points.weight[i] *
                         network_.log_pdf(layers, points.u[i], -points.weight[i], std::span(part).first(n));
            return part;
          },
          [](std::vector<double> a, const std::vector<double>& b) {
            for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
            return a;
          });
      std::copy_n(sums.begin(), n, gradient.begin());
      return sums[n];
    };
    return minimise_lbfgs(loss, std::move(theta),
                          {tolerance, params_.max_iterations, 20, context.budget.stop});
  }

  std::unique_ptr<FittedDensity> fit_points(StandardPoints points, const FitContext& context) const {
    for (double& u : points.u) u = std::round(u / k_rounding) * k_rounding;
    const StandardPoints search = thin(points, k_search_points), all = thin(points, k_final_points);
    LbfgsResult best;
    index_t iterations = 0;
    for (std::int64_t s = 0; s < params_.n_starts; ++s) {
      const Seed seed = context.seed.derive(static_cast<std::uint64_t>(s));
      LbfgsResult run =
          descend(search, s == 0 ? start(seed, params_.init_scale) : start_at_samples(seed, search),
                  std::max(k_search_tolerance, params_.tolerance), context);
      iterations += run.iterations;
      if (context.progress)
        context.progress->report(static_cast<double>(s + 1) / static_cast<double>(params_.n_starts + 1),
                                 run.value);
      if (s == 0 || run.value < best.value) best = std::move(run);
    }
    best = descend(all, std::move(best.x), params_.tolerance, context);
    Outcome outcome;
    outcome.termination = best.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = iterations + best.iterations;
    outcome.sentence = std::to_string(best.x.size()) + " parameters, mean log-likelihood " +
                       param_text(-best.value - std::log(points.scale)) + " after " +
                       std::to_string(outcome.iterations) + " L-BFGS steps from " +
                       std::to_string(params_.n_starts) + " starts";
    return std::make_unique<DfpDensity>(network_, std::move(best.x), points.shift, points.scale,
                                        std::move(outcome));
  }

  Params params_;
  MonotoneNetwork network_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Dfp>(
      "dfp",
      {.summary = "Deep factorized probability: the cdf is a small monotone network",
       .formula = "F(x) = sigma(L(x)), L = layers softplus(V) s + b, then s + tanh(f) tanh(s); p = F'",
       .source = "Balle et al. (2018) arXiv 1802.01436, appendix 6.1; tensorflow/compression deep_factorized",
       .complexity =
           "fit O(n P) per L-BFGS step for P parameters, n at most 2048 groups of samples; evaluation O(P)",
       .notes =
           "samples beyond 2048 are joined to groups of neighbours for the fit; L-BFGS from several starts"});
}
