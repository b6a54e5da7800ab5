// Golden values: numbers from an independent source (the paper, or make_golden.py beside the file), kept in
// plugins/<family>/<id>/golden.csv. Fields are separated by ';' because method specs hold commas; lines that
// begin with
// '#' say where the numbers come from.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "contract/contract.hpp"

namespace borel::contract {

struct GoldenLine {
  int number = 0;  ///< in the file, from 1
  std::vector<std::string> fields;
  /// Field i as a number. @throws DatasetError naming file and line
  double real(std::size_t i) const;
  const std::string& text(std::size_t i) const;
};

struct Golden {
  enum class Place {
    found,
    missing,
    not_in_tree
  };  ///< not_in_tree: a plugin from elsewhere keeps no golden file here
  Place place = Place::not_in_tree;
  std::filesystem::path file;
  std::vector<GoldenLine> lines;
};

Golden read_golden(const MethodEntry& method);

/// The verdict when there is nothing to compare: broken for a method of this tree, not applicable for others.
Verdict no_golden_values(const Golden& golden);

}  // namespace borel::contract
