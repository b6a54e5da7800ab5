#include "dataset/csv.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cmath>
#include <optional>

#include "borel/error.hpp"

namespace borel {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \r");
  if (first == std::string_view::npos) return {};
  text = text.substr(first, text.find_last_not_of(" \r") - first + 1);
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  return text;
}

std::vector<std::string_view> fields_of(std::string_view line, char separator) {
  std::vector<std::string_view> fields;
  for (std::size_t end = 0; end != std::string_view::npos;) {
    end = line.find(separator);
    fields.push_back(trimmed(line.substr(0, end)));
    if (end != std::string_view::npos) line.remove_prefix(end + 1);
  }
  return fields;
}

std::optional<double> number_of(std::string_view field) {
  if (!field.empty() && field.front() == '+') field.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || end != field.data() + field.size()) return std::nullopt;
  return value;
}

}  // namespace

std::size_t CsvTable::column(std::string_view name, std::string_view who) const {
  for (std::size_t i = 0; i < columns.size(); ++i)
    if (columns[i] == name || std::to_string(i + 1) == name) return i;
  throw DatasetError(fmt::format("{}: no column '{}' (columns 1 to {}: {}){}", who, name, columns.size(),
                                 fmt::join(columns, ", "), did_you_mean(name, columns)));
}

CsvTable parse_csv(std::string_view text, std::string_view who) {
  CsvTable table;
  char separator = ',';
  std::int64_t line_number = 0;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.starts_with('#') || trimmed(line).empty()) continue;
    const bool first = table.columns.empty();
    if (first) separator = line.find('\t') != line.npos ? '\t' : line.find(';') != line.npos ? ';' : ',';
    const auto fields = fields_of(line, separator);
    if (first) {
      bool header = false;
      for (std::string_view field : fields) header |= !number_of(field);
      for (std::size_t i = 0; i < fields.size(); ++i)
        table.columns.push_back(header ? std::string(fields[i]) : fmt::format("column_{}", i + 1));
      if (header) continue;
    }
    if (fields.size() != table.columns.size())
      throw DatasetError(fmt::format("{}:{}: {} fields, but the first line has {}", who, line_number,
                                     fields.size(), table.columns.size()));
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const auto value = number_of(fields[i]);
      if (!value || !std::isfinite(*value))
        throw DatasetError(
            fmt::format("{}:{}: field {} ({}) is '{}', not a finite number; missing values are not "
                        "accepted: remove or fill them first",
                        who, line_number, i + 1, table.columns[i], fields[i]));
      table.values.push_back(*value);
    }
    ++table.rows;
  }
  if (table.rows == 0) throw DatasetError(fmt::format("{}: no row of numbers", who));
  return table;
}

std::string csv_text(std::span<const std::string> columns, std::span<const double> values) {
  std::string text = fmt::format("{}\n", fmt::join(columns, ","));
  for (std::size_t i = 0; i < values.size(); ++i) {
    fmt::format_to(std::back_inserter(text), "{}", values[i]);
    text += (i + 1) % columns.size() == 0 ? '\n' : ',';
  }
  return text;
}

}  // namespace borel
