// Defaults of FittedDensity in one dimension: all they know is log_pdf, in blocks.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/quadrature/gauss_kronrod.hpp>
#include <cmath>
#include <limits>
#include <numeric>

#include "borel/density.hpp"
#include "borel/error.hpp"

namespace borel {

FittedDensity::~FittedDensity() = default;

namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_largest = std::numeric_limits<double>::max();
constexpr double k_smallest = std::numeric_limits<double>::denorm_min();
constexpr double k_panel_tolerance = 1e-13;  ///< absolute error of one panel; the bound of cdf is 1e-10
constexpr double k_mass_tolerance = 1e-7;    ///< accepted | integral - 1 | before the default gives up
constexpr int k_max_depth = 48;
constexpr double k_log_negligible = 60;  ///< panels around a maximum end where the density fell by exp(-60)

void need_one_dimension(const FittedDensity& density, std::string_view what) {
  if (density.n_dims() != 1)
    throw MethodError(
        fmt::format("{}: defined for 1 dimension only, this density has {}; use the conditional densities",
                    what, density.n_dims()));
}

void log_pdf_block(const FittedDensity& density, std::span<const double> x, std::span<double> out) {
  density.log_pdf(TensorView<const double, 2>(x.data(), {static_cast<index_t>(x.size()), 1}), out);
}

double log_pdf_at(const FittedDensity& density, double x) {
  double value = -k_infinity;
  log_pdf_block(density, {&x, 1}, {&value, 1});
  return value;
}

/// Gauss-Kronrod 15/31 on [a, b], split until the two rules agree. One block of 31 points per panel.
double integrate_panel(const FittedDensity& density, double a, double b, double tolerance, int depth) {
  using Kronrod = boost::math::quadrature::gauss_kronrod<double, 31>;
  using Gauss = boost::math::quadrature::gauss<double, 15>;
  const auto& nodes = Kronrod::abscissa();  // non-negative half; the Gauss nodes are those with even index
  const auto& kronrod_weights = Kronrod::weights();
  const auto& gauss_weights = Gauss::weights();
  const double half = 0.5 * b - 0.5 * a, middle = 0.5 * a + 0.5 * b;
  std::array<double, 31> x, f;
  for (std::size_t i = 0; i < 16; ++i) {
    x[15 + i] = middle + half * nodes[i];
    x[15 - i] = middle - half * nodes[i];
  }
  log_pdf_block(density, x, f);
  double kronrod = 0, gauss = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    // The half-width goes into the exponent: density times width is small even where the density overflows.
    const double pair = i == 0 ? std::exp(f[15] + std::log(half))
                               : std::exp(f[15 + i] + std::log(half)) + std::exp(f[15 - i] + std::log(half));
    kronrod += kronrod_weights[i] * pair;
    if (i % 2 == 0) gauss += gauss_weights[i / 2] * pair;
  }
  // The difference is the error of the 15-point rule; the 31-point rule is far better (QUADPACK's exponent).
  const double difference = std::abs(kronrod - gauss);
  const double error = std::min(difference, std::pow(200 * difference, 1.5));
  if (!(error > tolerance) || depth >= k_max_depth || !(middle > a && middle < b)) return kronrod;
  return integrate_panel(density, a, middle, tolerance / 2, depth + 1) +
         integrate_panel(density, middle, b, tolerance / 2, depth + 1);
}

/// Narrows [low, high] around a maximum of log_pdf, golden section. Starts from a point known to be high, and
/// never leaves it for a lower one: a narrow spike inside a wide bracket is kept.
double refine_maximum(const FittedDensity& density, double low, double start, double high) {
  constexpr double k_golden = 0.3819660112501051;
  const double resolution = 1e-12 * (high - low);
  double best = start, f_best = log_pdf_at(density, best);
  for (int step = 0; step < 300; ++step) {
    if (!(high - low > resolution) || !(high - low > 1e-15 * std::max(std::abs(low), std::abs(high)))) break;
    const bool right = high - best > best - low;
    const double probe = right ? best + k_golden * (high - best) : best - k_golden * (best - low);
    if (!(probe > low && probe < high) || probe == best) break;
    const double f = log_pdf_at(density, probe);
    if (f > f_best) {
      (right ? low : high) = best;
      best = probe, f_best = f;
    } else {
      (right ? high : low) = probe;
    }
  }
  return best;
}

/// Points that split the line so that adaptive quadrature cannot step over the mass: maxima of log_pdf on a
/// grid of all magnitudes, refined, each with panels that double in width. Finite, ascending, at least two.
std::vector<double> breakpoints(const FittedDensity& density) {
  const RealInterval support = density.support();
  const double low = std::max(support.begin, -k_largest), high = std::min(support.end, k_largest);
  std::vector<double> grid{low, high};
  const auto add = [&](double x) {
    if (x > low && x < high) grid.push_back(x);
  };
  add(0.0);
  for (int k = -1230; k <= 1230; ++k) {  // quarter decades
    const double r = std::pow(10.0, k / 4.0);
    add(r), add(-r);
    if (std::isfinite(support.begin)) add(low + r);
    if (std::isfinite(support.end)) add(high - r);
  }
  if (std::isfinite(support.begin) && std::isfinite(support.end))
    for (int k = 1; k < 256; ++k) add(low + (high - low) * k / 256.0);
  std::sort(grid.begin(), grid.end());
  grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
  std::vector<double> value(grid.size());
  log_pdf_block(density, grid, value);

  std::vector<double> points{low, high};
  for (std::size_t i = 0, j = 0; i < grid.size(); i = j + 1) {
    for (j = i; j + 1 < grid.size() && value[j + 1] == value[i];) ++j;  // [i, j] is a plateau of one value
    const double left = i > 0 ? value[i - 1] : -k_infinity,
                 right = j + 1 < grid.size() ? value[j + 1] : -k_infinity;
    if (!(value[i] > -k_infinity) || value[i] < left || value[i] < right) continue;
    const double a = grid[i > 0 ? i - 1 : i], b = grid[j + 1 < grid.size() ? j + 1 : j];
    if (!(b - a < k_largest)) continue;
    const double peak = refine_maximum(density, a, grid[i] + 0.5 * (grid[j] - grid[i]), b),
                 top = log_pdf_at(density, peak);
    points.push_back(peak);
    for (const double sign : {-1.0, 1.0}) {
      // Width 1 / density is where a unit of mass could sit; start far below it.
      for (double step = std::exp(std::clamp(-top, -690.0, 690.0)) / 64; step < k_largest / 4; step *= 2) {
        const double x = peak + sign * step;
        if (!(x > low && x < high)) break;
        points.push_back(x);
        if (log_pdf_at(density, x) < top - k_log_negligible) break;
      }
    }
  }
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

/// The highest of the maxima between low and high that a closer scan sees: kernels with kinks make several.
double highest_between(const FittedDensity& density, double low, double start, double high) {
  constexpr int k_parts = 32;
  const double step = (high - low) / k_parts;
  std::vector<double> x{start};
  for (int k = 1; k < k_parts; ++k) x.push_back(low + k * step);
  std::vector<double> value(x.size());
  log_pdf_block(density, x, value);
  const double top =
      x[static_cast<std::size_t>(std::max_element(value.begin(), value.end()) - value.begin())];
  // Brackets by the step, not by neighbours: start and a point of the scan may be equal but for rounding.
  return refine_maximum(density, std::max(low, top - step), top, std::min(high, top + step));
}

}  // namespace

void FittedDensity::cdf(std::span<const double> x, std::span<double> out) const {
  need_one_dimension(*this, "cdf");
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // No number stands after all numbers: `<` alone would not be an order.
  std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
    return x[i] < x[j] || (std::isnan(x[j]) && !std::isnan(x[i]));
  });

  const std::vector<double> breaks = breakpoints(*this);
  double mass = 0;  // up to `at`
  double at = breaks.front();
  std::size_t next_break = 1;
  const auto advance = [&](double to) {
    while (next_break < breaks.size() && breaks[next_break] <= to) {
      mass += integrate_panel(*this, at, breaks[next_break], k_panel_tolerance, 0);
      at = breaks[next_break++];
    }
    if (to > at) {
      mass += integrate_panel(*this, at, to, k_panel_tolerance, 0);
      at = to;
    }
  };
  for (const std::size_t i : order) {
    if (std::isnan(x[i])) {
      out[i] = x[i];
      continue;
    }
    if (x[i] > at) advance(std::min(x[i], breaks.back()));
    out[i] = x[i] >= breaks.back() ? 1.0 : std::min(mass, 1.0);
  }
  advance(breaks.back());
  if (!(std::abs(mass - 1) <= k_mass_tolerance))
    throw MethodError(fmt::format(
        "cdf: the quadrature of log_pdf found a mass of {} in place of 1 (bound {}); the density is "
        "not normalised or too spiky for the default; override cdf in the method",
        mass, k_mass_tolerance));
}

void FittedDensity::quantile(std::span<const double> p, std::span<double> out) const {
  need_one_dimension(*this, "quantile");
  const RealInterval range = support();
  // All points together, one block of cdf values per round: brackets with cdf(low) < p <= cdf(high), narrowed
  // by the Illinois method (regula falsi; the value at an end that stays is halved), with bisection where
  // that is slow.
  struct Bracket {
    double low, high;
    double g_low, g_high;  ///< cdf - p at the ends, halved by Illinois
    int same_end = 0;      ///< rounds in a row in which the upper (> 0) or lower (< 0) end moved
    double checked_width = k_infinity;
  };
  std::vector<Bracket> bracket(p.size());
  std::vector<std::size_t> open;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!(p[i] >= 0 && p[i] <= 1))
      throw MethodError(fmt::format("quantile: p[{}] = {}; probabilities lie in [0, 1]", i, p[i]));
    if (p[i] == 0 || p[i] == 1) {
      out[i] = p[i] == 0 ? range.begin : range.end;
      continue;
    }
    bracket[i] = {std::max(range.begin, -k_largest), std::min(range.end, k_largest), -p[i], 1 - p[i]};
    open.push_back(i);
  }
  const auto middle_of = [](const Bracket& b) {
    // Bisection over magnitudes until the ends are of one sign and within a factor 4.
    if (b.low < 0 && b.high > 0) {
      if (b.low < -1e-300 && b.high > 1e-300 && std::max(-b.low, b.high) < 1e6 * std::min(-b.low, b.high))
        return 0.5 * b.low + 0.5 * b.high;
      return 0.0;
    }
    if (b.low >= 0 && b.high > 4 * b.low) return std::sqrt(std::max(b.low, k_smallest)) * std::sqrt(b.high);
    if (b.high <= 0 && b.low < 4 * b.high)
      return -std::sqrt(-b.low) * std::sqrt(std::max(-b.high, k_smallest));
    return b.low + 0.5 * (b.high - b.low);
  };
  std::vector<double> x, f;
  for (int round = 0; round < 2000 && !open.empty(); ++round) {
    x.resize(open.size()), f.resize(open.size());
    for (std::size_t k = 0; k < open.size(); ++k) {
      Bracket& b = bracket[open[k]];
      double at = b.low + (b.high - b.low) * (-b.g_low / (b.g_high - b.g_low));
      const bool wild = !(b.high - b.low < k_largest) || b.g_low == -p[open[k]] || b.g_high == 1 - p[open[k]];
      bool slow = false;
      if (round % 4 == 3) {
        slow = !(b.high - b.low <= 0.25 * b.checked_width);
        b.checked_width = b.high - b.low;
      }
      if (wild || slow || !std::isfinite(at)) at = middle_of(b);
      x[k] = at > b.low && at < b.high ? at : b.low + 0.5 * (b.high - b.low);
    }
    cdf(x, f);
    std::size_t kept = 0;
    for (std::size_t k = 0; k < open.size(); ++k) {
      const std::size_t i = open[k];
      Bracket& b = bracket[i];
      if (f[k] >= p[i]) {
        b.high = x[k], b.g_high = f[k] - p[i];
        if (b.same_end > 0) b.g_low *= 0.5;
        b.same_end = 1;
      } else {
        b.low = x[k], b.g_low = f[k] - p[i];
        if (b.same_end < 0) b.g_high *= 0.5;
        b.same_end = -1;
      }
      const double width = b.high - b.low;
      const bool done = width <= 4e-16 * std::max(std::abs(b.low), std::abs(b.high)) || width <= 2e-323;
      if (done)
        out[i] = b.high;
      else
        open[kept++] = i;
    }
    open.resize(kept);
  }
  for (const std::size_t i : open) out[i] = bracket[i].high;
}

std::vector<double> FittedDensity::modes() const {
  need_one_dimension(*this, "modes");
  constexpr int k_levels = 1024, k_steps = 4096;
  constexpr double k_tail = 1e-5;
  std::vector<double> p(k_levels + 1), grid(p.size());
  for (int i = 0; i <= k_levels; ++i)
    p[static_cast<std::size_t>(i)] = k_tail + (1 - 2 * k_tail) * i / k_levels;
  quantile(p, grid);
  const double low = grid.front(), high = grid.back();
  for (int i = 1; i < k_steps; ++i) grid.push_back(low + (high - low) * i / k_steps);
  const RealInterval range = support();
  // A maximum may sit at the very end of a bounded support, or a little outside of the extreme quantiles.
  for (int i = 1; i <= 64; ++i)
    for (const double x : {low - (high - low) * i / 256.0, high + (high - low) * i / 256.0})
      if (x > range.begin && x < range.end) grid.push_back(x);
  for (const double end : {range.begin, range.end})
    if (std::isfinite(end)) grid.push_back(end);
  std::sort(grid.begin(), grid.end());
  grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
  std::vector<double> value(grid.size());
  log_pdf_block(*this, grid, value);

  constexpr double k_equal = 1e-12;  // rounding of log_pdf
  std::vector<double> found;
  for (std::size_t i = 0; i < grid.size();) {
    std::size_t j = i;  // [i, j] is a plateau
    const auto level_with_i = [&](double other) {
      if (other == value[i]) return true;  // also -infinity
      return std::isfinite(value[i]) &&
             std::abs(other - value[i]) <= k_equal * std::max(1.0, std::abs(value[i]));
    };
    while (j + 1 < grid.size() && level_with_i(value[j + 1])) ++j;
    // The first and the last point are maxima only where the support ends: elsewhere the density may rise beyond the scan.
    const bool up = i == 0 ? grid[i] == range.begin : value[i - 1] < value[i];
    const bool down = j + 1 == grid.size() ? grid[j] == range.end : value[j + 1] < value[j];
    if (up && down && value[i] > -k_infinity) {
      const double a = grid[i > 0 ? i - 1 : i], b = grid[j + 1 < grid.size() ? j + 1 : j];
      found.push_back(j > i + 1 ? 0.5 * grid[i] + 0.5 * grid[j]
                                : (b > a ? highest_between(*this, a, grid[i], b) : a));
    }
    i = j + 1;
  }
  return found;
}

void FittedDensity::sample(Rng& rng, TensorView<double, 2> out) const {
  need_one_dimension(*this, "sample");
  constexpr index_t k_block = 4096;
  std::vector<double> p, x;
  for (index_t begin = 0; begin < out.shape(0); begin += k_block) {
    const std::size_t n = static_cast<std::size_t>(std::min(k_block, out.shape(0) - begin));
    p.resize(n), x.resize(n);
    for (double& value : p) value = rng.uniform_open();
    quantile(p, x);
    for (std::size_t i = 0; i < n; ++i) out(begin + static_cast<index_t>(i), 0) = x[i];
  }
}

}  // namespace borel
