// Mixture of logistic densities, p(y) = sum_k w_k sigma'((y - m_k) / s_k) / s_k; also as the head of a
// conditional model (Salimans et al., arXiv 1701.05517). theta = [logits of w, m, log s], 3 K numbers.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

double log_logistic(double z) { return -std::abs(z) - 2 * std::log1p(std::exp(-std::abs(z))); }
double sigmoid(double z) { return z >= 0 ? 1 / (1 + std::exp(-z)) : std::exp(z) / (1 + std::exp(z)); }

/// One row of theta: log p(y), and optionally gradients in theta and in y.
double evaluate(std::span<const double> theta, double y, std::span<double> d_theta, double* d_y) {
  const std::size_t k_total = theta.size() / 3;
  double largest = theta[0], normaliser = 0, peak = -INFINITY, sum = 0;
  for (std::size_t k = 0; k < k_total; ++k) largest = std::max(largest, theta[k]);
  for (std::size_t k = 0; k < k_total; ++k) normaliser += std::exp(theta[k] - largest);
  normaliser = largest + std::log(normaliser);
  std::vector<double> terms(k_total);
  for (std::size_t k = 0; k < k_total; ++k) {
    const double log_s = theta[2 * k_total + k];
    terms[k] = theta[k] - normaliser - log_s + log_logistic((y - theta[k_total + k]) * std::exp(-log_s));
    peak = std::max(peak, terms[k]);
  }
  for (double term : terms) sum += std::exp(term - peak);
  const double log_p = peak + std::log(sum);
  if (d_y) *d_y = 0;
  if (d_theta.empty() && !d_y) return log_p;
  for (std::size_t k = 0; k < k_total; ++k) {
    const double share = std::exp(terms[k] - log_p), s = std::exp(theta[2 * k_total + k]),
                 z = (y - theta[k_total + k]) / s;
    const double slope = 1 - 2 * sigmoid(z);  // d log_logistic / dz
    if (d_y) *d_y += share * slope / s;
    if (d_theta.empty()) continue;
    d_theta[k] = share - std::exp(theta[k] - normaliser);
    d_theta[k_total + k] = -share * slope / s;
    d_theta[2 * k_total + k] = share * (-1 - slope * z);
  }
  return log_p;
}

double cdf_of(std::span<const double> theta, double y) {
  const std::size_t k_total = theta.size() / 3;
  const double largest =
      *std::max_element(theta.begin(), theta.begin() + static_cast<std::ptrdiff_t>(k_total));
  double sum = 0, weights = 0;
  for (std::size_t k = 0; k < k_total; ++k) {
    const double w = std::exp(theta[k] - largest);
    sum += w * sigmoid((y - theta[k_total + k]) * std::exp(-theta[2 * k_total + k]));
    weights += w;
  }
  return sum / weights;
}

class LogisticMixtureDensity final : public FittedDensity {
 public:
  LogisticMixtureDensity(std::vector<double> theta, Outcome outcome)
      : theta_(std::move(theta)), outcome_(std::move(outcome)) {}
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = evaluate(theta_, x(i, 0), {}, nullptr);
  }
  bool log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) evaluate(theta_, x(i, 0), {}, &out(i, 0));
    return true;
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = cdf_of(theta_, x[i]);
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(theta_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override { out.put("theta", theta_); }

 private:
  std::vector<double> theta_;
  Outcome outcome_;
};

class LogisticMixture final : public DensityEstimator, public DensityHead {
 public:
  struct Params {
    std::int64_t components = 3, iterations = 500;
    void declare(ParamBinder& p) {
      p.integer("components", components, Range::closed(1, 1000), "1", "logistic terms");
      p.integer("iterations", iterations, Range::at_least(0), "1", "gradient steps of a fit");
    }
  };
  explicit LogisticMixture(const Params& params) : p_(params) {}

  DensityTraits traits() const override { return {.closed_form_cdf = true}; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    std::vector<double> y;
    for (index_t i = 0; i < samples.n_samples(); ++i) y.push_back(samples.x(i, 0));
    std::vector<double> theta(static_cast<std::size_t>(n_outputs())), gradient(theta.size()),
        mean(theta.size()), step(theta.size());
    std::vector<double> first(theta.size()), second(theta.size());
    initialise(y, context.seed, theta);
    Outcome outcome{Termination::budget_used_up, "all gradient steps were taken", 0};
    for (; outcome.iterations < std::min<index_t>(p_.iterations, context.budget.max_iterations);
         ++outcome.iterations) {
      context.budget.stop.throw_if_stopped();
      std::fill(mean.begin(), mean.end(), 0);
      double total = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const double w = samples.weights.empty() ? 1 : samples.weights[i];
        evaluate(theta, y[i], gradient, nullptr);
        for (std::size_t c = 0; c < theta.size(); ++c) mean[c] += w * gradient[c];
        total += w;
      }
      // Adam; the means move in units of the first component's scale.
      const auto t = static_cast<double>(outcome.iterations + 1);
      for (std::size_t c = 0; c < theta.size(); ++c) {
        const bool is_mean = c >= theta.size() / 3 && c < 2 * theta.size() / 3;
        const double unit = is_mean ? std::exp(theta[c + theta.size() / 3]) : 1;
        const double g = mean[c] / total * unit;
        first[c] += 0.1 * (g - first[c]);
        second[c] += 0.001 * (g * g - second[c]);
        theta[c] += 0.03 * unit * (first[c] / (1 - std::pow(0.9, t))) /
                    (std::sqrt(second[c] / (1 - std::pow(0.999, t))) + 1e-12);
      }
    }
    return std::make_unique<LogisticMixtureDensity>(std::move(theta), std::move(outcome));
  }
  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    return std::make_unique<LogisticMixtureDensity>(in.get("theta"),
                                                    Outcome{Termination::converged, "loaded", 0});
  }

  const DensityHead* head() const override { return this; }
  index_t n_outputs() const override { return 3 * p_.components; }
  void initialise(std::span<const double> y, Seed, std::span<double> theta) const override {
    std::vector<double> sorted(y.begin(), y.end());
    std::sort(sorted.begin(), sorted.end());
    double mean = 0, variance = 0;
    for (double v : y) mean += v / static_cast<double>(y.size());
    for (double v : y) variance += (v - mean) * (v - mean) / static_cast<double>(y.size());
    const auto k_total = static_cast<std::size_t>(p_.components);
    const double spread = std::sqrt(variance) > 0 ? std::sqrt(variance) : 1;
    for (std::size_t k = 0; k < k_total; ++k) {
      theta[k] = 0;
      theta[k_total + k] = sorted[(2 * k + 1) * sorted.size() / (2 * k_total)];
      theta[2 * k_total + k] = std::log(0.55 * spread / static_cast<double>(k_total));
    }
  }
  void log_pdf(TensorView<const double, 2> theta, std::span<const double> y, std::span<double> log_p,
               TensorView<double, 2> d_theta) const override {
    for (index_t i = 0; i < theta.shape(0); ++i) {
      const auto at = static_cast<std::size_t>(i);
      log_p[at] =
          evaluate(theta.row(i), y[at], d_theta.empty() ? std::span<double>() : d_theta.row(i), nullptr);
    }
  }
  void cdf(TensorView<const double, 2> theta, std::span<const double> y,
           std::span<double> out) const override {
    for (index_t i = 0; i < theta.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = cdf_of(theta.row(i), y[static_cast<std::size_t>(i)]);
  }
  std::unique_ptr<FittedDensity> density(std::span<const double> theta) const override {
    return std::make_unique<LogisticMixtureDensity>(std::vector<double>(theta.begin(), theta.end()),
                                                    Outcome{Termination::converged, "a row of theta", 0});
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, LogisticMixture>(
      "logistic_mixture", {.summary = "mixture of logistic densities", .source = "arXiv 1701.05517"});
}
