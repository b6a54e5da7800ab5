#include "borel/mixture_objective.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/draft/dense_kernels.hpp"
#include "borel/error.hpp"
#include "borel/parallel.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
/// Rows of a dense L that are read twice in a row by a gradient: they stay in the cache in between.
constexpr index_t k_row_block = 8;

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

/// What does not depend on how L is stored.
class MixtureObjective : public SimplexObjective, public MixtureLikelihood {
 public:
  std::string_view name() const override { return name_; }
  std::optional<double> optimum() const override { return optimum_; }
  bool has_curvature() const override { return true; }
  const MixtureLikelihood* mixture() const override { return this; }
  std::optional<double> log_homogeneity() const override { return 1.0; }
  index_t n_rows() const override { return n_rows_; }
  std::span<const double> row_weight() const override { return weight_; }

 protected:
  MixtureObjective(std::string name, index_t n_rows, std::vector<double> weight,
                   std::optional<double> optimum)
      : name_(std::move(name)), n_rows_(n_rows), weight_(std::move(weight)), optimum_(optimum) {
    if (weight_.empty()) weight_.assign(static_cast<std::size_t>(n_rows_), 1.0);
    if (static_cast<index_t>(weight_.size()) != n_rows_)
      fail(fmt::format("{} row weights for {} rows", weight_.size(), n_rows_));
    long double sum = 0;
    for (std::size_t i = 0; i < weight_.size(); ++i) {
      if (!(weight_[i] >= 0) || !std::isfinite(weight_[i]))
        fail(fmt::format("row weight {} is {}, must be a number >= 0", i, weight_[i]));
      sum += weight_[i];
    }
    if (!(sum > 0)) fail("all row weights are 0, one must be positive");
    for (double& w : weight_) w = static_cast<double>(w / sum);
  }
  [[noreturn]] void fail(const std::string& rule) const {
    throw MethodError(fmt::format("problem '{}': {}", name_, rule));
  }
  void check_entry(double value, index_t row, index_t column) const {
    if (!(value >= 0) || !std::isfinite(value))
      fail(fmt::format("the likelihood in row {}, column {} is {}, must be a number >= 0", row, column,
                       value));
  }

  /// F from r = L p.
  double value_of(std::span<const double> density) const {
    double sum = 0;
    for (std::size_t i = 0; i < density.size(); ++i) {
      if (weight_[i] == 0) continue;
      if (!(density[i] > 0)) return k_infinity;
      sum -= weight_[i] * std::log(density[i]);
    }
    return sum;
  }

  std::string name_;
  index_t n_rows_;
  std::vector<double> weight_;

 private:
  double do_value(std::span<const double> p) const override {
    const Scratch<double> density(n_rows_);
    multiply(p, density.span());
    return value_of(density.span());
  }
  void do_curvature_product(std::span<const double> p, std::span<const double> v,
                            std::span<double> out) const override {
    const Scratch<double> density(n_rows_), image(n_rows_);
    multiply(p, density.span());
    multiply(v, image.span());
    for (index_t i = 0; i < n_rows_; ++i)
      image[i] *= weight_[static_cast<std::size_t>(i)] / (density[i] * density[i]);
    multiply_transposed(image.span(), out);
  }
  std::optional<double> do_exact_step(std::span<const double> p, std::span<const double> d,
                                      double t_max) const override {
    const Scratch<double> r(n_rows_), s(n_rows_);
    multiply(p, r.span());
    multiply(d, s.span());
    for (double value : r.span())
      if (!(value > 0)) return std::nullopt;
    return log_sum_step(weight_, r.span(), s.span(), t_max);
  }

  std::optional<double> optimum_;
};

class DenseMixture final : public MixtureObjective {
 public:
  DenseMixture(std::string name, DenseLikelihood likelihood, std::vector<double> weight,
               std::optional<double> optimum)
      : MixtureObjective(std::move(name), likelihood.n_rows, std::move(weight), optimum),
        values_(std::move(likelihood.values)),
        n_(likelihood.n_columns) {
    if (n_ < 1 || n_rows_ < 1 || static_cast<index_t>(values_.size()) != n_rows_ * n_)
      fail(fmt::format("the likelihood has {} numbers, must be {} rows x {} columns", values_.size(), n_rows_,
                       n_));
    for (index_t i = 0; i < n_rows_; ++i) {
      double largest = 0;
      for (index_t j = 0; j < n_; ++j) {
        const double value = values_[static_cast<std::size_t>(i * n_ + j)];
        check_entry(value, i, j);
        largest = std::max(largest, value);
      }
      if (!(largest > 0)) fail(fmt::format("row {} of the likelihood has no positive entry", i));
    }
  }

  index_t size() const override { return n_; }
  TensorView<const double, 2> likelihood() const override { return {values_.data(), {n_rows_, n_}}; }
  void column(index_t j, std::span<double> out) const override {
    for (index_t i = 0; i < n_rows_; ++i)
      out[static_cast<std::size_t>(i)] = values_[static_cast<std::size_t>(i * n_ + j)];
  }
  void multiply(std::span<const double> p, std::span<double> out) const override {
    dense::multiply(likelihood(), p, out);
  }
  void multiply_transposed(std::span<const double> r, std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    dense::add_transposed(likelihood(), r, out);
  }

 private:
  /// A block of rows is multiplied by p, and, while it is in the cache, added to the gradient: one pass over memory.
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    std::ranges::fill(gradient, 0.0);
    double density[k_row_block];
    double sum = 0;
    for (index_t begin = 0; begin < n_rows_; begin += k_row_block) {
      const index_t rows = std::min(k_row_block, n_rows_ - begin);
      const std::span<double> r(density, static_cast<std::size_t>(rows));
      const TensorView<const double, 2> block = likelihood().slice(0, begin, begin + rows);
      dense::multiply(block, p, r);
      for (index_t i = 0; i < rows; ++i) {
        const double w = weight_[static_cast<std::size_t>(begin + i)];
        double& value = r[static_cast<std::size_t>(i)];
        if (w == 0) {
          value = 0;
          continue;
        }
        if (!(value > 0)) return k_infinity;
        sum -= w * std::log(value);
        value = -w / value;
      }
      dense::add_transposed(block, r, gradient);
    }
    return sum;
  }

  std::vector<double> values_;
  index_t n_;
};

class SparseMixture final : public MixtureObjective {
 public:
  SparseMixture(std::string name, SparseLikelihood likelihood, std::vector<double> weight,
                std::optional<double> optimum)
      : MixtureObjective(std::move(name), likelihood.n_rows, std::move(weight), optimum),
        begin_(std::move(likelihood.begin)),
        row_(std::move(likelihood.row)),
        value_(std::move(likelihood.value)) {
    if (n_rows_ < 1 || begin_.size() < 2 || begin_.front() != 0 ||
        begin_.back() != static_cast<index_t>(row_.size()) || row_.size() != value_.size())
      fail(fmt::format(
          "the sparse likelihood has {} column bounds, {} rows, {} values; must be n + 1 bounds from 0 to "
          "the number of values, and a row for each value",
          begin_.size(), row_.size(), value_.size()));
    for (std::size_t j = 1; j < begin_.size(); ++j)
      if (begin_[j] < begin_[j - 1])
        fail(fmt::format("column bound {} is {}, less than the one before, {}", j, begin_[j], begin_[j - 1]));
    std::vector<char> reached(static_cast<std::size_t>(n_rows_), 0);
    for (index_t j = 0; j < size(); ++j) {
      const index_t first = begin_[static_cast<std::size_t>(j)],
                    last = begin_[static_cast<std::size_t>(j) + 1];
      for (index_t k = first, before = -1; k < last; ++k) {
        const index_t row = row_[static_cast<std::size_t>(k)];
        const double value = value_[static_cast<std::size_t>(k)];
        if (row <= before || row >= n_rows_)
          fail(fmt::format("column {} has row {} after row {}; rows must ascend and be below {}", j, row,
                           before, n_rows_));
        check_entry(value, row, j);
        if (value > 0) reached[static_cast<std::size_t>(row)] = 1;
        before = row;
      }
    }
    const auto missed = std::ranges::find(reached, 0);
    if (missed != reached.end())
      fail(fmt::format("row {} of the likelihood has no positive entry", missed - reached.begin()));
    columns_ = {begin_, row_, value_};
  }

  index_t size() const override { return static_cast<index_t>(begin_.size()) - 1; }
  TensorView<const double, 2> likelihood() const override { return {}; }
  const SparseColumns* sparse() const override { return &columns_; }
  void column(index_t j, std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    for_column(j, [&](std::size_t row, double value) { out[row] = value; });
  }
  void multiply(std::span<const double> p, std::span<double> out) const override {
    std::ranges::fill(out, 0.0);
    for (index_t j = 0; j < size(); ++j) {
      const double factor = p[static_cast<std::size_t>(j)];
      if (factor != 0) for_column(j, [&](std::size_t row, double value) { out[row] += factor * value; });
    }
  }
  void multiply_transposed(std::span<const double> r, std::span<double> out) const override {
    for (index_t j = 0; j < size(); ++j) {
      double sum = 0;
      for_column(j, [&](std::size_t row, double value) { sum += r[row] * value; });
      out[static_cast<std::size_t>(j)] = sum;
    }
  }

 private:
  template <class Visit>
  void for_column(index_t j, Visit&& visit) const {
    const index_t last = begin_[static_cast<std::size_t>(j) + 1];
    for (index_t k = begin_[static_cast<std::size_t>(j)]; k < last; ++k)
      visit(static_cast<std::size_t>(row_[static_cast<std::size_t>(k)]), value_[static_cast<std::size_t>(k)]);
  }
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override {
    const Scratch<double> density(n_rows_);
    multiply(p, density.span());
    const double value = value_of(density.span());
    if (!std::isfinite(value)) return value;
    for (index_t i = 0; i < n_rows_; ++i) {
      const double w = weight_[static_cast<std::size_t>(i)];
      density[i] = w == 0 ? 0 : -w / density[i];
    }
    multiply_transposed(density.span(), gradient);
    return value;
  }

  std::vector<index_t> begin_, row_;
  std::vector<double> value_;
  SparseColumns columns_;
};

}  // namespace

std::unique_ptr<SimplexObjective> mixture_objective(std::string name, DenseLikelihood likelihood,
                                                    std::vector<double> row_weight,
                                                    std::optional<double> optimum) {
  return std::make_unique<DenseMixture>(std::move(name), std::move(likelihood), std::move(row_weight),
                                        optimum);
}

std::unique_ptr<SimplexObjective> mixture_objective(std::string name, SparseLikelihood likelihood,
                                                    std::vector<double> row_weight,
                                                    std::optional<double> optimum) {
  return std::make_unique<SparseMixture>(std::move(name), std::move(likelihood), std::move(row_weight),
                                         optimum);
}

}  // namespace borel
