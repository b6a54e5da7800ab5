#include "protocols/concentration_truth.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <string>

namespace borel {
namespace {

using Map = std::function<double(double)>;

double normal_cdf(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }
double normal_pdf(double z) {
  return std::exp(-0.5 * z * z) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
}

/// E|a|^p, p = 1 .. 4.
struct Moments {
  double first = 0, second = 0, third = 0, fourth = 0;
};

/// Moments of f(x), x ~ N(beta, gamma^2), by the trapezoidal rule: exact to rounding for smooth f, 1e-6 at a kink. With f = exp
/// the second moment is finite up to gamma = 9, the fourth up to 4.6.
Moments moments_of(const Map& f, double beta, double gamma) {
  constexpr double k_reach = 44, k_step = 1.0 / 256;
  Moments m;
  for (double z = -k_reach; z <= k_reach; z += k_step) {
    const double weight = k_step * std::exp(-0.5 * z * z) * std::numbers::inv_sqrtpi / std::numbers::sqrt2;
    if (weight == 0) continue;
    const double a = std::abs(f(beta + gamma * z));
    m.first += weight * a;
    m.second += weight * a * a;
    m.third += weight * a * a * a;
    m.fourth += weight * a * a * a * a;
  }
  return m;
}

ConcentrationTruth truth_of(const Moments& m, double n) {
  // S = mean |a| / sqrt(mean a^2) over n draws: delta method for the two means.
  const double var_first = (m.second - m.first * m.first) / (m.first * m.first),
               var_second = (m.fourth - m.second * m.second) / (m.second * m.second),
               covariance = (m.third - m.first * m.second) / (m.first * m.second);
  const double variance = (var_first + var_second / 4 - covariance) / n;
  return {m.first / std::sqrt(m.second), std::isfinite(variance) ? std::sqrt(std::max(0.0, variance))
                                                                 : std::numeric_limits<double>::infinity()};
}

double number(const MethodSpec& spec, const std::string& name, double fallback) {
  const auto found = spec.params.find(name);
  return found == spec.params.end() ? fallback : std::stod(found->second);
}

std::string choice(const MethodSpec& spec, const std::string& name) {
  const auto found = spec.params.find(name);
  return found == spec.params.end() ? std::string() : found->second;
}

/// The threshold t in (low, high) at which a decreasing function is `level`.
double threshold(const Map& decreasing, double level, double low, double high) {
  for (int step = 0; step < 100; ++step) {
    const double middle = 0.5 * (low + high);
    (decreasing(middle) > level ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

/// The weight as a function of the score, up to a factor that the whole row shares. Projections and top-k have a threshold
/// that n keys put where their weights sum to 1, or where k keys remain.
Map score_map(const MethodSpec& spec, double beta, double gamma, double n) {
  const Map exponential = [](double x) { return std::exp(x); };
  const double far = 40 * gamma + n;  // beyond any threshold
  if (spec.id == "softmax" && number(spec, "softcap", 0) == 0 && choice(spec, "log_n") == "none")
    return exponential;
  if (spec.id == "softmax1") return exponential;
  if (spec.id == "sigmoid") {
    const double length = number(spec, "length", 0);
    return [b = -std::log(length > 0 ? length : n)](double x) { return 1 / (1 + std::exp(-(x + b))); };
  }
  if (spec.id == "relu") return [](double x) { return std::max(x, 0.0); };
  if (spec.id == "relu2") return [](double x) { return x > 0 ? x * x : 0; };
  if (spec.id == "taylor") return [](double x) { return 1 + x + 0.5 * x * x; };
  if (spec.id == "identity") return [](double x) { return x; };
  if (spec.id == "sparsemax") {
    const auto mean = [&](double t) {
      const double u = (beta - t) / gamma;
      return (beta - t) * normal_cdf(u) + gamma * normal_pdf(u);
    };
    return [t = threshold(mean, 1 / n, beta - far, beta + far)](double x) { return std::max(x - t, 0.0); };
  }
  if (spec.id == "entmax15") {
    const auto mean = [&](double t) {
      const double d = beta / 2 - t, s = gamma / 2, u = d / s;
      return (d * d + s * s) * normal_cdf(u) + d * s * normal_pdf(u);
    };
    return [t = threshold(mean, 1 / n, beta / 2 - far, beta / 2 + far)](double x) {
      const double root = std::max(x / 2 - t, 0.0);
      return root * root;
    };
  }
  if (spec.id == "topk") {
    const double k = number(spec, "k", 0);
    if (k >= n) return exponential;
    const double z = threshold([](double at) { return normal_cdf(-at); }, k / n, -40, 40);
    return [t = beta + gamma * z](double x) { return x >= t ? std::exp(x) : 0; };
  }
  return {};
}

/// A feature map by components; empty for others.
Map feature_map(const std::string& feature) {
  if (feature == "elu1") return [](double x) { return x > 0 ? x + 1 : std::exp(x); };
  if (feature == "relu") return [](double x) { return std::max(x, 0.0); };
  if (feature == "exp") return [](double x) { return std::exp(x); };
  if (feature == "square") return [](double x) { return x * x; };
  return {};
}

/// a = phi(q) . phi(k) >= 0: its mean and variance are exact; higher moments as of a Gaussian, for the error bar only.
ConcentrationTruth linear_truth(const Map& phi, const GaussianKeys& keys, std::span<const float> q) {
  double mean = 0, variance = 0, known_at = std::nan("");
  Moments known;
  for (std::size_t c = 0; c < q.size(); ++c) {
    if (keys.mean[c] != known_at) known = moments_of(phi, keys.mean[c], keys.sigma), known_at = keys.mean[c];
    const double weight = phi(static_cast<double>(q[c]));
    mean += weight * known.first;
    variance += weight * weight * (known.second - known.first * known.first);
  }
  const double m2 = mean * mean;
  return truth_of({mean, m2 + variance, mean * (m2 + 3 * variance),
                   m2 * m2 + 6 * m2 * variance + 3 * variance * variance},
                  static_cast<double>(keys.n));
}

/// Row a_r = lambda^r x_r, r = 0 .. n - 1, with x independent of r.
ConcentrationTruth decayed(double lambda, const Moments& scores, double n) {
  ConcentrationTruth truth = truth_of(scores, n);
  if (lambda >= 1) return truth;
  const double end = std::pow(lambda, n);
  truth.sparsity *= std::sqrt((1 - end) * (1 + lambda) / (n * (1 - lambda) * (1 + end)));
  const double n_effective = (1 - end) * (1 + lambda) / ((1 - lambda) * (1 + end));
  truth.relative_sd *= std::sqrt(n / n_effective);
  return truth;
}

}  // namespace

std::optional<ConcentrationTruth> concentration_truth(const MethodSpec& canonical, const GaussianKeys& keys,
                                                      std::span<const float> q, index_t head) {
  double along = 0, square = 0;
  for (std::size_t c = 0; c < q.size(); ++c) {
    along += static_cast<double>(q[c]) * keys.mean[c];
    square += static_cast<double>(q[c]) * static_cast<double>(q[c]);
  }
  const double given = number(canonical, "scale", 0);
  const double scale = given != 0 ? given : 1 / std::sqrt(static_cast<double>(q.size()));
  const double beta = scale * along, gamma = scale * keys.sigma * std::sqrt(square);
  const auto n = static_cast<double>(keys.n);
  if (const Map f = score_map(canonical, beta, gamma, n)) return truth_of(moments_of(f, beta, gamma), n);
  if (canonical.id == "linear")
    if (const Map phi = feature_map(choice(canonical, "feature"))) return linear_truth(phi, keys, q);
  if (canonical.id == "retention") {
    const double decay = number(canonical, "decay", 0);
    const double lambda = decay != 0 ? decay : 1 - std::exp2(-5.0 - static_cast<double>(head));
    return decayed(lambda, moments_of([](double x) { return x; }, beta, gamma), n);
  }
  return std::nullopt;
}

}  // namespace borel
