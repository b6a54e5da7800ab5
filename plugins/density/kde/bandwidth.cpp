// Rules:
//   silverman         h = 0.9 min(sd, IQR / 1.34) n^(-1/5)             Silverman (1986), eq. 3.31 (R: bw.nrd0)
//   sheather_jones    solve-the-equation plug-in                       Sheather, Jones (1991), eq. 12 (R: bw.SJ)
//   cross_validation  least squares: int p^2 - 2/n sum_i p_{-i}(x_i)   Rudemo (1982), Bowman (1984) (R: bw.ucv)
//   isj               fixed point t = xi gamma^[7](t) on the cosine    Botev, Grotowski, Kroese (2010), eq. 29-32
//                     transform
// Pair sums: exact up to k_exact_pairs samples; above, samples are spread linearly on a grid of k_pair_bins
// and the pairs are counted per lag (as R does with simple binning). Everything is scaled to unit range
// first.
#include "bandwidth.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <functional>
#include <numbers>
#include <vector>

namespace {

using std::numbers::pi;

constexpr std::size_t k_exact_pairs = 400;
constexpr std::size_t k_pair_bins = 2048;
constexpr std::size_t k_isj_bins = 1 << 14;

struct Spread {
  double sd, iqr;
};

Spread spread_of(std::span<const double> x, std::span<const double> w, double n) {
  double mean = 0, square = 0;
  for (std::size_t i = 0; i < x.size(); ++i) mean += w[i] * x[i];
  for (std::size_t i = 0; i < x.size(); ++i) square += w[i] * (x[i] - mean) * (x[i] - mean);
  const double total = 1 - w.back();
  const auto quantile = [&](double p) {  // type 7, with samples at the weight before them
    double before = 0;
    for (std::size_t i = 0; i + 1 < x.size(); ++i) {
      const double after = before + w[i];
      if (after >= p * total)
        return x[i] + std::clamp((p * total - before) / w[i], 0.0, 1.0) * (x[i + 1] - x[i]);
      before = after;
    }
    return x.back();
  };
  const double correction = n > 1 ? n / (n - 1) : 1.0;
  return {std::sqrt(square * correction), quantile(0.75) - quantile(0.25)};
}

double smaller_spread(const Spread& s, double normal_iqr) {
  return s.iqr > 0 ? std::min(s.sd, s.iqr / normal_iqr) : s.sd;
}

/// Histogram of cell weights with each sample shared by the two nearest cell centres.
std::vector<double> linear_binning(std::span<const double> x, std::span<const double> w, double begin,
                                   double end, std::size_t n_bins) {
  std::vector<double> cell(n_bins);
  const double width = (end - begin) / static_cast<double>(n_bins);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double at = std::clamp((x[i] - begin) / width - 0.5, 0.0, static_cast<double>(n_bins - 1));
    const std::size_t k = std::min(static_cast<std::size_t>(at), n_bins - 2);
    const double part = at - static_cast<double>(k);
    cell[k] += w[i] * (1 - part);
    cell[k + 1] += w[i] * part;
  }
  return cell;
}

/// Distances of pairs i < j with their weight, as n^2 w_i w_j (1 for equal weights).
struct Pairs {
  std::vector<double> distance, weight;

  Pairs(std::span<const double> x, std::span<const double> w, double n) {
    if (x.size() <= k_exact_pairs) {
      for (std::size_t i = 0; i < x.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
          distance.push_back(x[i] - x[j]), weight.push_back(n * n * w[i] * w[j]);
      return;
    }
    const double step = (x.back() - x.front()) / static_cast<double>(k_pair_bins - 1);
    const std::vector<double> cell =
        linear_binning(x, w, x.front() - 0.5 * step, x.back() + 0.5 * step, k_pair_bins);
    const double own =
        1 / n;  // pairs of a sample with itself, which the squares of the cells hold: sum of w^2
    for (std::size_t lag = 0; lag < k_pair_bins; ++lag) {
      double sum = 0;
      for (std::size_t k = 0; k + lag < k_pair_bins; ++k) sum += cell[k] * cell[k + lag];
      if (lag == 0) sum = std::max(0.0, 0.5 * (sum - own));
      distance.push_back(static_cast<double>(lag) * step);
      weight.push_back(n * n * sum);
    }
  }

  double sum(const std::function<double(double)>& f) const {
    double total = 0;
    for (std::size_t i = 0; i < distance.size(); ++i) total += weight[i] * f(distance[i]);
    return total;
  }
};

/// Root of a continuous f with a change of sign in [low, high]: bisection in log space, then regula falsi.
double root_of(const std::function<double(double)>& f, double low, double high, double f_low) {
  for (int step = 0; step < 200 && high - low > 1e-12 * high; ++step) {
    const double middle = std::sqrt(low) * std::sqrt(high);
    if (!(middle > low && middle < high)) break;
    const double value = f(middle);
    if ((value > 0) == (f_low > 0))
      low = middle, f_low = value;
    else
      high = middle;
  }
  return std::sqrt(low) * std::sqrt(high);
}

Bandwidth sheather_jones(std::span<const double> x, std::span<const double> w, double n,
                         const Spread& spread) {
  const Pairs pairs(x, w, n);
  const double scale = smaller_spread(spread, 1.349);
  // Estimators of the integrated squared 2nd and 3rd derivative; the diagonal pairs add n phi(0).
  const auto phi4 = [&](double h) {
    const double sum = pairs.sum([h](double d) {
      const double t = (d / h) * (d / h);
      return std::exp(-0.5 * t) * (t * t - 6 * t + 3);
    });
    return (2 * sum + 3 * n) / (n * (n - 1) * std::pow(h, 5) * std::sqrt(2 * pi));
  };
  const auto phi6 = [&](double h) {
    const double sum = pairs.sum([h](double d) {
      const double t = (d / h) * (d / h);
      return std::exp(-0.5 * t) * (t * t * t - 15 * t * t + 45 * t - 15);
    });
    return (2 * sum - 15 * n) / (n * (n - 1) * std::pow(h, 7) * std::sqrt(2 * pi));
  };
  const double a = 1.24 * scale * std::pow(n, -1.0 / 7), b = 1.23 * scale * std::pow(n, -1.0 / 9);
  const double curvature_ratio = phi4(a) / -phi6(b);
  const double rule_of_thumb = 0.9 * smaller_spread(spread, 1.34) * std::pow(n, -0.2);
  if (!(curvature_ratio > 0))
    return {rule_of_thumb, "Silverman's rule, as Sheather-Jones has no solution (too sparse)"};
  const double alpha = 1.357 * std::pow(curvature_ratio, 1.0 / 7);
  const auto equation = [&](double h) {
    return std::pow(1 / (2 * std::sqrt(pi) * n) / phi4(alpha * std::pow(h, 5.0 / 7)), 0.2) - h;
  };
  double high = 1.144 * scale * std::pow(n, -0.2), low = 0.1 * high;
  double f_low = equation(low), f_high = equation(high);
  for (int widen = 0; widen < 60 && !(f_low * f_high <= 0); ++widen) {
    low *= 0.8, high *= 1.2;
    f_low = equation(low), f_high = equation(high);
  }
  if (!(f_low * f_high <= 0))
    return {rule_of_thumb, "Silverman's rule, as the Sheather-Jones equation has no root"};
  return {root_of(equation, low, high, f_low), "Sheather-Jones"};
}

Bandwidth cross_validation(std::span<const double> x, std::span<const double> w, double n,
                           const Spread& spread) {
  const Pairs pairs(x, w, n);
  const auto score = [&](double h) {
    const double sum = pairs.sum([h](double d) {
      const double t = (d / h) * (d / h);
      return std::exp(-0.25 * t) - std::sqrt(8.0) * std::exp(-0.5 * t);
    });
    return (0.5 + sum / n) / (n * h * std::sqrt(pi));
  };
  // The score may have several minima (ties pull it to 0): scan a grid first, then golden section around the
  // lowest.
  const double high = 1.144 * spread.sd * std::pow(n, -0.2) * 1.5, low = high * 0.01;
  constexpr int k_scan = 100;
  const auto at = [&](double k) { return low * std::pow(high / low, k / k_scan); };
  int best = 0;
  double best_score = score(low);
  for (int k = 1; k <= k_scan; ++k)
    if (const double value = score(at(k)); value < best_score) best_score = value, best = k;
  double a = std::max(0, best - 1), b = std::min(k_scan, best + 1);
  for (int step = 0; step < 60; ++step) {
    const double c = b - 0.6180339887498949 * (b - a), d = a + 0.6180339887498949 * (b - a);
    (score(at(c)) <= score(at(d)) ? b : a) = score(at(c)) <= score(at(d)) ? d : c;
  }
  const char* where =
      best == 0 ? "least-squares cross-validation, at the lower end of the search (ties in the data?)"
                : "least-squares cross-validation";
  return {at(0.5 * (a + b)), where};
}

/// In place, size a power of two: X_k = sum_j x_j exp(-2 pi i j k / n).
void fft(std::vector<std::complex<double>>& x) {
  const std::size_t n = x.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {
    std::size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  std::vector<std::complex<double>> root(n / 2);
  for (std::size_t k = 0; k < n / 2; ++k)
    root[k] = std::polar(1.0, -2 * pi * static_cast<double>(k) / static_cast<double>(n));
  for (std::size_t length = 2; length <= n; length *= 2)
    for (std::size_t start = 0; start < n; start += length)
      for (std::size_t k = 0; k < length / 2; ++k) {
        const std::complex<double> odd = x[start + k + length / 2] * root[k * (n / length)];
        x[start + k + length / 2] = x[start + k] - odd;
        x[start + k] += odd;
      }
}

/// DCT-II, 2 sum_j v_j cos(pi k (2 j + 1) / (2 n)), by one FFT of the even-odd reordering (Makhoul 1980).
std::vector<double> cosine_transform(const std::vector<double>& v) {
  const std::size_t n = v.size();
  std::vector<std::complex<double>> z(n);
  for (std::size_t j = 0; j < n / 2; ++j) z[j] = v[2 * j], z[n - 1 - j] = v[2 * j + 1];
  fft(z);
  std::vector<double> out(n);
  for (std::size_t k = 0; k < n; ++k)
    out[k] =
        2 * (z[k] * std::polar(1.0, -pi * static_cast<double>(k) / (2.0 * static_cast<double>(n)))).real();
  return out;
}

Bandwidth isj(std::span<const double> x, std::span<const double> w, double n, const Spread& spread) {
  const double rule_of_thumb = 0.9 * smaller_spread(spread, 1.34) * std::pow(n, -0.2);
  const double range = x.back() - x.front(), begin = x.front() - 0.5 * range, width = 2 * range;
  std::vector<double> a = cosine_transform(linear_binning(x, w, begin, begin + width, k_isj_bins));
  double distinct = 1;
  for (std::size_t i = 1; i < x.size(); ++i) distinct += x[i] != x[i - 1];
  const double n_used = std::min(n, distinct);  // Botev's program counts distinct values
  for (double& value : a) value = 0.25 * value * value;
  // 2 pi^(2s) sum_k k^(2s) a_k^2 exp(-k^2 pi^2 t)
  const auto roughness = [&](int s, double t) {
    double sum = 0;
    for (std::size_t k = 1; k < a.size(); ++k) {
      const double square = static_cast<double>(k) * static_cast<double>(k), decay = square * pi * pi * t;
      if (decay > 745) break;
      sum += std::pow(square, s) * a[k] * std::exp(-decay);
    }
    return 2 * std::pow(pi, 2 * s) * sum;
  };
  const auto equation = [&](double t) {
    double f = roughness(7, t);
    for (int s = 6; s >= 2; --s) {
      double odd_product = 1;
      for (int k = 3; k < 2 * s; k += 2) odd_product *= k;
      const double k0 = odd_product / std::sqrt(2 * pi), c = (1 + std::pow(0.5, s + 0.5)) / 3;
      f = roughness(s, std::pow(2 * c * k0 / (n_used * f), 2.0 / (3 + 2 * s)));
    }
    return t - std::pow(2 * n_used * std::sqrt(pi) * f, -0.4);
  };
  // The smallest root; the bracket grows from 0 as in Botev's program, up to h = 0.3 of the whole interval.
  double low = 1e-14, f_low = equation(low);
  for (double high = 1e-12; high <= 0.1; high *= 2) {
    const double f_high = equation(high);
    if (std::isfinite(f_low) && f_low < 0 && f_high >= 0)
      return {std::sqrt(root_of(equation, low, high, f_low)) * width, "improved Sheather-Jones"};
    low = high, f_low = f_high;
  }
  return {rule_of_thumb,
          "Silverman's rule, as the improved Sheather-Jones equation has no root (too few samples)"};
}

}  // namespace

Bandwidth select_bandwidth(BandwidthRule rule, std::span<const double> x_given, std::span<const double> w,
                           double n, const borel::StopToken& stop) {
  stop.throw_if_stopped();
  const double origin = x_given.front(), range = x_given.back() - origin;
  std::vector<double> x(x_given.size());  // on [0, 1]
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = (x_given[i] - origin) / range;
  const Spread spread = spread_of(x, w, n);
  Bandwidth found;
  switch (rule) {
    case BandwidthRule::isj:
      found = isj(x, w, n, spread);
      break;
    case BandwidthRule::sheather_jones:
      found = sheather_jones(x, w, n, spread);
      break;
    case BandwidthRule::cross_validation:
      found = cross_validation(x, w, n, spread);
      break;
    case BandwidthRule::silverman:
    case BandwidthRule::value:
      found = {0.9 * smaller_spread(spread, 1.34) * std::pow(n, -0.2), "Silverman's rule"};
  }
  found.h *= range;
  return found;
}
