// Saving and loading fitted methods. The host backs this with a dataset group; a plugin sees names and arrays only.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "borel/tensor.hpp"

namespace borel {

class StateWriter {
 public:
  virtual ~StateWriter() = default;
  virtual void put(std::string_view name, std::span<const double> values) = 0;
  virtual void put_text(std::string_view name, std::string_view text) = 0;
  /// A nested group, for methods made of other methods.
  virtual StateWriter& group(std::string_view name) = 0;
};

/// All members throw DatasetError when a name is missing.
class StateReader {
 public:
  virtual ~StateReader() = default;
  virtual std::vector<double> get(std::string_view name) const = 0;
  virtual std::string get_text(std::string_view name) const = 0;
  virtual const StateReader& group(std::string_view name) const = 0;
  virtual bool has(std::string_view name) const = 0;
};

}  // namespace borel
