// p(x) = prod_d p(x_d | x_1 .. x_(d-1)): each conditional is another method's density head, its numbers
// affine in the coordinates before (standardised).
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

/// Everything that save() writes.
struct Model {
  std::vector<double> mean, scale;  ///< per dimension
  std::vector<std::vector<double>>
      weights;  ///< per dimension [d + 1, n_outputs]: constants, then a row per coordinate before
};

class Autoregression final : public FittedDensity {
 public:
  Autoregression(std::shared_ptr<const DensityEstimator> of, Model model, Outcome outcome)
      : of_(std::move(of)), model_(std::move(model)), outcome_(std::move(outcome)) {}

  index_t n_dims() const override { return static_cast<index_t>(model_.mean.size()); }
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<double> theta(static_cast<std::size_t>(of_->head()->n_outputs()));
    const TensorView<const double, 2> row(theta.data(), {1, of_->head()->n_outputs()});
    for (index_t i = 0; i < x.shape(0); ++i) {
      double sum = 0;
      for (index_t d = 0; d < n_dims(); ++d) {
        const auto at = static_cast<std::size_t>(d);
        numbers(d, x.row(i), theta);
        const double y = (x(i, d) - model_.mean[at]) / model_.scale[at];
        double log_p = 0;
        of_->head()->log_pdf(row, {&y, 1}, {&log_p, 1}, {});
        sum += log_p - std::log(model_.scale[at]);
      }
      out[static_cast<std::size_t>(i)] = sum;
    }
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    std::vector<double> theta(static_cast<std::size_t>(of_->head()->n_outputs()));
    for (index_t i = 0; i < out.shape(0); ++i)
      for (index_t d = 0; d < n_dims(); ++d) {
        numbers(d, out.row(i), theta);
        const double u = rng.uniform_open();
        double y = 0;
        of_->head()->density(theta)->quantile({&u, 1}, {&y, 1});
        out(i, d) = model_.mean[static_cast<std::size_t>(d)] + model_.scale[static_cast<std::size_t>(d)] * y;
      }
  }
  RealInterval support(index_t) const override { return {}; }
  index_t parameter_count() const override {
    std::size_t count = 0;
    for (const auto& tensor : model_.weights) count += tensor.size();
    return static_cast<index_t>(count);
  }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("mean", model_.mean);
    out.put("scale", model_.scale);
    for (std::size_t d = 0; d < model_.weights.size(); ++d)
      out.group("dim" + std::to_string(d)).put("weights", model_.weights[d]);
  }

 private:
  void numbers(index_t d, std::span<const double> x, std::span<double> theta) const {
    const std::vector<double>& w = model_.weights[static_cast<std::size_t>(d)];
    std::copy_n(w.begin(), theta.size(), theta.begin());
    for (std::size_t c = 0; c < static_cast<std::size_t>(d); ++c)
      for (std::size_t o = 0; o < theta.size(); ++o)
        theta[o] += w[(c + 1) * theta.size() + o] * (x[c] - model_.mean[c]) / model_.scale[c];
  }
  std::shared_ptr<const DensityEstimator> of_;
  Model model_;
  Outcome outcome_;
};

class Autoregressive final : public DensityEstimator {
 public:
  struct Params {
    MethodSpec of = {.family = "density", .id = "logistic_mixture"};
    std::int64_t iterations = 300;
    void declare(ParamBinder& p) {
      p.method("of", of, "density", "the conditional densities; must have a head");
      p.integer("iterations", iterations, Range::at_least(0), "1", "gradient steps per dimension");
    }
  };
  Autoregressive(const Params& params, const Registry& registry)
      : p_(params), of_(registry.make<DensityEstimator>(params.of)) {
    if (!of_->head())
      throw ParamError("density autoregressive: of=" + params.of.id +
                       " has no head for conditional models; use logistic_mixture");
  }

  DensityTraits traits() const override { return {.max_dims = 4096}; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const index_t n = samples.n_samples(), n_outputs = of_->head()->n_outputs();
    Model model;
    double total = 0;
    for (index_t i = 0; i < n; ++i) total += weight(samples, i);
    for (index_t d = 0; d < samples.n_dims(); ++d) {
      double mean = 0, variance = 0;
      for (index_t i = 0; i < n; ++i) mean += weight(samples, i) * samples.x(i, d) / total;
      for (index_t i = 0; i < n; ++i)
        variance += weight(samples, i) * std::pow(samples.x(i, d) - mean, 2) / total;
      if (!(variance > 0))
        throw MethodError("density autoregressive: dimension " + std::to_string(d) + " has no spread");
      model.mean.push_back(mean);
      model.scale.push_back(std::sqrt(variance));
    }
    for (index_t d = 0; d < samples.n_dims(); ++d) {
      std::vector<double> z(static_cast<std::size_t>(n * (d + 1)), 1), y;
      const TensorView<double, 2> inputs(z.data(), {n, d + 1});
      for (index_t i = 0; i < n; ++i) {
        for (index_t c = 0; c < d; ++c) inputs(i, c + 1) = standard(model, samples, i, c);
        y.push_back(standard(model, samples, i, d));
      }
      model.weights.push_back(climb(inputs, y, samples, n_outputs, total, context));
    }
    return std::make_unique<Autoregression>(
        of_, std::move(model),
        Outcome{Termination::budget_used_up, "all gradient steps were taken", p_.iterations});
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    Model model{in.get("mean"), in.get("scale"), {}};
    for (std::size_t d = 0; d < model.mean.size(); ++d)
      model.weights.push_back(in.group("dim" + std::to_string(d)).get("weights"));
    return std::make_unique<Autoregression>(of_, std::move(model),
                                            Outcome{Termination::converged, "loaded", 0});
  }

 private:
  static double weight(const Samples& samples, index_t i) {
    return samples.weights.empty() ? 1 : samples.weights[static_cast<std::size_t>(i)];
  }
  static double standard(const Model& model, const Samples& samples, index_t i, index_t d) {
    return (samples.x(i, d) - model.mean[static_cast<std::size_t>(d)]) /
           model.scale[static_cast<std::size_t>(d)];
  }

  /// Adam on the mean log-likelihood of one conditional.
  std::vector<double> climb(TensorView<const double, 2> inputs, std::span<const double> y,
                            const Samples& samples, index_t n_outputs, double total,
                            const FitContext& context) const {
    const index_t n = inputs.shape(0), n_inputs = inputs.shape(1);
    std::vector<double> w(static_cast<std::size_t>(n_inputs * n_outputs), 0), first(w), second(w);
    of_->head()->initialise(y, context.seed.derive("head"),
                            std::span(w).first(static_cast<std::size_t>(n_outputs)));
    std::vector<double> theta(static_cast<std::size_t>(n * n_outputs)), d_theta(theta.size()),
        log_p(static_cast<std::size_t>(n));
    const TensorView<double, 2> theta_rows(theta.data(), {n, n_outputs}),
        d_rows(d_theta.data(), {n, n_outputs});
    const TensorView<double, 2> rows(w.data(), {n_inputs, n_outputs});
    for (std::int64_t step = 1; step <= p_.iterations; ++step) {
      context.budget.stop.throw_if_stopped();
      for (index_t i = 0; i < n; ++i)
        for (index_t o = 0; o < n_outputs; ++o) {
          double sum = 0;
          for (index_t c = 0; c < n_inputs; ++c) sum += inputs(i, c) * rows(c, o);
          theta_rows(i, o) = sum;
        }
      of_->head()->log_pdf(theta_rows, y, log_p, d_rows);
      for (index_t c = 0; c < n_inputs; ++c)
        for (index_t o = 0; o < n_outputs; ++o) {
          double g = 0;
          for (index_t i = 0; i < n; ++i) g += weight(samples, i) * inputs(i, c) * d_rows(i, o) / total;
          const auto at = static_cast<std::size_t>(c * n_outputs + o);
          first[at] += 0.1 * (g - first[at]);
          second[at] += 0.001 * (g * g - second[at]);
          const auto t = static_cast<double>(step);
          w[at] += 0.03 * (first[at] / (1 - std::pow(0.9, t))) /
                   (std::sqrt(second[at] / (1 - std::pow(0.999, t))) + 1e-12);
        }
    }
    return w;
  }

  Params p_;
  std::shared_ptr<const DensityEstimator> of_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Autoregressive>(
      "autoregressive",
      {.summary = "product of conditional densities", .source = "arXiv 1605.02226, section 2"});
}
