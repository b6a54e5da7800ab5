// Errors that a user can cause. Programming errors are asserts.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "borel/export.hpp"

namespace borel {

/// Base of every error that Borel reports. The text is complete for a reader: who, which rule, what was given, what
/// to do next. `exit_code()` is what the program ends with when nobody catches it.
class BOREL_EXPORT Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
  virtual int exit_code() const noexcept { return 2; }
};

/// A parameter or a method spec that breaks its declaration.
class BOREL_EXPORT ParamError : public Error {
 public:
  using Error::Error;
  ~ParamError() override;
};

/// An unknown or doubly registered method.
class BOREL_EXPORT RegistryError : public Error {
 public:
  using Error::Error;
  ~RegistryError() override;
};

/// A plugin file that was refused.
class BOREL_EXPORT PluginError : public Error {
 public:
  using Error::Error;
  ~PluginError() override;
};

/// A dataset or another input file that was refused.
class BOREL_EXPORT DatasetError : public Error {
 public:
  using Error::Error;
  ~DatasetError() override;
};

/// A method cannot do what was asked with this input (it says why); the cell is recorded as failed or skipped.
class BOREL_EXPORT MethodError : public Error {
 public:
  using Error::Error;
  ~MethodError() override;
  int exit_code() const noexcept override { return 1; }
};

/// Work was stopped by its StopToken: time limit or user.
class BOREL_EXPORT Stopped : public Error {
 public:
  using Error::Error;
  ~Stopped() override;
  int exit_code() const noexcept override { return 1; }
};

/// The known name nearest to `given` (edit distance, small), or "" when none is near.
BOREL_EXPORT std::string nearest_name(std::string_view given, std::span<const std::string> known);

/// "; did you mean 'x'?" when a near name exists, else "". Every unknown-name message ends with it.
BOREL_EXPORT std::string did_you_mean(std::string_view given, std::span<const std::string> known);

}  // namespace borel
