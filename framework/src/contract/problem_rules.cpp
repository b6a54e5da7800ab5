// Rules for objectives that come as plugins: what optimizers take for granted.
#include <cmath>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "contract/optimizer_subject.hpp"

namespace borel::contract {
namespace {

const SimplexObjective& as_simplex(const Objective& f) { return static_cast<const SimplexObjective&>(f); }
const FreeEnergy& as_energy(const Objective& f) { return static_cast<const FreeEnergy&>(f); }

Verdict made_on_the_domain_it_declares(const Subject& subject) {
  const auto maker = subject.make<ProblemMaker>();
  const std::unique_ptr<Objective> f = maker->make(subject.seed);
  if (f->domain() != maker->domain())
    return broken("the objective is on another domain than its maker declares");
  if (f->size() < 1) return broken(fmt::format("the objective has {} numbers", f->size()));
  if (f->name().empty()) return broken("the objective has no name");
  const std::vector<double> start = f->start(subject.seed);
  if (start.empty()) {
    if (f->domain() == Domain::particles) return broken("particles need a start, start() is empty");
    return kept();
  }
  if (const double violation = domain_violation(*f, start); !(violation <= 1e-9))
    return broken(fmt::format("start() is outside of the domain by {:.3g}", violation));
  return kept();
}

Verdict gradient_is_the_derivative(const Subject& subject) {
  const auto maker = subject.make<ProblemMaker>();
  const std::unique_ptr<Objective> f = maker->make(subject.seed);
  if (f->domain() == Domain::simplex) {
    const std::string fault = gradient_fault(as_simplex(*f), random_point(f->size(), subject.seed));
    return fault.empty() ? kept() : broken(fault);
  }
  const FreeEnergy& energy = as_energy(*f);
  const auto d = static_cast<std::size_t>(energy.n_dims());
  std::vector<double> x(2 * d), gradient(d), force(d);
  Rng rng(subject.seed.derive("places"));
  constexpr double h = 1e-5;
  for (int place = 0; place < 20; ++place) {
    std::vector<double> at(d);
    rng.fill_normal(at);
    energy.potential_gradient({at.data(), {1, energy.n_dims()}}, {gradient.data(), {1, energy.n_dims()}});
    energy.interaction_gradient({at.data(), {1, energy.n_dims()}}, {force.data(), {1, energy.n_dims()}});
    for (std::size_t c = 0; c < d; ++c) {
      for (std::size_t i = 0; i < d; ++i) x[i] = x[d + i] = at[i];
      x[c] += h;
      x[d + c] -= h;
      double v[2], w[2];
      energy.potential({x.data(), {2, energy.n_dims()}}, v);
      energy.interaction({x.data(), {2, energy.n_dims()}}, w);
      const double slope = (v[0] - v[1]) / (2 * h), pull = (w[0] - w[1]) / (2 * h);
      if (!(std::abs(slope - gradient[c]) <= 1e-5 * (1 + std::abs(slope))))
        return broken(fmt::format("potential_gradient, dimension {} at {:.6g}: {:.9g}, by differences {:.9g}",
                                  c, at[c], gradient[c], slope));
      if (energy.has_interaction() && !(std::abs(pull - force[c]) <= 1e-5 * (1 + std::abs(pull))))
        return broken(
            fmt::format("interaction_gradient, dimension {} at {:.6g}: {:.9g}, by differences {:.9g}", c,
                        at[c], force[c], pull));
    }
  }
  return kept();
}

Verdict is_convex_when_it_says_so(const Subject& subject) {
  const auto maker = subject.make<ProblemMaker>();
  const std::unique_ptr<Objective> f = maker->make(subject.seed);
  if (f->domain() != Domain::simplex) return not_applicable("convexity is tested on the simplex");
  if (!f->convex()) return not_applicable("the objective does not claim to be convex");
  for (std::uint64_t pair = 0; pair < 20; ++pair) {
    const std::vector<double> a = random_point(f->size(), subject.seed.derive(2 * pair)),
                              b = random_point(f->size(), subject.seed.derive(2 * pair + 1));
    std::vector<double> middle(a.size());
    for (std::size_t i = 0; i < a.size(); ++i) middle[i] = 0.5 * (a[i] + b[i]);
    const double fa = as_simplex(*f).value(a), fb = as_simplex(*f).value(b),
                 fm = as_simplex(*f).value(middle);
    if (!(fm <= 0.5 * (fa + fb) + 1e-12 * (std::abs(fa) + std::abs(fb))))
      return broken(fmt::format("F = {:.9g} and {:.9g}, in the middle {:.9g}: not convex; say so in convex()",
                                fa, fb, fm));
  }
  return kept();
}

Verdict optimum_is_a_lower_bound(const Subject& subject) {
  const auto maker = subject.make<ProblemMaker>();
  const std::unique_ptr<Objective> f = maker->make(subject.seed);
  if (f->domain() != Domain::simplex || !f->optimum()) return not_applicable("no optimum is known");
  if (as_simplex(*f).constraints() || as_simplex(*f).transport())
    return not_applicable("the optimum holds under constraints");
  for (std::uint64_t draw = 0; draw < 20; ++draw) {
    const std::vector<double> p = random_point(f->size(), subject.seed.derive(draw));
    const double value = as_simplex(*f).value(p);
    if (!(value >= *f->optimum() - 1e-12 * (1 + std::abs(value))))
      return broken(
          fmt::format("F = {:.17g} at a point, below the known minimum {:.17g}", value, *f->optimum()));
  }
  return kept();
}

constexpr Rule k_rules[] = {
    {"IsMadeOnTheDomainItDeclares", "domain, size, name and start of the objective fit",
     made_on_the_domain_it_declares},
    {"GradientIsTheDerivative", "gradients agree with differences of values; the worst coordinate is named",
     gradient_is_the_derivative},
    {"IsConvexWhenItSaysSo", "the value in the middle of two points is at most their mean",
     is_convex_when_it_says_so},
    {"OptimumIsALowerBound", "no point has a value below the known minimum", optimum_is_a_lower_bound},
};

}  // namespace

std::span<const Rule> problem_rules() { return k_rules; }

}  // namespace borel::contract
