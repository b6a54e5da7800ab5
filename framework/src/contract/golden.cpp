#include "contract/golden.hpp"

#include <cstdlib>
#include <fstream>

#include "borel/error.hpp"

namespace borel::contract {

const std::string& GoldenLine::text(std::size_t i) const {
  if (i >= fields.size())
    throw DatasetError("golden.csv line " + std::to_string(number) + ": field " + std::to_string(i + 1) +
                       " is missing");
  return fields[i];
}

double GoldenLine::real(std::size_t i) const {
  const std::string& field = text(i);
  char* end = nullptr;
  const double value = std::strtod(field.c_str(), &end);
  if (field.empty() || *end != '\0')
    throw DatasetError("golden.csv line " + std::to_string(number) + ": '" + field + "' is not a number");
  return value;
}

Golden read_golden(const MethodEntry& method) {
  Golden golden;
  const std::filesystem::path folder =
      std::filesystem::path(BOREL_PLUGIN_SOURCE_DIR) / method.family / method.id;
  golden.file = folder / "golden.csv";
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return golden;
  golden.place = Golden::Place::missing;
  std::ifstream in(golden.file);
  if (!in) return golden;
  golden.place = Golden::Place::found;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    GoldenLine parsed;
    parsed.number = number;
    for (std::size_t begin = 0; begin <= line.size();) {
      const std::size_t end = std::min(line.find(';', begin), line.size());
      parsed.fields.push_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
    golden.lines.push_back(std::move(parsed));
  }
  return golden;
}

Verdict no_golden_values(const Golden& golden) {
  if (golden.place == Golden::Place::not_in_tree)
    return not_applicable("the method's source is not in this tree");
  return broken(
      "no values in golden.csv beside the plugin's source; write them with an independent make_golden.py");
}

}  // namespace borel::contract
