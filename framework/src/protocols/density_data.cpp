#include "protocols/density_data.hpp"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "borel/error.hpp"

namespace borel {
namespace {

struct Rows {
  std::vector<index_t> pool, held_out;
  bool separate_test = false;  ///< held-out rows stand in test/x
};

/// Fisher-Yates with the counter-based generator: the same order on every machine.
void shuffle(std::vector<index_t>& rows, Seed seed) {
  Rng rng(seed);
  for (std::size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[rng.below(i)]);
}

Rows choose_rows(const CellInput& input) {
  const Dataset& dataset = *input.dataset;
  Rows rows;
  if (dataset.has("split/train")) {
    for (const std::int64_t row : dataset.integers("split/train")) rows.pool.push_back(row);
    if (dataset.has("split/test"))
      for (const std::int64_t row : dataset.integers("split/test")) rows.held_out.push_back(row);
  } else {
    rows.pool.resize(static_cast<std::size_t>(dataset.shape("x")[0]));
    std::iota(rows.pool.begin(), rows.pool.end(), index_t{0});
  }
  shuffle(rows.pool, input.seed.derive("rows"));
  rows.separate_test = dataset.has("test/x");
  if (rows.separate_test || !rows.held_out.empty()) return rows;
  const std::size_t n_held_out = rows.pool.size() / 5;
  rows.held_out.assign(rows.pool.end() - static_cast<index_t>(n_held_out), rows.pool.end());
  rows.pool.resize(rows.pool.size() - n_held_out);
  return rows;
}

bool has_own_test_rows(const Dataset& dataset) { return dataset.has("test/x") || dataset.has("split/test"); }

std::size_t automatic_n_train(const Dataset& dataset, std::size_t n_pool) {
  return has_own_test_rows(dataset) ? n_pool * 4 / 5 : n_pool;
}

double standard_deviation(const std::vector<double>& x) {
  double mean = 0, square = 0;
  for (const double value : x) mean += value / static_cast<double>(x.size());
  for (const double value : x) square += (value - mean) * (value - mean) / static_cast<double>(x.size());
  return std::sqrt(square);
}

/// The columns [begin, end).
DensityTable make_table(const CellInput& input, index_t begin, index_t end, std::int64_t n_train) {
  const Dataset& dataset = *input.dataset;
  const std::span<const double> x = dataset.doubles("x");
  const index_t n_columns = dataset.shape("x")[1];
  const Rows rows = choose_rows(input);
  const std::size_t n =
      n_train > 0 ? static_cast<std::size_t>(n_train) : automatic_n_train(dataset, rows.pool.size());
  DensityTable table;
  table.n_columns = end - begin;
  const auto append = [&](std::span<const double> from, index_t row, std::vector<double>& to) {
    const auto first = from.begin() + row * n_columns;
    to.insert(to.end(), first + begin, first + end);
  };
  const bool weighted = dataset.has("weights");
  for (std::size_t i = 0; i < std::min(n, rows.pool.size()); ++i) {
    append(x, rows.pool[i], table.train);
    if (weighted)
      table.train_weights.push_back(dataset.doubles("weights")[static_cast<std::size_t>(rows.pool[i])]);
  }
  if (rows.separate_test) {
    const std::span<const double> test = dataset.doubles("test/x");
    for (index_t row = 0; row < dataset.shape("test/x")[0]; ++row) append(test, row, table.held_out);
  } else {
    for (const index_t row : rows.held_out) append(x, row, table.held_out);
  }
  return table;
}

}  // namespace

DensityTable make_density_table(const CellInput& input, std::int64_t n_train) {
  return make_table(input, 0, input.dataset->shape("x")[1], n_train);
}

std::string refuses_density_table(const CellInput& input, std::int64_t n_train) {
  const std::int64_t n_columns = input.dataset->shape("x")[1];
  const auto method = input.registry->make<DensityEstimator>(input.methods.front());
  if (n_columns > method->traits().max_dims)
    return fmt::format("the dataset has {} columns and the method takes {}; wrap it in autoregressive",
                       n_columns, method->traits().max_dims);
  return refuses_density_data(input, 0, n_train);
}

DensityData make_density_data(const CellInput& input, std::int64_t column, std::int64_t n_train) {
  const Dataset& dataset = *input.dataset;
  const index_t n_columns = dataset.shape("x")[1];
  DensityTable table = make_table(input, column, column + 1, n_train);
  DensityData data{std::move(table.train), std::move(table.train_weights), std::move(table.held_out), nullptr,
                   1};
  if (n_columns == 1) data.truth = GaussianMixture::from(dataset);
  data.sd = data.truth ? std::sqrt(data.truth->variance()) : standard_deviation(data.held_out);
  return data;
}

std::string refuses_density_data(const CellInput& input, std::int64_t column, std::int64_t n_train) {
  const std::vector<std::int64_t> shape = input.dataset->shape("x");
  if (column >= shape[1])
    return fmt::format("column {} does not exist; the dataset has {} columns, counted from 0", column,
                       shape[1]);
  const Rows rows = choose_rows(input);
  if (n_train > static_cast<std::int64_t>(rows.pool.size()))
    return fmt::format("n_train = {}, but only {} rows are left for training", n_train, rows.pool.size());
  if (!rows.separate_test && rows.held_out.empty())
    return fmt::format("{} rows are too few to hold out a fifth", shape[0]);
  const auto method = input.registry->make<DensityEstimator>(input.methods.front());
  return refuses_weights(*input.dataset, *method);
}

std::string refuses_weights(const Dataset& dataset, const DensityEstimator& method) {
  if (dataset.has("weights") && !method.traits().accepts_weights)
    return "the dataset is weighted, and the method takes samples of equal weight only";
  return "";
}

std::vector<double> held_out_log_pdf(const FittedDensity& density, TensorView<const double, 2> rows) {
  std::vector<double> log_p(static_cast<std::size_t>(rows.shape(0)));
  density.log_pdf(rows, log_p);
  for (const double value : log_p)
    if (std::isnan(value)) throw MethodError("log_pdf is NaN at a held-out row");
  return log_p;
}

std::vector<double> held_out_log_pdf(const FittedDensity& density, std::span<const double> rows) {
  return held_out_log_pdf(density, {rows.data(), {static_cast<index_t>(rows.size()), 1}});
}

TimedFit fit_density(const CellInput& input, const Samples& samples) {
  TimedFit fit;
  fit.method = input.registry->make<DensityEstimator>(input.methods.front());
  FitContext context;
  context.seed = input.seed.derive("fit");
  context.budget.stop = input.stop;
  fit.density = fit.method->fit(samples, context);
  return fit;
}

}  // namespace borel
