// Strict reading and writing of numeric tables as CSV.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace borel {

struct CsvTable {
  std::vector<std::string> columns;  // from the header line, or "column_1", ...
  std::vector<double> values;        // row-major
  std::int64_t rows = 0;

  /// Position of a column given by name or by number from 1. @throws DatasetError with the nearest name
  std::size_t column(std::string_view name, std::string_view who) const;
};

/// Comma, semicolon or tab (taken from the first line), '.' as decimal point, optional header, '#' comment
/// lines, no missing values, the same number of fields in every line. `who` starts the messages, usually the
/// file's path.
/// @throws DatasetError "<who>:<line>: ..." at the first line that breaks a rule
CsvTable parse_csv(std::string_view text, std::string_view who);

/// Header and rows; numbers in the shortest form that reads back as the same value.
std::string csv_text(std::span<const std::string> columns, std::span<const double> values);

}  // namespace borel
