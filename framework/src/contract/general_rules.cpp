#include <algorithm>

#include <fmt/format.h>

#include "contract/contract.hpp"

namespace borel::contract {
namespace {

/// The given text for one parameter, otherwise as the subject.
MethodSpec with(const Subject& subject, const std::string& name, const std::string& text) {
  MethodSpec spec = subject.spec;
  spec.params[name] = text;
  return spec;
}

Verdict names_summary_and_source(const Subject& subject) {
  const MethodInfo& info = subject.method.info;
  if (info.summary.empty() || info.summary.find('\n') != std::string::npos)
    return broken("summary must be one line");
  if (info.source.empty()) return broken("source is empty: name the paper, section or equation");
  if (info.formula.empty()) return broken("formula is empty: write what the method computes");
  if (info.complexity.empty()) return broken("complexity is empty: write time and memory");
  return kept();
}

Verdict documents_every_parameter(const Subject& subject) {
  for (const ParamInfo& param : subject.method.params) {
    if (param.doc.size() < 10)
      return broken(fmt::format("parameter '{}': doc '{}' says too little", param.name, param.doc));
    if (param.rule_text.empty()) return broken(fmt::format("parameter '{}' has no rule", param.name));
  }
  return kept();
}

Verdict refuses_every_bad_parameter(const Subject& subject) {
  for (const ParamInfo& param : subject.method.params)
    for (const std::string& bad : invalid_examples(param)) {
      try {
        const std::string used = subject.method.canonical(with(subject, param.name, bad));
        return broken(fmt::format("parameter '{}' = '{}' was accepted (used: {}); the declaration says {}",
                                  param.name, bad, used, param.rule_text));
      } catch (const ParamError& error) {
        if (std::string_view(error.what()).find(param.name) == std::string_view::npos)
          return broken(fmt::format("parameter '{}' = '{}': the message does not name it: {}", param.name,
                                    bad, error.what()));
      }
    }
  return kept();
}

Verdict refuses_unknown_parameters(const Subject& subject) {
  try {
    subject.method.canonical(with(subject, "no_such_parameter_anywhere", "1"));
  } catch (const ParamError&) {
    return kept();
  }
  return broken("an unknown parameter was accepted");
}

Verdict reads_back_its_canonical_text(const Subject& subject) {
  const std::string text = subject.method.canonical(subject.spec);
  const std::string again = subject.method.canonical(parse_method_spec(text, subject.method.family));
  return text == again ? kept() : broken(fmt::format("'{}' reads back as '{}'", text, again));
}

Verdict describes_its_traits(const Subject& subject) {
  const TraitList traits = subject.method.traits(subject.spec);
  if (traits.empty()) return broken("describe() gave no trait");
  for (const auto& [name, value] : traits)
    if (!is_snake_case(name)) return broken(fmt::format("trait '{}' is not snake_case", name));
  return kept();
}

constexpr Rule k_rules[] = {
    {"NamesItsSummaryAndSource", "summary, formula, source and complexity are filled",
     names_summary_and_source},
    {"DocumentsEveryParameter", "every parameter has a doc text and a rule", documents_every_parameter},
    {"RefusesEveryBadParameter",
     "values outside a declaration are refused with a message that names the parameter",
     refuses_every_bad_parameter},
    {"RefusesUnknownParameters", "a parameter that is not declared is refused", refuses_unknown_parameters},
    {"ReadsBackItsCanonicalText", "the text of the used parameters gives the same method",
     reads_back_its_canonical_text},
    {"DescribesItsTraits", "a method made with default parameters describes itself", describes_its_traits},
};

}  // namespace

std::span<const Rule> general_rules() { return k_rules; }

std::vector<const Rule*> rules_for(std::string_view family) {
  std::vector<const Rule*> rules;
  const auto take = [&](std::span<const Rule> list) {
    for (const Rule& rule : list) rules.push_back(&rule);
  };
  take(general_rules());
  if (family == "attention") take(attention_rules()), take(attention_pair_rules());
  if (family == "position") take(position_rules()), take(position_pair_rules());
  if (family == "density") take(density_rules());
  if (family == "optimizer") {
    take(optimizer_rules());
    take(optimizer_rate_rules());
    take(optimizer_flow_rules());
  }
  if (family == "problem") take(problem_rules());
  return rules;
}

Verdict run_rule(const Rule& rule, const Subject& subject) {
  try {
    return rule.check(subject);
  } catch (const std::exception& error) {
    return broken(fmt::format("an exception left the method: {}", error.what()));
  }
}

}  // namespace borel::contract
