#include "em.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/draft/lbfgs.hpp"
#include "em_kernel.hpp"

using borel::index_t;
using borel::StandardPoints;

namespace {

constexpr double k_log_sqrt_2pi = 0.91893853320467274178;
constexpr index_t k_grain = 4096;

/// Responsibility, first and second moment about the mean per component, and the log-likelihood: [3 K + 1].
std::vector<double> em_sums(const StandardPoints& data, const Mixture& mixture) {
  const std::size_t n_components = mixture.size();
  std::vector<double> log_weight(n_components), inverse_sd(n_components);
  for (std::size_t k = 0; k < n_components; ++k) {
    log_weight[k] = std::log(mixture.weight[k]) - std::log(mixture.sd[k]) - k_log_sqrt_2pi;
    inverse_sd[k] = 1 / mixture.sd[k];
  }
  const EmComponents components{log_weight.data(), mixture.mean.data(), inverse_sd.data(), n_components};
  return borel::deterministic_reduce(
      static_cast<index_t>(data.size()), k_grain, std::vector<double>(3 * n_components + 1),
      [&](index_t begin, index_t end) {
        std::vector<double> sums(3 * n_components + 1);
        const auto at = static_cast<std::size_t>(begin);
        add_em_sums(
            {data.u.data() + at, data.weight.data() + at,
             data.variance.empty() ? nullptr : data.variance.data() + at, static_cast<std::size_t>(end) - at},
            components, sums.data());
        return sums;
      },
      [](std::vector<double> a, const std::vector<double>& b) {
        for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
        return a;
      });
}

/// One EM step; returns the new mixture, and the log-likelihood of the OLD one.
Mixture em_step(const StandardPoints& data, const Mixture& old, double min_sd, double& mean_log_likelihood) {
  const std::size_t n_components = old.size();
  const std::vector<double> sums = em_sums(data, old);
  Mixture next = old;
  for (std::size_t k = 0; k < n_components; ++k) {
    const double s0 = sums[k], s1 = sums[n_components + k], s2 = sums[2 * n_components + k];
    next.weight[k] = s0;
    if (!(s0 > 1e-12)) continue;  // an empty component keeps its place
    const double shift = s1 / s0;
    next.mean[k] = old.mean[k] + shift;
    next.sd[k] = std::max(min_sd, std::sqrt(std::max(0.0, s2 / s0 - shift * shift)));
  }
  mean_log_likelihood = sums.back();
  return next;
}

/// The extrapolated point t0 - 2 a r + a^2 v of SQUAREM, brought back into the domain; false when it cannot
/// be.
bool extrapolate(const Mixture& t0, const Mixture& t1, const Mixture& t2, double min_sd, Mixture& out) {
  const std::size_t n = t0.size();
  double r_norm = 0, v_norm = 0;
  const auto coordinates = [&](std::size_t k, int axis, const Mixture& m) {
    return axis == 0 ? m.weight[k] : axis == 1 ? m.mean[k] : std::log(m.sd[k]);
  };
  for (std::size_t k = 0; k < n; ++k)
    for (int axis = 0; axis < 3; ++axis) {
      const double a = coordinates(k, axis, t0), b = coordinates(k, axis, t1), c = coordinates(k, axis, t2);
      r_norm += (b - a) * (b - a);
      v_norm += (c - 2 * b + a) * (c - 2 * b + a);
    }
  if (!(v_norm > 0) || !(r_norm > v_norm)) return false;
  const double alpha = -std::min(std::sqrt(r_norm / v_norm), 256.0);
  double total = 0;
  out = t2;
  for (std::size_t k = 0; k < n; ++k) {
    double value[3];
    for (int axis = 0; axis < 3; ++axis) {
      const double a = coordinates(k, axis, t0), b = coordinates(k, axis, t1), c = coordinates(k, axis, t2);
      value[axis] = a - 2 * alpha * (b - a) + alpha * alpha * (c - 2 * b + a);
    }
    if (!(value[0] > 0) || !std::isfinite(value[1]) || !(std::abs(value[2]) < 50)) return false;
    out.weight[k] = value[0], out.mean[k] = value[1], out.sd[k] = std::max(min_sd, std::exp(value[2]));
    total += value[0];
  }
  for (double& w : out.weight) w /= total;
  return true;
}

double variance_of(const StandardPoints& data, std::size_t i) {
  return data.variance.empty() ? 0.0 : data.variance[i];
}

/// Weights, means and deviations of clusters [edge[k], edge[k + 1]) of the sorted data.
Mixture from_clusters(const StandardPoints& data, const std::vector<std::size_t>& edge, double min_sd) {
  Mixture mixture;
  for (std::size_t k = 0; k + 1 < edge.size(); ++k) {
    double w = 0, s1 = 0, s2 = 0;
    for (std::size_t i = edge[k]; i < edge[k + 1]; ++i) w += data.weight[i], s1 += data.weight[i] * data.u[i];
    const double mean = w > 0 ? s1 / w : data.u[std::min(edge[k], data.size() - 1)];
    for (std::size_t i = edge[k]; i < edge[k + 1]; ++i)
      s2 += data.weight[i] * ((data.u[i] - mean) * (data.u[i] - mean) + variance_of(data, i));
    mixture.weight.push_back(std::max(w, 1e-6));
    mixture.mean.push_back(mean);
    // A cluster of one or two points says little about its width: not below a small share of the whole.
    mixture.sd.push_back(std::max({min_sd, 0.02, w > 0 ? std::sqrt(s2 / w) : 0.0}));
  }
  double total = 0;
  for (const double w : mixture.weight) total += w;
  for (double& w : mixture.weight) w /= total;
  return mixture;
}

}  // namespace

EmResult maximise(const StandardPoints& data, Mixture start, const EmLimits& limits) {
  EmResult result;
  Mixture t0 = std::move(start);
  double last = -std::numeric_limits<double>::infinity(), value = 0;
  while (result.iterations < limits.max_iterations) {
    limits.stop.throw_if_stopped();
    double value1 = 0;
    const Mixture t1 = em_step(data, t0, limits.min_sd, value);
    const Mixture t2 = em_step(data, t1, limits.min_sd, value1);
    result.iterations += 2;
    Mixture jump;
    bool jumped = false;
    if (extrapolate(t0, t1, t2, limits.min_sd, jump)) {
      double value_jump = 0;
      Mixture after = em_step(data, jump, limits.min_sd, value_jump);
      ++result.iterations;
      if (value_jump >= value1) {
        t0 = std::move(after);
        jumped = true;
      }
    }
    if (!jumped) t0 = t2;
    result.converged = value - last <= limits.tolerance && value1 - value <= limits.tolerance;
    last = value;
    if (result.converged) break;
  }
  em_step(data, t0, limits.min_sd, result.mean_log_likelihood);
  result.mixture = std::move(t0);
  return result;
}

EmResult ascend(const StandardPoints& data, const Mixture& start, const EmLimits& limits) {
  const std::size_t n = start.size();
  // Weights by softmax, sd = min_sd + exp(eta): no constraints.
  const auto mixture_at = [&](std::span<const double> x) {
    Mixture m;
    double top = *std::max_element(x.begin(), x.begin() + static_cast<index_t>(n)), sum = 0;
    for (std::size_t k = 0; k < n; ++k) sum += std::exp(x[k] - top);
    for (std::size_t k = 0; k < n; ++k) {
      m.weight.push_back(std::exp(x[k] - top) / sum);
      m.mean.push_back(x[n + k]);
      m.sd.push_back(limits.min_sd + std::exp(x[2 * n + k]));
    }
    return m;
  };
  std::vector<double> x;
  for (std::size_t k = 0; k < n; ++k) x.push_back(std::log(start.weight[k]));
  x.insert(x.end(), start.mean.begin(), start.mean.end());
  for (std::size_t k = 0; k < n; ++k) x.push_back(std::log(std::max(start.sd[k] - limits.min_sd, 1e-3)));
  const borel::LbfgsResult found = borel::minimise_lbfgs(
      [&](std::span<const double> at, std::span<double> gradient) {
        const Mixture m = mixture_at(at);
        const std::vector<double> sums = em_sums(data, m);
        for (std::size_t k = 0; k < n; ++k) {
          const double variance = m.sd[k] * m.sd[k];
          gradient[k] = m.weight[k] - sums[k];
          gradient[n + k] = -sums[n + k] / variance;
          const double d_log_sd = sums[k] - sums[2 * n + k] / variance;
          gradient[2 * n + k] = d_log_sd * (m.sd[k] - limits.min_sd) / m.sd[k];
        }
        return -sums.back();
      },
      std::move(x), {1e-9, limits.max_iterations, 20, limits.stop});
  return {mixture_at(found.x), -found.value, found.iterations, found.converged};
}

Mixture quantile_start(const StandardPoints& data, std::size_t n_components, double min_sd) {
  std::vector<std::size_t> edge{0};
  double before = 0;
  for (std::size_t i = 0; i < data.size() && edge.size() < n_components; ++i) {
    before += data.weight[i];
    if (before * static_cast<double>(n_components) >= static_cast<double>(edge.size())) edge.push_back(i + 1);
  }
  while (edge.size() <= n_components) edge.push_back(data.size());
  return from_clusters(data, edge, min_sd);
}

Mixture k_means_start(const StandardPoints& data, std::size_t n_components, double min_sd, borel::Rng& rng) {
  std::vector<double> centre, distance(data.size(), std::numeric_limits<double>::infinity());
  const auto draw = [&](const std::vector<double>& mass) {
    double total = 0;
    for (const double m : mass) total += m;
    double u = rng.uniform() * total;
    for (std::size_t i = 0; i < mass.size(); ++i)
      if ((u -= mass[i]) < 0) return i;
    return mass.size() - 1;
  };
  centre.push_back(data.u[draw(data.weight)]);
  std::vector<double> mass(data.size());
  while (centre.size() < n_components) {
    for (std::size_t i = 0; i < data.size(); ++i) {
      const double d = data.u[i] - centre.back();
      distance[i] = std::min(distance[i], d * d);
      mass[i] = data.weight[i] * distance[i];
    }
    centre.push_back(data.u[draw(mass)]);
  }
  std::sort(centre.begin(), centre.end());
  std::vector<std::size_t> edge;
  for (int round = 0; round < 5;
       ++round) {  // few: the diversity of the seeds is wanted, not the best k-means
    edge.assign(1, 0);
    for (std::size_t k = 0; k + 1 < n_components; ++k) {
      const double border = 0.5 * (centre[k] + centre[k + 1]);
      const auto at = std::lower_bound(data.u.begin(), data.u.end(), border) - data.u.begin();
      edge.push_back(std::max(edge.back(), static_cast<std::size_t>(at)));
    }
    edge.push_back(data.size());
    for (std::size_t k = 0; k < n_components; ++k) {
      double w = 0, s = 0;
      for (std::size_t i = edge[k]; i < edge[k + 1]; ++i)
        w += data.weight[i], s += data.weight[i] * data.u[i];
      if (w > 0) centre[k] = s / w;
    }
  }
  return from_clusters(data, edge, min_sd);
}

Mixture split(const Mixture& mixture, std::size_t k) {
  Mixture out = mixture;
  const double step = 0.7 * mixture.sd[k];
  out.weight[k] *= 0.5;
  out.mean[k] -= step;
  out.sd[k] *= 0.7;
  out.weight.push_back(out.weight[k]);
  out.mean.push_back(mixture.mean[k] + step);
  out.sd.push_back(out.sd[k]);
  return out;
}
