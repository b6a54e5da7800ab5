// Sinkhorn iterations for entropic transport, min <C, P> + epsilon sum P (log P - 1) with row sums a and column sums b:
//   P_ij = exp((f_i + g_j - C_ij) / epsilon),
//   f_i = epsilon log a_i - epsilon log sum_j exp((g_j - C_ij) / epsilon),  then g the same way.
// Cuturi, NIPS 2013, arXiv:1306.0895, algorithm 1; in the log domain with epsilon scaling: Schmitzer, SIAM J. Sci. Comput.
// 41 (2019), arXiv:1610.06519, sections 3.1 and 3.2. Nothing underflows, whatever epsilon is.
// The plan that is returned meets the marginals to rounding: Altschuler, Weed, Rigollet, NIPS 2017, arXiv:1705.09634,
// algorithm 2. With the multipliers (-f, -g) its gap is a true bound.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "borel/draft/dense_kernels.hpp"
#include "borel/draft/simplex_run.hpp"
#include "borel/error.hpp"
#include "borel/parallel.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;

/// Iterations at each epsilon of the scaling before it falls.
constexpr index_t k_rounds_per_scale = 8;
/// Work for one piece of a parallel loop, in exponentials.
constexpr index_t k_grain = 1 << 14;

class Sinkhorn final : public borel::Optimizer {
 public:
  struct Params {
    double scaling = 0.25;
    std::int64_t check_every = 10;
    void declare(borel::ParamBinder& p) {
      p.real("scaling", scaling, borel::Range::left_open(0, 1), "1",
             "Factor on epsilon, from the largest cost down to the problem's own; 1 = no scaling.");
      p.integer("check_every", check_every, borel::Range::closed(1, 10000), "iterations",
                "How often the gap is computed.");
    }
  };

  explicit Sinkhorn(const Params& params) : params_(params) {}

  borel::OptimizerTraits traits() const override {
    borel::OptimizerTraits traits;
    traits.simplex = true;
    traits.transport = true;
    traits.rate = "linear; the factor tends to 1 as epsilon / max C tends to 0";
    return traits;
  }

  std::string refuses(const borel::Objective& objective) const override {
    if (std::string reason = Optimizer::refuses(objective); !reason.empty()) return reason;
    const auto& f = static_cast<const borel::SimplexObjective&>(objective);
    if (!f.transport())
      return std::string("solves entropic transport only; the problem '")
          .append(f.name())
          .append("' is another");
    if (!(f.transport()->epsilon() > 0))
      return std::string("needs epsilon > 0; the problem '").append(f.name()).append("' has none");
    return {};
  }

  borel::OptimizerResult minimize(borel::Objective& objective, std::span<const double> start,
                                  const borel::StopRule& stop, borel::Seed,
                                  borel::Trace& trace) const override {
    borel::SimplexRun run("sinkhorn", objective, start, stop, trace);
    if (const std::string reason = refuses(objective); !reason.empty())
      throw borel::MethodError("sinkhorn: " + reason);
    const borel::TransportProblem& problem = *run.objective().transport();
    const borel::TensorView<const double, 2> cost = problem.cost();
    const index_t n_source = cost.shape(0), n_target = cost.shape(1);
    std::vector<double> transposed(static_cast<std::size_t>(n_source * n_target)), plan(transposed.size());
    double largest = 0;
    for (index_t i = 0; i < n_source; ++i)
      for (index_t j = 0; j < n_target; ++j) {
        transposed[static_cast<std::size_t>(j * n_source + i)] = cost(i, j);
        largest = std::max(largest, std::abs(cost(i, j)));
      }
    const borel::TensorView<const double, 2> by_target(transposed.data(), {n_target, n_source});
    std::vector<double> f(static_cast<std::size_t>(n_source), 0.0),
        g(static_cast<std::size_t>(n_target), 0.0);
    std::vector<double> gradient(plan.size());

    double epsilon = params_.scaling < 1 ? std::max(problem.epsilon(), largest) : problem.epsilon();
    borel::OptimizerResult result{run.start(), {}, {}};
    for (index_t k = 0;; ++k) {
      const bool last_scale = epsilon == problem.epsilon();
      // The start is a plan that may miss the marginals: there is nothing to certify before the first iteration.
      if (k == 0) {
        if (!run.may_call()) break;
        const double value = run.objective().value_and_gradient(result.state, gradient);
        if (!run.go_on(0, value, std::numeric_limits<double>::infinity(), result.state)) break;
      } else if (k % params_.check_every == 0 || k >= stop.budget.max_iterations) {
        make_plan(cost, f, g, epsilon, plan);
        round_to_marginals(problem, plan);
        if (!run.may_call()) break;
        const double value = run.objective().value_and_gradient(plan, gradient);
        result.multipliers = multipliers(f, g);
        const double gap = gap_of(problem, plan, gradient, f, g);
        result.state = plan;
        if (!run.go_on(k, value, gap, plan)) break;
      }
      if (!last_scale && k % k_rounds_per_scale == k_rounds_per_scale - 1)
        epsilon = std::max(problem.epsilon(), params_.scaling * epsilon);
      update(cost, problem.source(), g, epsilon, f);
      update(by_target, problem.target(), f, epsilon, g);
    }
    std::vector<double> y = std::move(result.multipliers);
    result = run.result(std::move(result.state));
    result.multipliers = std::move(y);
    return result;
  }

 private:
  /// potential_i = epsilon log mass_i - epsilon log sum_j exp((other_j - cost_ij) / epsilon)
  static void update(borel::TensorView<const double, 2> cost, std::span<const double> mass,
                     std::span<const double> other, double epsilon, std::span<double> potential) {
    const index_t columns = cost.shape(1);
    borel::parallel_for(
        cost.shape(0), std::max<index_t>(1, k_grain / columns), [&](index_t begin, index_t end) {
          const borel::Scratch<double> row(columns);
          for (index_t i = begin; i < end; ++i) {
            const std::span<const double> c = cost.row(i);
            double largest = -std::numeric_limits<double>::infinity();
            for (index_t j = 0; j < columns; ++j) {
              const auto column = static_cast<std::size_t>(j);
              row[j] = (other[column] - c[column]) / epsilon;
              largest = std::max(largest, row[j]);
            }
            const double sum = borel::dense::exp_and_sum(row.span(), largest);
            potential[static_cast<std::size_t>(i)] =
                epsilon * (std::log(mass[static_cast<std::size_t>(i)]) - largest - std::log(sum));
          }
        });
  }

  static void make_plan(borel::TensorView<const double, 2> cost, const std::vector<double>& f,
                        const std::vector<double>& g, double epsilon, std::vector<double>& plan) {
    const index_t columns = cost.shape(1);
    borel::parallel_for(cost.shape(0), std::max<index_t>(1, k_grain / columns),
                        [&](index_t begin, index_t end) {
                          for (index_t i = begin; i < end; ++i) {
                            const std::span<double> row(&plan[static_cast<std::size_t>(i * columns)],
                                                        static_cast<std::size_t>(columns));
                            double largest = -std::numeric_limits<double>::infinity();
                            for (std::size_t j = 0; j < row.size(); ++j) {
                              row[j] = (f[static_cast<std::size_t>(i)] + g[j] - cost.row(i)[j]) / epsilon;
                              largest = std::max(largest, row[j]);
                            }
                            borel::dense::exp_and_sum(row, largest);
                            for (double& value : row) value *= std::exp(largest);
                          }
                        });
  }

  /// Rows, then columns that are too heavy are scaled down; what is missing comes back as a product of the errors.
  static void round_to_marginals(const borel::TransportProblem& problem, std::vector<double>& plan) {
    const std::span<const double> a = problem.source(), b = problem.target();
    std::vector<double> row_left(a.begin(), a.end()), column_sum(b.size(), 0.0),
        column_left(b.begin(), b.end());
    for (std::size_t i = 0; i < a.size(); ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < b.size(); ++j) sum += plan[i * b.size() + j];
      const double factor = sum > a[i] ? a[i] / sum : 1;
      for (std::size_t j = 0; j < b.size(); ++j) column_sum[j] += plan[i * b.size() + j] *= factor;
    }
    for (std::size_t j = 0; j < b.size(); ++j)
      column_sum[j] = column_sum[j] > b[j] ? b[j] / column_sum[j] : 1;
    double missing = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t j = 0; j < b.size(); ++j) {
        double& p = plan[i * b.size() + j];
        p *= column_sum[j];
        row_left[i] -= p;
        column_left[j] -= p;
      }
      row_left[i] = std::max(row_left[i], 0.0);
      missing += row_left[i];
    }
    if (!(missing > 0)) return;
    for (std::size_t i = 0; i < a.size(); ++i)
      for (std::size_t j = 0; j < b.size(); ++j)
        plan[i * b.size() + j] += row_left[i] / missing * std::max(column_left[j], 0.0);
  }

  static std::vector<double> multipliers(const std::vector<double>& f, const std::vector<double>& g) {
    std::vector<double> y;
    for (double value : f) y.push_back(-value);
    for (double value : g) y.push_back(-value);
    return y;
  }

  /// The framework's certificate from a gradient that is there already.
  static double gap_of(const borel::TransportProblem& problem, const std::vector<double>& plan,
                       const std::vector<double>& gradient, const std::vector<double>& f,
                       const std::vector<double>& g) {
    double smallest = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < f.size(); ++i)
      for (std::size_t j = 0; j < g.size(); ++j)
        smallest = std::min(smallest, gradient[i * g.size() + j] - f[i] - g[j]);
    double gap = 0;
    for (std::size_t c = 0; c < plan.size(); ++c) gap += plan[c] * (gradient[c] - smallest);
    for (std::size_t i = 0; i < f.size(); ++i) gap -= f[i] * problem.source()[i];
    for (std::size_t j = 0; j < g.size(); ++j) gap -= g[j] * problem.target()[j];
    return gap;
  }

  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Optimizer, Sinkhorn>(
      "sinkhorn",
      {.summary = "Entropic transport: alternating scalings in the log domain, with epsilon scaling",
       .formula = "P = exp((f + g - C) / epsilon),  f_i = epsilon log a_i - epsilon log sum_j exp((g_j - "
                  "C_ij) / epsilon)",
       .source =
           "Cuturi, NIPS 2013, arXiv:1306.0895; Schmitzer, SIAM J. Sci. Comput. 41 (2019), arXiv:1610.06519; "
           "rounding: Altschuler, Weed, Rigollet, NIPS 2017, arXiv:1705.09634, algorithm 2",
       .complexity =
           "2 n_source n_target exponentials per iteration; one oracle call per check; memory O(n_source "
           "n_target)",
       .notes =
           "The start is not used: the potentials begin at 0. The plan meets the marginals to rounding"});
}
