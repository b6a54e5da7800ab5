// Gaussian mixture by EM over a stream: one pass per iteration, memory independent of the number of samples.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_least_share_of_variance = 1e-6;
constexpr index_t k_start_bins = 4096;

struct Component {
  double weight, mean, variance;
};

double log_term(const Component& c, double x) {
  return std::log(c.weight) -
         0.5 * (std::log(2 * std::numbers::pi * c.variance) + (x - c.mean) * (x - c.mean) / c.variance);
}

double log_sum(std::span<const Component> components, double x, std::span<double> terms) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (std::size_t k = 0; k < components.size(); ++k)
    largest = std::max(largest, terms[k] = log_term(components[k], x));
  for (double term : terms) sum += std::exp(term - largest);
  return largest + std::log(sum);
}

class Mixture final : public FittedDensity {
 public:
  Mixture(std::vector<Component> components, Outcome outcome)
      : components_(std::move(components)), outcome_(std::move(outcome)) {}
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<double> terms(components_.size());
    for (index_t i = 0; i < x.shape(0); ++i)
      out[static_cast<std::size_t>(i)] = log_sum(components_, x(i, 0), terms);
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return 3 * static_cast<index_t>(components_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    std::vector<double> flat;
    for (const Component& c : components_) flat.insert(flat.end(), {c.weight, c.mean, c.variance});
    out.put("components", flat);
  }

 private:
  std::vector<Component> components_;
  Outcome outcome_;
};

class StreamingGmm final : public DensityEstimator, public StreamFit {
 public:
  struct Params {
    std::int64_t components = 3, iterations = 200;
    double tolerance = 1e-9;
    void declare(ParamBinder& p) {
      p.integer("components", components, Range::closed(1, 1000), "1", "Gaussians");
      p.integer("iterations", iterations, Range::at_least(1), "1", "passes over the stream at most");
      p.real("tolerance", tolerance, Range::at_least(0), "nats",
             "gain of the mean log-likelihood that ends the fit");
    }
  };
  explicit StreamingGmm(const Params& params) : p_(params) {}

  DensityTraits traits() const override { return {}; }
  const StreamFit* stream_fit() const override { return this; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    SamplesAsStream stream(samples);
    return fit_stream(stream, context);
  }

  std::unique_ptr<FittedDensity> fit_stream(SampleStream& samples, const FitContext& context) const override {
    samples.rewind();
    const FineHistogram start = make_fine_histogram(samples, k_start_bins);
    if (!(start.variance > 0)) throw MethodError("density gmm: the samples have no spread");
    std::vector<Component> components = spread(start);
    std::vector<double> terms(components.size());
    double last = -std::numeric_limits<double>::infinity();
    Outcome outcome{Termination::budget_used_up, "all passes were used", 0};
    while (outcome.iterations < std::min<index_t>(p_.iterations, context.budget.max_iterations)) {
      std::vector<Component> sums(components.size(), Component{0, 0, 0});
      double total = 0, likelihood = 0;
      samples.rewind();
      for (Samples block = samples.next(); block.n_samples() > 0; block = samples.next()) {
        context.budget.stop.throw_if_stopped();
        for (index_t i = 0; i < block.n_samples(); ++i) {
          const double x = block.x(i, 0),
                       w = block.weights.empty() ? 1 : block.weights[static_cast<std::size_t>(i)];
          const double log_p = log_sum(components, x, terms);
          likelihood += w * log_p;
          total += w;
          for (std::size_t k = 0; k < sums.size(); ++k) {
            const double share = w * std::exp(terms[k] - log_p), centred = x - components[k].mean;
            sums[k].weight += share;
            sums[k].mean += share * centred;
            sums[k].variance += share * centred * centred;
          }
        }
      }
      ++outcome.iterations;
      for (std::size_t k = 0; k < sums.size(); ++k) {
        if (!(sums[k].weight > 0)) continue;
        const double shift = sums[k].mean / sums[k].weight;
        components[k] = {sums[k].weight / total, components[k].mean + shift,
                         std::max(sums[k].variance / sums[k].weight - shift * shift,
                                  k_least_share_of_variance * start.variance)};
      }
      const double gain = likelihood / total - last;
      last = likelihood / total;
      if (gain <= p_.tolerance) {
        outcome.termination = Termination::converged;
        outcome.sentence = "the mean log-likelihood no longer grows";
        break;
      }
    }
    return std::make_unique<Mixture>(std::move(components), std::move(outcome));
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> flat = in.get("components");
    std::vector<Component> components;
    for (std::size_t k = 0; k + 2 < flat.size(); k += 3)
      components.push_back({flat[k], flat[k + 1], flat[k + 2]});
    return std::make_unique<Mixture>(std::move(components), Outcome{Termination::converged, "loaded", 0});
  }

 private:
  /// Components at equal shares of the histogram.
  std::vector<Component> spread(const FineHistogram& histogram) const {
    std::vector<Component> components;
    double total = 0, sum = 0;
    for (double w : histogram.weight) total += w;
    const auto k_total = static_cast<double>(p_.components);
    for (std::size_t bin = 0; bin < histogram.weight.size(); ++bin) {
      sum += histogram.weight[bin];
      while (components.size() < static_cast<std::size_t>(p_.components) &&
             sum >= total * (static_cast<double>(components.size()) + 0.5) / k_total)
        components.push_back(
            {1 / k_total, histogram.range.begin + (static_cast<double>(bin) + 0.5) * histogram.bin_width(),
             histogram.variance / (k_total * k_total)});
    }
    return components;
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, StreamingGmm>(
      "gmm", {.summary = "EM over a stream", .source = "Dempster, Laird, Rubin 1977"});
}
