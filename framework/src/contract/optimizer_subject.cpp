#include "contract/optimizer_subject.hpp"

#include <cmath>
#include <limits>

namespace borel::contract {

std::vector<OptimizerVariant> simplex_variants(const Subject& subject) {
  constexpr std::size_t k_max_variants = 64;
  std::vector<MethodSpec> specs{subject.spec};
  for (const ParamInfo& param : subject.method.params) {
    if (param.type != ParamType::choice || specs.size() * param.choices.size() > k_max_variants) continue;
    std::vector<MethodSpec> more;
    for (const MethodSpec& spec : specs)
      for (const std::string& choice : param.choices) {
        more.push_back(spec);
        more.back().params[param.name] = choice;
      }
    specs = std::move(more);
  }
  std::vector<OptimizerVariant> variants;
  for (const MethodSpec& spec : specs) {
    OptimizerVariant variant{spec.text(), subject.registry.make<Optimizer>(spec)};
    if (variant.method->traits().simplex) variants.push_back(std::move(variant));
  }
  return variants;
}

SimplexProblem well_conditioned_least_squares(index_t n, Seed seed) {
  const auto columns = static_cast<std::size_t>(n), rows = 2 * columns + 10;
  std::vector<double> a(rows * columns), b(rows);
  Rng rng(seed.derive("least squares"));
  rng.fill_normal(a);
  rng.fill_normal(b);
  for (double& value : a) value /= std::sqrt(static_cast<double>(rows));
  return least_squares_problem({"least squares"}, std::move(a), std::move(b));
}

SimplexProblem linear_cost(std::vector<double> c) {
  std::vector<double> q(c.size() * c.size(), 0.0);
  return quadratic_problem({"linear"}, std::move(q), std::move(c), 0);
}

std::vector<SimplexProblem> assorted_problems(index_t n, Seed seed) {
  const auto size = static_cast<std::size_t>(n);
  Rng rng(seed.derive("assorted"));
  std::vector<double> x(size), c(size), likelihood((size + 3) * size), features(3 * size);
  rng.fill_normal(x);
  rng.fill_normal(c);
  rng.fill_normal(features);
  for (double& value : likelihood) value = -std::log(rng.uniform_open());
  std::vector<SimplexProblem> problems;
  problems.push_back(well_conditioned_least_squares(n, seed));
  problems.push_back(projection_problem({"projection"}, std::move(x)));
  problems.push_back(linear_entropy_problem({"entropy"}, std::move(c), 0.5));
  problems.push_back(mixture_problem({"mixture"}, std::move(likelihood), n));
  if (n >= 3) problems.push_back(d_optimal_problem({"design"}, std::move(features), 3));
  return problems;
}

std::vector<double> uniform_point(index_t n) {
  return std::vector<double>(static_cast<std::size_t>(n), 1.0 / static_cast<double>(n));
}

std::vector<double> random_point(index_t n, Seed seed) {
  std::vector<double> p(static_cast<std::size_t>(n));
  Rng rng(seed.derive("point"));
  double sum = 0;
  for (double& value : p) sum += value = -std::log(rng.uniform_open());
  for (double& value : p) value /= sum;
  return p;
}

StopRule stop_after(index_t max_iterations, double gap_tolerance) {
  StopRule stop;
  stop.budget.max_iterations = max_iterations;
  stop.gap_tolerance = gap_tolerance;
  return stop;
}

double FaultyObjective::do_value(std::span<const double> p) const {
  const bool faulty = ++calls_ >= at_call_ && fault_ == Fault::value;
  return faulty ? std::numeric_limits<double>::quiet_NaN() : inner_->value(p);
}

double FaultyObjective::do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const {
  const double value = inner_->value_and_gradient(p, gradient);
  if (++calls_ < at_call_) return value;
  if (fault_ == Fault::value) return std::numeric_limits<double>::quiet_NaN();
  gradient[coordinate_] = std::numeric_limits<double>::quiet_NaN();
  return value;
}

double PermutedObjective::do_value(std::span<const double> p) const {
  std::vector<double> inner(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) inner[i] = p[order_[i]];
  return inner_->value(inner);
}

double PermutedObjective::do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const {
  std::vector<double> inner(p.size()), inner_gradient(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) inner[i] = p[order_[i]];
  const double value = inner_->value_and_gradient(inner, inner_gradient);
  for (std::size_t i = 0; i < p.size(); ++i) gradient[order_[i]] = inner_gradient[i];
  return value;
}

}  // namespace borel::contract
