#include <algorithm>
#include <cmath>
#include <mutex>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "protocols/simplex_problems.hpp"
#include "protocols/vector_kernels.hpp"

namespace borel {
namespace {

/// Largest eigenvalue of a symmetric positive semidefinite operator: power iteration from a fixed start. It
/// approaches from below, hence the margin; a step of 1 / (1.05 lambda) stays safe while the estimate is more
/// than half the truth.
template <class Apply>
double largest_eigenvalue(std::size_t n, Apply&& apply) {
  constexpr int k_iterations = 100;
  constexpr double k_margin = 1.05;
  std::vector<double> v(n), w(n);
  Rng(Seed{n}).fill_normal(v);
  double eigenvalue = 0;
  for (int k = 0; k < k_iterations; ++k) {
    const double norm = std::sqrt(dot(v.data(), v.data(), n));
    if (norm == 0) return 0;
    for (double& x : v) x /= norm;
    apply(v.data(), w.data());
    eigenvalue = dot(v.data(), w.data(), n);
    std::swap(v, w);
  }
  return k_margin * eigenvalue;
}

/// What all quadratics share: F(p) = 1/2 p'Q p + b'p + c.
class Quadratic : public SimplexObjective, public QuadraticForm {
 public:
  explicit Quadratic(ProblemInfo info) : info_(std::move(info)) {}

  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }
  bool has_curvature() const override { return true; }
  const QuadraticForm* quadratic() const override { return this; }
  std::optional<double> smoothness() const override {
    std::call_once(smoothness_once_, [&] { smoothness_ = compute_smoothness(); });
    return smoothness_;
  }
  /// |x'Q x| <= max_ij |Q_ij| |x|_1^2, the largest entry of a semidefinite matrix is on the diagonal, and the
  /// entropy is 1-strongly convex in the 1-norm.
  std::optional<double> relative_smoothness() const override {
    double largest = 0;
    for (index_t i = 0; i < size(); ++i) largest = std::max(largest, diagonal(i));
    return largest;
  }

 protected:
  virtual double compute_smoothness() const = 0;
  /// Slope g.d and curvature d'Q d of t -> F(p + t d) at 0.
  virtual std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const = 0;
  std::optional<double> do_exact_step(std::span<const double> p, std::span<const double> d,
                                      double t_max) const override {
    const auto [slope, curvature] = along(p, d);
    if (slope >= 0) return 0.0;
    return curvature > 0 ? std::min(t_max, -slope / curvature) : t_max;
  }

  ProblemInfo info_;

 private:
  mutable std::once_flag smoothness_once_;
  mutable double smoothness_ = 0;
};

class LeastSquares final : public Quadratic {
 public:
  LeastSquares(ProblemInfo info, std::vector<double> a, std::vector<double> b)
      : Quadratic(std::move(info)), a_(std::move(a)), b_(std::move(b)) {
    m_ = b_.size();
    if (m_ == 0 || a_.empty() || a_.size() % m_ != 0)
      throw DatasetError(fmt::format("problem '{}': a has {} numbers, must be rows x n with {} rows as in b",
                                     name(), a_.size(), m_));
    n_ = a_.size() / m_;
    linear_.assign(n_, 0.0);
    diagonal_.assign(n_, 0.0);
    for (std::size_t r = 0; r < m_; ++r) {
      const double* row = &a_[r * n_];
      add_scaled(-b_[r], row, linear_.data(), n_);
      for (std::size_t i = 0; i < n_; ++i) diagonal_[i] += row[i] * row[i];
    }
  }

  index_t size() const override { return static_cast<index_t>(n_); }
  void column(index_t i, std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    for (std::size_t r = 0; r < m_; ++r)
      add_scaled(a_[r * n_ + static_cast<std::size_t>(i)], &a_[r * n_], out.data(), n_);
  }
  std::span<const double> linear() const override { return linear_; }
  double diagonal(index_t i) const override { return diagonal_[static_cast<std::size_t>(i)]; }
  double constant() const override { return 0.5 * dot(b_.data(), b_.data(), m_); }

 private:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t r = 0; r < m_; ++r) {
      const double residual = dot(&a_[r * n_], p.data(), n_) - b_[r];
      sum += residual * residual;
    }
    return 0.5 * sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::ranges::fill(gradient, 0.0);
    double sum = 0;
    for (std::size_t r = 0; r < m_; ++r) {
      const double residual = dot(&a_[r * n_], p.data(), n_) - b_[r];
      add_scaled(residual, &a_[r * n_], gradient.data(), n_);
      sum += residual * residual;
    }
    return 0.5 * sum;
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    multiply(v.data(), out.data());
  }
  void multiply(const double* v, double* out) const {
    std::fill(out, out + n_, 0.0);
    for (std::size_t r = 0; r < m_; ++r) add_scaled(dot(&a_[r * n_], v, n_), &a_[r * n_], out, n_);
  }
  double compute_smoothness() const override {
    return largest_eigenvalue(n_, [&](const double* v, double* out) { multiply(v, out); });
  }
  std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const override {
    double slope = 0, curvature = 0;
    for (std::size_t r = 0; r < m_; ++r) {
      const double image = dot(&a_[r * n_], d.data(), n_);
      slope += (dot(&a_[r * n_], p.data(), n_) - b_[r]) * image;
      curvature += image * image;
    }
    return {slope, curvature};
  }

  std::size_t m_ = 0, n_ = 0;
  std::vector<double> a_, b_, linear_, diagonal_;
};

class DenseQuadratic final : public Quadratic {
 public:
  DenseQuadratic(ProblemInfo info, std::vector<double> q, std::vector<double> b, double c)
      : Quadratic(std::move(info)), q_(std::move(q)), b_(std::move(b)), c_(c), n_(b_.size()) {
    if (n_ == 0 || q_.size() != n_ * n_)
      throw DatasetError(
          fmt::format("problem '{}': the matrix has {} numbers, must be {} x {} as the linear part", name(),
                      q_.size(), n_, n_));
  }

  index_t size() const override { return static_cast<index_t>(n_); }
  void column(index_t i, std::span<double> out) const override {
    std::copy_n(&q_[static_cast<std::size_t>(i) * n_], n_, out.begin());  // symmetric: a row
  }
  std::span<const double> linear() const override { return b_; }
  double diagonal(index_t i) const override { return q_[static_cast<std::size_t>(i) * (n_ + 1)]; }
  double constant() const override { return c_; }

 private:
  void multiply(const double* v, double* out) const {
    for (std::size_t i = 0; i < n_; ++i) out[i] = dot(&q_[i * n_], v, n_);
  }
  double do_value(std::span<const double> p) const override {
    double sum = c_;
    for (std::size_t i = 0; i < n_; ++i)
      if (p[i] != 0) sum += p[i] * (0.5 * dot(&q_[i * n_], p.data(), n_) + b_[i]);
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    double sum = c_;
    for (std::size_t i = 0; i < n_; ++i) {
      const double product = dot(&q_[i * n_], p.data(), n_);
      gradient[i] = product + b_[i];
      sum += p[i] * (0.5 * product + b_[i]);
    }
    return sum;
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    multiply(v.data(), out.data());
  }
  double compute_smoothness() const override {
    return largest_eigenvalue(n_, [&](const double* v, double* out) { multiply(v, out); });
  }
  std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const override {
    double slope = 0, curvature = 0;
    for (std::size_t i = 0; i < n_; ++i) {
      if (d[i] == 0) continue;
      slope += d[i] * (dot(&q_[i * n_], p.data(), n_) + b_[i]);
      curvature += d[i] * dot(&q_[i * n_], d.data(), n_);
    }
    return {slope, curvature};
  }

  std::vector<double> q_, b_;
  double c_;
  std::size_t n_;
};

class Projection final : public Quadratic {
 public:
  Projection(ProblemInfo info, std::vector<double> x) : Quadratic(std::move(info)), x_(std::move(x)) {
    if (x_.empty())
      throw DatasetError(fmt::format("problem '{}': x is empty, must have at least 1 number", name()));
    for (double v : x_) linear_.push_back(-v);
    if (!info_.optimum) {
      std::vector<double> p = x_;
      project_onto_simplex(p);
      info_.optimum = do_value(p);
    }
  }

  index_t size() const override { return static_cast<index_t>(x_.size()); }
  void column(index_t i, std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    out[static_cast<std::size_t>(i)] = 1;
  }
  std::span<const double> linear() const override { return linear_; }
  double diagonal(index_t) const override { return 1; }
  double constant() const override { return 0.5 * dot(x_.data(), x_.data(), x_.size()); }

 private:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t i = 0; i < x_.size(); ++i) sum += (p[i] - x_[i]) * (p[i] - x_[i]);
    return 0.5 * sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    for (std::size_t i = 0; i < x_.size(); ++i) gradient[i] = p[i] - x_[i];
    return do_value(p);
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    std::ranges::copy(v, out.begin());
  }
  double compute_smoothness() const override { return 1; }
  std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const override {
    double slope = 0, curvature = 0;
    for (std::size_t i = 0; i < x_.size(); ++i) {
      slope += d[i] * (p[i] - x_[i]);
      curvature += d[i] * d[i];
    }
    return {slope, curvature};
  }

  std::vector<double> x_, linear_;
};

}  // namespace

SimplexProblem least_squares_problem(ProblemInfo info, std::vector<double> a, std::vector<double> b) {
  return std::make_unique<LeastSquares>(std::move(info), std::move(a), std::move(b));
}

SimplexProblem projection_problem(ProblemInfo info, std::vector<double> x) {
  return std::make_unique<Projection>(std::move(info), std::move(x));
}

SimplexProblem quadratic_problem(ProblemInfo info, std::vector<double> q, std::vector<double> b, double c) {
  return std::make_unique<DenseQuadratic>(std::move(info), std::move(q), std::move(b), c);
}

}  // namespace borel
