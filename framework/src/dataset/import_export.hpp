// Users' own data in and out.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "dataset/dataset.hpp"
#include "dataset/dataset_writer.hpp"

namespace borel {

struct ImportRequest {
  DatasetKind kind = DatasetKind::samples;
  std::string id;
  std::string title, source, licence;  // empty: said to be unknown
  /// "<file>" or "<array>=<file>"; .csv, .tsv, .npy, .png, anything else as bytes.
  std::vector<std::string> inputs;
  std::vector<std::string> columns;  // of CSV files, by name or number from 1; empty = all
  double test_share = 0.1;           // tokens from one file: the last part is the test
  std::vector<std::pair<std::string, std::string>> attributes;  // of the root; numbers become numbers
};

/// Which array a file without a name becomes: samples -> x; images -> the file's name; tokens -> train, then
/// test; qkv and problem need names. CSV gives float64 [rows columns], or [rows] for one column of a problem;
/// values are converted to the element type that the schema asks for. @throws DatasetError: unreadable files
/// (CSV: with line number), names that the kind does not have, what DatasetWriter::seal() refuses
DatasetWriter import_dataset(const ImportRequest& request);

enum class ExportFormat { csv, npy };

/// One file per array, <folder>/<array with '_' for '/'>.csv or .npy. CSV holds arrays of rank 1 and 2. An
/// empty list means all arrays. @return the files written. @throws DatasetError
std::vector<std::filesystem::path> export_dataset(const Dataset& dataset,
                                                  const std::vector<std::string>& arrays, ExportFormat format,
                                                  const std::filesystem::path& folder);

}  // namespace borel
