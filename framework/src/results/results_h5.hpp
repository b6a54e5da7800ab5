// results.h5: everything about a run in one file, laid out as columns for h5py, Julia, R and HDFView.
//
//   /                       attributes: borel_schema, title, description, study_file, study_digest
//   /study_text
//   /cells/<column>         one row per cell: id, protocol, options, dataset, dataset_digest, label,
//                           specs (JSON), repetition, seed (text: unsigned 64 bit), outcome, reason, wall_s
//   /protocols/<id>/cell    rows of /cells that belong to the protocol, int64
//   /protocols/<id>/metric_names     metrics that each row has (JSON)
//   /protocols/<id>/metrics/<name>   float64, NaN where a cell has no such metric; attributes unit, direction
//   /curves/<column>        cell, name, x_label, y_label, log_x, log_y, first, count; values in /curves/x and
//                           /curves/y
//   /pictures/<column>      cell, name, x_label, y_label, n_rows, n_cols, first; values in /pictures/values
//   /timings/<column>       cell, name, first, count; raw seconds in /timings/seconds
//   /provenance             attributes
//
// The same results give the same bytes.
#pragma once

#include <filesystem>

#include "results/run_results.hpp"

namespace borel {

/// @throws DatasetError
void write_results_h5(const RunResults& results, const std::filesystem::path& file);

/// What write_results_h5 wrote, bit by bit. @throws DatasetError
RunResults read_results_h5(const std::filesystem::path& file);

}  // namespace borel
