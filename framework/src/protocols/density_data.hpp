// What the density protocols share: which rows are fitted, which are held out, and the truth if it is known.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "borel/density.hpp"
#include "dataset/truth.hpp"
#include "protocols/protocol.hpp"

namespace borel {

struct DensityData {
  std::vector<double> train, train_weights;  ///< weights empty when the dataset has none
  std::vector<double> held_out;
  std::shared_ptr<const GaussianMixture> truth;  ///< null when it is not known
  double sd = 1;  ///< of the truth, else of the held-out rows: the unit of distances
  Samples samples() const {
    return {TensorView<const double, 2>(train.data(), {static_cast<index_t>(train.size()), 1}),
            train_weights};
  }
};

/// One column of a samples dataset. Held out are the dataset's own test rows, else a fifth of all rows;
/// trained on are n_train of the others (0 = four fifths of them, or all when the held-out fifth is already
/// taken from them), drawn without replacement. Both depend on the seed alone, so methods are paired.
/// O(rows).
DensityData make_density_data(const CellInput& input, std::int64_t column, std::int64_t n_train);

/// All columns of a samples dataset.
struct DensityTable {
  std::vector<double> train, train_weights;  ///< [n_train, n_columns] and [n_train], or empty
  std::vector<double> held_out;              ///< [n_held_out, n_columns]; with test/x in its order
  index_t n_columns = 1;
  Samples samples() const { return {rows_of(train), train_weights}; }
  TensorView<const double, 2> held_out_rows() const { return rows_of(held_out); }

 private:
  TensorView<const double, 2> rows_of(const std::vector<double>& x) const {
    return {x.data(), {static_cast<index_t>(x.size()) / n_columns, n_columns}};
  }
};

/// The same choice of rows as make_density_data. O(values).
DensityTable make_density_table(const CellInput& input, std::int64_t n_train);

/// "" or why make_density_table cannot serve the cell.
std::string refuses_density_table(const CellInput& input, std::int64_t n_train);

/// "" or why make_density_data cannot serve the cell.
std::string refuses_density_data(const CellInput& input, std::int64_t column, std::int64_t n_train);

struct TimedFit {
  std::unique_ptr<DensityEstimator> method;
  std::unique_ptr<FittedDensity> density;
};

/// Fits the first method of the cell to its training rows.
TimedFit fit_density(const CellInput& input, const Samples& samples);

/// Log density of each row. @throws MethodError when one is NaN
std::vector<double> held_out_log_pdf(const FittedDensity& density, TensorView<const double, 2> rows);
std::vector<double> held_out_log_pdf(const FittedDensity& density, std::span<const double> rows);

/// "" or why the method cannot fit the dataset's weights.
std::string refuses_weights(const Dataset& dataset, const DensityEstimator& method);

}  // namespace borel
