// The CSV files of datasets/values, compiled in so that the program needs no data folder beside it.
#pragma once

#include <string_view>

#include "dataset/csv.hpp"

namespace borel {

/// Text of datasets/values/<name>.csv. @throws DatasetError: no such file was compiled in
std::string_view published_text(std::string_view name);
CsvTable published_table(std::string_view name);

}  // namespace borel
