// What the optimizer rules share: the variants of a method, problems, and one run with its evidence.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "borel/optimizer.hpp"
#include "contract/contract.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel::contract {

/// A method with one combination of its choice parameters.
struct OptimizerVariant {
  std::string spec;
  std::unique_ptr<Optimizer> method;
};

/// Every combination of the choice parameters (at most 64), the other parameters as in the subject. Only
/// those that work on the simplex; empty for flows on grids and particles.
std::vector<OptimizerVariant> simplex_variants(const Subject& subject);

// Problems for rules, from a seed. n coordinates.
SimplexProblem well_conditioned_least_squares(index_t n, Seed seed);  ///< [2 n + 10, n], condition about 30
SimplexProblem linear_cost(std::vector<double> c);                    ///< as a quadratic with Q = 0
/// A least-squares, a projection, an entropic and two likelihood problems.
std::vector<SimplexProblem> assorted_problems(index_t n, Seed seed);

std::vector<double> uniform_point(index_t n);
std::vector<double> random_point(index_t n, Seed seed);

StopRule stop_after(index_t max_iterations, double gap_tolerance = 0);

/// Objective that gives a faulty number at one call.
class FaultyObjective final : public SimplexObjective {
 public:
  enum class Fault { value, gradient };
  FaultyObjective(SimplexProblem inner, Fault fault, std::int64_t at_call, std::size_t coordinate)
      : inner_(std::move(inner)), fault_(fault), at_call_(at_call), coordinate_(coordinate) {}
  index_t size() const override { return inner_->size(); }
  std::string_view name() const override { return "faulty"; }
  bool was_faulty() const { return calls_ >= at_call_; }

 private:
  double do_value(std::span<const double> p) const override;
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override;

  SimplexProblem inner_;
  Fault fault_;
  std::int64_t at_call_;
  std::size_t coordinate_;
  mutable std::int64_t calls_ = 0;
};

/// The inner problem with coordinate i renamed to order[i]; hides its structure, so that all methods see the
/// same oracle.
class PermutedObjective final : public SimplexObjective {
 public:
  PermutedObjective(SimplexProblem inner, std::vector<std::size_t> order)
      : inner_(std::move(inner)), order_(std::move(order)) {}
  index_t size() const override { return inner_->size(); }
  std::string_view name() const override { return "permuted"; }
  std::optional<double> smoothness() const override { return inner_->smoothness(); }
  std::optional<double> relative_smoothness() const override { return inner_->relative_smoothness(); }

 private:
  double do_value(std::span<const double> p) const override;
  double do_value_and_gradient(std::span<const double> p, std::span<double> gradient) const override;

  SimplexProblem inner_;
  std::vector<std::size_t> order_;
};

}  // namespace borel::contract
