// Mixture of logistic densities, p(y) = sum_k w_k sigma'((y - m_k) / s_k) / s_k, whose cdf is a sum of sigmoids: the
// usual output layer of autoregressive image models (PixelCNN++, Salimans et al. 2017, arXiv 1701.05517).
// theta = [logits of w, m, log s], 3 K numbers. Fit: L-BFGS from several starts on standardised data. The likelihood has
// no maximum when a term shrinks onto one value, hence s_k = floor + exp(.), floor = 0.14 / sqrt(n) of the sd.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/draft/lbfgs.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t k_max_components = 64;
constexpr index_t k_grain = 512;
constexpr std::size_t k_search_points = 1024, k_final_points = 1 << 16;
constexpr double k_search_tolerance = 1e-4;
constexpr double k_floor = 0.14;  // of sd / sqrt(n); a logistic of scale s has sd 1.81 s
constexpr double k_least_log_scale = -40;

double log_logistic(double z) { return -std::abs(z) - 2 * std::log1p(std::exp(-std::abs(z))); }
double sigmoid(double z) { return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z)); }

/// log p(y) for one row of theta; d_theta and d_y are written when wanted.
double evaluate(std::span<const double> theta, double y, std::span<double> d_theta, double* d_y) {
  const std::size_t n = theta.size() / 3;
  std::array<double, k_max_components> term, scale;
  double largest = theta[0], normaliser = 0, peak = -k_infinity, sum = 0;
  for (std::size_t k = 0; k < n; ++k) largest = std::max(largest, theta[k]);
  for (std::size_t k = 0; k < n; ++k) normaliser += std::exp(theta[k] - largest);
  normaliser = largest + std::log(normaliser);
  for (std::size_t k = 0; k < n; ++k) {
    const double log_s = std::max(theta[2 * n + k], k_least_log_scale);
    scale[k] = std::exp(log_s);
    term[k] = theta[k] - normaliser - log_s + log_logistic((y - theta[n + k]) / scale[k]);
    peak = std::max(peak, term[k]);
  }
  if (!(peak > -k_infinity)) return std::isnan(y) ? y : -k_infinity;
  for (std::size_t k = 0; k < n; ++k) sum += std::exp(term[k] - peak);
  const double log_p = peak + std::log(sum);
  if (d_y) *d_y = 0;
  if (d_theta.empty() && !d_y) return log_p;
  for (std::size_t k = 0; k < n; ++k) {
    const double share = std::exp(term[k] - log_p), z = (y - theta[n + k]) / scale[k];
    const double slope = 1 - 2 * sigmoid(z);  // d log_logistic / dz
    if (d_y) *d_y += share * slope / scale[k];
    if (d_theta.empty()) continue;
    d_theta[k] = share - std::exp(theta[k] - normaliser);
    d_theta[n + k] = -share * slope / scale[k];
    d_theta[2 * n + k] = theta[2 * n + k] > k_least_log_scale ? share * (-1 - slope * z) : 0.0;
  }
  return log_p;
}

double cdf_at(std::span<const double> theta, double y) {
  if (std::isnan(y)) return y;
  const std::size_t n = theta.size() / 3;
  const double largest = *std::max_element(theta.begin(), theta.begin() + static_cast<std::ptrdiff_t>(n));
  double sum = 0, weights = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const double w = std::exp(theta[k] - largest);
    sum += w * sigmoid((y - theta[n + k]) / std::exp(std::max(theta[2 * n + k], k_least_log_scale)));
    weights += w;
  }
  return sum / weights;
}

class LogisticMixtureDensity final : public FittedDensity {
 public:
  /// theta in the unit of (x - shift) / scale
  LogisticMixtureDensity(std::vector<double> theta, double shift, double scale, Outcome outcome)
      : theta_(std::move(theta)), shift_(shift), scale_(scale), outcome_(std::move(outcome)) {}

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    const double log_scale = std::log(scale_);
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i)
        out[static_cast<std::size_t>(i)] =
            evaluate(theta_, (x(i, 0) - shift_) / scale_, {}, nullptr) - log_scale;
    });
  }
  bool log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) {
      evaluate(theta_, (x(i, 0) - shift_) / scale_, {}, &out(i, 0));
      out(i, 0) /= scale_;
    }
    return true;
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = cdf_at(theta_, (x[i] - shift_) / scale_);
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    const std::size_t n = theta_.size() / 3;
    std::vector<double> weight(n);
    const double largest = *std::max_element(theta_.begin(), theta_.begin() + static_cast<std::ptrdiff_t>(n));
    double total = 0;
    for (std::size_t k = 0; k < n; ++k) total += weight[k] = std::exp(theta_[k] - largest);
    for (index_t i = 0; i < out.shape(0); ++i) {
      double u = rng.uniform() * total;
      std::size_t k = 0;
      while (k + 1 < n && (u -= weight[k]) >= 0) ++k;
      const double v = rng.uniform_open();
      const double s = std::exp(std::max(theta_[2 * n + k], k_least_log_scale));
      out(i, 0) = shift_ + scale_ * (theta_[n + k] + s * (std::log(v) - std::log1p(-v)));
    }
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(theta_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("theta", theta_);
    out.put("placement", std::vector<double>{shift_, scale_});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  std::vector<double> theta_;
  double shift_, scale_;
  Outcome outcome_;
};

class LogisticMixture final : public DensityEstimator, public HistogramFit, public DensityHead {
 public:
  struct Params {
    std::int64_t n_components = 4, n_starts = 4, max_iterations = 1000;
    double tolerance = 1e-6;
    void declare(ParamBinder& p) {
      p.integer("n_components", n_components, Range::closed(1, k_max_components), "1", "Logistic terms K.");
      p.integer("n_starts", n_starts, Range::closed(1, 1000), "1",
                "One start by quantiles, the others random.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1", "L-BFGS steps per run.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Norm of the gradient, relative to max(1, |theta|).");
    }
  };

  explicit LogisticMixture(const Params& params) : params_(params) {}

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
    return fit_points(standardise(weighted_points(samples), "density logistic_mixture"), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_points(standardise(weighted_points(fine), "density logistic_mixture"), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> theta = in.get("theta");
    const std::vector<double> placement = in.get("placement");
    if (theta.empty() || theta.size() % 3 != 0 || theta.size() > 3 * k_max_components ||
        placement.size() != 2 || !(placement[1] > 0))
      throw MethodError(
          "density logistic_mixture: the saved state is not complete; save the fitted density again");
    return std::make_unique<LogisticMixtureDensity>(
        std::move(theta), placement[0], placement[1],
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

  const DensityHead* head() const override { return this; }
  index_t n_outputs() const override { return 3 * params_.n_components; }
  void initialise(std::span<const double> y, Seed, std::span<double> theta) const override {
    const TensorView<const double, 2> rows(y.data(), {static_cast<index_t>(y.size()), 1});
    const StandardPoints points = standardise(weighted_points({rows, {}}), "density logistic_mixture");
    const std::vector<double> made = quantile_start(points);
    const std::size_t n = made.size() / 3;
    for (std::size_t k = 0; k < n; ++k) {
      theta[k] = made[k];
      theta[n + k] = points.shift + points.scale * made[n + k];
      theta[2 * n + k] = made[2 * n + k] + std::log(points.scale);
    }
  }
  void log_pdf(TensorView<const double, 2> theta, std::span<const double> y, std::span<double> log_p,
               TensorView<double, 2> d_theta) const override {
    for (index_t i = 0; i < theta.shape(0); ++i)
      log_p[static_cast<std::size_t>(i)] =
          evaluate(theta.row(i), y[static_cast<std::size_t>(i)],
                   d_theta.empty() ? std::span<double>() : d_theta.row(i), nullptr);
  }
  void cdf(TensorView<const double, 2> theta, std::span<const double> y,
           std::span<double> out) const override {
    for (index_t i = 0; i < theta.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = cdf_at(theta.row(i), y[static_cast<std::size_t>(i)]);
  }
  std::unique_ptr<FittedDensity> density(std::span<const double> theta) const override {
    return std::make_unique<LogisticMixtureDensity>(std::vector<double>(theta.begin(), theta.end()), 0.0, 1.0,
                                                    Outcome{Termination::converged, "a row of theta", 0});
  }

 private:
  /// Equal weights, means at the middles of K parts of equal mass, widths that cover the line.
  std::vector<double> quantile_start(const StandardPoints& points) const {
    const std::size_t n = static_cast<std::size_t>(params_.n_components);
    std::vector<double> theta(3 * n);
    double before = 0;
    std::size_t i = 0;
    for (std::size_t k = 0; k < n; ++k) {
      const double level = (static_cast<double>(k) + 0.5) / static_cast<double>(n);
      while (i + 1 < points.size() && before + points.weight[i] < level) before += points.weight[i++];
      theta[n + k] = points.u[i];
      theta[2 * n + k] = std::log(0.55 / static_cast<double>(n));
    }
    return theta;
  }

  std::vector<double> random_start(const StandardPoints& points, Seed seed) const {
    const std::size_t n = static_cast<std::size_t>(params_.n_components);
    Rng rng(seed);
    std::vector<double> theta(3 * n);
    for (std::size_t k = 0; k < n; ++k) {
      double level = rng.uniform();
      std::size_t i = 0;
      while (i + 1 < points.size() && (level -= points.weight[i]) > 0) ++i;
      theta[n + k] = points.u[i];
      theta[2 * n + k] = std::log(0.55 / static_cast<double>(n)) + 0.7 * rng.normal();
    }
    return theta;
  }

  LbfgsResult descend(const StandardPoints& points, std::vector<double> theta, double tolerance,
                      const FitContext& context) const {
    const std::size_t n_components = theta.size() / 3;
    const double floor = k_floor / std::sqrt(points.n_effective);
    const auto loss = [&](std::span<const double> raw, std::span<double> gradient) {
      std::vector<double> at(raw.begin(), raw.end());
      for (std::size_t k = 0; k < n_components; ++k)
        at[2 * n_components + k] = std::log(floor + std::exp(raw[2 * n_components + k]));
      const std::vector<double> sums = deterministic_reduce(
          static_cast<index_t>(points.size()), k_grain, std::vector<double>(at.size() + 1),
          [&](index_t begin, index_t end) {
            std::vector<double> part(at.size() + 1), d(at.size());
            for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
              part.back() -= points.weight[i] * evaluate(at, points.u[i], d, nullptr);
              for (std::size_t c = 0; c < d.size(); ++c) part[c] -= points.weight[i] * d[c];
            }
            return part;
          },
          [](std::vector<double> a, const std::vector<double>& b) {
            for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
            return a;
          });
      std::copy_n(sums.begin(), at.size(), gradient.begin());
      for (std::size_t k = 2 * n_components; k < at.size(); ++k) {
        const double free = std::exp(raw[k]);
        gradient[k] *= free / (floor + free);
      }
      return sums.back();
    };
    return minimise_lbfgs(loss, std::move(theta),
                          {tolerance, params_.max_iterations, 20, context.budget.stop});
  }

  std::unique_ptr<FittedDensity> fit_points(const StandardPoints& points, const FitContext& context) const {
    const StandardPoints search = thin(points, k_search_points), all = thin(points, k_final_points);
    LbfgsResult best;
    index_t iterations = 0;
    for (std::int64_t s = 0; s < params_.n_starts; ++s) {
      std::vector<double> first =
          s == 0 ? quantile_start(search)
                 : random_start(search, context.seed.derive(static_cast<std::uint64_t>(s)));
      LbfgsResult run =
          descend(search, std::move(first), std::max(k_search_tolerance, params_.tolerance), context);
      iterations += run.iterations;
      if (s == 0 || run.value < best.value) best = std::move(run);
    }
    best = descend(all, std::move(best.x), params_.tolerance, context);
    const std::size_t n = best.x.size() / 3;
    const double floor = k_floor / std::sqrt(points.n_effective);
    for (std::size_t k = 2 * n; k < best.x.size(); ++k) best.x[k] = std::log(floor + std::exp(best.x[k]));
    Outcome outcome;
    outcome.termination = best.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = iterations + best.iterations;
    outcome.sentence = std::to_string(n) + " terms, mean log-likelihood " +
                       param_text(-best.value - std::log(points.scale)) + " after " +
                       std::to_string(outcome.iterations) + " L-BFGS steps from " +
                       std::to_string(params_.n_starts) + " starts";
    return std::make_unique<LogisticMixtureDensity>(std::move(best.x), points.shift, points.scale,
                                                    std::move(outcome));
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, LogisticMixture>(
      "logistic_mixture",
      {.summary = "Mixture of logistic densities, also as the head of a conditional model",
       .formula = "p(y) = sum_k w_k f((y - m_k) / s_k) / s_k, f(z) = e^-z / (1 + e^-z)^2",
       .source = "Salimans, Karpathy, Chen, Kingma (2017) arXiv 1701.05517, eq. 1-2",
       .complexity = "fit O(n K) per L-BFGS step, n at most 65536 groups of samples; evaluation O(K)",
       .notes = "s_k has a floor of 0.14 / sqrt(n) standard deviations in a fit, and none as a head"});
}
