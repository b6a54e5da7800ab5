#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "protocols/simplex_problems.hpp"
#include "protocols/vector_kernels.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

/// argmin over [0, t_max] of -sum_i w_i log(r_i + t s_i), convex in t: Newton, kept inside a bracket of the
/// derivative's root. r > 0; r + t s >= 0 on the interval.
double log_sum_step(std::span<const double> w, std::span<const double> r, std::span<const double> s,
                    double t_max) {
  double slope = 0, curvature = 0;
  const auto look_at = [&](double t) {
    slope = curvature = 0;
    for (std::size_t i = 0; i < r.size(); ++i) {
      if (s[i] == 0) continue;
      const double ratio = s[i] / (r[i] + t * s[i]);
      slope -= w[i] * ratio;
      curvature += w[i] * ratio * ratio;
    }
  };
  look_at(t_max);
  if (slope <= 0) return t_max;
  double low = 0, high = t_max, t = 0;
  for (int iteration = 0; iteration < 100; ++iteration) {
    look_at(t);
    if (t == 0 && slope >= 0) return 0;
    (slope < 0 ? low : high) = t;
    double next = t - slope / curvature;
    if (!(next > low && next < high)) next = 0.5 * (low + high);
    if (std::abs(next - t) <= 1e-15 * t_max) return next;
    t = next;
  }
  return t;
}

/// -sum_i w_i log (L p)_i.
class MixtureObjective final : public SimplexObjective, public MixtureLikelihood {
 public:
  MixtureObjective(ProblemInfo info, std::vector<double> likelihood, std::size_t n)
      : info_(std::move(info)), likelihood_(std::move(likelihood)), n_(n) {
    if (n_ == 0 || likelihood_.empty() || likelihood_.size() % n_ != 0)
      throw DatasetError(fmt::format("problem '{}': the likelihood has {} numbers, must be rows x {}", name(),
                                     likelihood_.size(), n_));
    m_ = likelihood_.size() / n_;
    for (std::size_t i = 0; i < m_; ++i) {
      const auto row = std::span(likelihood_).subspan(i * n_, n_);
      if (*std::ranges::min_element(row) < 0 || !(*std::ranges::max_element(row) > 0))
        throw DatasetError(fmt::format(
            "problem '{}': row {} of the likelihood must be >= 0 with a positive entry", name(), i));
    }
    weight_.assign(m_, 1.0 / static_cast<double>(m_));
  }

  index_t size() const override { return static_cast<index_t>(n_); }
  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }
  bool has_curvature() const override { return true; }
  const MixtureLikelihood* mixture() const override { return this; }
  TensorView<const double, 2> likelihood() const override {
    return {likelihood_.data(), {static_cast<index_t>(m_), static_cast<index_t>(n_)}};
  }
  std::span<const double> row_weight() const override { return weight_; }

 private:
  const double* row(std::size_t i) const { return &likelihood_[i * n_]; }

  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t i = 0; i < m_; ++i) {
      const double density = dot(row(i), p.data(), n_);
      if (!(density > 0)) return k_infinity;
      sum -= weight_[i] * std::log(density);
    }
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::ranges::fill(gradient, 0.0);
    double sum = 0;
    for (std::size_t i = 0; i < m_; ++i) {
      const double density = dot(row(i), p.data(), n_);
      if (!(density > 0)) return k_infinity;
      sum -= weight_[i] * std::log(density);
      add_scaled(-weight_[i] / density, row(i), gradient.data(), n_);
    }
    return sum;
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    for (std::size_t i = 0; i < m_; ++i) {
      const double density = dot(row(i), p.data(), n_);
      add_scaled(weight_[i] * dot(row(i), v.data(), n_) / (density * density), row(i), out.data(), n_);
    }
  }
  std::optional<double> do_exact_step(std::span<const double> p, std::span<const double> d,
                                      double t_max) const override {
    const Scratch<double> r(static_cast<index_t>(m_)), s(static_cast<index_t>(m_));
    for (std::size_t i = 0; i < m_; ++i) {
      r.data()[i] = dot(row(i), p.data(), n_);
      s.data()[i] = dot(row(i), d.data(), n_);
      if (!(r.data()[i] > 0)) return std::nullopt;
    }
    return log_sum_step(weight_, r.span(), s.span(), t_max);
  }

  ProblemInfo info_;
  std::vector<double> likelihood_, weight_;
  std::size_t n_, m_ = 0;
};

class CrossEntropy final : public SimplexObjective {
 public:
  CrossEntropy(ProblemInfo info, std::vector<double> target)
      : info_(std::move(info)), target_(std::move(target)) {
    for (std::size_t i = 0; i < target_.size(); ++i)
      if (!(target_[i] >= 0))
        throw DatasetError(
            fmt::format("problem '{}': target[{}] is {}, must be >= 0", name(), i, target_[i]));
    const double sum = std::accumulate(target_.begin(), target_.end(), 0.0);
    if (!(sum > 0))
      throw DatasetError(fmt::format("problem '{}': the target sums to {}, must be > 0", name(), sum));
    if (!info_.optimum) {
      std::vector<double> p = target_;
      for (double& v : p) v /= sum;
      info_.optimum = do_value(p);
    }
  }

  index_t size() const override { return static_cast<index_t>(target_.size()); }
  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }
  bool has_curvature() const override { return true; }

 private:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (target_[i] == 0) continue;
      if (!(p[i] > 0)) return k_infinity;
      sum -= target_[i] * std::log(p[i]);
    }
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    const double value = do_value(p);
    for (std::size_t i = 0; i < p.size(); ++i) gradient[i] = target_[i] == 0 ? 0 : -target_[i] / p[i];
    return value;
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    for (std::size_t i = 0; i < p.size(); ++i)
      out[i] = target_[i] == 0 ? 0 : target_[i] * v[i] / (p[i] * p[i]);
  }

  ProblemInfo info_;
  std::vector<double> target_;
};

class DOptimal final : public SimplexObjective {
 public:
  DOptimal(ProblemInfo info, std::vector<double> features, std::size_t d)
      : info_(std::move(info)), features_(std::move(features)), d_(d) {
    if (d_ == 0 || features_.empty() || features_.size() % d_ != 0)
      throw DatasetError(fmt::format("problem '{}': the features have {} numbers, must be n x {}", name(),
                                     features_.size(), d_));
    n_ = features_.size() / d_;
  }

  index_t size() const override { return static_cast<index_t>(n_); }
  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }

 private:
  /// Lower Cholesky factor of the information matrix sum p f f'; false when it is not positive definite.
  bool factor(std::span<const double> p, std::span<double> l) const {
    std::ranges::fill(l, 0.0);
    for (std::size_t i = 0; i < n_; ++i) {
      if (p[i] == 0) continue;
      const double* f = &features_[i * d_];
      for (std::size_t r = 0; r < d_; ++r)
        for (std::size_t c = 0; c <= r; ++c) l[r * d_ + c] += p[i] * f[r] * f[c];
    }
    for (std::size_t c = 0; c < d_; ++c) {
      for (std::size_t k = 0; k < c; ++k)
        for (std::size_t r = c; r < d_; ++r) l[r * d_ + c] -= l[r * d_ + k] * l[c * d_ + k];
      if (!(l[c * d_ + c] > 0)) return false;
      const double root = std::sqrt(l[c * d_ + c]);
      for (std::size_t r = c; r < d_; ++r) l[r * d_ + c] /= root;
    }
    return true;
  }
  double value_of(std::span<const double> l) const {
    double sum = 0;
    for (std::size_t c = 0; c < d_; ++c) sum -= 2 * std::log(l[c * d_ + c]);
    return sum;
  }
  double do_value(std::span<const double> p) const override {
    const Scratch<double> l(static_cast<index_t>(d_ * d_));
    return factor(p, l.span()) ? value_of(l.span()) : k_infinity;
  }
  /// dF/dp_i = -f_i' M^-1 f_i = -|L^-1 f_i|^2
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    const Scratch<double> factor_memory(static_cast<index_t>(d_ * d_)), solution(static_cast<index_t>(d_));
    const std::span<double> l = factor_memory.span(), x = solution.span();
    if (!factor(p, l)) return k_infinity;
    for (std::size_t i = 0; i < n_; ++i) {
      double square = 0;
      for (std::size_t r = 0; r < d_; ++r) {
        double v = features_[i * d_ + r];
        for (std::size_t c = 0; c < r; ++c) v -= l[r * d_ + c] * x[c];
        x[r] = v / l[r * d_ + r];
        square += x[r] * x[r];
      }
      gradient[i] = -square;
    }
    return value_of(l);
  }

  ProblemInfo info_;
  std::vector<double> features_;
  std::size_t d_, n_ = 0;
};

}  // namespace

SimplexProblem mixture_problem(ProblemInfo info, std::vector<double> likelihood, index_t n) {
  return std::make_unique<MixtureObjective>(std::move(info), std::move(likelihood),
                                            static_cast<std::size_t>(n));
}

SimplexProblem cross_entropy_problem(ProblemInfo info, std::vector<double> target) {
  return std::make_unique<CrossEntropy>(std::move(info), std::move(target));
}

SimplexProblem d_optimal_problem(ProblemInfo info, std::vector<double> features, index_t d) {
  return std::make_unique<DOptimal>(std::move(info), std::move(features), static_cast<std::size_t>(d));
}

}  // namespace borel
