// Bernstein mixture on [a, b]: p(x) = sum_j w_j Beta(j, m - j + 1), w on the simplex, by maximum likelihood.
// The fit is a problem for any optimizer: minimise -mean log(L w).
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "borel/density.hpp"
#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

/// Bin(m - 1, j) u^j (1 - u)^(m - 1 - j) m, j = 0 .. m - 1.
void basis(double u, std::span<double> out) {
  const auto m = static_cast<double>(out.size());
  for (std::size_t c = 0; c < out.size(); ++c) {
    const auto j = static_cast<double>(c);
    const double log_choose = std::lgamma(m) - std::lgamma(j + 1) - std::lgamma(m - j);
    out[c] = m * std::exp(log_choose + (j > 0 ? j * std::log(u) : 0) +
                          (m - 1 - j > 0 ? (m - 1 - j) * std::log1p(-u) : 0));
  }
}

class Likelihood final : public SimplexObjective, public MixtureLikelihood {
 public:
  Likelihood(std::vector<double> matrix, std::vector<double> weights, index_t n)
      : matrix_(std::move(matrix)), weights_(std::move(weights)), n_(n) {}
  index_t size() const override { return n_; }
  std::string_view name() const override { return "bernstein likelihood"; }
  bool has_curvature() const override { return true; }
  const MixtureLikelihood* mixture() const override { return this; }
  TensorView<const double, 2> likelihood() const override {
    return {matrix_.data(), {static_cast<index_t>(weights_.size()), n_}};
  }
  index_t n_rows() const override { return static_cast<index_t>(weights_.size()); }
  std::span<const double> row_weight() const override { return weights_; }
  void column(index_t j, std::span<double> out) const override {
    for (index_t i = 0; i < n_rows(); ++i) out[static_cast<std::size_t>(i)] = likelihood()(i, j);
  }
  void multiply(std::span<const double> p, std::span<double> out) const override {
    for (index_t i = 0; i < n_rows(); ++i) out[static_cast<std::size_t>(i)] = dot(i, p);
  }
  void multiply_transposed(std::span<const double> r, std::span<double> out) const override {
    std::fill(out.begin(), out.end(), 0);
    for (index_t i = 0; i < n_rows(); ++i) add(i, r[static_cast<std::size_t>(i)], out);
  }

 protected:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (index_t i = 0; i < likelihood().shape(0); ++i)
      sum -= weights_[static_cast<std::size_t>(i)] * std::log(dot(i, p));
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::fill(gradient.begin(), gradient.end(), 0);
    for (index_t i = 0; i < likelihood().shape(0); ++i)
      add(i, -weights_[static_cast<std::size_t>(i)] / dot(i, p), gradient);
    return do_value(p);
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    std::fill(out.begin(), out.end(), 0);
    for (index_t i = 0; i < likelihood().shape(0); ++i)
      add(i, weights_[static_cast<std::size_t>(i)] * dot(i, v) / std::pow(dot(i, p), 2), out);
  }

 private:
  double dot(index_t i, std::span<const double> p) const {
    double sum = 0;
    for (index_t j = 0; j < n_; ++j) sum += likelihood()(i, j) * p[static_cast<std::size_t>(j)];
    return sum;
  }
  void add(index_t i, double factor, std::span<double> out) const {
    for (index_t j = 0; j < n_; ++j) out[static_cast<std::size_t>(j)] += factor * likelihood()(i, j);
  }
  std::vector<double> matrix_, weights_;
  index_t n_;
};

class BernsteinDensity final : public FittedDensity {
 public:
  BernsteinDensity(RealInterval range, std::vector<double> weights, Outcome outcome)
      : range_(range), weights_(std::move(weights)), outcome_(std::move(outcome)) {}
  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<double> values(weights_.size());
    const double width = range_.end - range_.begin;
    for (index_t i = 0; i < x.shape(0); ++i) {
      double sum = 0;
      if (const double u = (x(i, 0) - range_.begin) / width; u >= 0 && u <= 1) {
        basis(u, values);
        for (std::size_t j = 0; j < weights_.size(); ++j) sum += weights_[j] * values[j];
      }
      out[static_cast<std::size_t>(i)] = std::log(sum / width);
    }
  }
  RealInterval support(index_t) const override { return range_; }
  index_t parameter_count() const override { return static_cast<index_t>(weights_.size()) - 1; }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("range", std::vector<double>{range_.begin, range_.end});
    out.put("weights", weights_);
  }

 private:
  RealInterval range_;
  std::vector<double> weights_;
  Outcome outcome_;
};

class Bernstein final : public DensityEstimator {
 public:
  struct Params {
    MethodSpec solver = {.family = "optimizer", .id = "lagrangian_newton"};
    std::int64_t degree = 20;
    void declare(ParamBinder& p) {
      p.method("solver", solver, "optimizer", "finds the weights on the simplex");
      p.integer("degree", degree, Range::closed(1, 500), "1", "terms of the mixture");
    }
  };
  Bernstein(const Params& params, const Registry& registry)
      : p_(params), solver_(registry.make<Optimizer>(params.solver)) {}

  DensityTraits traits() const override { return {}; }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    const index_t n = samples.n_samples();
    double low = samples.x(0, 0), high = low, total = 0;
    std::vector<double> matrix(static_cast<std::size_t>(n * p_.degree)), weights;
    for (index_t i = 0; i < n; ++i) {
      low = std::min(low, samples.x(i, 0));
      high = std::max(high, samples.x(i, 0));
      total +=
          weights.emplace_back(samples.weights.empty() ? 1 : samples.weights[static_cast<std::size_t>(i)]);
    }
    if (!(high > low)) throw MethodError("density bernstein: the samples have no spread");
    const RealInterval range{low - 0.01 * (high - low), high + 0.01 * (high - low)};
    for (double& w : weights) w /= total;
    const TensorView<double, 2> rows(matrix.data(), {n, p_.degree});
    for (index_t i = 0; i < n; ++i)
      basis((samples.x(i, 0) - range.begin) / (range.end - range.begin), rows.row(i));
    Likelihood objective(std::move(matrix), std::move(weights), p_.degree);
    if (const std::string reason = solver_->refuses(objective); !reason.empty())
      throw MethodError("density bernstein: solver " + p_.solver.id + " cannot be used: " + reason);
    Trace none;
    const std::vector<double> uniform(static_cast<std::size_t>(p_.degree),
                                      1 / static_cast<double>(p_.degree));
    OptimizerResult result =
        solver_->minimize(objective, uniform, {.budget = context.budget}, context.seed, none);
    return std::make_unique<BernsteinDensity>(range, std::move(result.state), std::move(result.outcome));
  }
  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> range = in.get("range");
    return std::make_unique<BernsteinDensity>(RealInterval{range.at(0), range.at(1)}, in.get("weights"),
                                              Outcome{Termination::converged, "loaded", 0});
  }

 private:
  Params p_;
  std::unique_ptr<Optimizer> solver_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Bernstein>(
      "bernstein", {.summary = "Bernstein mixture by any optimizer", .source = "Vitale 1975; Petrone 1999"});
}
