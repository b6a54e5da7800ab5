// Rules on the values of a dataset; rules on its structure are in schema.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "dataset/schema.hpp"

namespace borel {

/// @throws DatasetError at the first NaN or infinity, with its index
void check_finite(std::span<const double> values, std::string_view who, std::string_view array);
void check_finite(std::span<const float> values, std::string_view who, std::string_view array);

/// How check_values() gets at arrays, in memory or in a file.
struct ValueSource {
  const Objects& objects;
  std::function<std::span<const double>(std::string_view)> doubles;
  std::function<std::span<const std::int64_t>(std::string_view)> integers;
};

/// Rules that go over several elements: split indices in range, weights that sum to one, standard deviations
/// and sample weights positive. @throws DatasetError
void check_values(DatasetKind kind, const ValueSource& source, const std::string& who);

}  // namespace borel
