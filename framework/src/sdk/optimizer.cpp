#include "borel/optimizer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {

Optimizer::~Optimizer() = default;

namespace {

std::string domain_text(const OptimizerTraits& traits) {
  std::string text;
  const auto add = [&](bool works, std::string_view word) {
    if (works) text.append(text.empty() ? "" : ", ").append(word);
  };
  add(traits.simplex, "simplex");
  add(traits.grid, "grid");
  add(traits.particles, "particles");
  return text;
}

}  // namespace

std::string Optimizer::refuses(const Objective& objective) const {
  const OptimizerTraits own = traits();
  const Domain domain = objective.domain();
  const bool works = domain == Domain::simplex ? own.simplex
                     : domain == Domain::grid  ? own.grid
                                               : own.particles;
  if (!works)
    return fmt::format("works on {}, the problem '{}' is on {}", domain_text(own), objective.name(),
                       domain == Domain::simplex ? "the simplex"
                       : domain == Domain::grid  ? "a grid"
                                                 : "particles");
  if (domain != Domain::simplex) return {};
  const auto& simplex = static_cast<const SimplexObjective&>(objective);
  if (own.needs_smoothness && !simplex.smoothness())
    return fmt::format(
        "needs a smoothness constant, the problem '{}' has none; choose a rule that searches the step",
        objective.name());
  if (simplex.constraints() && !own.linear_constraints)
    return fmt::format("ignores linear constraints, the problem '{}' has {}", objective.name(),
                       simplex.constraints()->right_hand_side().size());
  if (simplex.transport() && !own.transport)
    return fmt::format("ignores fixed marginals, the problem '{}' is a transport plan", objective.name());
  return {};
}

TraitList Optimizer::describe() const {
  const OptimizerTraits own = traits();
  const auto yes_no = [](bool value) { return std::string(value ? "yes" : "no"); };
  return {{"domains", domain_text(own)},
          {"monotone", yes_no(own.monotone)},
          {"needs_smoothness", yes_no(own.needs_smoothness)},
          {"random", yes_no(own.random)},
          {"linear_constraints", yes_no(own.linear_constraints)},
          {"transport", yes_no(own.transport)},
          {"rate", own.rate},
          {"order", own.order > 0 ? fmt::format("{:g}", own.order) : "none"},
          {"linear", yes_no(own.linear)}};
}

Trace::Trace(const Objective& objective, index_t max_points, index_t max_snapshots)
    : objective_(&objective),
      start_(StopToken::Clock::now()),
      max_points_(std::max<index_t>(2, max_points)),
      max_snapshots_(max_snapshots) {}

// Kept are the first point of each stride of iterations, and always the last point.
void Trace::record(index_t iteration, double value, double gap, double flow_time) {
  if (!active()) return;
  const std::size_t n = points_.size();
  if (n >= 2 && points_[n - 1].iteration / stride_ == points_[n - 2].iteration / stride_) points_.pop_back();
  const double seconds = std::chrono::duration<double>(StopToken::Clock::now() - start_).count();
  points_.push_back({iteration, objective_->counts().work(), seconds, value, gap, flow_time});
  while (static_cast<index_t>(points_.size()) > max_points_) {
    stride_ *= 2;
    std::vector<Point> kept;
    for (const Point& point : points_)
      if (kept.empty() || kept.back().iteration / stride_ != point.iteration / stride_) kept.push_back(point);
    if (kept.back().iteration != points_.back().iteration) kept.push_back(points_.back());
    points_ = std::move(kept);
  }
}

void Trace::snapshot(index_t iteration, std::span<const double> state, double flow_time) {
  if (!active() || max_snapshots_ <= 0 || iteration < next_snapshot_) return;
  next_snapshot_ = std::max<index_t>(1, 2 * iteration);
  snapshots_.push_back({iteration, flow_time, {state.begin(), state.end()}});
  if (static_cast<index_t>(snapshots_.size()) <= max_snapshots_) return;
  std::vector<Snapshot> kept;
  for (std::size_t i = 0; i < snapshots_.size(); i += 2) kept.push_back(std::move(snapshots_[i]));
  snapshots_ = std::move(kept);
}

double frank_wolfe_gap(std::span<const double> p, std::span<const double> gradient) {
  double smallest = std::numeric_limits<double>::infinity();
  for (double g : gradient) {
    if (std::isnan(g)) return g;
    smallest = std::min(smallest, g);
  }
  double gap = 0;
  for (std::size_t i = 0; i < p.size(); ++i)
    if (p[i] != 0) gap += p[i] * (gradient[i] - smallest);
  return gap;
}

double frank_wolfe_gap(const SimplexObjective& objective, std::span<const double> p) {
  std::vector<double> gradient(p.size());
  const double value = objective.value_and_gradient(p, gradient);
  return std::isfinite(value) ? frank_wolfe_gap(p, gradient) : std::numeric_limits<double>::infinity();
}

namespace {

/// The constraints A p = b that narrow a simplex, of either kind.
struct NarrowedDomain {
  const LinearConstraints* linear = nullptr;
  const TransportProblem* plan = nullptr;

  explicit NarrowedDomain(const SimplexObjective& objective)
      : linear(objective.constraints()), plan(objective.transport()) {}

  std::vector<double> right_hand_side() const {
    std::vector<double> b;
    const auto append = [&](std::span<const double> part) { b.insert(b.end(), part.begin(), part.end()); };
    if (linear) append(linear->right_hand_side());
    if (plan) append(plan->source());
    if (plan) append(plan->target());
    return b;
  }

  /// Calls visit(row, column, coefficient) for every entry of A that is not zero by structure.
  template <class Visit>
  void for_each_entry(Visit&& visit) const {
    std::size_t first_row = 0;
    if (linear) {
      const TensorView<const double, 2> matrix = linear->matrix();
      for (index_t r = 0; r < matrix.shape(0); ++r)
        for (index_t i = 0; i < matrix.shape(1); ++i)
          visit(static_cast<std::size_t>(r), static_cast<std::size_t>(i), matrix(r, i));
      first_row = static_cast<std::size_t>(matrix.shape(0));
    }
    if (plan) {
      const std::size_t n_source = plan->source().size(), n_target = plan->target().size();
      for (std::size_t r = 0; r < n_source; ++r)
        for (std::size_t c = 0; c < n_target; ++c) {
          visit(first_row + r, r * n_target + c, 1.0);
          visit(first_row + n_source + c, r * n_target + c, 1.0);
        }
    }
  }
};

}  // namespace

double certified_gap(const SimplexObjective& objective, std::span<const double> p,
                     std::span<const double> multipliers) {
  if (!objective.constraints() && !objective.transport()) return frank_wolfe_gap(objective, p);
  const NarrowedDomain domain(objective);
  const std::vector<double> b = domain.right_hand_side();
  if (multipliers.size() != b.size()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> gradient(p.size());
  if (!std::isfinite(objective.value_and_gradient(p, gradient)))
    return std::numeric_limits<double>::infinity();
  std::vector<double> reduced = gradient;
  domain.for_each_entry([&](std::size_t row, std::size_t i, double coefficient) {
    reduced[i] += coefficient * multipliers[row];
  });
  double smallest = std::numeric_limits<double>::infinity(), gap = 0;
  for (double r : reduced) {
    if (std::isnan(r)) return r;
    smallest = std::min(smallest, r);
  }
  for (std::size_t i = 0; i < p.size(); ++i) gap += p[i] * (gradient[i] - smallest);
  for (std::size_t row = 0; row < b.size(); ++row) gap += multipliers[row] * b[row];
  return gap;
}

double constraint_violation(const SimplexObjective& objective, std::span<const double> p) {
  const NarrowedDomain domain(objective);
  std::vector<double> residual = domain.right_hand_side();
  domain.for_each_entry(
      [&](std::size_t row, std::size_t i, double coefficient) { residual[row] -= coefficient * p[i]; });
  double largest = 0;
  for (double r : residual) {
    if (std::isnan(r)) return r;
    largest = std::max(largest, std::abs(r));
  }
  return largest;
}

double domain_violation(const Objective& objective, std::span<const double> state) {
  constexpr double k_infinity = std::numeric_limits<double>::infinity();
  if (static_cast<index_t>(state.size()) != objective.size()) return k_infinity;
  long double mass = 0;
  double lowest = 0;
  for (double value : state) {
    if (!std::isfinite(value)) return k_infinity;
    lowest = std::min(lowest, value);
    mass += value;
  }
  if (objective.domain() == Domain::particles) return 0;
  if (objective.domain() == Domain::grid) {
    const auto* grid = dynamic_cast<const GridObjective*>(&objective);
    if (!grid) return k_infinity;
    mass *= grid->grid().cell_volume();
  }
  return std::max(0 - lowest, static_cast<double>(std::abs(mass - 1)));
}

}  // namespace borel
