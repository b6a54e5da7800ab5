#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel {
namespace {

double safe_log(double p) { return std::log(std::max(p, std::numeric_limits<double>::min())); }

/// c.p + epsilon sum p log p + constant.
class LinearEntropy : public SimplexObjective {
 public:
  LinearEntropy(ProblemInfo info, std::vector<double> c, double epsilon)
      : info_(std::move(info)), c_(std::move(c)), epsilon_(epsilon) {
    if (c_.empty())
      throw DatasetError(fmt::format("problem '{}': the cost is empty, must have at least 1 number", name()));
    if (!(epsilon > 0))
      throw DatasetError(fmt::format("problem '{}': epsilon must be > 0, got {}", name(), epsilon));
  }

  index_t size() const override { return static_cast<index_t>(c_.size()); }
  std::string_view name() const override { return info_.name; }
  std::optional<double> optimum() const override { return info_.optimum; }
  bool has_curvature() const override { return true; }
  std::optional<double> relative_smoothness() const override { return epsilon_; }

  /// -epsilon logsumexp(-c / epsilon), the minimum over the simplex without other constraints.
  double free_minimum() const {
    const double smallest = *std::ranges::min_element(c_);
    double sum = 0;
    for (double v : c_) sum += std::exp((smallest - v) / epsilon_);
    return smallest - epsilon_ * std::log(sum);
  }
  void set_optimum_if_unknown(double value) {
    if (!info_.optimum) info_.optimum = value;
  }

 protected:
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t i = 0; i < c_.size(); ++i) sum += p[i] * (c_[i] + epsilon_ * safe_log(p[i]));
    return sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    double sum = 0;
    for (std::size_t i = 0; i < c_.size(); ++i) {
      const double part = c_[i] + epsilon_ * safe_log(p[i]);
      sum += p[i] * part;
      gradient[i] = part + epsilon_;
    }
    return sum;
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    for (std::size_t i = 0; i < c_.size(); ++i)
      out[i] = epsilon_ * v[i] / std::max(p[i], std::numeric_limits<double>::min());
  }

  bool do_hessian(std::span<const double> p, std::span<const index_t> coordinates,
                  TensorView<double, 2> out) const override {
    for (std::size_t i = 0; i < coordinates.size(); ++i) {
      const auto row = static_cast<index_t>(i);
      for (index_t j = 0; j < row; ++j) out(row, j) = 0;
      out(row, row) = epsilon_ / std::max(p[static_cast<std::size_t>(coordinates[i])],
                                          std::numeric_limits<double>::min());
    }
    return true;
  }

  ProblemInfo info_;
  std::vector<double> c_;
  double epsilon_;
};

class MaxEntropy final : public LinearEntropy {
 public:
  MaxEntropy(ProblemInfo info, std::vector<double> moments, std::vector<double> b, double penalty)
      : LinearEntropy(std::move(info), std::vector<double>(columns(moments, b), 0.0), 1.0),
        moments_(std::move(moments)),
        b_(std::move(b)),
        penalty_(penalty) {
    if (!(penalty >= 0))
      throw DatasetError(fmt::format("problem '{}': penalty must be >= 0, got {}", name(), penalty));
  }

  std::optional<double> relative_smoothness() const override {
    const std::size_t n = c_.size();
    double largest = 0;
    for (std::size_t i = 0; i < n; ++i) {
      double norm = 0;
      for (std::size_t r = 0; r < b_.size(); ++r) norm += moments_[r * n + i] * moments_[r * n + i];
      largest = std::max(largest, norm);
    }
    return 1 + penalty_ * largest;
  }

 private:
  std::span<const double> row(std::size_t r) const {
    return std::span(moments_).subspan(r * c_.size(), c_.size());
  }
  static std::size_t columns(const std::vector<double>& moments, const std::vector<double>& b) {
    if (b.empty() || moments.size() % b.size() != 0)
      throw DatasetError(
          fmt::format("max_entropy: moments have {} numbers, must be rows x n with {} rows as in b",
                      moments.size(), b.size()));
    return moments.size() / b.size();
  }
  double do_value(std::span<const double> p) const override {
    double sum = 0;
    for (std::size_t r = 0; r < b_.size(); ++r) {
      const double residual = dense::dot(row(r), p) - b_[r];
      sum += residual * residual;
    }
    return LinearEntropy::do_value(p) + 0.5 * penalty_ * sum;
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    const double entropy = LinearEntropy::do_value_and_gradient(p, gradient);
    double sum = 0;
    for (std::size_t r = 0; r < b_.size(); ++r) {
      const double residual = dense::dot(row(r), p) - b_[r];
      dense::add_scaled(penalty_ * residual, row(r), gradient);
      sum += residual * residual;
    }
    return entropy + 0.5 * penalty_ * sum;
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    LinearEntropy::do_curvature_product(p, v, out);
    for (std::size_t r = 0; r < b_.size(); ++r)
      dense::add_scaled(penalty_ * dense::dot(row(r), v), row(r), out);
  }
  bool do_hessian(std::span<const double> p, std::span<const index_t> coordinates,
                  TensorView<double, 2> out) const override {
    LinearEntropy::do_hessian(p, coordinates, out);
    for (std::size_t i = 0; i < coordinates.size(); ++i)
      for (std::size_t j = 0; j <= i; ++j)
        for (std::size_t r = 0; r < b_.size(); ++r)
          out(static_cast<index_t>(i), static_cast<index_t>(j)) +=
              penalty_ * row(r)[static_cast<std::size_t>(coordinates[i])] *
              row(r)[static_cast<std::size_t>(coordinates[j])];
    return true;
  }

  std::vector<double> moments_, b_;
  double penalty_;
};

/// sum p log p under M p = b.
class MomentEntropy final : public LinearEntropy, public LinearConstraints {
 public:
  MomentEntropy(ProblemInfo info, std::vector<double> moments, std::vector<double> b)
      : LinearEntropy(std::move(info),
                      std::vector<double>(moments.size() / std::max<std::size_t>(1, b.size()), 0.0), 1.0),
        moments_(std::move(moments)),
        b_(std::move(b)) {
    if (b_.empty() || moments_.size() != b_.size() * c_.size())
      throw DatasetError(
          fmt::format("problem '{}': moments have {} numbers, must be rows x n with {} rows as in b", name(),
                      moments_.size(), b_.size()));
  }
  const LinearConstraints* constraints() const override { return this; }
  TensorView<const double, 2> matrix() const override {
    return {moments_.data(), {static_cast<index_t>(b_.size()), size()}};
  }
  std::span<const double> right_hand_side() const override { return b_; }

 private:
  std::vector<double> moments_, b_;
};

/// sum P (log P - 1) = sum P log P - 1 on the simplex; the constant is kept so that values are those of the
/// definition.
class Transport final : public LinearEntropy, public TransportProblem {
 public:
  Transport(ProblemInfo info, std::vector<double> cost, std::vector<double> source,
            std::vector<double> target, double epsilon)
      : LinearEntropy(std::move(info), std::move(cost), epsilon),
        source_(std::move(source)),
        target_(std::move(target)) {
    if (c_.size() != source_.size() * target_.size())
      throw DatasetError(fmt::format("problem '{}': the cost has {} numbers, must be {} x {}", name(),
                                     c_.size(), source_.size(), target_.size()));
  }

  const TransportProblem* transport() const override { return this; }
  TensorView<const double, 2> cost() const override {
    return {c_.data(), {static_cast<index_t>(source_.size()), static_cast<index_t>(target_.size())}};
  }
  std::span<const double> source() const override { return source_; }
  std::span<const double> target() const override { return target_; }
  double epsilon() const override { return epsilon_; }

 private:
  double do_value(std::span<const double> p) const override { return LinearEntropy::do_value(p) - epsilon_; }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    const double value = LinearEntropy::do_value_and_gradient(p, gradient) - epsilon_;
    for (double& g : gradient) g -= epsilon_;
    return value;
  }

  std::vector<double> source_, target_;
};

}  // namespace

SimplexProblem linear_entropy_problem(ProblemInfo info, std::vector<double> c, double epsilon) {
  auto problem = std::make_unique<LinearEntropy>(std::move(info), std::move(c), epsilon);
  problem->set_optimum_if_unknown(problem->free_minimum());
  return problem;
}

SimplexProblem kl_problem(ProblemInfo info, std::vector<double> target) {
  for (std::size_t i = 0; i < target.size(); ++i) {
    if (!(target[i] > 0))
      throw DatasetError(fmt::format("problem '{}': target[{}] is {}, must be > 0", info.name, i, target[i]));
    target[i] = -std::log(target[i]);
  }
  return linear_entropy_problem(std::move(info), std::move(target), 1.0);
}

SimplexProblem max_entropy_problem(ProblemInfo info, std::vector<double> moments, std::vector<double> b,
                                   double penalty) {
  return std::make_unique<MaxEntropy>(std::move(info), std::move(moments), std::move(b), penalty);
}

SimplexProblem moment_entropy_problem(ProblemInfo info, std::vector<double> moments, std::vector<double> b) {
  return std::make_unique<MomentEntropy>(std::move(info), std::move(moments), std::move(b));
}

SimplexProblem transport_problem(ProblemInfo info, std::vector<double> cost, std::vector<double> source,
                                 std::vector<double> target, double epsilon) {
  return std::make_unique<Transport>(std::move(info), std::move(cost), std::move(source), std::move(target),
                                     epsilon);
}

}  // namespace borel
