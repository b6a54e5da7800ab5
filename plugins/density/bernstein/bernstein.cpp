// Bernstein mixture (Vitale 1975; Petrone 1999): beta densities of one degree with weights on the simplex,
//   q(t) = sum_{j=1}^{m} v_j Beta(t; j, m - j + 1) on [0, 1],   cdf = sum_k C_k Bin(k; m, t), C_k = v_1 + ... + v_k.
// map=normal: t = Phi((x - mean) / sd), so p(x) = q(t) phi((x - mean) / sd) / sd on the whole line, the normal distribution
// being v_j = 1/m; map=interval: t linear on the samples' range, longer by range / n at both ends.
// The likelihood is concave in v. EM steps accelerated by SQUAREM (Varadhan and Roland 2008), ended by the certificate
//   max_j (1/n) sum_i w_i Beta_j(t_i) / q(t_i) - 1 >= F* - F;
// or any method of the optimizer family, which sees the same problem as a mixture likelihood on the simplex.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/mixture_objective.hpp"
#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_log_sqrt_2pi = 0.91893853320467274178;
constexpr std::size_t k_points = 512;  // groups of samples
constexpr std::int64_t k_degrees[] = {2, 3, 5, 8, 12, 18, 27, 40, 60, 90};
constexpr int k_patience = 2;
constexpr double k_tiny_weight = 1e-12;  // a term below does not count as a parameter

enum class Map { normal, interval };

double log_gamma(double x) {  // std::lgamma writes a global; this may run in many threads
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

/// log Phi(z), also where Phi underflows (asymptotic series, Abramowitz and Stegun 26.2.12).
double log_normal_cdf(double z) {
  if (z > -30) return std::log(0.5 * std::erfc(-z / std::numbers::sqrt2));
  const double r = 1 / (z * z);
  return -0.5 * z * z - k_log_sqrt_2pi - std::log(-z) + std::log1p(-r * (1 - r * (3 - 15 * r)));
}

struct Place {  ///< log t, log(1 - t) and log dt/dx
  double log_low, log_high, log_slope;
};

Place place(Map map, double shift, double scale, double x) {
  const double u = (x - shift) / scale;
  if (map == Map::normal)
    return {log_normal_cdf(u), log_normal_cdf(-u), -0.5 * u * u - k_log_sqrt_2pi - std::log(scale)};
  return {std::log(u), std::log1p(-u), -std::log(scale)};
}

/// log Beta_j(t) = log m + log binomial(m - 1, j - 1) + (j - 1) log t + (m - j) log(1 - t), j = 1 .. m.
void log_basis(const Place& at, const std::vector<double>& log_factor, std::vector<double>& out) {
  const std::size_t m = log_factor.size();
  for (std::size_t j = 0; j < m; ++j)  // 0 log 0 = 0
    out[j] = log_factor[j] + (j > 0 ? static_cast<double>(j) * at.log_low : 0.0) +
             (j + 1 < m ? static_cast<double>(m - 1 - j) * at.log_high : 0.0);
}

std::vector<double> log_factors(std::size_t m) {
  std::vector<double> out(m);
  const double n = static_cast<double>(m);
  for (std::size_t j = 0; j < m; ++j)
    out[j] = std::log(n) + log_gamma(n) - log_gamma(static_cast<double>(j) + 1) -
             log_gamma(n - static_cast<double>(j));
  return out;
}

class BernsteinDensity final : public FittedDensity {
 public:
  BernsteinDensity(std::vector<double> weight, Map map, double shift, double scale, Outcome outcome)
      : weight_(std::move(weight)), map_(map), shift_(shift), scale_(scale), outcome_(std::move(outcome)) {
    log_factor_ = log_factors(weight_.size());
    for (const double w : weight_) log_weight_.push_back(std::log(w));
  }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    std::vector<double> term(weight_.size());
    for (index_t i = 0; i < x.shape(0); ++i) {
      double& value = out[static_cast<std::size_t>(i)];
      const double at = x(i, 0);
      if (std::isnan(at)) {
        value = at;
        continue;
      }
      value = -k_infinity;
      if (std::isinf(at) || (map_ == Map::interval && !(at >= shift_ && at <= shift_ + scale_))) continue;
      const Place where = place(map_, shift_, scale_, at);
      log_basis(where, log_factor_, term);
      double top = -k_infinity, sum = 0;
      for (std::size_t j = 0; j < term.size(); ++j) top = std::max(top, term[j] += log_weight_[j]);
      if (!(top > -k_infinity)) continue;
      for (const double t : term) sum += std::exp(t - top);
      value = top + std::log(sum) + where.log_slope;
    }
  }
  void cdf(std::span<const double> x, std::span<double> out) const override {
    const std::size_t m = weight_.size();
    const double degree = static_cast<double>(m);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const RealInterval range = support();
      if (std::isnan(x[i]) || x[i] <= range.begin || x[i] >= range.end) {
        out[i] = std::isnan(x[i]) ? x[i] : x[i] <= range.begin ? 0.0 : 1.0;
        continue;
      }
      const Place at = place(map_, shift_, scale_, x[i]);
      double sum = 0, cumulative = 0;
      for (std::size_t k = 1; k <= m; ++k) {
        cumulative += weight_[k - 1];
        const double n = static_cast<double>(k);
        const double log_choose = log_gamma(degree + 1) - log_gamma(n + 1) - log_gamma(degree - n + 1);
        sum +=
            cumulative * std::exp(log_choose + n * at.log_low + (k < m ? (degree - n) * at.log_high : 0.0));
      }
      out[i] = std::min(1.0, sum);
    }
  }
  RealInterval support(index_t = 0) const override {
    if (map_ == Map::normal) return {};
    return {shift_, shift_ + scale_};
  }
  index_t parameter_count() const override {
    index_t count = 1;  // weights above zero, less one, and the two of the map
    for (const double w : weight_) count += w > k_tiny_weight;
    return count;
  }
  Outcome outcome() const override { return outcome_; }
  void save(StateWriter& out) const override {
    out.put("weight", weight_);
    out.put("map", std::vector<double>{map_ == Map::normal ? 0.0 : 1.0, shift_, scale_});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  std::vector<double> weight_, log_weight_, log_factor_;
  Map map_;
  double shift_, scale_;
  Outcome outcome_;
};

class Bernstein final : public DensityEstimator, public HistogramFit {
 public:
  struct Params {
    std::int64_t degree = 0, max_iterations = 10000;
    Map map = Map::normal;
    double tolerance = 1e-8;
    MethodSpec solver;
    void declare(ParamBinder& p) {
      p.integer("degree", degree, Range::closed(0, 1000), "1",
                "Number m of beta densities; 0 = 2, 3, 5, ... 90, by BIC with one parameter per weight above "
                "zero.");
      p.choice("map", map, {{"normal", Map::normal}, {"interval", Map::interval}},
               "normal: the whole line through the normal cdf of the samples' mean and sd; interval: the "
               "samples' range.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1",
                "Steps of EM or of the solver, per degree.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Certified gap at which EM or the solver ends.");
      p.method("solver", solver, "optimizer",
               "Method that finds the weights on the simplex; none: EM with extrapolation, built in.");
    }
  };

  Bernstein(const Params& params, const Registry& registry) : params_(params) {
    if (!params.solver.id.empty()) solver_ = registry.make<Optimizer>(params.solver);
  }

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = true,
            .smooth = true,
            .follows_any_data = params_.degree == 0};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_points(standardise(weighted_points(samples), "density bernstein"), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 14; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_points(standardise(weighted_points(fine), "density bernstein"), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    std::vector<double> weight = in.get("weight");
    const std::vector<double> map = in.get("map");
    if (weight.empty() || map.size() != 3 || !(map[2] > 0))
      throw MethodError("density bernstein: the saved state is not complete; save the fitted density again");
    return std::make_unique<BernsteinDensity>(std::move(weight), map[0] == 0 ? Map::normal : Map::interval,
                                              map[1], map[2],
                                              Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  struct Fit {
    std::vector<double> weight;
    double log_likelihood = -k_infinity, gap = k_infinity;
    index_t steps = 0;
  };

  std::unique_ptr<FittedDensity> fit_points(const StandardPoints& all, const FitContext& context) const {
    const StandardPoints points = thin(all, k_points);
    double shift = 0, scale = 1;  // of the map, in u
    if (params_.map == Map::interval) {
      const double range = all.u.back() - all.u.front(), beyond = range / all.n_effective;
      shift = all.u.front() - beyond, scale = range + 2 * beyond;
    }
    const double n = all.n_effective;
    Fit best;
    if (params_.degree > 0) {
      best = maximise(points, static_cast<std::size_t>(params_.degree), shift, scale, context);
    } else {
      double best_score = k_infinity;
      int worse = 0;
      for (const std::int64_t degree : k_degrees) {
        Fit fit = maximise(points, static_cast<std::size_t>(degree), shift, scale, context);
        double used = -1;
        for (const double w : fit.weight)
          used += w > 1e-4;  // EM leaves weights that go to zero small, not zero
        const double score = -2 * n * fit.log_likelihood + used * std::log(std::max(n, 2.0));
        if (score < best_score)
          best_score = score, best = std::move(fit), worse = 0;
        else if (++worse >= k_patience)
          break;
      }
    }
    Outcome outcome;
    outcome.termination =
        best.gap <= params_.tolerance ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = best.steps;
    outcome.sentence = std::to_string(best.weight.size()) + " beta densities, mean log-likelihood " +
                       param_text(best.log_likelihood - std::log(all.scale)) + ", certified within " +
                       param_text(best.gap) + " of the largest after " + std::to_string(best.steps) +
                       (solver_ ? " steps of " + params_.solver.text() : " EM steps");
    return std::make_unique<BernsteinDensity>(std::move(best.weight), params_.map,
                                              all.shift + all.scale * shift, all.scale * scale,
                                              std::move(outcome));
  }

  Fit maximise(const StandardPoints& points, std::size_t m, double shift, double scale,
               const FitContext& context) const {
    // ratio [n, m] = Beta_j(t_i) / its largest over j; offset_i the logarithm of that and of dt/du.
    const std::size_t n = points.size();
    std::vector<double> ratio(n * m), term(m);
    const std::vector<double> factors = log_factors(m);
    double offset = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const Place at = place(params_.map, shift, scale, points.u[i]);
      log_basis(at, factors, term);
      const double top = *std::max_element(term.begin(), term.end());
      for (std::size_t j = 0; j < m; ++j) ratio[i * m + j] = std::exp(term[j] - top);
      offset += points.weight[i] * (top + at.log_slope);
    }
    if (solver_) return solve(std::move(ratio), points.weight, m, offset, context);
    /// One EM step: the next weights; likelihood and gap of the given ones.
    const auto step = [&](const std::vector<double>& v, double& value, double& gap) {
      std::vector<double> gradient(m);
      value = offset;
      for (std::size_t i = 0; i < n; ++i) {
        const double* const row = ratio.data() + i * m;
        double q = 0;
        for (std::size_t j = 0; j < m; ++j) q += v[j] * row[j];
        value += points.weight[i] * std::log(q);
        const double factor = points.weight[i] / q;
        for (std::size_t j = 0; j < m; ++j) gradient[j] += factor * row[j];
      }
      gap = *std::max_element(gradient.begin(), gradient.end()) - 1;
      for (std::size_t j = 0; j < m; ++j) gradient[j] *= v[j];
      return gradient;
    };
    Fit fit;
    fit.weight.assign(m, 1 / static_cast<double>(m));
    while (fit.steps < params_.max_iterations) {
      context.budget.stop.throw_if_stopped();
      double value1 = 0, gap1 = 0, ignored = 0;
      const std::vector<double> v1 = step(fit.weight, fit.log_likelihood, fit.gap);
      ++fit.steps;
      if (fit.gap <= params_.tolerance) break;
      const std::vector<double> v2 = step(v1, value1, gap1);
      ++fit.steps;
      double r = 0, v = 0;
      for (std::size_t j = 0; j < m; ++j) {
        const double a = v1[j] - fit.weight[j], b = v2[j] - v1[j] - a;
        r += a * a, v += b * b;
      }
      const double alpha = v > 0 ? -std::max(1.0, std::sqrt(r / v)) : -1.0;
      std::vector<double> jump(m);
      double total = 0;
      for (std::size_t j = 0; j < m; ++j) {
        const double a = v1[j] - fit.weight[j], b = v2[j] - v1[j] - a;
        total += jump[j] = std::max(fit.weight[j] - 2 * alpha * a + alpha * alpha * b, 0.1 * v2[j]);
      }
      for (double& value : jump) value /= total;
      double value_jump = 0;
      std::vector<double> after = step(jump, value_jump, ignored);
      ++fit.steps;
      fit.weight = value_jump >= value1 ? std::move(after) : v2;
    }
    double total = 0;
    for (const double w : fit.weight) total += w;
    for (double& w : fit.weight) w /= total;
    return fit;
  }

  Fit solve(std::vector<double> ratio, const std::vector<double>& weight, std::size_t m, double offset,
            const FitContext& context) const {
    const auto rows = static_cast<index_t>(weight.size()), columns = static_cast<index_t>(m);
    const auto f = mixture_objective("bernstein", DenseLikelihood{std::move(ratio), rows, columns}, weight);
    if (const std::string reason = solver_->refuses(*f); !reason.empty())
      throw MethodError("density bernstein: the solver " + params_.solver.text() + " " + reason);
    StopRule stop;
    stop.gap_tolerance = params_.tolerance;
    stop.budget = context.budget;
    stop.budget.max_iterations = std::min<index_t>(stop.budget.max_iterations, params_.max_iterations);
    Trace silent;
    OptimizerResult found = solver_->minimize(*f, std::vector<double>(m, 1 / static_cast<double>(m)), stop,
                                              context.seed.derive("solver"), silent);
    if (found.outcome.termination == Termination::stopped_by_user) context.budget.stop.throw_if_stopped();
    Fit fit;
    fit.log_likelihood = offset - f->value(found.state);
    fit.gap = frank_wolfe_gap(*f, found.state);
    fit.steps = found.outcome.iterations;
    fit.weight = std::move(found.state);
    return fit;
  }

  Params params_;
  std::unique_ptr<Optimizer> solver_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Bernstein>(
      "bernstein",
      {.summary = "Mixture of beta densities of one degree, by certified maximum likelihood",
       .formula = "p(x) = dt/dx sum_j v_j Beta(t; j, m - j + 1), v on the simplex, t = Phi((x - mean) / sd)",
       .source =
           "Vitale (1975) Statistical Inference and Related Topics 2; Petrone (1999) Scand. J. Stat. 26(3)",
       .complexity = "fit O(min(n, 512) m) per step of EM or of the solver; evaluation O(m)",
       .notes = "samples beyond 512 are joined to groups of neighbours; the gap in the outcome bounds what "
                "is missing to "
                "the largest likelihood"});
}
