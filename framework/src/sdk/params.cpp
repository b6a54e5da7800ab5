#include "borel/params.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "borel/registry.hpp"

namespace borel {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

template <class T>
std::optional<T> read_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Finite numbers only; "nan" and "inf" are read by from_chars and refused here.
std::optional<double> read_real(std::string_view text, const Range& range) {
  const auto value = read_number<double>(text);
  return value && range.contains(*value) ? value : std::nullopt;
}

std::optional<std::vector<double>> read_reals(std::string_view text, const Range& range) {
  text = trimmed(text);
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
  text = trimmed(text.substr(1, text.size() - 2));
  std::vector<double> values;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto value = read_real(trimmed(text.substr(0, comma)), range);
    if (!value) return std::nullopt;
    values.push_back(*value);
    if (comma == text.size()) break;
    text.remove_prefix(comma + 1);
    if (trimmed(text).empty()) return std::nullopt;  // "[1,]"
  }
  return values;
}

std::string rule_text(const ParamInfo& info) {
  const std::string interval = info.range.text();
  const std::string_view gap = interval.empty() ? "" : " ";
  switch (info.type) {
    case ParamType::real:
      return interval.empty() ? "a finite real number" : fmt::format("a real number {}", interval);
    case ParamType::integer:
      return fmt::format("an integer{}{}", gap, interval);
    case ParamType::flag:
      return "true or false";
    case ParamType::choice:
      return fmt::format("one of {}", fmt::join(info.choices, ", "));
    case ParamType::text:
      return "a text";
    case ParamType::reals:
      return fmt::format("a list [a, b, ...] of real numbers{}{}", gap, interval);
    case ParamType::method:
      return fmt::format("a method of family {}, id{{name=value, ...}}", info.family);
  }
  return {};
}

bool needs_unit(ParamType type) {
  return type == ParamType::real || type == ParamType::integer || type == ParamType::reals;
}

}  // namespace

Range::Range(double low, double high, bool low_open, bool high_open)
    : low_(low), high_(high), low_open_(low_open), high_open_(high_open) {
  if (!(low <= high)) throw ParamError(fmt::format("a range needs low <= high, got {} and {}", low, high));
}
Range Range::any() { return {-k_infinity, k_infinity, true, true}; }
Range Range::closed(double low, double high) { return {low, high, false, false}; }
Range Range::open(double low, double high) { return {low, high, true, true}; }
Range Range::left_open(double low, double high) { return {low, high, true, false}; }
Range Range::right_open(double low, double high) { return {low, high, false, true}; }
Range Range::at_least(double low) { return {low, k_infinity, false, true}; }
Range Range::greater_than(double low) { return {low, k_infinity, true, true}; }

bool Range::contains(double value) const {
  return std::isfinite(value) && (low_open_ ? value > low_ : value >= low_) &&
         (high_open_ ? value < high_ : value <= high_);
}

std::string Range::text() const {
  const bool has_low = low_ > -k_infinity, has_high = high_ < k_infinity;
  if (!has_low && !has_high) return {};
  if (!has_high) return fmt::format("{} {}", low_open_ ? ">" : ">=", low_);
  if (!has_low) return fmt::format("{} {}", high_open_ ? "<" : "<=", high_);
  return fmt::format("in {}{}, {}{}", low_open_ ? '(' : '[', low_, high_, high_open_ ? ')' : ']');
}

std::string_view to_string(ParamType type) {
  switch (type) {
    case ParamType::real:
      return "real";
    case ParamType::integer:
      return "integer";
    case ParamType::flag:
      return "flag";
    case ParamType::choice:
      return "choice";
    case ParamType::text:
      return "text";
    case ParamType::reals:
      return "reals";
    case ParamType::method:
      return "method";
  }
  return "";
}

ParamBinder::ParamBinder(Mode mode, std::string who, const Registry* registry)
    : mode_(mode), who_(std::move(who)), registry_(registry) {}
ParamBinder ParamBinder::describing(std::string who, const Registry* registry) {
  return {Mode::describe, std::move(who), registry};
}
ParamBinder ParamBinder::assigning(std::string who, const MethodSpec& given, const Registry* registry) {
  ParamBinder binder(Mode::assign, std::move(who), registry);
  binder.given_ = given.params;
  return binder;
}
ParamBinder ParamBinder::writing(std::string who, const Registry* registry) {
  return {Mode::write, std::move(who), registry};
}

void ParamBinder::refuse(const ParamInfo& info, std::string_view given) const {
  const std::string hint = info.type == ParamType::choice ? did_you_mean(given, info.choices) : std::string();
  throw ParamError(fmt::format("{}: parameter '{}' must be {}; got '{}' (default {}){}", who_, info.name,
                               info.rule_text, given, info.default_text.empty() ? "\"\"" : info.default_text,
                               hint));
}

/// Records the declaration. @return the given text when there is one to assign
const std::string* ParamBinder::visit(ParamInfo info) {
  info.rule_text = rule_text(info);
  if (mode_ == Mode::write) {
    values_[info.name] = info.default_text;
  } else if (mode_ == Mode::describe) {
    const auto broken = [&](std::string_view rule) {
      throw RegistryError(fmt::format("{}: declaration of parameter '{}': {}", who_, info.name, rule));
    };
    if (!is_snake_case(info.name)) broken("the name must be snake_case");
    if (info.doc.empty()) broken("the doc text is missing");
    if (needs_unit(info.type) && info.unit.empty()) broken("the unit is missing (\"1\" = none)");
    if (std::ranges::any_of(infos_, [&](const ParamInfo& other) { return other.name == info.name; }))
      broken("declared twice");
  }
  infos_.push_back(std::move(info));
  if (mode_ != Mode::assign) return nullptr;
  const auto found = given_.find(infos_.back().name);
  return found == given_.end() ? nullptr : &found->second;
}

void ParamBinder::finish() const {
  std::vector<std::string> known;
  for (const ParamInfo& info : infos_) known.push_back(info.name);
  for (const auto& [name, value] : given_)
    if (std::ranges::find(known, name) == known.end())
      throw ParamError(
          fmt::format("{}: unknown parameter '{}'{} {}", who_, name,
                      known.empty() ? std::string(";") : did_you_mean(name, known) + " Known:",
                      known.empty() ? "this method has none" : fmt::format("{}", fmt::join(known, ", "))));
}

void ParamBinder::real(std::string_view name, double& value, Range range, std::string_view unit,
                       std::string_view doc) {
  const std::string* given = visit({std::string(name),
                                    ParamType::real,
                                    param_text(value),
                                    {},
                                    std::string(unit),
                                    std::string(doc),
                                    {},
                                    {},
                                    range});
  if (mode_ == Mode::describe && !range.contains(value))
    throw RegistryError(fmt::format("{}: default {} of parameter '{}' is not {}", who_, value, name,
                                    infos_.back().rule_text));
  if (!given) return;
  const auto number = read_real(*given, range);
  if (!number) refuse(infos_.back(), *given);
  value = *number;
}

void ParamBinder::integer(std::string_view name, std::int64_t& value, Range range, std::string_view unit,
                          std::string_view doc) {
  const std::string* given = visit({std::string(name),
                                    ParamType::integer,
                                    param_text(value),
                                    {},
                                    std::string(unit),
                                    std::string(doc),
                                    {},
                                    {},
                                    range});
  if (mode_ == Mode::describe && !range.contains(static_cast<double>(value)))
    throw RegistryError(fmt::format("{}: default {} of parameter '{}' is not {}", who_, value, name,
                                    infos_.back().rule_text));
  if (!given) return;
  const auto number = read_number<std::int64_t>(*given);
  if (!number || !range.contains(static_cast<double>(*number))) refuse(infos_.back(), *given);
  value = *number;
}

void ParamBinder::flag(std::string_view name, bool& value, std::string_view doc) {
  const std::string* given = visit({std::string(name),
                                    ParamType::flag,
                                    param_text(value),
                                    {},
                                    {},
                                    std::string(doc),
                                    {},
                                    {},
                                    Range::any()});
  if (!given) return;
  if (*given != "true" && *given != "false") refuse(infos_.back(), *given);
  value = *given == "true";
}

void ParamBinder::text(std::string_view name, std::string& value, std::string_view doc) {
  const std::string* given =
      visit({std::string(name), ParamType::text, value, {}, {}, std::string(doc), {}, {}, Range::any()});
  if (given) value = *given;
}

void ParamBinder::reals(std::string_view name, std::vector<double>& value, Range range, std::string_view unit,
                        std::string_view doc) {
  const std::string* given = visit({std::string(name),
                                    ParamType::reals,
                                    param_text(value),
                                    {},
                                    std::string(unit),
                                    std::string(doc),
                                    {},
                                    {},
                                    range});
  if (mode_ == Mode::describe && !std::ranges::all_of(value, [&](double x) { return range.contains(x); }))
    throw RegistryError(
        fmt::format("{}: default of parameter '{}' is not {}", who_, name, infos_.back().rule_text));
  if (!given) return;
  auto numbers = read_reals(*given, range);
  if (!numbers) refuse(infos_.back(), *given);
  value = std::move(*numbers);
}

void ParamBinder::choose(std::string_view name, const std::vector<std::string>& names, std::size_t& index,
                         std::string_view doc) {
  if (index >= names.size())
    throw RegistryError(
        fmt::format("{}: the default of parameter '{}' is not among its choices", who_, name));
  const std::string* given = visit({std::string(name),
                                    ParamType::choice,
                                    names[index],
                                    {},
                                    {},
                                    std::string(doc),
                                    names,
                                    {},
                                    Range::any()});
  if (!given) return;
  const auto found = std::ranges::find(names, *given);
  if (found == names.end()) refuse(infos_.back(), *given);
  index = static_cast<std::size_t>(found - names.begin());
}

void ParamBinder::method(std::string_view name, MethodSpec& value, std::string_view family,
                         std::string_view doc) {
  const bool optional = value.empty();
  // The family is known from the declaration; texts show the id only, and canonical texts show all used
  // parameters.
  const auto text_of = [&](MethodSpec spec) {
    if (spec.empty()) return std::string();
    spec.family = family;
    if (mode_ == Mode::write && registry_) return registry_->canonical(spec);
    spec.family.clear();
    return spec.text();
  };
  const std::string* given = visit({std::string(name),
                                    ParamType::method,
                                    text_of(value),
                                    {},
                                    {},
                                    std::string(doc),
                                    {},
                                    std::string(family),
                                    Range::any()});
  if (given) {
    if (given->empty()) {
      if (!optional) refuse(infos_.back(), *given);
      value = {};
      return;
    }
    try {
      value = parse_method_spec(*given, family);
      if (registry_) registry_->canonical(value);  // an unknown id or a bad nested parameter is refused here
    } catch (const Error& error) {
      throw ParamError(fmt::format("{}: parameter '{}': {}", who_, name, error.what()));
    }
  }
  if (!value.empty()) value.family = family;
}

std::vector<std::string> invalid_examples(const ParamInfo& info) {
  if (info.type == ParamType::text) return {};
  std::vector<std::string> bad;
  if (info.type != ParamType::method || !info.default_text.empty()) bad.emplace_back();
  const auto numbers = [&](const auto& emit) {
    for (const char* text : {"nan", "inf", "-inf", "seven", "1 2", "1e999"}) emit(text);
    const bool whole = info.type == ParamType::integer;
    const double low = info.range.low(), high = info.range.high();
    const auto outside = [&](double x) {
      if (!info.range.contains(x)) emit(whole ? fmt::format("{:.0f}", x) : param_text(x));
    };
    if (std::isfinite(low)) {
      for (double x : {low, std::floor(low), std::floor(low) - 1, low - 1 - std::abs(low)}) outside(x);
    }
    if (std::isfinite(high)) {
      for (double x : {high, std::ceil(high), std::ceil(high) + 1, high + 1 + std::abs(high)}) outside(x);
    }
  };
  switch (info.type) {
    case ParamType::real:
      numbers([&](std::string text) { bad.push_back(std::move(text)); });
      break;
    case ParamType::integer:
      numbers([&](std::string text) { bad.push_back(std::move(text)); });
      bad.insert(bad.end(), {"1.5", "99999999999999999999"});
      break;
    case ParamType::reals:
      numbers([&](const std::string& text) { bad.push_back("[" + text + "]"); });
      bad.insert(bad.end(), {"1", "[1", "[1,]", "[,1]"});
      break;
    case ParamType::flag:
      bad.insert(bad.end(), {"maybe", "1", "True"});
      break;
    case ParamType::choice:
      bad.insert(bad.end(), {"no_such_choice", info.choices.front() + "x"});
      break;
    case ParamType::method:
      bad.insert(bad.end(), {"no_such_method_at_all", "{", "no such method"});
      break;
    case ParamType::text:
      break;
  }
  return bad;
}

}  // namespace borel
