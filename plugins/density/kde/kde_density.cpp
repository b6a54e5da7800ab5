// Evaluation, Gaussian kernel. Exact: every sample closer than sqrt(dmin^2 + 2 h^2 T), dmin the distance to the nearest
// sample, T = 37 + log n; the rest changes p by less than a factor 1 + 1e-16 (also far in the tails, where a fixed
// cut-off would give 0).
// Tabulated: Chebyshev polynomials on panels of width h wherever dmin <= 7 h; other places are exact. The coefficients
// come from the samples' Taylor moments M_k per box of width h (fast Gauss transform, Greengard and Strain 1991):
//   sum_i w_i phi(t - s_i) = phi(t) sum_k M_k He_k(t),   M_k = sum_i w_i s_i^k / k!,   |s_i| <= 1/2,
// cut off at k = 24: |He_k(t)| <= sqrt(k!) exp(t^2 / 4) leaves less than 1e-12 of p at t = 7, and boxes that are 14 h away
// less than that of any sample at 7 h. The cdf comes from the integrals of the same polynomials, so that it agrees with p.
// Epanechnikov: exact, window of width 2 h.
#include "kde_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "moments.hpp"

using namespace borel;

namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_log_sqrt_2pi = 0.91893853320467274178;
constexpr int k_near = 7;                  // in h: panels closer than this to a sample are tabulated
constexpr int k_reach = 14;                // boxes on either side that a panel hears
constexpr std::size_t k_table_from = 128;  // fewer samples than this: exact is as fast
constexpr double k_max_panels = 20000;
constexpr index_t k_grain = 1024;

double normal_cdf(double z) { return 0.5 * std::erfc(-z * (1 / std::numbers::sqrt2)); }

/// Chebyshev coefficients on a panel from the moments of the box `offset` panels to the right of it:
/// [offset + k_reach][coefficient][moment].
template <int Nodes>
const std::vector<double>& panel_of_moments() {
  static const std::vector<double> table = [] {
    std::vector<double> made(static_cast<std::size_t>(2 * k_reach + 1) * Nodes * k_moments);
    std::vector<double> value(Nodes * k_moments);  // phi(t) He_k(t) at the nodes
    for (int offset = -k_reach; offset <= k_reach; ++offset) {
      for (int j = 0; j < Nodes; ++j) {
        const double t =
            0.5 * std::cos(std::numbers::pi * (j + 0.5) / Nodes) - offset;  // node - box centre, in h
        double before = 0, now = std::exp(-0.5 * t * t - k_log_sqrt_2pi);
        for (std::size_t k = 0; k < k_moments; ++k) {
          value[static_cast<std::size_t>(j) * k_moments + k] = now;
          const double next = t * now - static_cast<double>(k) * before;  // He_{k+1} = t He_k - k He_{k-1}
          before = now, now = next;
        }
      }
      double* const out = made.data() + static_cast<std::size_t>(offset + k_reach) * Nodes * k_moments;
      for (int c = 0; c < Nodes; ++c)
        for (int j = 0; j < Nodes; ++j) {
          const double cosine =
              std::cos(std::numbers::pi * c * (j + 0.5) / Nodes) * (c == 0 ? 1.0 : 2.0) / Nodes;
          for (std::size_t k = 0; k < k_moments; ++k)
            out[static_cast<std::size_t>(c) * k_moments + k] +=
                cosine * value[static_cast<std::size_t>(j) * k_moments + k];
        }
    }
    return made;
  }();
  return table;
}

}  // namespace

KdeDensity::KdeDensity(std::vector<double> x, std::vector<double> w, Kernel kernel, double h, bool tabulate,
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

KdeDensity::KdeDensity(const StateReader& in)
    : KdeDensity(
          [&in] {
            const std::vector<double> settings = in.get("settings"), x = in.get("x");
            if (settings.size() != 3 || x.empty() || x.size() != in.get("w").size() || !(settings[0] > 0))
              throw MethodError(
                  "density kde: the saved state is not complete; save the fitted density again");
            return x;
          }(),
          in.get("w"), in.get("settings")[1] == 0 ? Kernel::gaussian : Kernel::epanechnikov,
          in.get("settings")[0], in.get("settings")[2] != 0,
          Outcome{Termination::converged, in.get_text("sentence"), 0}) {}

void KdeDensity::log_pdf(TensorView<const double, 2> x, std::span<double> out) const {
  parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) out[static_cast<std::size_t>(i)] = log_pdf_at(x(i, 0));
  });
}

bool KdeDensity::log_pdf_gradient(TensorView<const double, 2> x, TensorView<double, 2> out) const {
  if (kernel_ != Kernel::gaussian) return false;  // not defined where the support ends
  parallel_for(x.shape(0), k_grain, [&](index_t begin, index_t end) {
    for (index_t i = begin; i < end; ++i) out(i, 0) = slope_at(x(i, 0));
  });
  return true;
}

void KdeDensity::cdf(std::span<const double> x, std::span<double> out) const {
  parallel_for(static_cast<index_t>(x.size()), k_grain, [&](index_t begin, index_t end) {
    for (std::size_t i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i)
      out[i] = cdf_at(x[i]);
  });
}

void KdeDensity::sample(Rng& rng, TensorView<double, 2> out) const {
  for (index_t i = 0; i < out.shape(0); ++i) {
    const double u = rng.uniform() * cumulative_.back();
    const auto above =
        std::upper_bound(cumulative_.begin() + 1, cumulative_.end(), u) - cumulative_.begin() - 1;
    const std::size_t k = std::min(static_cast<std::size_t>(above), x_.size() - 1);
    double step = 0;
    if (kernel_ == Kernel::gaussian) {
      step = rng.normal();
    } else {
      // Devroye and Gyorfi (1985): of three uniforms on [-1, 1], drop the one of largest size if it is the third
      const double a = 2 * rng.uniform() - 1, b = 2 * rng.uniform() - 1, c = 2 * rng.uniform() - 1;
      step = std::abs(c) >= std::abs(a) && std::abs(c) >= std::abs(b) ? b : c;
    }
    out(i, 0) = x_[k] + h_ * step;
  }
}

RealInterval KdeDensity::support(index_t) const {
  if (kernel_ == Kernel::gaussian) return {};
  return {x_.front() - h_, x_.back() + h_};
}

void KdeDensity::save(StateWriter& out) const {
  out.put("x", x_);
  out.put("w", w_);
  out.put("settings",
          std::vector<double>{h_, kernel_ == Kernel::gaussian ? 0.0 : 1.0, panels_.empty() ? 0.0 : 1.0});
  out.put_text("sentence", outcome_.sentence);
}

double KdeDensity::log_pdf_at(double x) const {
  if (std::isnan(x)) return x;
  if (std::isinf(x)) return -k_infinity;
  if (kernel_ == Kernel::epanechnikov) return log_epanechnikov(x);
  if (const Panel* panel = panel_at(x)) return std::log(evaluate(panel->p, local(*panel, x))) - log_h_;
  return log_gaussian(x) - log_h_;
}

std::size_t KdeDensity::first_at_least(double x) const {
  return static_cast<std::size_t>(std::lower_bound(x_.begin(), x_.end(), x) - x_.begin());
}

/// Distance to the nearest sample, in h.
double KdeDensity::nearest(double x) const {
  const std::size_t i = first_at_least(x);
  double d = k_infinity;
  if (i < x_.size()) d = x_[i] - x;
  if (i > 0) d = std::min(d, x - x_[i - 1]);
  return d / h_;
}

/// log(h p(x)) from the samples in reach.
double KdeDensity::log_gaussian(double x) const {
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

/// d log p / dx = -sum w u exp(-u^2 / 2) / (h sum w exp(-u^2 / 2)), exact.
double KdeDensity::slope_at(double x) const {
  const double d = nearest(x), top = 0.5 * d * d;
  const double window = h_ * std::sqrt(d * d + reach_) * (1 + 1e-12);
  double sum = 0, moment = 0;
  for (std::size_t i = first_at_least(x - window); i < x_.size() && x_[i] <= x + window; ++i) {
    const double u = (x - x_[i]) / h_, term = w_[i] * std::exp(top - 0.5 * u * u);
    sum += term, moment -= u * term;
  }
  return moment / (h_ * sum);
}

double KdeDensity::log_epanechnikov(double x) const {
  double sum = 0;
  for (std::size_t i = first_at_least(x - h_); i < x_.size() && x_[i] <= x + h_; ++i) {
    const double u = (x - x_[i]) / h_;
    sum += w_[i] * std::max(0.0, (1 - u) * (1 + u));
  }
  return sum > 0 ? std::log(0.75 * sum) - log_h_ : -k_infinity;
}

double KdeDensity::cdf_at(double x) const {
  if (std::isnan(x)) return x;
  if (const Panel* panel = panel_at(x))
    return std::clamp(panel->before + evaluate(panel->integral, local(*panel, x)), 0.0, 1.0);
  const double reach =
      kernel_ == Kernel::gaussian ? 8.5 : 1.0;  // beyond, one kernel's cdf is 0 or 1 in double
  const std::size_t first = first_at_least(x - reach * h_);
  double sum = cumulative_[first];
  for (std::size_t i = first; i < x_.size() && x_[i] <= x + reach * h_; ++i) {
    const double u = (x - x_[i]) / h_;
    sum += w_[i] * (kernel_ == Kernel::gaussian ? normal_cdf(u) : 0.25 * (2 - u) * (1 + u) * (1 + u));
  }
  // All samples below: exactly 1, whatever the weights' rounding.
  return first == x_.size() ? 1.0 : std::clamp(sum, 0.0, 1.0);
}

double KdeDensity::local(const Panel& panel, double x) const {
  const double begin = table_begin_ + static_cast<double>(&panel - panels_.data()) * h_;
  return std::clamp(2 * (x - begin) / h_ - 1, -1.0, 1.0);
}

const KdeDensity::Panel* KdeDensity::panel_at(double x) const {
  if (panels_.empty() || !(x >= table_begin_)) return nullptr;
  const double index = (x - table_begin_) / h_;
  if (!(index < static_cast<double>(panels_.size()))) return nullptr;
  const Panel& panel = panels_[static_cast<std::size_t>(index)];
  return panel.used ? &panel : nullptr;
}

void KdeDensity::make_table() {
  const double n_panels = std::ceil((x_.back() - x_.front()) / h_ + 2 * k_near);
  // More panels than evaluations could repay: stay exact.
  if (!(n_panels <= std::min(k_max_panels, static_cast<double>(x_.size()) * 8))) return;
  table_begin_ = x_.front() - k_near * h_;
  const index_t n = static_cast<index_t>(n_panels);

  // Boxes are the panels' own intervals. Every box knows its samples' moments.
  std::vector<std::size_t> edge(static_cast<std::size_t>(n) + 1);
  std::vector<double> moments(static_cast<std::size_t>(n) * k_moments);
  for (index_t k = 0; k <= n; ++k)
    edge[static_cast<std::size_t>(k)] =
        k == n ? x_.size() : first_at_least(table_begin_ + static_cast<double>(k) * h_);
  const auto is_box = [&](index_t k) {
    return k >= 0 && k < n && edge[static_cast<std::size_t>(k)] < edge[static_cast<std::size_t>(k) + 1];
  };
  parallel_for(n, 8, [&](index_t begin, index_t end) {
    for (index_t k = begin; k < end; ++k) {
      const std::size_t first = edge[static_cast<std::size_t>(k)],
                        last = edge[static_cast<std::size_t>(k) + 1];
      if (first < last)
        add_moments(x_.data() + first, w_.data() + first, last - first,
                    table_begin_ + (static_cast<double>(k) + 0.5) * h_, 1 / h_,
                    moments.data() + static_cast<std::size_t>(k) * k_moments);
    }
  });

  const std::vector<double>& table = panel_of_moments<k_nodes>();
  std::vector<Panel> panels(static_cast<std::size_t>(n));
  parallel_for(n, 8, [&](index_t begin, index_t end) {
    for (index_t k = begin; k < end; ++k) {
      const double low = table_begin_ + static_cast<double>(k) * h_, high = low + h_;
      if (std::min(nearest(low), nearest(high)) > k_near && !is_box(k)) continue;
      Panel& panel = panels[static_cast<std::size_t>(k)];
      panel.p.fill(0);
      for (int offset = -k_reach; offset <= k_reach; ++offset) {
        if (!is_box(k + offset)) continue;
        const double* const m = moments.data() + static_cast<std::size_t>(k + offset) * k_moments;
        const double* row = table.data() + static_cast<std::size_t>(offset + k_reach) * k_nodes * k_moments;
        for (double& coefficient : panel.p) {
          double even = 0, odd = 0;
          for (std::size_t j = 0; j < k_moments; j += 2) even += row[j] * m[j], odd += row[j + 1] * m[j + 1];
          coefficient += even + odd;
          row += k_moments;
        }
      }
      // Integral of T_k: (T_{k+1}/(k+1) - T_{k-1}/(k-1)) / 2; dx = h/2 dt, and p carries the factor h already.
      const auto coefficient = [&](int c) {
        return c < k_nodes ? panel.p[static_cast<std::size_t>(c)] : 0.0;
      };
      panel.integral[0] = 0;
      for (int c = 1; c <= k_nodes; ++c)
        panel.integral[static_cast<std::size_t>(c)] =
            0.5 * ((c == 1 ? 2 * coefficient(0) : coefficient(c - 1)) - coefficient(c + 1)) / (2 * c);
      panel.integral[0] = -evaluate(panel.integral, -1.0);
      panel.used = true;
    }
  });
  // The first panel of a run starts from the exact sum; panels_ is empty while the table is filled.
  for (index_t k = 0; k < n; ++k) {
    Panel& panel = panels[static_cast<std::size_t>(k)];
    if (!panel.used) continue;
    const Panel* left = k > 0 && panels[static_cast<std::size_t>(k) - 1].used ? &panel - 1 : nullptr;
    panel.before = left ? left->before + evaluate(left->integral, 1.0)
                        : cdf_at(table_begin_ + static_cast<double>(k) * h_);
  }
  panels_ = std::move(panels);
}
