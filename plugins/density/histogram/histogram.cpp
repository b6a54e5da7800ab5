// Equal-width histogram on [min, max] with M bins:
//   p(x) = (1 - 2 t) (n_k + a) / ((n + a M) width)      x in bin k, a = pseudo_count
// Number of bins: Freedman and Diaconis (1981), width 2 IQR n^(-1/3); Knuth (2006, arXiv physics/0605197, eq.
// 31), the M that maximises  n log M + lgamma(M/2) - M lgamma(1/2) - lgamma(n + M/2) + sum_k lgamma(n_k +
// 1/2);  or fixed. a = 1/2 is the posterior mean of Knuth's eq. 40. Where we differ: unseen values beyond
// [min, max] have probability, else one held-out sample outside makes every likelihood -infinity. By
// exchangeability the next sample lies beyond either end with probability t = 1 / (n + 1); that mass is
// spread as an exponential of scale sd / sqrt(2 log(n + 1)), the mean excess of a Gaussian. tails=none gives
// the textbook histogram.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();

/// std::lgamma writes a global; this may run in many threads.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

class HistogramDensity final : public FittedDensity {
 public:
  /// @param mass per bin; with the two tails they sum to 1   @param tail_scale 0 = no tails
  HistogramDensity(double begin, double end, std::vector<double> mass, double tail_mass, double tail_scale,
                   double ends_fitted)
      : begin_(begin),
        end_(end),
        mass_(std::move(mass)),
        tail_mass_(tail_mass),
        tail_scale_(tail_scale),
        ends_fitted_(ends_fitted) {
    cumulative_.resize(mass_.size() + 1);
    cumulative_[0] = tail_mass_;
    for (std::size_t k = 0; k < mass_.size(); ++k) cumulative_[k + 1] = cumulative_[k] + mass_[k];
    log_height_.resize(mass_.size());
    const double log_width = std::log(end_ - begin_) - std::log(static_cast<double>(mass_.size()));
    for (std::size_t k = 0; k < mass_.size(); ++k) log_height_[k] = std::log(mass_[k]) - log_width;
  }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    for (index_t i = 0; i < x.shape(0); ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(x(i, 0));
  }

  RealInterval support(index_t = 0) const override {
    if (tail_scale_ > 0) return {};
    // Empty bins at the ends cannot occur: min and max are samples.
    return {begin_, end_};
  }
  index_t parameter_count() const override {
    return static_cast<index_t>(mass_.size()) - 1 + static_cast<index_t>(ends_fitted_);
  }
  Outcome outcome() const override {
    return {Termination::converged, std::to_string(mass_.size()) + " bins", 0};
  }

  void save(StateWriter& out) const override {
    out.put("range", std::vector<double>{begin_, end_});
    out.put("mass", mass_);
    out.put("tail", std::vector<double>{tail_mass_, tail_scale_, ends_fitted_});
  }

  void cdf(std::span<const double> x, std::span<double> out) const override {
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = cdf_at(x[i]);
  }

  void quantile(std::span<const double> p, std::span<double> out) const override {
    const RealInterval range = support();
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (!(p[i] >= 0 && p[i] <= 1))
        throw MethodError("density histogram: quantile of " + std::to_string(p[i]) +
                          "; probabilities lie in [0, 1]");
      if (p[i] == 0)
        out[i] = range.begin;
      else if (p[i] == 1)
        out[i] = range.end;
      else if (p[i] < cumulative_.front())
        out[i] = begin_ + tail_scale_ * std::log(p[i] / tail_mass_);
      else if (p[i] > cumulative_.back()) {
        out[i] = tail_scale_ > 0 ? end_ - tail_scale_ * std::log((1 - p[i]) / tail_mass_) : end_;
      } else {
        // The first edge with cumulative mass >= p: on a gap this is its left end, the smallest x.
        const auto edge =
            std::lower_bound(cumulative_.begin(), cumulative_.end(), p[i]) - cumulative_.begin();
        const std::size_t k = static_cast<std::size_t>(std::max<index_t>(edge, 1)) - 1;
        const double part = mass_[k] > 0 ? std::clamp((p[i] - cumulative_[k]) / mass_[k], 0.0, 1.0) : 0.0;
        out[i] = at((static_cast<double>(k) + part) / static_cast<double>(mass_.size()));
      }
    }
  }

  std::vector<double> modes() const override {
    std::vector<double> found;
    const std::size_t n = mass_.size();
    for (std::size_t i = 0; i < n;) {
      std::size_t j = i;
      while (j + 1 < n && mass_[j + 1] == mass_[i]) ++j;
      const double left = i > 0 ? log_height_[i - 1] : outer_log_height();
      const double right = j + 1 < n ? log_height_[j + 1] : outer_log_height();
      if (log_height_[i] > left && log_height_[i] > right)
        found.push_back(at(0.5 * static_cast<double>(i + j + 1) / static_cast<double>(n)));
      i = j + 1;
    }
    if (outer_log_height() >= log_height_.front() && tail_scale_ > 0)
      found.insert(found.begin(), std::nextafter(begin_, -k_infinity));
    if (outer_log_height() >= log_height_.back() && tail_scale_ > 0)
      found.push_back(std::nextafter(end_, k_infinity));
    return found;
  }

 private:
  double outer_log_height() const {
    return tail_scale_ > 0 ? std::log(tail_mass_) - std::log(tail_scale_) : -k_infinity;
  }
  double at(double fraction) const { return begin_ + (end_ - begin_) * fraction; }

  double log_pdf_at(double x) const {
    if (std::isnan(x)) return x;
    if (x < begin_ || x > end_) {
      if (!(tail_scale_ > 0)) return -k_infinity;
      return outer_log_height() - (x < begin_ ? begin_ - x : x - end_) / tail_scale_;
    }
    return log_height_[bin_of(x)];
  }

  double cdf_at(double x) const {
    if (std::isnan(x)) return x;
    if (x < begin_) return tail_scale_ > 0 ? tail_mass_ * std::exp((x - begin_) / tail_scale_) : 0.0;
    if (x >= end_) return tail_scale_ > 0 ? 1 - tail_mass_ * std::exp((end_ - x) / tail_scale_) : 1.0;
    const std::size_t k = bin_of(x);
    const double part =
        (x - begin_) / (end_ - begin_) * static_cast<double>(mass_.size()) - static_cast<double>(k);
    return std::min(1.0, cumulative_[k] + mass_[k] * std::clamp(part, 0.0, 1.0));
  }

  std::size_t bin_of(double x) const {
    const double scaled = (x - begin_) / (end_ - begin_) * static_cast<double>(mass_.size());
    return std::min(static_cast<std::size_t>(scaled), mass_.size() - 1);
  }

  double begin_, end_;
  std::vector<double> mass_;
  double tail_mass_, tail_scale_;
  double ends_fitted_;  ///< 2: the range is a number taken from the data
  std::vector<double> cumulative_, log_height_;
};

class Histogram final : public DensityEstimator, public HistogramFit {
 public:
  enum class Rule { freedman_diaconis, knuth, fixed };
  enum class Tails { exponential, none };

  struct Params {
    Rule rule = Rule::freedman_diaconis;
    Tails tails = Tails::exponential;
    std::int64_t n_bins = 64, max_bins = 1000;
    double pseudo_count = 0.5;
    void declare(ParamBinder& p) {
      p.choice(
          "rule", rule,
          {{"freedman_diaconis", Rule::freedman_diaconis}, {"knuth", Rule::knuth}, {"fixed", Rule::fixed}},
          "How the number of bins is found.");
      p.integer("n_bins", n_bins, Range::closed(1, 1 << 20), "1", "Number of bins for rule=fixed.");
      p.integer("max_bins", max_bins, Range::closed(1, 1 << 20), "1", "Most bins that a rule may choose.");
      p.real("pseudo_count", pseudo_count, Range::closed(0, 1e6), "samples",
             "Added to every bin; 1/2 is Knuth's prior.");
      p.choice(
          "tails", tails, {{"exponential", Tails::exponential}, {"none", Tails::none}},
          "exponential: mass 1/(n+1) beyond each end; none: zero density outside of the samples' range.");
    }
  };

  explicit Histogram(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = true,
            .affine_equivariant = true,
            .smooth = false,
            .follows_any_data = params_.rule != Rule::fixed};
  }

  std::unique_ptr<FittedDensity> fit(const Samples& samples, const FitContext&) const override {
    check_samples(samples, traits());
    const WeightedPoints points = weighted_points(samples);
    // Weights count up to a factor: scaled to Kish's effective number of samples, equal weights give n.
    return fit_sorted(points, points.n_effective);
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 16; }
  std::unique_ptr<FittedDensity> fit_histogram(const FineHistogram& fine, const FitContext&) const override {
    const WeightedPoints points = weighted_points(fine);
    return fit_sorted(points, points.n_effective);
  }

  std::unique_ptr<FittedDensity> load(const StateReader& in) const override {
    const std::vector<double> range = in.get("range"), tail = in.get("tail");
    std::vector<double> mass = in.get("mass");
    if (range.size() != 2 || tail.size() != 3 || mass.empty() || !(range[0] < range[1]))
      throw MethodError(
          "density histogram: the saved state has no valid range or no bins; save the fitted density again");
    return std::make_unique<HistogramDensity>(range[0], range[1], std::move(mass), tail[0], tail[1], tail[2]);
  }

 private:
  std::unique_ptr<FittedDensity> fit_sorted(const WeightedPoints& points, double n) const {
    check_spread(points, "density histogram");
    const double begin = points.x.front(), end = points.x.back(), total = points.weight_sum;
    std::int64_t n_bins = params_.n_bins;
    if (params_.rule == Rule::freedman_diaconis) n_bins = freedman_diaconis(points, total, n);
    if (params_.rule == Rule::knuth) n_bins = knuth(points, total, n);

    double tail_mass = 0, tail_scale = 0;
    if (params_.tails == Tails::exponential) {
      tail_mass = 1 / (n + 1);
      tail_scale = standard_deviation(points, total) / std::sqrt(2 * std::log(n + 1));
    }
    std::vector<double> mass = counts(points, total, n, n_bins);
    const double prior = n + params_.pseudo_count * static_cast<double>(n_bins);
    for (double& m : mass) m = (1 - 2 * tail_mass) * (m + params_.pseudo_count) / prior;
    return std::make_unique<HistogramDensity>(begin, end, std::move(mass), tail_mass, tail_scale, 2);
  }

  /// Samples per bin, out of n in all.
  static std::vector<double> counts(const WeightedPoints& points, double total, double n,
                                    std::int64_t n_bins) {
    const double begin = points.x.front(), width = points.x.back() - begin;
    std::vector<double> count(static_cast<std::size_t>(n_bins));
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double scaled = (points.x[i] - begin) / width * static_cast<double>(n_bins);
      count[std::min(static_cast<std::size_t>(scaled), count.size() - 1)] += points.weight[i] * (n / total);
    }
    return count;
  }

  static double standard_deviation(const WeightedPoints& points, double total) {
    const double unit = points.x.back() - points.x.front();  // keeps squares in range at any scale
    double mean = 0, square = 0;
    for (std::size_t i = 0; i < points.size(); ++i)
      mean += points.weight[i] / total * ((points.x[i] - points.x.front()) / unit);
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double d = (points.x[i] - points.x.front()) / unit - mean;
      square += points.weight[i] / total * d * d;
    }
    return unit * std::sqrt(square);
  }

  /// Value below which the fraction p of the weight lies, linear between samples (Hyndman and Fan's type 7).
  static double sample_quantile(const WeightedPoints& points, double total, double p) {
    if (points.size() == 1) return points.x[0];
    // Samples stand at their cumulative weights before them, stretched to [0, 1]: type 7 for equal weights.
    const double span = total - points.weight.back();
    double before = 0;
    for (std::size_t i = 0; i + 1 < points.size(); ++i) {
      const double after = before + points.weight[i];
      if (after >= p * span) {
        const double part = std::clamp((p * span - before) / (after - before), 0.0, 1.0);
        return points.x[i] + part * (points.x[i + 1] - points.x[i]);
      }
      before = after;
    }
    return points.x.back();
  }

  std::int64_t freedman_diaconis(const WeightedPoints& points, double total, double n) const {
    const double iqr = sample_quantile(points, total, 0.75) - sample_quantile(points, total, 0.25);
    const double range = points.x.back() - points.x.front();
    // Many ties can give IQR = 0; Sturges's number needs no spread.
    const double bins = iqr > 0 ? std::ceil(range / (2 * iqr) * std::cbrt(n)) : std::ceil(std::log2(n) + 1);
    return static_cast<std::int64_t>(std::clamp(bins, 1.0, static_cast<double>(params_.max_bins)));
  }

  std::int64_t knuth(const WeightedPoints& points, double total, double n) const {
    std::int64_t best = 1;
    double best_value = -k_infinity;
    for (std::int64_t m = 1; m <= params_.max_bins; ++m) {
      const double bins = static_cast<double>(m);
      double value =
          n * std::log(bins) + log_gamma(0.5 * bins) - bins * log_gamma(0.5) - log_gamma(n + 0.5 * bins);
      double empty = 0;
      const double log_gamma_half = log_gamma(0.5);
      for (const double count : counts(points, total, n, m)) {
        if (count > 0)
          value += log_gamma(count + 0.5);
        else
          empty += 1;
      }
      value += empty * log_gamma_half;
      if (value > best_value) best_value = value, best = m;
    }
    return best;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Histogram>(
      "histogram",
      {.summary = "Equal-width histogram, number of bins by Freedman-Diaconis or Knuth",
       .formula = "p(x) = (1 - 2t) (n_k + a) / ((n + a M) width); width = 2 IQR n^(-1/3)",
       .source = "Freedman, Diaconis (1981) Z. Wahrscheinlichkeitstheorie 57; Knuth (2006) arXiv "
                 "physics/0605197 eq. 31",
       .complexity = "fit O(n log n), knuth O(n max_bins); evaluation O(1)",
       .notes = "tails=exponential puts mass 1/(n+1) beyond each end; tails=none is the textbook form"});
}
