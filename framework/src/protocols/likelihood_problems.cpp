#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <fmt/format.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"
#include "borel/mixture_objective.hpp"
#include "borel/parallel.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

class CrossEntropy final : public SimplexObjective {
 public:
  CrossEntropy(ProblemInfo info, std::vector<double> target)
      : info_(std::move(info)), target_(std::move(target)) {
    for (std::size_t i = 0; i < target_.size(); ++i)
      if (!(target_[i] >= 0))
        throw DatasetError(
            fmt::format("problem '{}': target[{}] is {}, must be >= 0", name(), i, target_[i]));
    sum_ = std::accumulate(target_.begin(), target_.end(), 0.0);
    if (!(sum_ > 0))
      throw DatasetError(fmt::format("problem '{}': the target sums to {}, must be > 0", name(), sum_));
    if (!info_.optimum) {
      std::vector<double> p = target_;
      for (double& v : p) v /= sum_;
      info_.optimum = do_value(p);
    }
  }

  index_t size() const override { return static_cast<index_t>(target_.size()); }
  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }
  bool has_curvature() const override { return true; }
  std::optional<double> log_homogeneity() const override { return sum_; }

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

  bool do_hessian(std::span<const double> p, std::span<const index_t> coordinates,
                  TensorView<double, 2> out) const override {
    for (std::size_t i = 0; i < coordinates.size(); ++i) {
      const auto row = static_cast<index_t>(i);
      const auto at = static_cast<std::size_t>(coordinates[i]);
      for (index_t j = 0; j < row; ++j) out(row, j) = 0;
      out(row, row) = target_[at] == 0 ? 0 : target_[at] / (p[at] * p[at]);
    }
    return true;
  }

  ProblemInfo info_;
  std::vector<double> target_;
  double sum_ = 0;
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
  bool has_curvature() const override { return true; }
  std::optional<double> log_homogeneity() const override { return static_cast<double>(d_); }

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
      whiten(i, l, x);
      double square = 0;
      for (double v : x) square += v * v;
      gradient[i] = -square;
    }
    return value_of(l);
  }
  /// H_ij = (f_i' M^-1 f_j)^2, so (H v)_i = y_i' (sum_j v_j y_j y_j') y_i with y = L^-1 f.
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    const Scratch<double> factor_memory(static_cast<index_t>(d_ * d_)), middle(static_cast<index_t>(d_ * d_)),
        solution(static_cast<index_t>(d_));
    const std::span<double> l = factor_memory.span(), x = solution.span(), b = middle.span();
    if (!factor(p, l)) {
      std::ranges::fill(out, std::numeric_limits<double>::quiet_NaN());
      return;
    }
    std::ranges::fill(b, 0.0);
    for (std::size_t j = 0; j < n_; ++j) {
      if (v[j] == 0) continue;
      whiten(j, l, x);
      for (std::size_t r = 0; r < d_; ++r)
        for (std::size_t c = 0; c < d_; ++c) b[r * d_ + c] += v[j] * x[r] * x[c];
    }
    for (std::size_t i = 0; i < n_; ++i) {
      whiten(i, l, x);
      out[i] = 0;
      for (std::size_t r = 0; r < d_; ++r)
        for (std::size_t c = 0; c < d_; ++c) out[i] += x[r] * b[r * d_ + c] * x[c];
    }
  }
  bool do_hessian(std::span<const double> p, std::span<const index_t> coordinates,
                  TensorView<double, 2> out) const override {
    const Scratch<double> factor_memory(static_cast<index_t>(d_ * d_));
    if (!factor(p, factor_memory.span())) return false;
    std::vector<double> y(coordinates.size() * d_);
    for (std::size_t i = 0; i < coordinates.size(); ++i)
      whiten(static_cast<std::size_t>(coordinates[i]), factor_memory.span(),
             std::span(y).subspan(i * d_, d_));
    for (index_t i = 0; i < out.shape(0); ++i)
      for (index_t j = 0; j <= i; ++j) out(i, j) = 0;
    dense::add_gram({y.data(), {out.shape(0), static_cast<index_t>(d_)}}, out);
    for (index_t i = 0; i < out.shape(0); ++i)
      for (index_t j = 0; j <= i; ++j) out(i, j) *= out(i, j);
    return true;
  }
  /// x = L^-1 f_i
  void whiten(std::size_t i, std::span<const double> l, std::span<double> x) const {
    for (std::size_t r = 0; r < d_; ++r) {
      double v = features_[i * d_ + r];
      for (std::size_t c = 0; c < r; ++c) v -= l[r * d_ + c] * x[c];
      x[r] = v / l[r * d_ + r];
    }
  }

  ProblemInfo info_;
  std::vector<double> features_;
  std::size_t d_, n_ = 0;
};

}  // namespace

SimplexProblem mixture_problem(ProblemInfo info, std::vector<double> likelihood, index_t n) {
  const index_t m = n > 0 ? static_cast<index_t>(likelihood.size()) / n : 0;
  try {
    return mixture_objective(std::move(info.name), DenseLikelihood{std::move(likelihood), m, n}, {},
                             info.optimum);
  } catch (const MethodError& error) {
    throw DatasetError(error.what());
  }
}

SimplexProblem mixture_problem(ProblemInfo info, SparseLikelihood likelihood) {
  try {
    return mixture_objective(std::move(info.name), std::move(likelihood), {}, info.optimum);
  } catch (const MethodError& error) {
    throw DatasetError(error.what());
  }
}

SimplexProblem cross_entropy_problem(ProblemInfo info, std::vector<double> target) {
  return std::make_unique<CrossEntropy>(std::move(info), std::move(target));
}

SimplexProblem d_optimal_problem(ProblemInfo info, std::vector<double> features, index_t d) {
  return std::make_unique<DOptimal>(std::move(info), std::move(features), static_cast<std::size_t>(d));
}

}  // namespace borel
