// Fourier basis density model (De la Fuente, Singh, Balle 2024, arXiv 2402.15345, eq. 2-7):
//   p(x) = 1/2 + sum_{n=1}^{N-1} Re[(c_n / c_0) e^{i n pi x}] on [-1, 1],   c_n = sum_k a_k conj(a_{k+n}),
//   on the real line through y = scale atanh(x) + offset.
// Where we differ: the sum is |A(x)|^2 / (2 c_0) with A(x) = sum_k conj(a_k) e^{i k pi x} (Fejer-Riesz), so log p costs
// one Horner scheme of N terms; fitted by L-BFGS, then Newton's method, from a spectral start (minimum phase, of a
// histogram) and random starts in place of Adam; the gradient-norm penalty (eq. 10) is that of the normalised density.
// N = n_frequencies counts the coefficients a_0 .. a_{N-1}, as `num_freqs` of the published code; it states 2 N
// parameters. The scale and the phase of a have no effect: 2 N - 2 numbers are fitted, and offset and scale.
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "borel/plugin.hpp"
#include "fourier_density.hpp"
#include "fourier_fit.hpp"
#include "fourier_held.hpp"

namespace {

using namespace borel;
using std::numbers::pi;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t k_cells =
    4096;  // cells of samples for the search; the winner is polished on all samples
/// Many samples: between the search and the samples themselves, the winner is polished on finer cells.
constexpr std::size_t k_fine_cells = 8 * k_cells, k_many = 8 * k_fine_cells;
constexpr double k_agree = 1e-6;  // starts whose losses differ by less have found the same optimum
constexpr double k_search_tolerance = 1e-6;
constexpr int k_folds = 5;
constexpr std::int64_t k_orders[] = {2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128};
constexpr int k_patience = 3;  // orders without a better held-out likelihood before the search ends
constexpr double k_penalties[] = {0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2};

/// Points in x-order of the fit, with their own storage.
struct Points {
  std::vector<double> v, w;
  FourierProblem problem(FourierMap map, double penalty) const { return {v, w, map, false, penalty}; }
};

class Fourier final : public DensityEstimator, public HistogramFit, public DensityHead {
 public:
  enum class Place { data, trained, fixed };
  enum class PenaltyRule { given, cross_validation };

  struct Params {
    std::int64_t n_frequencies = 16, n_starts = 4, max_iterations = 2000;
    FourierMap map = FourierMap::tanh;
    Place placement = Place::data;
    PenaltyRule penalty_rule = PenaltyRule::given;
    double offset = 0, scale = 1, penalty = 0, tolerance = 1e-8;
    void declare(ParamBinder& p) {
      p.integer("n_frequencies", n_frequencies, Range::closed(0, 4096), "1",
                "Coefficients a_0 .. a_{N-1}; 0 = up to 128, by the likelihood of held-out fifths.");
      p.choice(
          "map", map, {{"tanh", FourierMap::tanh}, {"identity", FourierMap::identity}},
          "tanh: the whole real line; identity: the interval offset +- scale, density of period 2 scale.");
      p.choice("placement", placement,
               {{"data", Place::data}, {"trained", Place::trained}, {"fixed", Place::fixed}},
               "data: offset = median, scale = 2 sd (identity: the samples' range); trained: by likelihood, "
               "tanh only; "
               "fixed: the given offset and scale.");
      p.real("offset", offset, Range::any(), "unit of the data", "Centre for placement=fixed.");
      p.real("scale", scale, Range::greater_than(0), "unit of the data", "Scale for placement=fixed.");
      p.real("penalty", penalty, Range::at_least(0), "1",
             "Factor of the integral of p'(x)^2 (paper's eq. 10).");
      p.choice(
          "penalty_rule", penalty_rule,
          {{"given", PenaltyRule::given}, {"cross_validation", PenaltyRule::cross_validation}},
          "given: `penalty`; cross_validation: 0 or 1e-6 .. 1e-2, by the likelihood of held-out fifths.");
      p.integer("n_starts", n_starts, Range::closed(1, 1000), "1", "One spectral start, the others random.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1",
                "Steps of L-BFGS and Newton's method per run.");
      p.real("tolerance", tolerance, Range::greater_than(0), "nats per sample",
             "Norm of the gradient, relative to max(1, |a|).");
    }
    void check() const {
      if (placement == Place::trained && map == FourierMap::identity)
        throw ParamError(
            "'placement=trained' must go with map=tanh, got map=identity; use placement=data or fixed");
    }
  };

  explicit Fourier(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = params_.placement != Place::fixed,
            .smooth = true,
            .follows_any_data = params_.placement != Place::fixed &&
                                (params_.n_frequencies == 0 || params_.n_frequencies >= 16)};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    return fit_sorted(weighted_points(samples), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    return fit_sorted(weighted_points(fine), context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> re = in.get("a_re"), im = in.get("a_im"), placement = in.get("placement");
    if (re.empty() || re.size() != im.size() || placement.size() != 4 || !(placement[2] > 0))
      throw MethodError("density fourier: the saved state is not complete; save the fitted density again");
    std::vector<std::complex<double>> a;
    for (std::size_t k = 0; k < re.size(); ++k) a.emplace_back(re[k], im[k]);
    return std::make_unique<FourierDensity>(
        std::move(a),
        FourierPlacement{placement[0] == 0 ? FourierMap::tanh : FourierMap::identity, placement[1],
                         placement[2], static_cast<index_t>(placement[3])},
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

  // As the last layer of a network (Fourier Head, arXiv 2410.22269): theta = [re a, im a], placement fixed.
  const DensityHead* head() const override {
    return params_.placement == Place::fixed && params_.n_frequencies > 0 ? this : nullptr;
  }
  index_t n_outputs() const override { return 2 * params_.n_frequencies; }
  void initialise(std::span<const double> y, Seed seed, std::span<double> theta) const override {
    FitContext context;
    context.seed = seed;
    std::fill(theta.begin(), theta.end(), 0.0);
    Points points;
    for (const double value : y) {
      points.v.push_back((value - params_.offset) / params_.scale);
      points.w.push_back(1 / static_cast<double>(y.size()));
    }
    const FourierModel start =
        spectral_start(points.problem(params_.map, 0), static_cast<std::size_t>(params_.n_frequencies));
    for (std::size_t k = 0; k < start.a.size(); ++k)
      theta[k] = start.a[k].real(), theta[start.a.size() + k] = start.a[k].imag();
  }
  void log_pdf(TensorView<const double, 2> theta, std::span<const double> y, std::span<double> log_p,
               TensorView<double, 2> d_theta) const override {
    const std::size_t n = static_cast<std::size_t>(params_.n_frequencies);
    for (index_t row = 0; row < theta.shape(0); ++row) {
      const std::span<const double> a = theta.row(row);
      const double u = (y[static_cast<std::size_t>(row)] - params_.offset) / params_.scale;
      const bool real_line = params_.map == FourierMap::tanh;
      const double x = real_line ? std::tanh(u) : u;
      const std::complex<double> z = std::polar(1.0, pi * x);
      std::complex<double> value = 0;
      double norm = 0;
      for (std::size_t k = n; k > 0; --k) {
        value = value * z + std::complex<double>(a[k - 1], -a[n + k - 1]);
        norm += a[k - 1] * a[k - 1] + a[n + k - 1] * a[n + k - 1];
      }
      const bool inside = real_line || std::abs(u) <= 1;
      log_p[static_cast<std::size_t>(row)] = inside ? std::log(std::norm(value)) - std::log(2 * norm) -
                                                          std::log(params_.scale) +
                                                          (real_line ? log_sech_squared(u) : 0.0)
                                                    : -k_infinity;
      if (d_theta.empty()) continue;
      std::complex<double> power = 1.0 / value;  // z^k / A
      for (std::size_t k = 0; k < n; ++k, power *= z) {
        d_theta(row, static_cast<index_t>(k)) = inside ? 2 * power.real() - 2 * a[k] / norm : 0.0;
        d_theta(row, static_cast<index_t>(n + k)) = inside ? 2 * power.imag() - 2 * a[n + k] / norm : 0.0;
      }
    }
  }
  void cdf(TensorView<const double, 2> theta, std::span<const double> y,
           std::span<double> out) const override {
    for (index_t row = 0; row < theta.shape(0); ++row)
      density(theta.row(row))
          ->cdf(y.subspan(static_cast<std::size_t>(row), 1), out.subspan(static_cast<std::size_t>(row), 1));
  }
  std::unique_ptr<FittedDensity> density(std::span<const double> theta) const override {
    const std::size_t n = static_cast<std::size_t>(params_.n_frequencies);
    std::vector<std::complex<double>> a;
    for (std::size_t k = 0; k < n; ++k) a.emplace_back(theta[k], theta[n + k]);
    return std::make_unique<FourierDensity>(std::move(a),
                                            FourierPlacement{params_.map, params_.offset, params_.scale, 0},
                                            Outcome{Termination::converged, "a row of theta", 0});
  }

 private:
  FourierPlacement place(const WeightedPoints& points) const {
    if (params_.placement == Place::fixed) return {params_.map, params_.offset, params_.scale, 0};
    check_spread(points, "density fourier");
    const double low = points.x.front(), range = points.x.back() - low, sum = points.weight_sum;
    if (params_.map ==
        FourierMap::identity)  // the next sample lies beyond an end with probability 1 / (n + 1)
      return {params_.map, low + 0.5 * range, 0.5 * range * (1 + 2 / (points.n_effective + 1)), 2};
    double mean = 0, variance = 0, before = 0;
    for (std::size_t i = 0; i < points.size(); ++i)
      mean += points.weight[i] / sum * ((points.x[i] - low) / range);
    for (std::size_t i = 0; i < points.size(); ++i)
      variance += points.weight[i] / sum * std::pow((points.x[i] - low) / range - mean, 2);
    std::size_t i = 0;
    while (i + 1 < points.size() && before + points.weight[i] < 0.5 * sum) before += points.weight[i++];
    const bool between = before + points.weight[i] == 0.5 * sum && i + 1 < points.size();
    const double median = between ? 0.5 * points.x[i] + 0.5 * points.x[i + 1] : points.x[i];
    return {params_.map, median, 2 * std::sqrt(variance) * range, 2};
  }

  std::unique_ptr<FittedDensity> fit_sorted(const WeightedPoints& points, const FitContext& context) const {
    FourierPlacement placement = place(points);
    Points all;
    all.v.reserve(points.size()), all.w.reserve(points.size());
    for (std::size_t i = 0; i < points.size(); ++i) {
      all.v.push_back((points.x[i] - placement.offset) / placement.scale);
      all.w.push_back(points.weight[i] / points.weight_sum);
      if (params_.map == FourierMap::identity && !(std::abs(all.v.back()) <= 1))
        throw MethodError("density fourier: sample " + param_text(points.x[i]) +
                          " lies outside of the interval " + param_text(placement.offset - placement.scale) +
                          " to " + param_text(placement.offset + placement.scale) +
                          "; widen scale, or use map=tanh");
    }
    const auto [n_frequencies, penalty] = choose(all, context);
    const bool large = all.v.size() > k_cells;
    const Points grouped = large ? group(all, k_cells) : Points{};
    FourierProblem exact = all.problem(params_.map, penalty);
    FourierProblem search = large ? grouped.problem(params_.map, penalty) : exact;

    Search found = best_of_starts(search, n_frequencies, params_.n_starts, context);
    FourierFit& best = found.best;
    // Starts are compared with the placement held: that surface is benign. It is trained from the best one.
    const double tolerance = params_.tolerance;
    if (params_.placement == Place::trained) {
      search.train_placement = exact.train_placement = true;
      best = minimise_fourier_loss(search, std::move(best.model), large ? k_search_tolerance : tolerance,
                                   params_.max_iterations, context.budget.stop);
      found.iterations += best.iterations;
    }
    if (large || params_.n_starts > 1) {
      if (params_.placement == Place::trained || !large)
        best = minimise_fourier_loss(exact, std::move(best.model), tolerance, params_.max_iterations,
                                     context.budget.stop);
      else {
        if (all.v.size() > k_many) {
          const Points fine = group(all, k_fine_cells);
          best = polish_fourier_fit(fine.problem(params_.map, penalty), search, std::move(best.model),
                                    tolerance, params_.max_iterations, context.budget.stop);
          found.iterations += best.iterations;
        }
        best = polish_fourier_fit(exact, search, std::move(best.model), tolerance, params_.max_iterations,
                                  context.budget.stop);
      }
      found.iterations += best.iterations;
    }
    const double loss = best.loss + std::log(placement.scale);
    placement.offset += placement.scale * best.model.tau;
    placement.scale *= std::exp(best.model.log_sigma);

    Outcome outcome;
    outcome.termination = best.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = found.iterations;
    outcome.sentence = std::to_string(2 * n_frequencies) + " real coefficients, penalty " +
                       param_text(penalty) + ", loss " + param_text(loss) + " nats after " +
                       std::to_string(found.iterations) + " steps, " + std::to_string(found.n_agreeing) +
                       " of " + std::to_string(params_.n_starts) + " starts agree";
    return std::make_unique<FourierDensity>(std::move(best.model.a), placement, std::move(outcome));
  }

  struct Search {
    FourierFit best;
    index_t iterations = 0;
    std::ptrdiff_t n_agreeing = 1;
  };

  Search best_of_starts(const FourierProblem& problem, std::size_t n_frequencies, std::int64_t n_starts,
                        const FitContext& context) const {
    Search search;
    std::vector<double> losses;
    for (std::int64_t s = 0; s < n_starts; ++s) {
      Rng rng(context.seed.derive(static_cast<std::uint64_t>(s)));
      FourierModel start = s == 0 ? spectral_start(problem, n_frequencies) : random_start(n_frequencies, rng);
      const double tolerance = std::max(params_.tolerance, n_starts > 1 ? k_search_tolerance : 0.0);
      FourierFit run = minimise_fourier_loss(problem, std::move(start), tolerance, params_.max_iterations,
                                             context.budget.stop);
      if (context.progress)
        context.progress->report(static_cast<double>(s + 1) / static_cast<double>(n_starts), run.loss);
      search.iterations += run.iterations;
      losses.push_back(run.loss);
      if (s == 0 || run.loss < search.best.loss) search.best = std::move(run);
    }
    search.n_agreeing = std::count_if(losses.begin(), losses.end(),
                                      [&](double l) { return l - search.best.loss <= k_agree; });
    return search;
  }

  struct Choice {
    std::size_t n_frequencies;
    double penalty;
  };

  /// Order and penalty by the mean loss of held-out fifths; the placement is that of all data.
  Choice choose(const Points& all, const FitContext& context) const {
    Choice choice{static_cast<std::size_t>(params_.n_frequencies), params_.penalty};
    const bool choose_penalty = params_.penalty_rule == PenaltyRule::cross_validation;
    if (params_.n_frequencies > 0 && !choose_penalty) return choice;
    const Folds folds = split(all, context.seed.derive("folds"));
    if (params_.n_frequencies == 0) {
      double best = k_infinity;
      int worse = 0;
      choice.n_frequencies = 1;
      for (const std::int64_t order : k_orders) {
        // As many coefficients as samples would be no estimate.
        if (order > 2 && 2 * order > static_cast<std::int64_t>(all.v.size())) break;
        const double score = held_out(folds, static_cast<std::size_t>(order), choice.penalty, context);
        if (score < best)
          best = score, choice.n_frequencies = static_cast<std::size_t>(order), worse = 0;
        else if (++worse >= k_patience)
          break;
      }
    }
    if (choose_penalty) {
      double best = k_infinity;
      for (const double penalty : k_penalties)
        if (const double score = held_out(folds, choice.n_frequencies, penalty, context); score < best)
          best = score, choice.penalty = penalty;
    }
    return choice;
  }

  struct Folds {
    std::vector<Points> train, test;
  };

  /// Every point to one of five folds, by the seed. Points in sorted order: the row order has no effect.
  Folds split(const Points& all, Seed seed) const {
    Folds folds{std::vector<Points>(k_folds), std::vector<Points>(k_folds)};
    Rng rng(seed);
    for (std::size_t i = 0; i < all.v.size(); ++i) {
      const std::size_t own = rng.below(k_folds);
      for (std::size_t f = 0; f < k_folds; ++f) {
        Points& part = f == own ? folds.test[f] : folds.train[f];
        part.v.push_back(all.v[i]), part.w.push_back(all.w[i]);
      }
    }
    for (auto* const side : {&folds.train, &folds.test})
      for (Points& part : *side)
        if (part.v.size() > k_cells) part = group(part, k_cells);
    for (Points& part : folds.train) {
      double sum = 0;
      for (const double w : part.w) sum += w;
      for (double& w : part.w) w /= sum;
    }
    return folds;
  }

  double held_out(const Folds& folds, std::size_t n_frequencies, double penalty,
                  const FitContext& context) const {
    std::vector<double> score(k_folds);
    parallel_for(k_folds, 1, [&](index_t begin, index_t end) {
      for (std::size_t f = static_cast<std::size_t>(begin); f < static_cast<std::size_t>(end); ++f) {
        if (folds.test[f].v.empty() || folds.train[f].v.empty()) continue;
        const FourierProblem problem = folds.train[f].problem(params_.map, penalty);
        const FourierFit fit = minimise_fourier_loss(problem, spectral_start(problem, n_frequencies), 1e-5,
                                                     params_.max_iterations, context.budget.stop);
        double weight = 0;
        for (const double w : folds.test[f].w) weight += w;
        // The loss of weights that do not sum to 1: log(2 c_0) counts once per unit of weight.
        Points scaled = folds.test[f];
        for (double& w : scaled.w) w /= weight;
        score[f] = weight * fourier_mean_loss(scaled.problem(params_.map, 0), fit.model);
      }
    });
    double total = 0;
    for (const double value : score) total += value;
    return total;
  }

  /// Samples in equal cells of x, each cell as two points with its weight, mean and variance.
  Points group(const Points& points, std::size_t n_cells) const {
    std::vector<double> weight(n_cells), mean(n_cells), square(n_cells);
    const auto cell_of = [&](double v) {
      const double place = 0.5 * (map_to_unit(params_.map, v) + 1) * static_cast<double>(n_cells);
      return std::min(static_cast<std::size_t>(place), n_cells - 1);
    };
    for (std::size_t j = 0; j < points.v.size(); ++j) {
      const std::size_t cell = cell_of(points.v[j]);
      weight[cell] += points.w[j];
      const double deviation = points.v[j] - mean[cell];
      mean[cell] += deviation * points.w[j] / weight[cell];
      square[cell] += points.w[j] * deviation * (points.v[j] - mean[cell]);
    }
    Points grouped;
    for (std::size_t cell = 0; cell < n_cells; ++cell) {
      if (!(weight[cell] > 0)) continue;
      const double sd = std::sqrt(std::max(0.0, square[cell] / weight[cell]));
      for (const double v : {mean[cell] - sd, mean[cell] + sd}) {
        grouped.v.push_back(v);
        grouped.w.push_back(0.5 * weight[cell]);
      }
    }
    return grouped;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Fourier>(
      "fourier",
      {.summary = "Fourier basis density model, squared-modulus form, fitted by L-BFGS and Newton's method",
       .formula = "p(x) = |sum_k conj(a_k) e^{i k pi x}|^2 / (2 sum_k |a_k|^2), y = scale atanh(x) + offset",
       .source = "De la Fuente, Singh, Balle (2024) PCS, arXiv 2402.15345, eq. 2-10",
       .complexity =
           "fit O(8192 N + N^3) per step and a few passes O(n N) over the samples; log_pdf and cdf O(N)",
       .notes = "N counts a_0 .. a_{N-1} as the published code's num_freqs; 2N - 2 numbers are free. With "
                "placement=fixed "
                "also the head of a conditional model (Fourier Head, arXiv 2410.22269)"});
}
