// Sinkhorn iterations for entropic transport, in the log domain (Cuturi 2013; Schmitzer 2019):
//   P = exp((f_i + g_j - C_ij) / epsilon),  f and g in turn such that the row and the column sums are right.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/optimizer.hpp"
#include "borel/plugin.hpp"

namespace {

using namespace borel;

class Sinkhorn final : public Optimizer {
 public:
  struct Params {
    double marginal_tolerance = 1e-13;
    void declare(ParamBinder& p) {
      p.real("marginal_tolerance", marginal_tolerance, Range::greater_than(0), "1",
             "largest error of a row sum at the end");
    }
  };
  explicit Sinkhorn(const Params& params) : p_(params) {}

  OptimizerTraits traits() const override { return {.simplex = true, .transport = true, .rate = "linear"}; }

  std::string refuses(const Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const TransportProblem* problem = static_cast<const SimplexObjective&>(objective).transport();
    if (!problem) return "it solves transport problems only";
    return problem->epsilon() > 0 ? "" : "it needs epsilon > 0";
  }

  OptimizerResult minimize(Objective& base, std::span<const double>, const StopRule& stop, Seed,
                           Trace& trace) const override {
    auto& objective = static_cast<SimplexObjective&>(base);
    const TransportProblem& problem = *objective.transport();
    const TensorView<const double, 2> cost = problem.cost();
    const double epsilon = problem.epsilon();
    const std::span<const double> source = problem.source(), target = problem.target();
    std::vector<double> f(source.size(), 0), g(target.size(), 0), plan(source.size() * target.size());
    Outcome outcome{Termination::budget_used_up, "all iterations of the budget were used", 0};
    while (outcome.iterations < stop.budget.max_iterations) {
      if (stop.budget.stop.stop_requested()) {
        outcome = {Termination::stopped_by_user, "stopped", outcome.iterations};
        break;
      }
      for (std::size_t i = 0; i < f.size(); ++i)
        f[i] = update(source[i], epsilon, g, [&](std::size_t j) { return at(cost, i, j); });
      for (std::size_t j = 0; j < g.size(); ++j)
        g[j] = update(target[j], epsilon, f, [&](std::size_t i) { return at(cost, i, j); });
      ++outcome.iterations;
      double error = 0;
      for (std::size_t i = 0; i < f.size(); ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < g.size(); ++j)
          sum += plan[i * g.size() + j] = std::exp((f[i] + g[j] - at(cost, i, j)) / epsilon);
        error = std::max(error, std::abs(sum - source[i]));
      }
      if (trace.active()) trace.record(outcome.iterations, objective.value(plan), NAN);
      if (error <= p_.marginal_tolerance) {
        outcome = {Termination::converged, "row sums are right", outcome.iterations};
        break;
      }
    }
    double sum = 0;
    for (double p : plan) sum += p;
    for (double& p : plan) p /= sum;
    std::vector<double> multipliers;
    for (double value : f) multipliers.push_back(-value);
    for (double value : g) multipliers.push_back(-value);
    return {.state = std::move(plan), .outcome = std::move(outcome), .multipliers = std::move(multipliers)};
  }

 private:
  static double at(TensorView<const double, 2> cost, std::size_t i, std::size_t j) {
    return cost(static_cast<index_t>(i), static_cast<index_t>(j));
  }
  /// epsilon (log mass - log sum exp((other - cost) / epsilon))
  template <class Cost>
  static double update(double mass, double epsilon, std::span<const double> other, const Cost& cost_of) {
    double largest = -INFINITY, sum = 0;
    for (std::size_t j = 0; j < other.size(); ++j) largest = std::max(largest, other[j] - cost_of(j));
    for (std::size_t j = 0; j < other.size(); ++j)
      sum += std::exp((other[j] - cost_of(j) - largest) / epsilon);
    return epsilon * std::log(mass) - largest - epsilon * std::log(sum);
  }
  Params p_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<Optimizer, Sinkhorn>(
      "sinkhorn", {.summary = "entropic transport", .source = "arXiv 1306.0895, section 4"});
}
