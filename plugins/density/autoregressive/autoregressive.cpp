// Autoregression in several dimensions: p(x) = prod_d p_d(x_d | x_1 .. x_{d-1}), each conditional a one-dimensional density
// of the residual of a linear prediction (weighted least squares with a small ridge on standardised coordinates):
//   p_d(x_d | x_<d) = q_d(x_d - c_d - b_d . x_<d),   q_d fitted by the method `of`.
// With of=gmm{n_components=1} and ridge=0 this is the multivariate normal of largest likelihood, whatever the order. The
// conditional's shape does not change with x_<d, only its place: conditional networks (MADE, arXiv 1502.03509) go further.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

/// x_d = constant + sum_c slope_c x_c + residual, c < d.
struct Prediction {
  double constant = 0;
  std::vector<double> slope = {};
  double at(std::span<const double> x) const {
    double sum = constant;
    for (std::size_t c = 0; c < slope.size(); ++c) sum += slope[c] * x[c];
    return sum;
  }
};

class AutoregressiveDensity final : public FittedDensity {
 public:
  AutoregressiveDensity(std::vector<Prediction> prediction,
                        std::vector<std::unique_ptr<FittedDensity>> residual, Outcome outcome)
      : prediction_(std::move(prediction)), residual_(std::move(residual)), outcome_(std::move(outcome)) {}

  index_t n_dims() const override { return static_cast<index_t>(residual_.size()); }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<double> rest(out.size()), log_p(out.size()), row(residual_.size());
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t d = 0; d < residual_.size(); ++d) {
      for (std::size_t i = 0; i < rest.size(); ++i) {
        for (std::size_t c = 0; c < d; ++c) row[c] = x(static_cast<index_t>(i), static_cast<index_t>(c));
        rest[i] = x(static_cast<index_t>(i), static_cast<index_t>(d)) - prediction_[d].at(row);
      }
      residual_[d]->log_pdf({rest.data(), {static_cast<index_t>(rest.size()), 1}}, log_p);
      for (std::size_t i = 0; i < out.size(); ++i) out[i] += log_p[i];
    }
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    std::vector<double> row(residual_.size());
    for (index_t i = 0; i < out.shape(0); ++i)
      for (std::size_t d = 0; d < residual_.size(); ++d) {
        residual_[d]->sample(rng, TensorView<double, 2>(&row[d], {1, 1}));
        row[d] += prediction_[d].at(row);
        out(i, static_cast<index_t>(d)) = row[d];
      }
  }
  RealInterval support(index_t dim = 0) const override {
    return dim == 0 ? residual_.front()->support() : RealInterval{};  // moves with the coordinates before
  }
  index_t parameter_count() const override {
    index_t count = 0;
    for (std::size_t d = 0; d < residual_.size(); ++d)
      count += residual_[d]->parameter_count() + static_cast<index_t>(prediction_[d].slope.size());
    return count;
  }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("n_dims", std::vector<double>{static_cast<double>(residual_.size())});
    out.put_text("sentence", outcome_.sentence);
    for (std::size_t d = 0; d < residual_.size(); ++d) {
      StateWriter& group = out.group("dim" + std::to_string(d));
      std::vector<double> line{prediction_[d].constant};
      line.insert(line.end(), prediction_[d].slope.begin(), prediction_[d].slope.end());
      group.put("prediction", line);
      residual_[d]->save(group.group("residual"));
    }
  }

  // One dimension: the residual is the sample itself.
  void cdf(std::span<const double> x, std::span<double> out) const override { only("cdf").cdf(x, out); }
  void quantile(std::span<const double> p, std::span<double> out) const override {
    only("quantile").quantile(p, out);
  }
  std::vector<double> modes() const override { return only("modes").modes(); }

 private:
  const FittedDensity& only(const char* what) const {
    if (residual_.size() != 1)
      throw MethodError(std::string("density autoregressive: ") + what +
                        " is defined for 1 dimension only, this density has " +
                        std::to_string(residual_.size()));
    return *residual_.front();
  }

  std::vector<Prediction> prediction_;
  std::vector<std::unique_ptr<FittedDensity>> residual_;
  Outcome outcome_;
};

class Autoregressive final : public DensityEstimator {
 public:
  struct Params {
    MethodSpec of = {.family = "density", .id = "gmm"};
    double ridge = 1e-6;
    void declare(ParamBinder& p) {
      p.method("of", of, "density", "Density of the residual of each coordinate.");
      p.real("ridge", ridge, Range::at_least(0), "variances",
             "Added to the covariance of the standardised coordinates; keeps collinear columns apart.");
    }
  };

  Autoregressive(const Params& params, const Registry& registry)
      : params_(params), of_(registry.make<DensityEstimator>(params.of)) {}

  DensityTraits traits() const override {
    DensityTraits traits = of_->traits();
    traits.max_dims = 4096;
    return traits;
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const std::size_t n = static_cast<std::size_t>(samples.n_samples()),
                      n_dims = static_cast<std::size_t>(samples.n_dims());
    std::vector<Prediction> prediction{Prediction{}};
    if (n_dims > 1) prediction = predict(samples);
    std::vector<std::unique_ptr<FittedDensity>> residual;
    std::vector<double> rest(n), row(n_dims);
    bool converged = true;
    index_t iterations = 0;
    for (std::size_t d = 0; d < n_dims; ++d) {
      context.budget.stop.throw_if_stopped();
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t c = 0; c <= d; ++c)
          row[c] = samples.x(static_cast<index_t>(i), static_cast<index_t>(c));
        rest[i] = row[d] - prediction[d].at(row);
      }
      FitContext own = context;
      own.progress = nullptr;
      own.seed = context.seed.derive(d);
      try {
        residual.push_back(of_->fit({{rest.data(), {samples.n_samples(), 1}}, samples.weights}, own));
      } catch (const MethodError& error) {
        if (n_dims == 1) throw;
        throw MethodError("density autoregressive: the residual of column " + std::to_string(d) +
                          " cannot be fitted: " + error.what());
      }
      converged &= residual.back()->outcome().termination == Termination::converged;
      iterations += residual.back()->outcome().iterations;
      if (context.progress)
        context.progress->report(static_cast<double>(d + 1) / static_cast<double>(n_dims), 0);
    }
    Outcome outcome{converged ? Termination::converged : Termination::budget_used_up,
                    std::to_string(n_dims) + " conditionals by " + params_.of.id, iterations};
    if (n_dims == 1) outcome.sentence += ": " + residual.front()->outcome().sentence;
    return std::make_unique<AutoregressiveDensity>(std::move(prediction), std::move(residual),
                                                   std::move(outcome));
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> n_dims = in.get("n_dims");
    if (n_dims.size() != 1 || !(n_dims[0] >= 1 && n_dims[0] <= 4096))
      throw MethodError(
          "density autoregressive: the saved state is not complete; save the fitted density again");
    std::vector<Prediction> prediction;
    std::vector<std::unique_ptr<FittedDensity>> residual;
    for (std::size_t d = 0; d < static_cast<std::size_t>(n_dims[0]); ++d) {
      const StateReader& group = in.group("dim" + std::to_string(d));
      const std::vector<double> line = group.get("prediction");
      if (line.empty() || line.size() > d + 1)
        throw MethodError("density autoregressive: the saved prediction of column " + std::to_string(d) +
                          " has the wrong size; save the fitted density again");
      prediction.push_back({line[0], {line.begin() + 1, line.end()}});
      residual.push_back(of_->load(group.group("residual")));
    }
    return std::make_unique<AutoregressiveDensity>(
        std::move(prediction), std::move(residual),
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  /// Least squares for all columns from one Cholesky factor of the correlations: row d of its inverse solves the first d.
  std::vector<Prediction> predict(const Samples& samples) const {
    const std::size_t n = static_cast<std::size_t>(samples.n_samples()),
                      n_dims = static_cast<std::size_t>(samples.n_dims());
    const auto value = [&](std::size_t i, std::size_t d) {
      return samples.x(static_cast<index_t>(i), static_cast<index_t>(d));
    };
    double total = 0;
    std::vector<double> mean(n_dims), sd(n_dims), weight(n, 1.0), correlation(n_dims * n_dims);
    if (!samples.weights.empty()) weight.assign(samples.weights.begin(), samples.weights.end());
    for (const double w : weight) total += w;
    for (std::size_t d = 0; d < n_dims; ++d) {
      for (std::size_t i = 0; i < n; ++i) mean[d] += weight[i] / total * value(i, d);
      for (std::size_t i = 0; i < n; ++i)
        sd[d] += weight[i] / total * (value(i, d) - mean[d]) * (value(i, d) - mean[d]);
      sd[d] = std::sqrt(sd[d]);
      if (!(sd[d] > 0) || !std::isfinite(sd[d]))
        throw MethodError("density autoregressive: column " + std::to_string(d) +
                          " has no spread that double precision can scale; leave it out, or rescale it");
    }
    for (std::size_t d = 0; d < n_dims; ++d)
      for (std::size_t c = 0; c <= d; ++c) {
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i)
          sum += weight[i] / total * ((value(i, d) - mean[d]) / sd[d]) * ((value(i, c) - mean[c]) / sd[c]);
        correlation[d * n_dims + c] = sum + (c == d ? params_.ridge : 0.0);
      }
    // In place: lower triangle L of the factor. A column that the ones before explain fully gets no slopes of its own.
    std::vector<double>& factor = correlation;
    for (std::size_t d = 0; d < n_dims; ++d)
      for (std::size_t c = 0; c <= d; ++c) {
        double sum = factor[d * n_dims + c];
        for (std::size_t k = 0; k < c; ++k) sum -= factor[d * n_dims + k] * factor[c * n_dims + k];
        if (c == d)
          factor[d * n_dims + d] = sum > 1e-14 ? std::sqrt(sum) : std::numeric_limits<double>::infinity();
        else
          factor[d * n_dims + c] = sum / factor[c * n_dims + c];
      }
    std::vector<Prediction> out;
    for (std::size_t d = 0; d < n_dims; ++d) {
      Prediction p{mean[d], std::vector<double>(d)};
      for (std::size_t c = d; c-- > 0;) {  // solve L_cc' b = row d of L
        double sum = factor[d * n_dims + c];
        for (std::size_t k = c + 1; k < d; ++k) sum -= factor[k * n_dims + c] * p.slope[k];
        p.slope[c] = sum / factor[c * n_dims + c];
      }
      for (std::size_t c = 0; c < d; ++c) {
        p.slope[c] *= sd[d] / sd[c];
        p.constant -= p.slope[c] * mean[c];
      }
      if (d == 0) p.constant = 0;  // the first column is fitted as it is
      out.push_back(std::move(p));
    }
    return out;
  }

  Params params_;
  std::unique_ptr<DensityEstimator> of_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Autoregressive>(
      "autoregressive",
      {.summary = "Several dimensions: product of conditional densities of linear residuals, by any "
                  "one-dimensional method",
       .formula = "p(x) = prod_d q_d(x_d - c_d - b_d . x_<d)",
       .source = "Uria, Cote, Gregor, Murray, Larochelle (2016) arXiv 1605.02226, section 2; Cholesky form: "
                 "Pourahmadi (1999) "
                 "Biometrika 86",
       .complexity = "fit O(n d^2 + d^3) and d fits of `of`; evaluation O(d^2) and d evaluations",
       .notes = "the shape of a conditional does not depend on the coordinates before, only its place does"});
}
