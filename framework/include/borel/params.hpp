// Parameters of a method, declared once: name, default, range, unit and text drive help, parsing, checks and
// results.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "borel/error.hpp"
#include "borel/method_spec.hpp"

namespace borel {

class Registry;

/// Allowed values of a number. Has no default constructor: without limits one must write Range::any(). NaN
/// and the infinities are never allowed.
class BOREL_EXPORT Range {
 public:
  static Range any();
  static Range closed(double low, double high);      ///< [low, high]
  static Range open(double low, double high);        ///< (low, high)
  static Range left_open(double low, double high);   ///< (low, high]
  static Range right_open(double low, double high);  ///< [low, high)
  static Range at_least(double low);
  static Range greater_than(double low);

  bool contains(double value) const;
  /// Interval text without the number kind: "in (0, 64]", ">= 1", "" for any().
  std::string text() const;

  double low() const { return low_; }
  double high() const { return high_; }
  bool low_open() const { return low_open_; }
  bool high_open() const { return high_open_; }

 private:
  Range(double low, double high, bool low_open, bool high_open);
  double low_, high_;
  bool low_open_, high_open_;
};

enum class ParamType { real, integer, flag, choice, text, reals, method };
BOREL_EXPORT std::string_view to_string(ParamType type);

/// What a declaration says, for help, JSON and contract tests.
struct ParamInfo {
  std::string name = {};
  ParamType type = ParamType::text;
  std::string default_text = {};  ///< canonical text of the default; "" for an empty text or no method
  std::string rule_text = {};     ///< "a real number in (0, 64]"
  std::string unit = {};          ///< "1" = no unit; empty for flags, choices, texts and methods
  std::string doc = {};
  std::vector<std::string> choices = {};  ///< choice only
  std::string family = {};                ///< method only
  Range range = Range::any();             ///< real, integer, reals (each element)
};

/// Visits the members of a Params struct: describes them, assigns them from a given text, or writes them out.
/// A method only calls the functions below, once per parameter, in `void declare(ParamBinder&)`:
///
///   struct Params {
///     double slope = 8.0;  // the default, once
///     void declare(ParamBinder& p) {
///       p.real("slope", slope, Range::left_open(0, 64), "1", "Exponent of ...");
///     }
///     void check() const;  // optional: rules between parameters; throws ParamError("... must ..., got ...")
///   };
class BOREL_EXPORT ParamBinder {
 public:
  void real(std::string_view name, double& value, Range range, std::string_view unit, std::string_view doc);
  void integer(std::string_view name, std::int64_t& value, Range range, std::string_view unit,
               std::string_view doc);
  void flag(std::string_view name, bool& value, std::string_view doc);
  void text(std::string_view name, std::string& value, std::string_view doc);
  /// List of numbers, written [1, 2.5, 3]; the range holds for each element.
  void reals(std::string_view name, std::vector<double>& value, Range range, std::string_view unit,
             std::string_view doc);
  /// Another method as a parameter: autoregressive{of=gmm{components=4}}. A default without id means "none",
  /// and then the parameter may stay empty.
  void method(std::string_view name, MethodSpec& value, std::string_view family, std::string_view doc);
  /// One of a few named values of an enum: p.choice("kernel", kernel, {{"gauss", Kernel::gauss}, ...}, "...").
  template <class E>
  void choice(std::string_view name, E& value,
              std::initializer_list<std::pair<std::string_view, std::type_identity_t<E>>> values,
              std::string_view doc) {
    std::vector<std::string> names;
    std::size_t index = values.size();
    for (const auto& [text, item] : values) {
      if (item == value && index == values.size()) index = names.size();
      names.emplace_back(text);
    }
    choose(name, names, index, doc);
    value = (values.begin() + index)->second;
  }

  // For the framework.
  static ParamBinder describing(std::string who, const Registry* registry);
  static ParamBinder assigning(std::string who, const MethodSpec& given, const Registry* registry);
  static ParamBinder writing(std::string who, const Registry* registry);
  /// Call after declare(). @throws ParamError when a given parameter was not declared
  void finish() const;
  std::vector<ParamInfo>& infos() { return infos_; }
  std::map<std::string, std::string>& values() { return values_; }

 private:
  enum class Mode { describe, assign, write };
  ParamBinder(Mode mode, std::string who, const Registry* registry);
  void choose(std::string_view name, const std::vector<std::string>& names, std::size_t& index,
              std::string_view doc);
  const std::string* visit(ParamInfo info);
  [[noreturn]] void refuse(const ParamInfo& info, std::string_view given) const;

  Mode mode_;
  std::string who_;
  const Registry* registry_;
  std::map<std::string, std::string> given_;
  std::vector<ParamInfo> infos_;
  std::map<std::string, std::string> values_;
};

/// Parameters with the given values, checked. @throws ParamError naming `who`, rule, given value and default
template <class Params>
Params bind_params(const std::string& who, const MethodSpec& spec, const Registry* registry) {
  Params params;
  ParamBinder binder = ParamBinder::assigning(who, spec, registry);
  params.declare(binder);
  binder.finish();
  if constexpr (requires { params.check(); }) {
    try {
      params.check();
    } catch (const ParamError& error) {
      throw ParamError(std::string(who).append(": ").append(error.what()));
    }
  }
  return params;
}

/// Texts that break the declaration: outside the range, NaN, infinite, wrong kind, unknown choice, empty.
/// Every method must refuse each of them; empty when every text is allowed.
BOREL_EXPORT std::vector<std::string> invalid_examples(const ParamInfo& info);

}  // namespace borel
