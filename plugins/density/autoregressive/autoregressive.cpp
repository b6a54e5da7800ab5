// Autoregression in several dimensions: p(x) = prod_d p_d(x_d | x_1 .. x_{d-1}), each conditional a one-dimensional density
// of the residual r_d = x_d - c_d - b_d . x_<d of a linear prediction (weighted least squares with a small ridge on
// standardised coordinates):
//   linear:   p_d(x_d | x_<d) = q_d(r_d), q_d fitted by the method `of`. The conditional's shape does not change with x_<d,
//             only its place. With of=gmm{n_components=1} and ridge=0 this is the multivariate normal of largest
//             likelihood, whatever the order.
//   network:  p_d(x_d | x_<d) = 1/M sum_m h(r_d / s_d; theta_m(x_<d)) / s_d, h the head of the method `of`, theta_m the
//             networks of network.hpp, s_d the standard deviation of r_d. The first column is fitted by `of` itself.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"
#include "network.hpp"

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

/// One conditional: by `residual`, or by `networks` with their unit.
struct Conditional {
  Prediction prediction = {};
  std::unique_ptr<FittedDensity> residual = {};
  std::optional<NetworkCommittee> networks = {};
  double scale = 1;  ///< standard deviation of the residual, the networks' unit
};

/// The networks' contexts: coordinates with mean 0 and standard deviation 1.
struct Standard {
  std::vector<double> mean = {}, sd = {};
  double at(double x, std::size_t d) const { return (x - mean[d]) / sd[d]; }
};

class AutoregressiveDensity final : public FittedDensity {
 public:
  /// @param of keeps the head of the networks alive
  AutoregressiveDensity(std::vector<Conditional> column, Standard standard,
                        std::shared_ptr<const DensityEstimator> of, Outcome outcome)
      : column_(std::move(column)),
        standard_(std::move(standard)),
        of_(std::move(of)),
        outcome_(std::move(outcome)) {}

  index_t n_dims() const override { return static_cast<index_t>(column_.size()); }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    const std::size_t n = out.size();
    std::vector<double> rest(n), log_p(n), row(column_.size()), context;
    std::fill(out.begin(), out.end(), 0.0);
    for (std::size_t d = 0; d < column_.size(); ++d) {
      const Conditional& column = column_[d];
      context.clear();
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t c = 0; c < d; ++c) row[c] = x(static_cast<index_t>(i), static_cast<index_t>(c));
        rest[i] = x(static_cast<index_t>(i), static_cast<index_t>(d)) - column.prediction.at(row);
        if (!column.networks) continue;
        rest[i] /= column.scale;
        for (std::size_t c = 0; c < d; ++c) context.push_back(standard_.at(row[c], c));
      }
      const index_t n_rows = static_cast<index_t>(n);
      if (column.networks)
        column.networks->log_pdf(*of_->head(), {context.data(), {n_rows, static_cast<index_t>(d)}}, rest,
                                 log_p);
      else
        column.residual->log_pdf({rest.data(), {n_rows, 1}}, log_p);
      const double log_scale = std::log(column.scale);
      for (std::size_t i = 0; i < n; ++i) out[i] += log_p[i] - log_scale;
    }
  }
  void sample(Rng& rng, TensorView<double, 2> out) const override {
    std::vector<double> row(column_.size()), context(column_.size());
    for (index_t i = 0; i < out.shape(0); ++i)
      for (std::size_t d = 0; d < column_.size(); ++d) {
        const Conditional& column = column_[d];
        double rest = 0;
        if (column.networks)
          rest = column.scale * column.networks->sample(*of_->head(), std::span(context).first(d), rng);
        else
          column.residual->sample(rng, TensorView<double, 2>(&rest, {1, 1}));
        row[d] = rest + column.prediction.at(row);
        if (!standard_.mean.empty()) context[d] = standard_.at(row[d], d);
        out(i, static_cast<index_t>(d)) = row[d];
      }
  }
  RealInterval support(index_t dim = 0) const override {
    return dim == 0 ? column_.front().residual->support()
                    : RealInterval{};  // moves with the coordinates before
  }
  index_t parameter_count() const override {
    index_t count = 0;
    for (const Conditional& column : column_)
      count += static_cast<index_t>(column.prediction.slope.size()) +
               (column.networks ? column.networks->parameter_count() : column.residual->parameter_count());
    return count;
  }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("n_dims", std::vector<double>{static_cast<double>(column_.size())});
    out.put_text("sentence", outcome_.sentence);
    out.put("mean", standard_.mean);
    out.put("sd", standard_.sd);
    for (std::size_t d = 0; d < column_.size(); ++d) {
      const Conditional& column = column_[d];
      StateWriter& group = out.group("dim" + std::to_string(d));
      std::vector<double> line{column.prediction.constant};
      line.insert(line.end(), column.prediction.slope.begin(), column.prediction.slope.end());
      group.put("prediction", line);
      group.put("scale", std::vector<double>{column.scale});
      if (column.networks)
        column.networks->save(group.group("networks"));
      else
        column.residual->save(group.group("residual"));
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
    if (column_.size() != 1)
      throw MethodError("density autoregressive: " + std::string(what) +
                        " is defined for 1 dimension only, this density has " +
                        std::to_string(column_.size()));
    return *column_.front().residual;
  }

  std::vector<Conditional> column_;
  Standard standard_;  ///< empty without networks
  std::shared_ptr<const DensityEstimator> of_;
  Outcome outcome_;
};

enum class Conditionals { linear, network };

class Autoregressive final : public DensityEstimator {
 public:
  struct Params {
    MethodSpec of = {.family = "density", .id = "gmm"};
    double ridge = 1e-6, learning_rate = 3e-3;
    Conditionals conditional = Conditionals::linear;
    std::vector<double> hidden = {64, 32};
    std::int64_t n_networks = 5, max_epochs = 500;
    void declare(ParamBinder& p) {
      p.method("of", of, "density", "Density of the residual of each coordinate.");
      p.real("ridge", ridge, Range::at_least(0), "variances",
             "Added to the covariance of the standardised coordinates; keeps collinear columns apart.");
      p.choice("conditional", conditional,
               {{"linear", Conditionals::linear}, {"network", Conditionals::network}},
               "What the coordinates before decide: the place of the residual's density (linear), or the "
               "parameters of "
               "the head of `of` (network).");
      p.reals("hidden", hidden, Range::closed(1, 4096), "1", "Widths of a network's layers, whole numbers.");
      p.integer("n_networks", n_networks, Range::closed(1, 100), "1",
                "Networks whose densities are averaged; each is stopped by a fold of the rows of its own.");
      p.integer("max_epochs", max_epochs, Range::closed(1, 1000000), "1",
                "Passes over the rows; as a rule a network stops before.");
      p.real("learning_rate", learning_rate, Range::left_open(0, 1), "1",
             "First step of Adam; reduced thrice.");
    }
    void check() const {
      for (const double width : hidden)
        if (width != std::floor(width))
          throw ParamError("'hidden' must hold whole numbers, got " + param_text(width) +
                           "; [64, 32] is usual");
    }
  };

  Autoregressive(const Params& params, const Registry& registry)
      : params_(params), of_(registry.make<DensityEstimator>(params.of)) {
    if (params.conditional == Conditionals::network && !of_->head())
      throw ParamError("density autoregressive: 'conditional=network' needs a method with a head, got of=" +
                       params.of.text() + "; take logistic_mixture, dfp or fourier{placement=fixed}");
  }

  DensityTraits traits() const override {
    DensityTraits traits = of_->traits();
    traits.max_dims = 4096;
    return traits;
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const std::size_t n_dims = static_cast<std::size_t>(samples.n_dims());
    Standard standard;
    std::vector<Prediction> prediction{Prediction{}};
    if (n_dims > 1) prediction = predict(samples, standard);
    std::vector<Conditional> column;
    bool converged = true;
    index_t iterations = 0;
    for (std::size_t d = 0; d < n_dims; ++d) {
      context.budget.stop.throw_if_stopped();
      FitContext own = context;
      own.progress = nullptr;
      own.seed = context.seed.derive(d);
      try {
        column.push_back(fit_column(samples, std::move(prediction[d]), standard, own));
      } catch (const MethodError& error) {
        if (n_dims == 1) throw;
        throw MethodError("density autoregressive: the residual of column " + std::to_string(d) +
                          " cannot be fitted: " + error.what());
      }
      const Conditional& made = column.back();
      converged &= made.networks ? made.networks->converged()
                                 : made.residual->outcome().termination == Termination::converged;
      iterations += made.networks ? made.networks->epochs() : made.residual->outcome().iterations;
      if (context.progress)
        context.progress->report(static_cast<double>(d + 1) / static_cast<double>(n_dims), 0);
    }
    Outcome outcome{converged ? Termination::converged : Termination::budget_used_up,
                    std::to_string(n_dims) + " conditionals by " + params_.of.id, iterations};
    if (n_dims == 1) outcome.sentence += ": " + column.front().residual->outcome().sentence;
    if (params_.conditional == Conditionals::linear) standard = {};
    return std::make_unique<AutoregressiveDensity>(std::move(column), std::move(standard), of_,
                                                   std::move(outcome));
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> n_dims = in.get("n_dims");
    Standard standard{in.get("mean"), in.get("sd")};
    if (n_dims.size() != 1 || !(n_dims[0] >= 1 && n_dims[0] <= 4096) ||
        standard.mean.size() != standard.sd.size())
      throw MethodError(
          "density autoregressive: the saved state is not complete; save the fitted density again");
    std::vector<Conditional> column;
    for (std::size_t d = 0; d < static_cast<std::size_t>(n_dims[0]); ++d) {
      const StateReader& group = in.group("dim" + std::to_string(d));
      const std::vector<double> line = group.get("prediction"), scale = group.get("scale");
      if (line.empty() || line.size() > d + 1 || scale.size() != 1 || !(scale[0] > 0))
        throw MethodError("density autoregressive: the saved prediction of column " + std::to_string(d) +
                          " has the wrong size; save the fitted density again");
      Conditional made{{line[0], {line.begin() + 1, line.end()}}, nullptr, std::nullopt, scale[0]};
      if (!group.has("networks")) {
        made.residual = of_->load(group.group("residual"));
      } else {
        if (!of_->head() || standard.mean.size() != static_cast<std::size_t>(n_dims[0]))
          throw MethodError("density autoregressive: networks were saved, and of=" + params_.of.text() +
                            " has no head for them; load with the parameters of the fit");
        made.networks = NetworkCommittee::load(*of_->head(), group.group("networks"));
      }
      column.push_back(std::move(made));
    }
    return std::make_unique<AutoregressiveDensity>(
        std::move(column), std::move(standard), of_,
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  /// Least squares for all columns from one Cholesky factor of the correlations: row d of its inverse solves the first d.
  /// @param standard becomes the columns' means and standard deviations
  std::vector<Prediction> predict(const Samples& samples, Standard& standard) const {
    const std::size_t n = static_cast<std::size_t>(samples.n_samples()),
                      n_dims = static_cast<std::size_t>(samples.n_dims());
    const auto value = [&](std::size_t i, std::size_t d) {
      return samples.x(static_cast<index_t>(i), static_cast<index_t>(d));
    };
    double total = 0;
    std::vector<double> mean(n_dims), sd(n_dims), correlation(n_dims * n_dims);
    const std::vector<double> weight = weights_of(samples);
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
    standard = {std::move(mean), std::move(sd)};
    return out;
  }

  static std::vector<double> weights_of(const Samples& samples) {
    if (samples.weights.empty())
      return std::vector<double>(static_cast<std::size_t>(samples.n_samples()), 1.0);
    return {samples.weights.begin(), samples.weights.end()};
  }

  Conditional fit_column(const Samples& samples, Prediction prediction, const Standard& standard,
                         const FitContext& context) const {
    const std::size_t n = static_cast<std::size_t>(samples.n_samples()), d = prediction.slope.size();
    std::vector<double> rest(n), before;
    for (std::size_t i = 0; i < n; ++i) {
      const std::span<const double> row = samples.x.row(static_cast<index_t>(i));
      rest[i] = row[d] - prediction.at(row);
    }
    Conditional made{std::move(prediction), nullptr, std::nullopt, 1};
    if (d == 0 || params_.conditional == Conditionals::linear) {
      made.residual = of_->fit({{rest.data(), {samples.n_samples(), 1}}, samples.weights}, context);
      return made;
    }
    const std::vector<double> weight = weights_of(samples);
    const CommitteeSettings settings{{params_.hidden.begin(), params_.hidden.end()},
                                     params_.n_networks,
                                     params_.max_epochs,
                                     params_.learning_rate};
    std::vector<double> y, used;
    for (std::size_t i = 0; i < n; ++i) {
      if (!(weight[i] > 0)) continue;
      y.push_back(rest[i]), used.push_back(weight[i]);
      for (std::size_t c = 0; c < d; ++c)
        before.push_back(standard.at(samples.x(static_cast<index_t>(i), static_cast<index_t>(c)), c));
    }
    const auto n_used = static_cast<index_t>(y.size()),
               least = 2 * NetworkCommittee::folds(params_.n_networks);
    if (n_used < least)
      throw MethodError(std::to_string(n_used) + " rows are too few for " + std::to_string(least / 2) +
                        " folds; give more rows, or conditional=linear");
    double total = 0, square = 0;
    for (std::size_t i = 0; i < y.size(); ++i) total += used[i], square += used[i] * y[i] * y[i];
    made.scale = std::sqrt(square / total);  // the residuals' mean is 0
    if (!(made.scale > 0)) throw MethodError("the columns before explain it fully; leave it out");
    for (double& value : y) value /= made.scale;
    made.networks = NetworkCommittee::fit(*of_->head(), {before.data(), {n_used, static_cast<index_t>(d)}}, y,
                                          used, settings, context.seed, context.budget.stop);
    return made;
  }

  Params params_;
  std::shared_ptr<const DensityEstimator> of_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Autoregressive>(
      "autoregressive",
      {.summary = "Several dimensions: product of conditional densities, by any one-dimensional method",
       .formula = "p(x) = prod_d q_d(x_d - c_d - b_d . x_<d); network: q_d(.; theta_d(x_<d))",
       .source =
           "Uria, Cote, Gregor, Murray, Larochelle (2016) arXiv 1605.02226, section 2; Cholesky form: "
           "Pourahmadi (1999) Biometrika 86; networks: Bishop (1994) Mixture density networks, section 3",
       .complexity =
           "fit O(n d^2 + d^3) and d fits of `of`, or d committees at O(n parameters) per epoch; evaluation "
           "O(d^2) and d evaluations, or O(parameters)",
       .notes = "linear: the shape of a conditional does not depend on the coordinates before, only its "
                "place does; "
                "network: `of` needs a head"});
}
