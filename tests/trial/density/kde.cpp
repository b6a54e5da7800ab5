// Gaussian product kernels with Silverman's bandwidth per dimension; gradients for particle flows; fits
// histograms too.
#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class KernelDensity final : public FittedDensity {
 public:
  KernelDensity(index_t n_dims, std::vector<double> points, std::vector<double> log_weights,
                std::vector<double> bandwidth)
      : n_dims_(n_dims),
        points_(std::move(points)),
        log_weights_(std::move(log_weights)),
        bandwidth_(std::move(bandwidth)) {}

  index_t n_dims() const override { return n_dims_; }
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out[static_cast<std::size_t>(i)] = evaluate(x.row(i), {});
  }
  bool log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const override {
    parallel_for(x.shape(0), 64, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) evaluate(x.row(i), out.row(i));
    });
    return true;
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override { return n_dims_; }
  Outcome outcome() const override { return {Termination::converged, "nothing to iterate", 0}; }
  void save(StateWriter& out) const override {
    out.put("points", points_);
    out.put("log_weights", log_weights_);
    out.put("bandwidth", bandwidth_);
  }

 private:
  double evaluate(std::span<const double> x, std::span<double> gradient) const {
    const std::size_t n = log_weights_.size(), d = bandwidth_.size();
    const Scratch<double> terms(static_cast<index_t>(n));
    double largest = -INFINITY, sum = 0;
    for (std::size_t j = 0; j < n; ++j) {
      double term = log_weights_[j];
      for (std::size_t c = 0; c < d; ++c) {
        const double z = (x[c] - points_[j * d + c]) / bandwidth_[c];
        term -= 0.5 * z * z + std::log(bandwidth_[c]) + 0.5 * std::log(2 * std::numbers::pi);
      }
      terms[static_cast<index_t>(j)] = term;
      largest = std::max(largest, term);
    }
    for (std::size_t c = 0; c < gradient.size(); ++c) gradient[c] = 0;
    for (std::size_t j = 0; j < n; ++j) {
      const double p = std::exp(terms[static_cast<index_t>(j)] - largest);
      sum += p;
      for (std::size_t c = 0; c < gradient.size(); ++c)
        gradient[c] -= p * (x[c] - points_[j * d + c]) / (bandwidth_[c] * bandwidth_[c]);
    }
    for (double& g : gradient) g /= sum;
    return largest + std::log(sum);
  }
  index_t n_dims_;
  std::vector<double> points_, log_weights_, bandwidth_;
};

class Kde final : public DensityEstimator, public HistogramFit {
 public:
  struct Params {
    double bandwidth = 0;
    void declare(ParamBinder& p) {
      p.real("bandwidth", bandwidth, Range::at_least(0), "data", "0 = Silverman's rule");
    }
  };
  explicit Kde(const Params& params) : p_(params) {}

  DensityTraits traits() const override { return {.max_dims = 64}; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext&) const override {
    check_samples(samples, traits());
    std::vector<double> points, weights;
    for (index_t i = 0; i < samples.n_samples(); ++i) {
      points.insert(points.end(), samples.x.row(i).begin(), samples.x.row(i).end());
      weights.push_back(samples.weights.empty() ? 1 : samples.weights[static_cast<std::size_t>(i)]);
    }
    return make(samples.n_dims(), std::move(points), std::move(weights),
                static_cast<double>(samples.n_samples()));
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1024; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& histogram,
                                               const FitContext&) const override {
    std::vector<double> points, weights;
    for (std::size_t bin = 0; bin < histogram.weight.size(); ++bin) {
      if (histogram.weight[bin] == 0) continue;
      points.push_back(histogram.range.begin + (static_cast<double>(bin) + 0.5) * histogram.bin_width());
      weights.push_back(histogram.weight[bin]);
    }
    return make(1, std::move(points), std::move(weights), histogram.n_samples);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> bandwidth = in.get("bandwidth");
    const auto n_dims = static_cast<index_t>(bandwidth.size());
    return std::make_unique<KernelDensity>(n_dims, in.get("points"), in.get("log_weights"),
                                           std::move(bandwidth));
  }

 private:
  std::unique_ptr<FittedDensity> make(index_t n_dims, std::vector<double> points, std::vector<double> weights,
                                      double n) const {
    const auto d = static_cast<std::size_t>(n_dims);
    double total = 0;
    for (double w : weights) total += w;
    std::vector<double> bandwidth;
    for (std::size_t c = 0; c < d; ++c) {
      double mean = 0, variance = 0;
      for (std::size_t j = 0; j < weights.size(); ++j) mean += weights[j] * points[j * d + c] / total;
      for (std::size_t j = 0; j < weights.size(); ++j)
        variance += weights[j] * std::pow(points[j * d + c] - mean, 2) / total;
      const double rule = std::sqrt(variance) *
                          std::pow(4 / ((static_cast<double>(d) + 2) * n), 1 / (static_cast<double>(d) + 4));
      bandwidth.push_back(p_.bandwidth > 0 ? p_.bandwidth : rule);
      if (!(bandwidth.back() > 0))
        throw MethodError("density kde: the samples have no spread; give a bandwidth");
    }
    for (double& w : weights) w = std::log(w / total);
    return std::make_unique<KernelDensity>(n_dims, std::move(points), std::move(weights),
                                           std::move(bandwidth));
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Kde>(
      "kde", {.summary = "Gaussian product kernels", .source = "Silverman 1986, section 4.3.2"});
}
