// density.fit: how well does a fitted density predict rows that it has not seen, and, where the true density
// is known, how far is it from the truth?
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "borel/error.hpp"
#include "protocols/density_data.hpp"
#include "protocols/density_distance.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr std::size_t k_evaluated = 10000;  ///< rows of the evaluation that is timed

struct Options {
  std::int64_t n_train = 0, column = 0, n_grid = 400;
  double mode_tolerance = 0.1;

  void declare(ParamBinder& p) {
    p.integer("n_train", n_train, Range::closed(0, 1LL << 40), "rows",
              "Rows to fit, drawn by the repetition's seed; 0 = four fifths, the rest held out.");
    p.integer("column", column, Range::closed(0, 1 << 20), "1",
              "Column of a dataset with several, counted from 0.");
    p.integer("n_grid", n_grid, Range::closed(16, 100000), "1", "Points of the density curves.");
    p.real("mode_tolerance", mode_tolerance, Range::greater_than(0), "sd of the truth",
           "A mode is found when a fitted mode lies this close.");
  }
};

class DensityFit final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "density.fit"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Held-out likelihood of a fitted density, and its distance to the truth where it is known";
  }
  std::vector<Role> roles() const override { return {{"density", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::samples; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"held_out_log_likelihood", "nats", Direction::higher_is_better,
         "mean log density of the held-out rows", true},
        {"held_out_bits", "bits", Direction::lower_is_better, "the same as a code length per row", false},
        {"held_out_outside", "", Direction::lower_is_better, "share of held-out rows where the density is 0",
         false},
        {"kl", "nats", Direction::lower_is_better, "KL(truth || fit)", true},
        {"kl_of_held_out", "nats", Direction::lower_is_better,
         "mean of log truth - log fit at the held-out rows, where only that is known of the truth", true},
        {"l1", "", Direction::lower_is_better, "integral of |truth - fit|", false},
        {"w1", "sd", Direction::lower_is_better, "Wasserstein-1 distance to the truth, in its sd", false},
        {"modes_matched", "", Direction::higher_is_better,
         "true modes with a fitted mode within mode_tolerance", false},
        {"modes_missed", "", Direction::lower_is_better, "true modes without one", false},
        {"modes_spurious", "", Direction::lower_is_better, "fitted modes that belong to no true one", false},
        {"modes", "", Direction::none, "modes of the fit", false},
        {"parameters", "", Direction::lower_is_better, "numbers that were fitted", false},
        {"fit_s", "s", Direction::lower_is_better, "time of one fit", false},
        {"evaluate_s", "s", Direction::lower_is_better, "time of log density at 10000 points", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    return refuses_density_data(input, options.column, options.n_train);
  }

  double memory_bytes(const CellInput& input) const override {
    const index_t n = input.dataset->shape("x")[0];
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    return method->fit_memory_bytes(n, 1) + 32.0 * static_cast<double>(n) + 4e6;
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const DensityData data = make_density_data(input, options.column, options.n_train);
    const TimedFit fit = fit_density(input, data.samples());
    const FittedDensity& density = *fit.density;
    if (const Outcome outcome = density.outcome(); outcome.termination == Termination::failed)
      throw MethodError("the fit failed: " + outcome.sentence);

    CellResult result;
    add_held_out(data, density, result);
    if (input.dataset->has("truth/test_log_pdf")) add_kl_of_held_out(*input.dataset, result);
    const std::vector<double> modes = density.modes();
    if (data.truth) {
      const DensityDistance distance = distance_to_truth(density, *data.truth);
      result.metrics.push_back({"kl", "nats", distance.kl, Direction::lower_is_better});
      result.metrics.push_back({"l1", "", distance.l1, Direction::lower_is_better});
      result.metrics.push_back({"w1", "sd", distance.w1 / data.sd, Direction::lower_is_better});
      const ModeRecovery recovery = match_modes(modes, data.truth->modes(), options.mode_tolerance * data.sd);
      result.metrics.push_back(
          {"modes_matched", "", static_cast<double>(recovery.matched), Direction::higher_is_better});
      result.metrics.push_back(
          {"modes_missed", "", static_cast<double>(recovery.missed), Direction::lower_is_better});
      result.metrics.push_back(
          {"modes_spurious", "", static_cast<double>(recovery.spurious), Direction::lower_is_better});
    }
    result.metrics.push_back({"modes", "", static_cast<double>(modes.size()), Direction::none});
    result.metrics.push_back(
        {"parameters", "", static_cast<double>(density.parameter_count()), Direction::lower_is_better});
    add_curves(data, density, options.n_grid, result);
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    auto data = std::make_shared<DensityData>(make_density_data(input, options.column, options.n_train));
    auto fit = std::make_shared<TimedFit>(fit_density(input, data->samples()));
    auto points = std::make_shared<std::vector<double>>(k_evaluated);
    for (std::size_t i = 0; i < k_evaluated; ++i) (*points)[i] = data->held_out[i % data->held_out.size()];
    auto out = std::make_shared<std::vector<double>>(k_evaluated);
    return {{"fit_s", [input, data] { fit_density(input, data->samples()); }},
            {"evaluate_s", [fit, points, out] {
               fit->density->log_pdf(
                   TensorView<const double, 2>(points->data(), {static_cast<index_t>(k_evaluated), 1}), *out);
             }}};
  }

 private:
  static void add_held_out(const DensityData& data, const FittedDensity& density, CellResult& result) {
    const std::size_t n = data.held_out.size();
    double mean = 0, outside = 0;
    for (const double value : held_out_log_pdf(density, data.held_out)) {
      mean += value / static_cast<double>(n);
      outside += value == -std::numeric_limits<double>::infinity() ? 1.0 : 0.0;
    }
    result.metrics.push_back({"held_out_log_likelihood", "nats", mean, Direction::higher_is_better});
    result.metrics.push_back(
        {"held_out_bits", "bits", -mean / std::numbers::ln2, Direction::lower_is_better});
    result.metrics.push_back(
        {"held_out_outside", "", outside / static_cast<double>(n), Direction::lower_is_better});
  }

  /// The held-out rows are the dataset's test rows then, in their order.
  static void add_kl_of_held_out(const Dataset& dataset, CellResult& result) {
    double truth = 0;
    const std::span<const double> log_p = dataset.doubles("truth/test_log_pdf");
    for (const double value : log_p) truth += value / static_cast<double>(log_p.size());
    for (const Metric& metric : result.metrics)
      if (metric.name == "held_out_log_likelihood") {
        result.metrics.push_back(
            {"kl_of_held_out", "nats", truth - metric.value, Direction::lower_is_better});
        break;
      }
  }

  /// The fitted density and what it is held against: the truth, or a histogram of the held-out rows.
  static void add_curves(const DensityData& data, const FittedDensity& density, std::int64_t n_grid,
                         CellResult& result) {
    double low = *std::min_element(data.held_out.begin(), data.held_out.end());
    double high = *std::max_element(data.held_out.begin(), data.held_out.end());
    const double pad = 0.05 * (high - low);
    low -= pad, high += pad;
    if (!(high > low)) return;
    const std::size_t n = static_cast<std::size_t>(n_grid);
    std::vector<double> x(n), log_p(n);
    for (std::size_t i = 0; i < n; ++i)
      x[i] = low + (high - low) * static_cast<double>(i) / static_cast<double>(n - 1);
    density.log_pdf(TensorView<const double, 2>(x.data(), {n_grid, 1}), log_p);
    Curve fitted{"density", "x", "density", false, false, x, {}};
    for (const double value : log_p) fitted.y.push_back(std::exp(value));
    result.curves.push_back(std::move(fitted));

    if (data.truth) {
      Curve truth{"true density", "x", "density", false, false, x, {}, "density"};
      for (const double value : x) truth.y.push_back(data.truth->pdf(value));
      result.curves.push_back(std::move(truth));
      return;
    }
    const std::size_t n_bins = std::clamp<std::size_t>(data.held_out.size() / 10, 8, 60);
    const double width = (high - low) / static_cast<double>(n_bins);
    Curve histogram{"held-out rows", "x", "density", false, false, {}, {}, "density"};
    std::vector<double> count(n_bins);
    for (const double value : data.held_out)
      count[std::min(static_cast<std::size_t>((value - low) / width), n_bins - 1)] += 1;
    for (std::size_t k = 0; k < n_bins; ++k) {
      const double height = count[k] / (static_cast<double>(data.held_out.size()) * width);
      histogram.x.insert(histogram.x.end(),
                         {low + static_cast<double>(k) * width, low + static_cast<double>(k + 1) * width});
      histogram.y.insert(histogram.y.end(), {height, height});  // steps
    }
    result.curves.push_back(std::move(histogram));
  }
};

}  // namespace

const Protocol& density_fit() {
  static const DensityFit protocol;
  return protocol;
}

}  // namespace borel
