// A method with parameters, as written in studies and on the command line: rerope{window=64,
// train_length=128}.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "borel/export.hpp"

namespace borel {

/// Method id and the parameters that were given (not the defaults). Values are texts; the method's
/// declaration turns them into numbers. A value may be a list [1, 2] or another spec gmm{components=4}.
struct BOREL_EXPORT MethodSpec {
  std::string family = {};                         ///< "" when the place where it stands says it
  std::string id = {};                             ///< "" = no method
  std::map<std::string, std::string> params = {};  ///< name -> text, sorted by name

  bool empty() const { return id.empty(); }
  /// family/id{a=1, b=[1, 2]}; parse_method_spec(text()) gives the same spec. "" when empty.
  std::string text() const;
  bool operator==(const MethodSpec&) const = default;
};

/// Reads `[family/]id[{name=value, ...}]`. A value is a bare word, a "quoted text" (with \" and \\), a list
/// or a spec.
/// @param family  expected family; set in the result, and a different leading family is an error; "" = any
/// @throws ParamError with the column (from 1) and what was expected there
BOREL_EXPORT MethodSpec parse_method_spec(std::string_view text, std::string_view family = {});

/// Canonical texts of parameter values: shortest that reads back to the same number. For building specs in
/// code.
BOREL_EXPORT std::string param_text(double value);
BOREL_EXPORT std::string param_text(std::int64_t value);
BOREL_EXPORT std::string param_text(bool value);
BOREL_EXPORT std::string param_text(std::span<const double> values);

/// True for names such as `exponentiated_gradient`: lower-case words with digits and single underscores.
BOREL_EXPORT bool is_snake_case(std::string_view name);

}  // namespace borel
