#include <algorithm>
#include <cmath>
#include <mutex>

#include <fmt/format.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"
#include "borel/optimizer.hpp"
#include "borel/parallel.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel {
namespace {

/// Largest eigenvalue of a symmetric positive semidefinite operator: power iteration from a fixed start. It
/// approaches from below, hence the margin; a step of 1 / (1.05 lambda) stays safe while the estimate is more
/// than half the truth.
template <class Apply>
double largest_eigenvalue(std::size_t n, Apply&& apply) {
  constexpr int k_iterations = 100;
  constexpr double k_margin = 1.05, k_settled = 1e-3;
  std::vector<double> v(n), w(n);
  Rng(Seed{n}).fill_normal(v);
  double eigenvalue = 0;
  for (int k = 0; k < k_iterations; ++k) {
    const double norm = std::sqrt(dense::dot(v, v)), before = eigenvalue;
    if (norm == 0) return 0;
    for (double& x : v) x /= norm;
    apply(v, w);
    eigenvalue = dense::dot(v, w);
    std::swap(v, w);
    if (eigenvalue - before <= k_settled * eigenvalue) break;
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
      : Quadratic(std::move(info)), values_(std::move(a)), b_(std::move(b)) {
    const std::size_t m = b_.size();
    if (m == 0 || values_.empty() || values_.size() % m != 0)
      throw DatasetError(fmt::format("problem '{}': a has {} numbers, must be rows x n with {} rows as in b",
                                     name(), values_.size(), m));
    const std::size_t n = values_.size() / m;
    a_ = {values_.data(), {static_cast<index_t>(m), static_cast<index_t>(n)}};
    linear_.assign(n, 0.0);
    diagonal_.assign(n, 0.0);
    for (std::size_t r = 0; r < m; ++r) {
      const std::span<const double> row = a_.row(static_cast<index_t>(r));
      dense::add_scaled(-b_[r], row, linear_);
      for (std::size_t i = 0; i < n; ++i) diagonal_[i] += row[i] * row[i];
    }
  }

  index_t size() const override { return a_.shape(1); }
  void column(index_t i, std::span<double> out) const override {
    count_column(0.5);  // A' times a column of A; a gradient takes A p as well
    const Scratch<double> of_a(a_.shape(0));
    for (index_t r = 0; r < a_.shape(0); ++r) of_a[r] = a_(r, i);
    std::ranges::fill(out, 0.0);
    dense::add_transposed(a_, of_a.span(), out);
  }
  void columns(std::span<const index_t> indices, TensorView<double, 2> out) const override {
    const auto k = static_cast<index_t>(indices.size()), m = a_.shape(0);
    const Scratch<double> of_a(k * m);
    for (index_t r = 0; r < m; ++r)
      for (index_t c = 0; c < k; ++c) of_a[c * m + r] = a_(r, indices[static_cast<std::size_t>(c)]);
    for (index_t c = 0; c < k; ++c) {
      count_column(0.5);
      std::ranges::fill(out.row(c), 0.0);
    }
    dense::add_transposed(a_, TensorView<const double, 2>(of_a.span().data(), {k, m}), out);
  }
  std::span<const double> linear() const override { return linear_; }
  double diagonal(index_t i) const override { return diagonal_[static_cast<std::size_t>(i)]; }
  double constant() const override { return 0.5 * dense::dot(b_, b_); }

 private:
  /// Calls look(first row, rows of A, A v there) for blocks that stay in the cache while look() uses them.
  template <class Look>
  void for_each_block(std::span<const double> v, Look&& look) const {
    constexpr index_t k_rows = 8;
    double image[k_rows];
    for (index_t begin = 0; begin < a_.shape(0); begin += k_rows) {
      const index_t rows = std::min(k_rows, a_.shape(0) - begin);
      const std::span<double> part(image, static_cast<std::size_t>(rows));
      const TensorView<const double, 2> block = a_.slice(0, begin, begin + rows);
      dense::multiply(block, v, part);
      look(static_cast<std::size_t>(begin), block, part);
    }
  }
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for_each_block(p, [&](std::size_t begin, const auto&, std::span<double> image) {
      for (std::size_t r = 0; r < image.size(); ++r)
        sum += (image[r] - b_[begin + r]) * (image[r] - b_[begin + r]);
    });
    return 0.5 * sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::ranges::fill(gradient, 0.0);
    double sum = 0;
    for_each_block(p, [&](std::size_t begin, const auto& rows, std::span<double> image) {
      for (std::size_t r = 0; r < image.size(); ++r) {
        image[r] -= b_[begin + r];
        sum += image[r] * image[r];
      }
      dense::add_transposed(rows, image, gradient);
    });
    return 0.5 * sum;
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    for_each_block(v, [&](std::size_t, const auto& rows, std::span<double> image) {
      dense::add_transposed(rows, image, out);
    });
  }
  double compute_smoothness() const override {
    return largest_eigenvalue(static_cast<std::size_t>(size()),
                              [&](const auto& v, auto& out) { do_curvature_product(v, v, out); });
  }
  std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const override {
    double slope = 0, curvature = 0;
    for_each_block(d, [&](std::size_t begin, const auto& rows, std::span<double> image) {
      double residual[8];
      dense::multiply(rows, p, residual);
      for (std::size_t r = 0; r < image.size(); ++r) {
        slope += (residual[r] - b_[begin + r]) * image[r];
        curvature += image[r] * image[r];
      }
    });
    return {slope, curvature};
  }

  std::vector<double> values_, b_, linear_, diagonal_;
  TensorView<const double, 2> a_;
};

class DenseQuadratic final : public Quadratic {
 public:
  DenseQuadratic(ProblemInfo info, std::vector<double> q, std::vector<double> b, double c)
      : Quadratic(std::move(info)), values_(std::move(q)), b_(std::move(b)), c_(c) {
    if (b_.empty() || values_.size() != b_.size() * b_.size())
      throw DatasetError(
          fmt::format("problem '{}': the matrix has {} numbers, must be {} x {} as the linear part", name(),
                      values_.size(), b_.size(), b_.size()));
    const auto n = static_cast<index_t>(b_.size());
    q_ = {values_.data(), {n, n}};
  }

  index_t size() const override { return q_.shape(0); }
  void column(index_t i, std::span<double> out) const override {
    count_column(1 / static_cast<double>(size()));
    std::ranges::copy(q_.row(i), out.begin());  // symmetric: a row
  }
  std::span<const double> linear() const override { return b_; }
  double diagonal(index_t i) const override { return q_(i, i); }
  double constant() const override { return c_; }

 private:
  double do_value(std::span<const double> p) const override {
    double sum = c_;
    for (std::size_t i = 0; i < b_.size(); ++i)
      if (p[i] != 0) sum += p[i] * (0.5 * dense::dot(q_.row(static_cast<index_t>(i)), p) + b_[i]);
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    dense::multiply(q_, p, gradient);
    double sum = c_;
    for (std::size_t i = 0; i < b_.size(); ++i) {
      sum += p[i] * (0.5 * gradient[i] + b_[i]);
      gradient[i] += b_[i];
    }
    return sum;
  }
  void do_curvature_product(std::span<const double>, std::span<const double> v,
                            std::span<double> out) const override {
    dense::multiply(q_, v, out);
  }
  double compute_smoothness() const override {
    return largest_eigenvalue(b_.size(), [&](const auto& v, auto& out) { dense::multiply(q_, v, out); });
  }
  std::pair<double, double> along(std::span<const double> p, std::span<const double> d) const override {
    double slope = 0, curvature = 0;
    for (std::size_t i = 0; i < b_.size(); ++i) {
      if (d[i] == 0) continue;
      const std::span<const double> row = q_.row(static_cast<index_t>(i));
      slope += d[i] * (dense::dot(row, p) + b_[i]);
      curvature += d[i] * dense::dot(row, d);
    }
    return {slope, curvature};
  }

  std::vector<double> values_, b_;
  double c_;
  TensorView<const double, 2> q_;
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
    count_column(1 / static_cast<double>(size()));
    std::ranges::fill(out, 0.0);
    out[static_cast<std::size_t>(i)] = 1;
  }
  std::span<const double> linear() const override { return linear_; }
  double diagonal(index_t) const override { return 1; }
  double constant() const override { return 0.5 * dense::dot(x_, x_); }

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
