// Normal mixture  p(x) = sum_k w_k N(x; mu_k, sd_k^2)  by maximum likelihood (EM; Dempster, Laird, Rubin
// 1977) from several starts, number of components given or by the least  -2 log L + (3 K - 1) c, with c = log n
// (BIC, Schwarz 1978: finds the true K in the end) or 2 (AIC, Akaike 1974: closest in KL on average). The likelihood
// is unbounded: a component may shrink onto one value. Hence the floor  sd_k >= min_sd * sd(data), by default
// min_sd = 0.25 / sqrt(n), and starts that end on the floor lose against those that do not. Large data:
// starts are compared on at most k_groups groups of neighbouring samples (mean and variance kept); only the
// best ones are continued on all samples, to the tolerance.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"
#include "em.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_log_sqrt_2pi = 0.91893853320467274178;
constexpr std::size_t k_groups = 1500;
constexpr index_t k_grain = 2048;
constexpr double k_floor = 0.25;
constexpr double k_search_tolerance =
    1e-8;  // on groups of samples; the winner is continued to the tolerance asked for
constexpr index_t k_short_run = 30;     // EM steps before starts are compared
constexpr std::size_t k_long_runs = 4;  // starts that are continued
constexpr std::int64_t k_patience = 2;  // values of K without a better BIC before the search ends

class MixtureDensity final : public FittedDensity {
 public:
  MixtureDensity(Mixture mixture, Outcome outcome)
      : mixture_(std::move(mixture)), outcome_(std::move(outcome)) {
    for (std::size_t k = 0; k < mixture_.size(); ++k)
      offset_.push_back(std::log(mixture_.weight[k]) - std::log(mixture_.sd[k]) - k_log_sqrt_2pi);
  }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(x(i, 0));
    });
  }

  void cdf(std::span<const double> x, std::span<double> out) const override {
    parallel_for(static_cast<index_t>(x.size()), k_grain, [&](index_t begin, index_t end) {
      for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        double sum = 0;
        for (std::size_t k = 0; k < mixture_.size(); ++k)
          sum += mixture_.weight[k] * 0.5 *
                 std::erfc(-(x[i] - mixture_.mean[k]) / mixture_.sd[k] / std::numbers::sqrt2);
        out[i] = x[i] == k_infinity ? 1.0 : std::min(1.0, sum);  // the weights sum to 1 but for rounding
      }
    });
  }

  void sample(Rng& rng, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < out.shape(0); ++i) {
      double u = rng.uniform();
      std::size_t k = 0;
      while (k + 1 < mixture_.size() && (u -= mixture_.weight[k]) >= 0) ++k;
      out(i, 0) = mixture_.mean[k] + mixture_.sd[k] * rng.normal();
    }
  }

  RealInterval support(index_t = 0) const override { return {}; }
  index_t parameter_count() const override { return 3 * static_cast<index_t>(mixture_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }

  void save(StateWriter& out) const override {
    out.put("weight", mixture_.weight);
    out.put("mean", mixture_.mean);
    out.put("sd", mixture_.sd);
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  double log_pdf_at(double x) const {
    if (std::isnan(x)) return x;
    double top = -k_infinity;
    for (std::size_t k = 0; k < mixture_.size(); ++k) top = std::max(top, log_term(k, x));
    if (!(top > -k_infinity)) return -k_infinity;
    double sum = 0;
    for (std::size_t k = 0; k < mixture_.size(); ++k) sum += std::exp(log_term(k, x) - top);
    return top + std::log(sum);
  }
  double log_term(std::size_t k, double x) const {
    const double z = (x - mixture_.mean[k]) / mixture_.sd[k];
    return offset_[k] - 0.5 * z * z;
  }

  Mixture mixture_;
  Outcome outcome_;
  std::vector<double> offset_;
};

class Gmm final : public DensityEstimator, public HistogramFit {
 public:
  enum class Fitting { em, gradient };
  enum class Criterion { bic, aic };

  struct Params {
    std::int64_t n_components = 0, max_components = 10, n_starts = 10, max_iterations = 5000;
    double tolerance = 1e-9, min_sd = 0;
    Fitting fit = Fitting::em;
    Criterion criterion = Criterion::bic;
    void declare(ParamBinder& p) {
      p.choice("fit", fit, {{"em", Fitting::em}, {"gradient", Fitting::gradient}},
               "em: several starts, accelerated EM; gradient: L-BFGS on softmax weights, means and log sd "
               "from one "
               "random start, as the sources fit mixtures (a counter-example).");
      p.integer("n_components", n_components, Range::closed(0, 1000), "1",
                "Components K; 0 = the best up to max_components by the criterion.");
      p.choice("criterion", criterion, {{"bic", Criterion::bic}, {"aic", Criterion::aic}},
               "What each parameter of a further component must gain: log(n) / 2 nats (bic) or 1 (aic).");
      p.integer("max_components", max_components, Range::closed(1, 1000), "1",
                "Largest K that the criterion may choose.");
      p.integer("n_starts", n_starts, Range::closed(1, 10000), "1",
                "Starts per K: one by quantiles, the others by k-means++.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000000), "EM steps",
                "Limit of each run to convergence.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Gain per cycle at which a run has converged.");
      p.real("min_sd", min_sd, Range::right_open(0, 1), "sd of the data",
             "Floor of each component's sd; 0 = 0.25/sqrt(n).");
    }
  };

  explicit Gmm(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = true,
            .smooth = true,
            .follows_any_data = params_.n_components == 0};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_sorted(weighted_points(samples), 0.0, context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_sorted(weighted_points(fine), fine.bin_width() / std::sqrt(12.0), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    Mixture mixture{in.get("weight"), in.get("mean"), in.get("sd")};
    if (mixture.weight.empty() || mixture.mean.size() != mixture.size() ||
        mixture.sd.size() != mixture.size())
      throw MethodError("density gmm: the saved state is not complete; save the fitted density again");
    return std::make_unique<MixtureDensity>(std::move(mixture),
                                            Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  /// @param spread sd within one point (of a bin of a histogram)
  std::unique_ptr<FittedDensity> fit_sorted(const WeightedPoints& points, double spread,
                                            const FitContext& context) const {
    StandardPoints data = standardise(points, "density gmm");
    if (spread > 0) data.variance.assign(data.size(), std::pow(spread / data.scale, 2));
    const double n = data.n_effective;
    std::size_t distinct = 1;
    for (std::size_t i = 1; i < points.size(); ++i) distinct += points.x[i] != points.x[i - 1];
    if (params_.n_components > static_cast<std::int64_t>(distinct))
      throw MethodError("density gmm: n_components=" + std::to_string(params_.n_components) +
                        " needs as many different values; " + std::to_string(distinct) +
                        " were given; lower n_components or use 0 for a choice by the criterion");

    const StandardPoints coarse = thin(data, k_groups);
    if (params_.fit == Fitting::gradient) return make_density(by_gradient(data, context), data);
    Best best =
        params_.n_components > 0
            ? best_of_starts(coarse, static_cast<std::size_t>(params_.n_components), n, nullptr, context)
            : choose(coarse, distinct, n, context);
    if (coarse.size() >= k_groups / 2) {
      const index_t searched = best.em.iterations;
      best.em = maximise(data, std::move(best.em.mixture),
                         {best.min_sd, params_.tolerance, params_.max_iterations, context.budget.stop});
      best.em.iterations += searched;
    }
    best.on_floor = n_on_floor(best.em.mixture, best.min_sd) > 0;
    return make_density(best, data);
  }

  struct Best {
    EmResult em;
    bool on_floor = false;  ///< some component has the least sd allowed
    double min_sd = 0;
  };

  static int n_on_floor(const Mixture& mixture, double min_sd) {
    int n = 0;
    for (const double sd : mixture.sd) n += sd <= min_sd * (1 + 1e-9);
    return n;
  }

  /// The sources' counter-example: gradient ascent from one random start, all components alike.
  Best by_gradient(const StandardPoints& data, const FitContext& context) const {
    const std::size_t n_components =
        static_cast<std::size_t>(params_.n_components > 0 ? params_.n_components : params_.max_components);
    const double min_sd = floor_of(data.n_effective);
    Rng rng(context.seed.derive("gradient"));
    Mixture start = k_means_start(data, n_components, min_sd, rng);
    std::fill(start.weight.begin(), start.weight.end(), 1 / static_cast<double>(n_components));
    std::fill(start.sd.begin(), start.sd.end(), std::max(2 * min_sd, 1 / static_cast<double>(n_components)));
    Best best{ascend(data, start, {min_sd, params_.tolerance, params_.max_iterations, context.budget.stop}),
              false, min_sd};
    best.on_floor = n_on_floor(best.em.mixture, min_sd) > 0;
    return best;
  }

  double floor_of(double n) const {
    return params_.min_sd > 0 ? params_.min_sd : k_floor / std::sqrt(std::max(n, 1.0));
  }

  std::unique_ptr<FittedDensity> make_density(const Best& best, const StandardPoints& data) const {
    const Mixture& found = best.em.mixture;
    std::vector<std::size_t> order(found.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return found.mean[a] < found.mean[b]; });
    Mixture mixture;
    double total = 0;
    for (const std::size_t k : order) total += found.weight[k];
    for (const std::size_t k : order) {
      mixture.weight.push_back(found.weight[k] / total);
      mixture.mean.push_back(data.shift + data.scale * found.mean[k]);
      mixture.sd.push_back(data.scale * found.sd[k]);
    }
    const double log_likelihood = data.n_effective * (best.em.mean_log_likelihood - std::log(data.scale));
    Outcome outcome;
    outcome.termination = best.em.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = best.em.iterations;
    outcome.sentence =
        std::to_string(found.size()) + " components, log-likelihood " + param_text(log_likelihood) +
        " after " + std::to_string(best.em.iterations) +
        (params_.fit == Fitting::em ? " EM steps" : " gradient steps") +
        (best.on_floor ? "; a component is at the floor of sd " + param_text(data.scale * best.min_sd) : "");
    return std::make_unique<MixtureDensity>(std::move(mixture), std::move(outcome));
  }

  Best choose(const StandardPoints& coarse, std::size_t distinct, double n, const FitContext& context) const {
    std::optional<Best> best, last;
    const double per_parameter = params_.criterion == Criterion::bic ? std::log(n) : 2.0;
    double lowest = k_infinity;
    std::int64_t worse = 0;
    const auto limit = std::min<std::int64_t>(params_.max_components, static_cast<std::int64_t>(distinct));
    for (std::int64_t k = 1; k <= limit && worse < k_patience; ++k) {
      last =
          best_of_starts(coarse, static_cast<std::size_t>(k), n, last ? &last->em.mixture : nullptr, context);
      const double value =
          -2 * n * last->em.mean_log_likelihood + static_cast<double>(3 * k - 1) * per_parameter;
      if (context.progress)
        context.progress->report(static_cast<double>(k) / static_cast<double>(limit), value);
      if (value < lowest && !(last->on_floor && best))
        lowest = value, best = last, worse = 0;
      else
        ++worse;
    }
    return *best;
  }

  /// @param smaller the best mixture with one component less, or null; its splits are starts as well
  Best best_of_starts(const StandardPoints& coarse, std::size_t n_components, double n,
                      const Mixture* smaller, const FitContext& context) const {
    const double min_sd = floor_of(n);
    EmLimits limits{min_sd, params_.tolerance, std::min<index_t>(k_short_run, params_.max_iterations),
                    context.budget.stop};
    std::vector<Mixture> starts{quantile_start(coarse, n_components, min_sd)};
    if (smaller)
      for (std::size_t k = 0; k < smaller->size(); ++k) starts.push_back(split(*smaller, k));
    for (std::int64_t s = 1; s < params_.n_starts && n_components > 1; ++s) {
      Rng rng(context.seed.derive(n_components).derive(static_cast<std::uint64_t>(s)));
      starts.push_back(k_means_start(coarse, n_components, min_sd, rng));
    }
    const auto rank = [&](const EmResult& run) {
      return std::pair(-n_on_floor(run.mixture, min_sd),
                       run.mean_log_likelihood);  // spikes lose, whatever their likelihood
    };
    const auto better = [&](const EmResult& a, const EmResult& b) { return rank(a) > rank(b); };
    std::vector<EmResult> runs;
    for (Mixture& start : starts) runs.push_back(maximise(coarse, std::move(start), limits));
    std::stable_sort(runs.begin(), runs.end(), better);
    runs.resize(std::min(runs.size(), k_long_runs));

    limits.max_iterations = params_.max_iterations;
    if (coarse.size() >= k_groups / 2) limits.tolerance = std::max(limits.tolerance, k_search_tolerance);
    index_t iterations = 0;
    for (EmResult& run : runs) {
      run = maximise(coarse, std::move(run.mixture), limits);
      iterations += run.iterations;
    }
    std::stable_sort(runs.begin(), runs.end(), better);
    EmResult best = std::move(runs.front());
    best.iterations = iterations;
    const bool on_floor = n_on_floor(best.mixture, min_sd) > 0;
    return {std::move(best), on_floor, min_sd};
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Gmm>(
      "gmm",
      {.summary = "Normal mixture by EM from several starts, components by BIC or AIC",
       .formula = "p(x) = sum_k w_k N(x; mu_k, sd_k^2)",
       .source =
           "Dempster, Laird, Rubin (1977) JRSS-B 39; Varadhan, Roland (2008) Scand. J. Stat. 35 (SQUAREM S3)",
       .complexity = "fit O(K n) per EM step; evaluation O(K)",
       .notes =
           "sd of each component >= min_sd * sd(data), default 0.25/sqrt(n): the likelihood is unbounded "
           "without a floor"});
}
