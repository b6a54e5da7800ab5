// What the optimizer rules share: the variants of a method, problems, and one run with its evidence.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "borel/optimizer.hpp"
#include "contract/contract.hpp"
#include "contract/golden.hpp"
#include "protocols/free_energy_problems.hpp"
#include "protocols/simplex_problems.hpp"

namespace borel::contract {

/// A method with one combination of its choice parameters.
struct OptimizerVariant {
  std::string spec;
  std::unique_ptr<Optimizer> method;
};

/// Every combination of the choice parameters (at most 64) that the method's own rules allow, the other parameters as in
/// the subject. Only those that work on the simplex, or only those that work on grids or particles.
std::vector<OptimizerVariant> simplex_variants(const Subject& subject);
std::vector<OptimizerVariant> flow_variants(const Subject& subject);

// Problems for rules, from a seed. n coordinates.
SimplexProblem well_conditioned_least_squares(index_t n, Seed seed);  ///< [2 n + 10, n], condition about 30
SimplexProblem linear_cost(std::vector<double> c);                    ///< as a quadratic with Q = 0
/// A least-squares, a projection, an entropic and two likelihood problems.
std::vector<SimplexProblem> assorted_problems(index_t n, Seed seed);

/// Entropic transport between 3 and 4 points.
SimplexProblem small_transport_problem(Seed seed);

/// A line of golden.csv of an optimizer:
///   spec; objective; fields; start; iterations; gap tolerance or time horizon; error bound; state
/// Lists of numbers are separated by spaces. `fields` are arrays and attributes of the dataset that makes the objective
/// (datasets/README.md), separated by '|': `a[2,3]=1 2 3 4 5 6|epsilon=0.1|potential=quadratic|domain=grid`.
struct GoldenRun {
  std::unique_ptr<Objective> objective;
  std::vector<double> start, state;
  StopRule stop;
  double bound = 0;
};
GoldenRun golden_run(const GoldenLine& line);

/// The Ornstein-Uhlenbeck flow from N(2, 0.5^2), on 96 cells of [-6, 6] and on 120 particles.
std::unique_ptr<GridObjective> ornstein_uhlenbeck_cells();
std::unique_ptr<ParticleObjective> ornstein_uhlenbeck_particles();
/// On grids and particles: drift, diffusion, interaction, porous medium, two dimensions.
std::vector<std::unique_ptr<FreeEnergy>> assorted_flows();

/// The worst coordinate of a gradient at p, compared with central differences along e_i - e_0 (which stay in the
/// simplex); "" when all agree. @pre p inside
std::string gradient_fault(const SimplexObjective& f, std::span<const double> p);

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
