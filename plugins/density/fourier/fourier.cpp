// Fourier basis density model (De la Fuente, Singh, Balle 2024, arXiv 2402.15345, eq. 2-7):
//   p(x) = 1/2 + sum_{n=1}^{N-1} Re[(c_n / c_0) e^{i n pi x}] on [-1, 1],   c_n = sum_k a_k conj(a_{k+n}),
//   on the real line through y = scale atanh(x) + offset.
// Where we differ: the sum is |A(x)|^2 / (2 c_0) with A(x) = sum_k conj(a_k) e^{i k pi x} (Fejer-Riesz), so
// log p costs one Horner scheme of N terms; fitted by L-BFGS with the exact gradient from a spectral start
// (square root of a histogram) and random starts in place of Adam; the gradient-norm penalty (eq. 10) is that
// of the normalised density. N = n_frequencies counts the coefficients a_0 .. a_{N-1}, as `num_freqs` of the
// published code; it states 2 N parameters. The scale and the phase of a have no effect: 2 N - 2 numbers are
// fitted, and offset and scale.
#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"
#include "fourier_fit.hpp"

namespace {

using namespace borel;
using std::numbers::pi;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr index_t k_grain = 1024;
constexpr std::size_t k_cells =
    4096;                         // groups of samples for the search; the winner is continued on all samples
constexpr double k_agree = 1e-6;  // starts whose losses differ by less have found the same optimum

struct Placement {
  FourierMap map = FourierMap::tanh;
  double offset = 0, scale = 1;
  index_t n_fitted = 2;
};

class FourierDensity final : public FittedDensity {
 public:
  FourierDensity(std::vector<std::complex<double>> a, Placement placement, Outcome outcome)
      : a_(std::move(a)), placement_(placement), outcome_(std::move(outcome)) {
    double c0 = 0;
    for (const auto& value : a_) c0 += std::norm(value);
    log_norm_ = std::log(2 * c0) + std::log(placement_.scale);
    for (std::size_t n = 1; n < a_.size(); ++n) {
      std::complex<double> c = 0;
      for (std::size_t k = 0; k + n < a_.size(); ++k) c += a_[k] * std::conj(a_[k + n]);
      c_.push_back(c / (c0 * pi * static_cast<double>(n)));
    }
  }

  void log_pdf(TensorView<const double, 2> y, std::span<double> out) const override {
    parallel_for(y.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(y(i, 0));
    });
  }

  void cdf(std::span<const double> y, std::span<double> out) const override {
    parallel_for(static_cast<index_t>(y.size()), k_grain, [&](index_t begin, index_t end) {
      for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        out[i] = cdf_at(y[i]);
    });
  }

  RealInterval support(index_t = 0) const override {
    if (placement_.map == FourierMap::tanh) return {};
    return {placement_.offset - placement_.scale, placement_.offset + placement_.scale};
  }
  index_t parameter_count() const override {
    return 2 * static_cast<index_t>(a_.size()) - 2 + placement_.n_fitted;
  }
  Outcome outcome() const override { return outcome_; }

  void save(StateWriter& out) const override {
    std::vector<double> re, im;
    for (const auto& value : a_) re.push_back(value.real()), im.push_back(value.imag());
    out.put("a_re", re);
    out.put("a_im", im);
    out.put("placement",
            std::vector<double>{placement_.map == FourierMap::tanh ? 0.0 : 1.0, placement_.offset,
                                placement_.scale, static_cast<double>(placement_.n_fitted)});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  double log_pdf_at(double y) const {
    if (std::isnan(y)) return y;
    const double u = (y - placement_.offset) / placement_.scale;
    double x = u, log_jacobian = 0;
    if (placement_.map == FourierMap::tanh) {
      x = std::tanh(u);
      // log(1 - tanh^2 u) without the cancellation
      log_jacobian = std::log(4.0) - 2 * std::abs(u) - 2 * std::log1p(std::exp(-2 * std::abs(u)));
    } else if (!(u >= -1 && u <= 1)) {
      return -k_infinity;
    }
    const std::complex<double> z = std::polar(1.0, pi * x);
    double re = a_.back().real(), im = -a_.back().imag();
    for (std::size_t k = a_.size() - 1; k > 0; --k) {
      const double next = re * z.real() - im * z.imag() + a_[k - 1].real();
      im = re * z.imag() + im * z.real() - a_[k - 1].imag();
      re = next;
    }
    return std::log(re * re + im * im) - log_norm_ + log_jacobian;
  }

  double cdf_at(double y) const {
    if (std::isnan(y)) return y;
    const double u = (y - placement_.offset) / placement_.scale;
    const double x = placement_.map == FourierMap::tanh ? std::tanh(u) : std::clamp(u, -1.0, 1.0);
    if (!(x > -1)) return 0;
    if (!(x < 1)) return 1;
    const std::complex<double> z = std::polar(1.0, pi * x);
    double re = z.real(), im = z.imag(), sign = -1, sum = 0.5 * (1 + x);
    for (const auto& c : c_) {  // c_n / (c_0 n pi)
      sum += c.real() * im + c.imag() * (re - sign);
      const double next = re * z.real() - im * z.imag();
      im = re * z.imag() + im * z.real();
      re = next;
      sign = -sign;
    }
    return std::clamp(sum, 0.0, 1.0);
  }

  std::vector<std::complex<double>> a_, c_;
  Placement placement_;
  Outcome outcome_;
  double log_norm_ = 0;
};

class Fourier final : public DensityEstimator, public HistogramFit {
 public:
  enum class Place { data, trained, fixed };

  struct Params {
    std::int64_t n_frequencies = 16, n_starts = 4, max_iterations = 2000;
    FourierMap map = FourierMap::tanh;
    Place placement = Place::data;
    double offset = 0, scale = 1, penalty = 0, tolerance = 1e-8;
    void declare(ParamBinder& p) {
      p.integer("n_frequencies", n_frequencies, Range::closed(1, 4096), "1", "Coefficients a_0 .. a_{N-1}.");
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
      p.integer("n_starts", n_starts, Range::closed(1, 1000), "1", "One spectral start, the others random.");
      p.integer("max_iterations", max_iterations, Range::closed(1, 1000000), "1", "L-BFGS steps per run.");
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
            .smooth = true};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext& context) const override {
    check_samples(samples, traits());
    std::vector<std::pair<double, double>> points;
    double sum = 0, sum_of_squares = 0;
    for (index_t i = 0; i < samples.n_samples(); ++i) {
      const double w = samples.weights.empty() ? 1.0 : samples.weights[static_cast<std::size_t>(i)];
      if (w == 0) continue;
      points.emplace_back(samples.x(i, 0), w);
      sum += w, sum_of_squares += w * w;
    }
    std::sort(points.begin(), points.end());
    return fit_sorted(points, sum, sum * (sum / sum_of_squares), context);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine,
                                               const FitContext& context) const override {
    std::vector<std::pair<double, double>> points;
    double sum = 0;
    for (std::size_t k = 0; k < fine.weight.size(); ++k)
      if (fine.weight[k] > 0) {
        points.emplace_back(fine.range.begin + (static_cast<double>(k) + 0.5) * fine.bin_width(),
                            fine.weight[k]);
        sum += fine.weight[k];
      }
    return fit_sorted(points, sum, fine.n_samples, context);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> re = in.get("a_re"), im = in.get("a_im"), placement = in.get("placement");
    if (re.empty() || re.size() != im.size() || placement.size() != 4 || !(placement[2] > 0))
      throw MethodError("density fourier: the saved state is not complete; save the fitted density again");
    std::vector<std::complex<double>> a;
    for (std::size_t k = 0; k < re.size(); ++k) a.emplace_back(re[k], im[k]);
    return std::make_unique<FourierDensity>(
        std::move(a),
        Placement{placement[0] == 0 ? FourierMap::tanh : FourierMap::identity, placement[1], placement[2],
                  static_cast<index_t>(placement[3])},
        Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  using Points = std::vector<std::pair<double, double>>;  ///< (y, weight), sorted

  Placement place(const Points& points, double sum, double n) const {
    if (params_.placement == Place::fixed) return {params_.map, params_.offset, params_.scale, 0};
    const double low = points.front().first, range = points.back().first - low;
    if (!(range > 0))
      throw MethodError("density fourier: all samples equal " + param_text(low) +
                        "; the scale cannot be taken from the data; use placement=fixed");
    if (!std::isfinite(range) || !(range / 1e8 > 0))
      throw MethodError("density fourier: the range from " + param_text(low) + " to " +
                        param_text(points.back().first) +
                        " cannot be scaled in double precision; rescale the data");
    if (params_.map ==
        FourierMap::identity)  // the next sample lies beyond an end with probability 1 / (n + 1)
      return {params_.map, low + 0.5 * range, 0.5 * range * (1 + 2 / (n + 1)), 2};
    double mean = 0, variance = 0, before = 0;
    for (const auto& [y, w] : points) mean += w / sum * ((y - low) / range);
    for (const auto& [y, w] : points) variance += w / sum * std::pow((y - low) / range - mean, 2);
    std::size_t i = 0;
    while (i + 1 < points.size() && before + points[i].second < 0.5 * sum) before += points[i++].second;
    const bool between = before + points[i].second == 0.5 * sum && i + 1 < points.size();
    const double median = between ? 0.5 * points[i].first + 0.5 * points[i + 1].first : points[i].first;
    return {params_.map, median, 2 * std::sqrt(variance) * range, 2};
  }

  std::unique_ptr<FittedDensity> fit_sorted(const Points& points, double sum, double n,
                                            const FitContext& context) const {
    Placement placement = place(points, sum, n);
    std::vector<double> v, w;
    for (const auto& [y, weight] : points) {
      v.push_back((y - placement.offset) / placement.scale);
      w.push_back(weight / sum);
      if (params_.map == FourierMap::identity && !(std::abs(v.back()) <= 1))
        throw MethodError("density fourier: sample " + param_text(y) + " lies outside of the interval " +
                          param_text(placement.offset - placement.scale) + " to " +
                          param_text(placement.offset + placement.scale) + "; widen scale, or use map=tanh");
    }
    // Starts are compared with the placement held: that surface is benign. The placement is trained from the
    // best one.
    FourierProblem all{v, w, params_.map, false, params_.penalty};
    std::vector<double> cell_v, cell_w;
    group(v, w, cell_v, cell_w);
    FourierProblem search = all;
    if (v.size() > k_cells) search.v = cell_v, search.w = cell_w;

    const std::size_t n_frequencies = static_cast<std::size_t>(params_.n_frequencies);
    FourierFit best;
    index_t iterations = 0;
    std::vector<double> losses;
    for (std::int64_t s = 0; s < params_.n_starts; ++s) {
      FourierModel start;
      if (s == 0) {
        start = spectral_start(search, n_frequencies);
      } else {
        Rng rng(context.seed.derive(static_cast<std::uint64_t>(s)));
        for (std::size_t k = 0; k < n_frequencies; ++k) {
          const double re = rng.normal(), im = rng.normal();
          start.a.emplace_back(re, im);
        }
      }
      FourierFit run = minimise_fourier_loss(search, std::move(start), params_.tolerance,
                                             params_.max_iterations, context.budget.stop);
      if (context.progress)
        context.progress->report(static_cast<double>(s + 1) / static_cast<double>(params_.n_starts),
                                 run.loss);
      iterations += run.iterations;
      losses.push_back(run.loss);
      if (s == 0 || run.loss < best.loss) best = std::move(run);
    }
    const auto agreeing =
        std::count_if(losses.begin(), losses.end(), [&](double l) { return l - best.loss <= k_agree; });
    if (params_.placement == Place::trained) {
      search.train_placement = all.train_placement = true;
      best = minimise_fourier_loss(search, std::move(best.model), params_.tolerance, params_.max_iterations,
                                   context.budget.stop);
      iterations += best.iterations;
    }
    if (v.size() > k_cells) {
      best = minimise_fourier_loss(all, std::move(best.model), params_.tolerance, params_.max_iterations,
                                   context.budget.stop);
      iterations += best.iterations;
    }
    const double loss = best.loss + std::log(placement.scale);
    placement.offset += placement.scale * best.model.tau;
    placement.scale *= std::exp(best.model.log_sigma);

    Outcome outcome;
    outcome.termination = best.converged ? Termination::converged : Termination::budget_used_up;
    outcome.iterations = iterations;
    outcome.sentence = std::to_string(2 * n_frequencies) + " real coefficients, loss " + param_text(loss) +
                       " nats after " + std::to_string(iterations) + " L-BFGS steps, " +
                       std::to_string(agreeing) + " of " + std::to_string(losses.size()) + " starts agree";
    return std::make_unique<FourierDensity>(std::move(best.model.a), placement, std::move(outcome));
  }

  /// Mean and weight of the samples in equal cells of x.
  void group(const std::vector<double>& v, const std::vector<double>& w, std::vector<double>& cell_v,
             std::vector<double>& cell_w) const {
    if (v.size() <= k_cells) return;
    std::vector<double> sum_v(k_cells), sum_w(k_cells);
    for (std::size_t j = 0; j < v.size(); ++j) {
      const double x = params_.map == FourierMap::tanh ? std::tanh(v[j]) : v[j];
      const std::size_t cell = std::min(static_cast<std::size_t>(0.5 * (x + 1) * k_cells), k_cells - 1);
      sum_v[cell] += w[j] * v[j];
      sum_w[cell] += w[j];
    }
    for (std::size_t cell = 0; cell < k_cells; ++cell)
      if (sum_w[cell] > 0) cell_v.push_back(sum_v[cell] / sum_w[cell]), cell_w.push_back(sum_w[cell]);
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Fourier>(
      "fourier",
      {.summary = "Fourier basis density model, squared-modulus form, fitted by L-BFGS",
       .formula = "p(x) = |sum_k conj(a_k) e^{i k pi x}|^2 / (2 sum_k |a_k|^2), y = scale atanh(x) + offset",
       .source = "De la Fuente, Singh, Balle (2024) PCS, arXiv 2402.15345, eq. 2-10",
       .complexity = "fit O(n N) per L-BFGS step; log_pdf and cdf O(N)",
       .notes = "N counts a_0 .. a_{N-1} as the published code's num_freqs; 2N - 2 numbers are free"});
}
