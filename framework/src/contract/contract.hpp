// Rules that every method keeps, present and future. `borel check` runs them in a child process;
// tests/contract runs the same rules as one test case per (method, rule). A family's rules stand in its own
// file, as an explicit list.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "borel/registry.hpp"
#include "borel/rng.hpp"

namespace borel::contract {

/// What a rule looks at: one method, as a user would ask for it (usually with default parameters).
struct Subject {
  const Registry& registry;
  const MethodEntry& method;
  MethodSpec spec;  ///< family and id set
  Seed seed;        ///< of everything random in the rule, so that a failure can be repeated

  template <class Interface>
  std::unique_ptr<Interface> make() const {
    return registry.make<Interface>(spec);
  }
};

struct Verdict {
  enum class Kind { kept, broken, not_applicable };
  Kind kind = Kind::kept;
  std::string text;  ///< broken: what was expected and what was found, with figures; not_applicable: why
};

inline Verdict kept() { return {}; }
inline Verdict broken(std::string text) { return {Verdict::Kind::broken, std::move(text)}; }
inline Verdict not_applicable(std::string reason) {
  return {Verdict::Kind::not_applicable, std::move(reason)};
}

struct Rule {
  std::string_view name;         ///< CamelCase sentence: RefusesEveryBadParameter
  std::string_view description;  ///< what it asks of a method, one sentence
  Verdict (*check)(const Subject&);
  double time_limit_s = 60;  ///< `borel check` ends the child after this
};

std::span<const Rule> general_rules();    ///< every family
std::span<const Rule> attention_rules();  ///< attention_rules.cpp, and so on
std::span<const Rule> position_rules();
std::span<const Rule> attention_pair_rules();  ///< pair_rules.cpp: every mechanism with every encoding
std::span<const Rule> position_pair_rules();
std::span<const Rule> density_rules();
std::span<const Rule> optimizer_rules();       ///< methods on the simplex
std::span<const Rule> optimizer_rate_rules();  ///< rates of methods on the simplex
std::span<const Rule> optimizer_flow_rules();  ///< methods on grids and particles
std::span<const Rule> problem_rules();

/// General rules, then those of the family; only the general ones for a family unknown here.
std::vector<const Rule*> rules_for(std::string_view family);

/// Runs one rule; an exception that leaves it is a broken rule.
Verdict run_rule(const Rule& rule, const Subject& subject);

}  // namespace borel::contract
