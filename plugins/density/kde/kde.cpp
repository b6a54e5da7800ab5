// Kernel density estimate in one dimension:
//   p(x) = sum_i w_i K((x - x_i) / h) / h,  sum_i w_i = 1;  K = normal density, or Epanechnikov's 3/4 (1 -
//   u^2) on [-1, 1]
// Bandwidth rules are in bandwidth.cpp, each with its source; they hold for the Gaussian kernel and are
// carried over to Epanechnikov by the canonical factor 15^(1/5) (4 pi)^(1/10) = 2.2138 (Marron and Nolan
// 1988).
//
// Evaluation, Gaussian kernel. Exact: every sample closer than sqrt(dmin^2 + 2 h^2 T), dmin the distance to
// the nearest sample, T = 37 + log n; the rest changes p by less than a factor 1 + 1e-16 (also far in the
// tails, where a fixed cut-off would give 0). Tabulated: on panels of width h, Chebyshev interpolation of p
// with 26 nodes; the kernel is entire, and the relative error stays below k_table_error wherever dmin <= 7 h;
// other places are exact. The cdf comes from the integrals of the same polynomials, so that it agrees with p.
// Epanechnikov: exact, window of width 2 h.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

#include "bandwidth.hpp"
#include "borel/density.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_epanechnikov_factor = 2.2138043588613394;  // (15)^(1/5) / (1 / (2 sqrt(pi)))^(1/5)
constexpr double k_log_sqrt_2pi = 0.91893853320467274178;
constexpr int k_nodes = 26;                // Chebyshev nodes of a panel
constexpr double k_near = 7;               // in h: panels closer than this to a sample are tabulated
constexpr std::size_t k_table_from = 128;  // fewer samples than this: exact is as fast
constexpr double k_max_panels = 20000;
constexpr index_t k_grain = 1024;

enum class Kernel { gaussian, epanechnikov };

double normal_cdf(double z) { return 0.5 * std::erfc(-z * (1 / std::numbers::sqrt2)); }

class KdeDensity final : public FittedDensity {
 public:
  /// @param x sorted  @param w positive, sum 1
  KdeDensity(std::vector<double> x, std::vector<double> w, Kernel kernel, double h, bool tabulate,
             Outcome outcome)
      : x_(std::move(x)),
        w_(std::move(w)),
        kernel_(kernel),
        h_(h),
        log_h_(std::log(h)),
        outcome_(std::move(outcome)) {
    cumulative_.resize(x_.size() + 1);
    for (std::size_t i = 0; i < x_.size(); ++i) cumulative_[i + 1] = cumulative_[i] + w_[i];
    reach_ = 2 * (37 + std::log(static_cast<double>(x_.size())));
    if (tabulate && kernel_ == Kernel::gaussian && x_.size() >= k_table_from) make_table();
  }

  void log_pdf(TensorView<const double, 2> x, std::span<double> out) const override {
    parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
      for (index_t i = begin; i < end; ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(x(i, 0));
    });
  }

  void cdf(std::span<const double> x, std::span<double> out) const override {
    parallel_for(static_cast<index_t>(x.size()), k_grain, [&](index_t begin, index_t end) {
      for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
        out[i] = cdf_at(x[i]);
    });
  }

  void sample(Rng& rng, TensorView<double, 2> out) const override {
    for (index_t i = 0; i < out.shape(0); ++i) {
      const double u = rng.uniform() * cumulative_.back();
      const auto above =
          std::upper_bound(cumulative_.begin() + 1, cumulative_.end(), u) - cumulative_.begin() - 1;
      const std::size_t k = std::min(static_cast<std::size_t>(above), x_.size() - 1);
      double step = 0;
      if (kernel_ == Kernel::gaussian) {
        step = rng.normal();
      } else {  // Devroye and Gyorfi (1985): of three uniforms on [-1, 1], drop the one of largest size if it
                // is the third
        const double a = 2 * rng.uniform() - 1, b = 2 * rng.uniform() - 1, c = 2 * rng.uniform() - 1;
        step = std::abs(c) >= std::abs(a) && std::abs(c) >= std::abs(b) ? b : c;
      }
      out(i, 0) = x_[k] + h_ * step;
    }
  }

  RealInterval support(index_t = 0) const override {
    if (kernel_ == Kernel::gaussian) return {};
    return {x_.front() - h_, x_.back() + h_};
  }
  index_t parameter_count() const override {
    return 1;
  }  // the bandwidth; the samples themselves are kept as well
  Outcome outcome() const override { return outcome_; }

  void save(StateWriter& out) const override {
    out.put("x", x_);
    out.put("w", w_);
    out.put("settings",
            std::vector<double>{h_, kernel_ == Kernel::gaussian ? 0.0 : 1.0, panels_.empty() ? 0.0 : 1.0});
    out.put_text("sentence", outcome_.sentence);
  }

 private:
  double log_pdf_at(double x) const {
    if (std::isnan(x)) return x;
    if (std::isinf(x)) return -k_infinity;
    if (kernel_ == Kernel::epanechnikov) return log_epanechnikov(x);
    if (const Panel* panel = panel_at(x)) return std::log(evaluate(panel->p, local(*panel, x))) - log_h_;
    return log_gaussian(x) - log_h_;
  }

  std::size_t first_at_least(double x) const {
    return static_cast<std::size_t>(std::lower_bound(x_.begin(), x_.end(), x) - x_.begin());
  }

  /// Distance to the nearest sample, in h.
  double nearest(double x) const {
    const std::size_t i = first_at_least(x);
    double d = k_infinity;
    if (i < x_.size()) d = x_[i] - x;
    if (i > 0) d = std::min(d, x - x_[i - 1]);
    return d / h_;
  }

  /// log(h p(x)) from the samples in reach.
  double log_gaussian(double x) const {
    const double d = nearest(x), top = 0.5 * d * d;
    if (!(top < k_infinity)) return -k_infinity;
    const double window = h_ * std::sqrt(d * d + reach_) * (1 + 1e-12);
    double sum = 0;
    for (std::size_t i = first_at_least(x - window); i < x_.size() && x_[i] <= x + window; ++i) {
      const double u = (x - x_[i]) / h_;
      sum += w_[i] * std::exp(top - 0.5 * u * u);
    }
    return std::log(sum) - top - k_log_sqrt_2pi;
  }

  double log_epanechnikov(double x) const {
    double sum = 0;
    for (std::size_t i = first_at_least(x - h_); i < x_.size() && x_[i] <= x + h_; ++i) {
      const double u = (x - x_[i]) / h_;
      sum += w_[i] * std::max(0.0, (1 - u) * (1 + u));
    }
    return sum > 0 ? std::log(0.75 * sum) - log_h_ : -k_infinity;
  }

  double cdf_at(double x) const {
    if (std::isnan(x)) return x;
    if (const Panel* panel = panel_at(x))
      return std::clamp(panel->before + evaluate(panel->integral, local(*panel, x)), 0.0, 1.0);
    const double reach =
        kernel_ == Kernel::gaussian ? 8.5 : 1.0;  // beyond, one kernel's cdf is 0 or 1 in double
    const std::size_t first = first_at_least(x - reach * h_);
    double sum = cumulative_[first];
    std::size_t i = first;
    for (; i < x_.size() && x_[i] <= x + reach * h_; ++i) {
      const double u = (x - x_[i]) / h_;
      sum += w_[i] * (kernel_ == Kernel::gaussian ? normal_cdf(u) : 0.25 * (2 - u) * (1 + u) * (1 + u));
    }
    // All samples below: exactly 1, whatever the weights' rounding.
    return first == x_.size() ? 1.0 : std::clamp(sum, 0.0, 1.0);
  }

  // Table. t in [-1, 1] inside a panel; both polynomials in Chebyshev form.
  struct Panel {
    std::array<double, k_nodes> p;             ///< h p(x)
    std::array<double, k_nodes + 1> integral;  ///< cdf(x) - cdf(panel begin)
    double before = 0;                         ///< cdf at the panel's begin
    bool used = false;
  };

  template <std::size_t N>
  static double evaluate(const std::array<double, N>& c, double t) {  // Clenshaw
    double b1 = 0, b2 = 0;
    for (std::size_t k = N - 1; k > 0; --k) {
      const double b0 = c[k] + 2 * t * b1 - b2;
      b2 = b1, b1 = b0;
    }
    return c[0] + t * b1 - b2;
  }

  double local(const Panel& panel, double x) const {
    const double begin = table_begin_ + static_cast<double>(&panel - panels_.data()) * h_;
    return std::clamp(2 * (x - begin) / h_ - 1, -1.0, 1.0);
  }

  const Panel* panel_at(double x) const {
    if (panels_.empty() || !(x >= table_begin_)) return nullptr;
    const double index = (x - table_begin_) / h_;
    if (!(index < static_cast<double>(panels_.size()))) return nullptr;
    const Panel& panel = panels_[static_cast<std::size_t>(index)];
    return panel.used ? &panel : nullptr;
  }

  void make_table() {
    const double n_panels = std::ceil((x_.back() - x_.front()) / h_ + 2 * k_near);
    // More panels than evaluations could repay: stay exact.
    if (!(n_panels <= std::min(k_max_panels, static_cast<double>(x_.size()) * 8))) return;
    table_begin_ = x_.front() - k_near * h_;
    std::vector<Panel> panels(static_cast<std::size_t>(n_panels));
    parallel_for(static_cast<index_t>(panels.size()), 8, [&](index_t begin, index_t end) {
      for (index_t k = begin; k < end; ++k) fill(panels[static_cast<std::size_t>(k)], k);
    });
    panels_ = std::move(panels);
  }

  void fill(Panel& panel, index_t index) const {
    const double begin = table_begin_ + static_cast<double>(index) * h_, end = begin + h_;
    if (std::min(nearest(begin), nearest(end)) > k_near && first_at_least(begin) == first_at_least(end))
      return;
    std::array<double, k_nodes> value;
    for (int j = 0; j < k_nodes; ++j) {
      const double t = std::cos(std::numbers::pi * (j + 0.5) / k_nodes);
      value[static_cast<std::size_t>(j)] = std::exp(log_gaussian(begin + 0.5 * h_ * (t + 1)));
    }
    for (int k = 0; k < k_nodes; ++k) {
      double sum = 0;
      for (int j = 0; j < k_nodes; ++j)
        sum += value[static_cast<std::size_t>(j)] * std::cos(std::numbers::pi * k * (j + 0.5) / k_nodes);
      panel.p[static_cast<std::size_t>(k)] = sum * (k == 0 ? 1.0 : 2.0) / k_nodes;
    }
    // Integral of T_k: (T_{k+1}/(k+1) - T_{k-1}/(k-1)) / 2; dx = h/2 dt, and p carries the factor h already.
    const auto coefficient = [&](int k) { return k < k_nodes ? panel.p[static_cast<std::size_t>(k)] : 0.0; };
    panel.integral[0] = 0;
    for (int k = 1; k <= k_nodes; ++k)
      panel.integral[static_cast<std::size_t>(k)] =
          0.5 * ((k == 1 ? 2 * coefficient(0) : coefficient(k - 1)) - coefficient(k + 1)) / (2 * k);
    panel.integral[0] = -evaluate(panel.integral, -1.0);
    panel.before = cdf_at(begin);  // panels_ is empty while the table is filled: this is the exact sum
    panel.used = true;
  }

  std::vector<double> x_, w_, cumulative_;
  Kernel kernel_;
  double h_, log_h_;
  double reach_ = 0;  ///< 2 T
  Outcome outcome_;
  double table_begin_ = 0;
  std::vector<Panel> panels_;
};

class Kde final : public DensityEstimator, public HistogramFit {
 public:
  enum class Evaluation { tabulated, exact };

  struct Params {
    Kernel kernel = Kernel::gaussian;
    BandwidthRule bandwidth = BandwidthRule::isj;
    Evaluation evaluation = Evaluation::tabulated;
    double h = 1;
    void declare(ParamBinder& p) {
      p.choice("kernel", kernel, {{"gaussian", Kernel::gaussian}, {"epanechnikov", Kernel::epanechnikov}},
               "Kernel K: normal density, or Epanechnikov's parabola on [-1, 1].");
      p.choice("bandwidth", bandwidth,
               {{"isj", BandwidthRule::isj},
                {"sheather_jones", BandwidthRule::sheather_jones},
                {"silverman", BandwidthRule::silverman},
                {"cross_validation", BandwidthRule::cross_validation},
                {"value", BandwidthRule::value}},
               "Rule for h: improved Sheather-Jones (Botev), Sheather-Jones, Silverman's rule of thumb, "
               "least-squares "
               "cross-validation, or the given value.");
      p.real("h", h, Range::greater_than(0), "unit of the data", "Bandwidth for bandwidth=value.");
      p.choice("evaluation", evaluation, {{"tabulated", Evaluation::tabulated}, {"exact", Evaluation::exact}},
               "tabulated: Chebyshev panels, relative error below 1e-10; exact: sums over samples.");
    }
  };

  explicit Kde(const Params& params) : params_(params) {}

  DensityTraits traits() const override {
    return {.max_dims = 1,
            .accepts_weights = true,
            .closed_form_cdf = true,
            .closed_form_quantile = false,
            .affine_equivariant = params_.bandwidth != BandwidthRule::value,
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
    return fit_sorted(points, sum, sum * (sum / sum_of_squares),
                      context);  // Kish's effective number of samples
  }

  const HistogramFit* histogram_fit() const override { return this; }
  index_t bins_wanted() const override { return 1 << 14; }
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
    const std::vector<double> settings = in.get("settings");
    std::vector<double> x = in.get("x"), w = in.get("w");
    if (settings.size() != 3 || x.empty() || x.size() != w.size() || !(settings[0] > 0))
      throw MethodError("density kde: the saved state is not complete; save the fitted density again");
    return std::make_unique<KdeDensity>(
        std::move(x), std::move(w), settings[1] == 0 ? Kernel::gaussian : Kernel::epanechnikov, settings[0],
        settings[2] != 0, Outcome{Termination::converged, in.get_text("sentence"), 0});
  }

 private:
  std::unique_ptr<FittedDensity> fit_sorted(const std::vector<std::pair<double, double>>& points, double sum,
                                            double n, const FitContext& context) const {
    std::vector<double> x, w;
    for (const auto& [value, weight] : points) x.push_back(value), w.push_back(weight / sum);
    Bandwidth found{params_.h, "bandwidth given"};
    if (params_.bandwidth != BandwidthRule::value) {
      found = select_bandwidth(params_.bandwidth, x, w, n, context.budget.stop);
      if (params_.kernel == Kernel::epanechnikov) found.h *= k_epanechnikov_factor;
    }
    Outcome outcome{Termination::converged, "h = " + param_text(found.h) + ", " + found.sentence, 0};
    return std::make_unique<KdeDensity>(std::move(x), std::move(w), params_.kernel, found.h,
                                        params_.evaluation == Evaluation::tabulated, std::move(outcome));
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<DensityEstimator, Kde>(
      "kde", {.summary = "Kernel density estimate with five bandwidth rules",
              .formula = "p(x) = sum_i w_i K((x - x_i) / h) / h",
              .source = "Silverman (1986) eq. 3.31; Sheather, Jones (1991) JRSS-B 53; Botev, Grotowski, "
                        "Kroese (2010) Ann. Stat. 38(5)",
              .complexity = "fit O(n log n + range/h * window); evaluation O(1) tabulated, O(window) exact",
              .notes = "bandwidths hold for the Gaussian kernel and are converted by canonical kernels for "
                       "Epanechnikov"});
}
