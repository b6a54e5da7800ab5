// Rational-quadratic spline flow (Durkan et al., arXiv 1906.04032), one dimension: z = f((x - location) /
// scale) is standard normal, f monotone on [-B, B] by K bins, the identity outside. Gradients by differences:
// naive.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_bound = 4, k_least_share = 1e-3, k_least_slope = 1e-3;

/// Knots and slopes from unconstrained numbers: K widths, K heights, K - 1 inner slopes.
class Spline {
 public:
  explicit Spline(std::span<const double> raw) {
    const std::size_t k_bins = (raw.size() + 1) / 3;
    x_ = knots(raw.first(k_bins));
    y_ = knots(raw.subspan(k_bins, k_bins));
    slope_.push_back(1);
    for (double r : raw.subspan(2 * k_bins)) slope_.push_back(k_least_slope + std::log1p(std::exp(r)));
    slope_.push_back(1);
  }
  /// f(x), and log f'(x) in `log_slope`.
  double operator()(double x, double& log_slope) const {
    log_slope = 0;
    if (x <= -k_bound || x >= k_bound) return x;
    const auto k = static_cast<std::size_t>(std::upper_bound(x_.begin(), x_.end(), x) - x_.begin()) - 1;
    const double width = x_[k + 1] - x_[k], height = y_[k + 1] - y_[k], s = height / width,
                 t = (x - x_[k]) / width;
    const double d0 = slope_[k], d1 = slope_[k + 1], bottom = s + (d1 + d0 - 2 * s) * t * (1 - t);
    log_slope = 2 * std::log(s) + std::log(d1 * t * t + 2 * s * t * (1 - t) + d0 * (1 - t) * (1 - t)) -
                2 * std::log(bottom);
    return y_[k] + height * (s * t * t + d0 * t * (1 - t)) / bottom;
  }

 private:
  static std::vector<double> knots(std::span<const double> raw) {
    double sum = 0;
    for (double r : raw) sum += std::exp(r);
    std::vector<double> at = {-k_bound};
    for (double r : raw) {
      const double share =
          k_least_share + (1 - k_least_share * static_cast<double>(raw.size())) * std::exp(r) / sum;
      at.push_back(at.back() + 2 * k_bound * share);
    }
    at.back() = k_bound;
    return at;
  }
  std::vector<double> x_, y_, slope_;
};

class SplineFlowDensity final : public FittedDensity {
 public:
  /// @param state location, scale, raw numbers of the spline
  SplineFlowDensity(std::vector<double> state, Outcome outcome)
      : state_(std::move(state)), spline_(std::span(state_).subspan(2)), outcome_(std::move(outcome)) {}
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) {
      double log_slope = 0;
      const double z = spline_((x(i, 0) - state_[0]) / state_[1], log_slope);
      out[static_cast<std::size_t>(i)] =
          log_slope - 0.5 * z * z - 0.5 * std::log(2 * std::numbers::pi) - std::log(state_[1]);
    }
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i) {
      double log_slope = 0;
      out[i] = 0.5 * std::erfc(-spline_((x[i] - state_[0]) / state_[1], log_slope) / std::numbers::sqrt2);
    }
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return static_cast<index_t>(state_.size()) - 2; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override { out.put("state", state_); }

 private:
  std::vector<double> state_;
  Spline spline_;
  Outcome outcome_;
};

class SplineFlow final : public DensityEstimator {
 public:
  struct Params {
    std::int64_t bins = 8, iterations = 150;
    void declare(ParamBinder& p) {
      p.integer("bins", bins, Range::closed(1, 200), "1", "bins of the spline");
      p.integer("iterations", iterations, Range::at_least(0), "1", "gradient steps");
    }
  };
  explicit SplineFlow(const Params& params) : p_(params) {}

  DensityTraits traits() const override { return {.closed_form_cdf = true}; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const index_t n = samples.n_samples();
    const auto weight = [&](index_t i) {
      return samples.weights.empty() ? 1.0 : samples.weights[static_cast<std::size_t>(i)];
    };
    double total = 0, mean = 0, variance = 0;
    for (index_t i = 0; i < n; ++i) total += weight(i);
    for (index_t i = 0; i < n; ++i) mean += weight(i) * samples.x(i, 0) / total;
    for (index_t i = 0; i < n; ++i) variance += weight(i) * std::pow(samples.x(i, 0) - mean, 2) / total;
    if (!(variance > 0)) throw MethodError("density spline_flow: the samples have no spread");
    const double scale = std::sqrt(variance);
    const auto likelihood = [&](std::span<const double> raw) {
      const Spline spline(raw);
      double sum = 0;
      for (index_t i = 0; i < n; ++i) {
        double log_slope = 0;
        const double z = spline((samples.x(i, 0) - mean) / scale, log_slope);
        sum += weight(i) * (log_slope - 0.5 * z * z) / total;
      }
      return sum;
    };
    std::vector<double> raw(static_cast<std::size_t>(3 * p_.bins - 1), 0), first(raw), second(raw);
    // log(1 + e^r) = 1: the identity.
    for (std::size_t c = static_cast<std::size_t>(2 * p_.bins); c < raw.size(); ++c)
      raw[c] = std::log(std::expm1(1 - k_least_slope));
    index_t iteration = 0;
    for (; iteration < std::min<index_t>(p_.iterations, context.budget.max_iterations); ++iteration) {
      context.budget.stop.throw_if_stopped();
      std::vector<double> gradient(raw.size());
      for (std::size_t c = 0; c < raw.size(); ++c) {
        constexpr double k_difference = 1e-5;
        std::vector<double> up = raw, down = raw;
        up[c] += k_difference;
        down[c] -= k_difference;
        gradient[c] = (likelihood(up) - likelihood(down)) / (2 * k_difference);
      }
      const auto t = static_cast<double>(iteration + 1);
      for (std::size_t c = 0; c < raw.size(); ++c) {
        first[c] += 0.1 * (gradient[c] - first[c]);
        second[c] += 0.001 * (gradient[c] * gradient[c] - second[c]);
        raw[c] += 0.05 * (first[c] / (1 - std::pow(0.9, t))) /
                  (std::sqrt(second[c] / (1 - std::pow(0.999, t))) + 1e-12);
      }
      if (context.progress) context.progress->report(t / static_cast<double>(p_.iterations), likelihood(raw));
    }
    std::vector<double> state = {mean, scale};
    state.insert(state.end(), raw.begin(), raw.end());
    return std::make_unique<SplineFlowDensity>(
        std::move(state), Outcome{Termination::budget_used_up, "all gradient steps were taken", iteration});
  }
  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    return std::make_unique<SplineFlowDensity>(in.get("state"), Outcome{Termination::converged, "loaded", 0});
  }

 private:
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, SplineFlow>(
      "spline_flow", {.summary = "rational-quadratic spline flow", .source = "arXiv 1906.04032, section 3"});
}
