#include "borel/objective.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {

Objective::~Objective() = default;

OracleCounts Objective::counts() const {
  return {values_.load(std::memory_order_relaxed), gradients_.load(std::memory_order_relaxed),
          curvature_.load(std::memory_order_relaxed),
          1e-6 * static_cast<double>(column_millionths_.load(std::memory_order_relaxed))};
}

void Objective::count(Oracle oracle) const {
  std::atomic<std::int64_t>& counter = oracle == Oracle::value      ? values_
                                       : oracle == Oracle::gradient ? gradients_
                                                                    : curvature_;
  counter.fetch_add(1, std::memory_order_relaxed);
}

void Objective::count_column(double gradients) const {
  column_millionths_.fetch_add(std::llround(1e6 * gradients), std::memory_order_relaxed);
}

namespace {

/// +infinity is a value (outside the effective domain); NaN and -infinity are faults of the objective.
void check_value(double value, std::string_view name, std::string_view call, std::int64_t number) {
  if (std::isnan(value) || value == -std::numeric_limits<double>::infinity())
    throw MethodError(
        fmt::format("objective '{}', {} call {}: the value is {}, it must be a number or +infinity; check "
                    "the problem's data",
                    name, call, number, value));
}

void check_gradient(std::span<const double> gradient, std::string_view name, std::string_view call,
                    std::int64_t number) {
  double sum = 0;  // NaN exactly when an entry is not finite
  for (double g : gradient) sum += 0 * g;
  if (sum == 0) return;
  const auto bad = std::find_if(gradient.begin(), gradient.end(), [](double g) { return !std::isfinite(g); });
  throw MethodError(
      fmt::format("objective '{}', {} call {}: coordinate {} of the gradient is {}, it must be finite where "
                  "the value is; "
                  "check the problem's data",
                  name, call, number, bad - gradient.begin(), *bad));
}

void expect_size(std::size_t given, index_t expected, std::string_view name, std::string_view what) {
  if (static_cast<index_t>(given) != expected)
    throw MethodError(
        fmt::format("objective '{}': {} has {} numbers, must have {}", name, what, given, expected));
}

}  // namespace

double SimplexObjective::value(std::span<const double> p) const {
  expect_size(p.size(), size(), name(), "the point");
  count(Oracle::value);
  const double result = do_value(p);
  check_value(result, name(), "value", counts().values);
  return result;
}

double SimplexObjective::value_and_gradient(std::span<const double> p, std::span<double> gradient) const {
  expect_size(p.size(), size(), name(), "the point");
  expect_size(gradient.size(), size(), name(), "the gradient");
  count(Oracle::gradient);
  const double result = do_value_and_gradient(p, gradient);
  check_value(result, name(), "gradient", counts().gradients);
  if (std::isfinite(result)) check_gradient(gradient, name(), "gradient", counts().gradients);
  return result;
}

void SimplexObjective::curvature_product(std::span<const double> p, std::span<const double> v,
                                         std::span<double> out) const {
  expect_size(p.size(), size(), name(), "the point");
  expect_size(v.size(), size(), name(), "the direction");
  expect_size(out.size(), size(), name(), "the product");
  count(Oracle::curvature);
  do_curvature_product(p, v, out);
  check_gradient(out, name(), "curvature", counts().curvature_products);
}

void SimplexObjective::do_curvature_product(std::span<const double>, std::span<const double>,
                                            std::span<double>) const {
  throw MethodError(fmt::format(
      "objective '{}' has no curvature products; ask has_curvature() first, or use a first-order method",
      name()));
}

}  // namespace borel
