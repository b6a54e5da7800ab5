// density.stream: fits of data that need not fit in memory. Rows are read from the file block by block, ahead of the
// computation; a method sees them once, as a fine histogram or in its own way.
//
// Held out are the dataset's test rows, else its last n_held_out rows. fit_s is the whole fit from the file, read_s the
// same reading without a fit: their ratio says what the computation costs beyond the disk.
#include <algorithm>
#include <cmath>
#include <memory>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "dataset/dataset_stream.hpp"
#include "dataset/truth.hpp"
#include "protocols/density_data.hpp"
#include "protocols/density_distance.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  std::int64_t n_held_out = 10000;

  void declare(ParamBinder& p) {
    p.integer("n_held_out", n_held_out, Range::closed(1, 1 << 24), "rows",
              "Last rows that are held out, for datasets without test rows.");
  }
};

std::int64_t rows_to_fit(const Dataset& dataset, const Options& options) {
  return dataset.shape("x")[0] - (dataset.has("test/x") ? 0 : options.n_held_out);
}

std::vector<double> held_out(const Dataset& dataset, const Options& options) {
  if (dataset.has("test/x")) {
    const std::span<const double> test = dataset.doubles("test/x");
    return {test.begin(), test.end()};
  }
  std::vector<double> rows(static_cast<std::size_t>(options.n_held_out));
  dataset.read_rows("x", rows_to_fit(dataset, options), rows);
  return rows;
}

class DensityStream final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "density.stream"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Fits of data larger than memory, in one pass over the file, and their held-out likelihood";
  }
  std::vector<Role> roles() const override { return {{"density", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::samples; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"held_out_log_likelihood", "nats", Direction::higher_is_better,
         "mean log density of the held-out rows", true},
        {"kl", "nats", Direction::lower_is_better, "KL(truth || fit), where the truth is known", true},
        {"l1", "", Direction::lower_is_better, "integral of |truth - fit|", false},
        {"rows", "", Direction::none, "rows that were fitted", false},
        {"parameters", "", Direction::lower_is_better, "numbers that were fitted", false},
        {"fit_s", "s", Direction::lower_is_better, "reading the file and fitting", false},
        {"read_s", "s", Direction::lower_is_better, "reading the file alone, by the same reader", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    if (const auto shape = input.dataset->shape("x"); shape[1] != 1)
      return fmt::format("the dataset has {} columns; streams of one are fitted", shape[1]);
    if (rows_to_fit(*input.dataset, options) < 1)
      return fmt::format("{} rows are too few to hold out {}", input.dataset->shape("x")[0],
                         options.n_held_out);
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    if (!method->stream_fit() && !method->histogram_fit())
      return "the method fits neither streams nor histograms; density.fit gives it all rows in memory";
    return refuses_weights(*input.dataset, *method);
  }

  double memory_bytes(const CellInput& input) const override {
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    const HistogramFit* binned = method->stream_fit() ? nullptr : method->histogram_fit();
    const index_t bins = 4 * (binned ? binned->bins_wanted() : 0);
    return DatasetStream::memory_bytes() + 3 * sizeof(double) * static_cast<double>(bins) +
           method->fit_memory_bytes(bins, 1);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const auto density = fit(input, options);
    if (const Outcome outcome = density->outcome(); outcome.termination == Termination::failed)
      throw MethodError("the fit failed: " + outcome.sentence);

    const std::vector<double> rows = held_out(*input.dataset, options);
    double mean = 0;
    for (const double value : held_out_log_pdf(*density, rows))
      mean += value / static_cast<double>(rows.size());
    CellResult result;
    result.metrics.push_back({"held_out_log_likelihood", "nats", mean, Direction::higher_is_better});
    if (const auto truth = GaussianMixture::from(*input.dataset)) {
      const DensityDistance distance = distance_to_truth(*density, *truth);
      result.metrics.push_back({"kl", "nats", distance.kl, Direction::lower_is_better});
      result.metrics.push_back({"l1", "", distance.l1, Direction::lower_is_better});
    }
    result.metrics.push_back(
        {"rows", "", static_cast<double>(rows_to_fit(*input.dataset, options)), Direction::none});
    result.metrics.push_back(
        {"parameters", "", static_cast<double>(density->parameter_count()), Direction::lower_is_better});
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    return {{"fit_s", [input, options] { fit(input, options); }},
            {"read_s", [input, options] {
               DatasetStream stream(input.dataset, rows_to_fit(*input.dataset, options), input.stop);
               while (stream.next().n_samples() > 0) {
               }
             }}};
  }

 private:
  static std::unique_ptr<FittedDensity> fit(const CellInput& input, const Options& options) {
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    DatasetStream stream(input.dataset, rows_to_fit(*input.dataset, options), input.stop);
    FitContext context;
    context.seed = input.seed.derive("fit");
    context.budget.stop = input.stop;
    return fit_from_stream(*method, stream, context);
  }
};

}  // namespace

const Protocol& density_stream() {
  static const DensityStream protocol;
  return protocol;
}

}  // namespace borel
