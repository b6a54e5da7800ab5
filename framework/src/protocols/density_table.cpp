// density.table: how well does a density over all columns predict rows that it has not seen, and, where the dataset knows
// the density of the last column given the others, how far is the fitted conditional from it?
//
// The distance is that of arXiv 2410.22269, section 4: truth and fit are taken at the centres of equal bins and scaled to
// sum 1, KL(truth || fit) is averaged over the held-out contexts. The fit's conditional is its joint density on the line
// through the context. The datasets carry the published distances of other heads, which stand beside it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "borel/error.hpp"
#include "protocols/density_data.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr index_t k_evaluated = 1000;    ///< rows of the evaluation that is timed
constexpr index_t k_context_block = 64;  ///< contexts whose lines are evaluated together
constexpr const char* k_pmf = "truth/conditional_pmf";
constexpr const char* k_centre = "truth/bin_centre";
constexpr std::array k_heads{"linear_head", "fourier_head", "gmm_head"};

struct Options {
  std::int64_t n_train = 0;
  bool quantise_context = false;

  void declare(ParamBinder& p) {
    p.integer("n_train", n_train, Range::closed(0, 1LL << 40), "rows",
              "Rows to fit, drawn by the repetition's seed; 0 = four fifths, the rest held out.");
    p.flag("quantise_context", quantise_context,
           "Moves all columns but the last to the centres of the truth's bins, as the paper does, before "
           "fitting and "
           "predicting; the truth stays that of the exact context.");
  }
};

/// Columns before the last to the nearest bin centre.
void quantise(std::vector<double>& rows, index_t n_columns, std::span<const double> centre) {
  const double width = centre[1] - centre[0];
  const auto last = static_cast<double>(centre.size() - 1);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (static_cast<index_t>(i) % n_columns == n_columns - 1) continue;
    const double bin = std::clamp(std::round((rows[i] - centre[0]) / width), 0.0, last);
    rows[i] = centre[static_cast<std::size_t>(bin)];
  }
}

DensityTable table_of(const CellInput& input, const Options& options) {
  DensityTable table = make_density_table(input, options.n_train);
  if (options.quantise_context) {
    const std::span<const double> centre = input.dataset->doubles(k_centre);
    quantise(table.train, table.n_columns, centre);
    quantise(table.held_out, table.n_columns, centre);
  }
  return table;
}

/// Fitted conditional at the bins' centres for the contexts [begin, end), rows of sum 1; a row of zeros where the joint
/// density vanishes at every centre.
std::vector<double> conditional_pmf(const FittedDensity& density, const DensityTable& table,
                                    std::span<const double> centre, index_t begin, index_t end) {
  const index_t n_bins = static_cast<index_t>(centre.size()), n_columns = table.n_columns;
  std::vector<double> line;
  for (index_t i = begin; i < end; ++i)
    for (const double z : centre) {
      const auto row = table.held_out.begin() + i * n_columns;
      line.insert(line.end(), row, row + n_columns - 1);
      line.push_back(z);
    }
  std::vector<double> p(static_cast<std::size_t>((end - begin) * n_bins));
  density.log_pdf({line.data(), {(end - begin) * n_bins, n_columns}}, p);
  for (auto row = p.begin(); row != p.end(); row += n_bins) {
    const double largest = *std::max_element(row, row + n_bins);
    double sum = 0;
    for (auto value = row; value != row + n_bins; ++value) {
      if (std::isnan(*value)) throw MethodError("log_pdf is NaN at a held-out context");
      sum += * value = std::isfinite(largest) ? std::exp(*value - largest) : 0.0;
    }
    for (auto value = row; value != row + n_bins; ++value)
      if (sum > 0) *value /= sum;
  }
  return p;
}

class DensityOfTable final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "density.table"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Held-out likelihood of a density over all columns, and the distance of its last conditional to a "
           "known one";
  }
  std::vector<Role> roles() const override { return {{"density", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::samples; }

  std::vector<MetricInfo> metrics() const override {
    std::vector<MetricInfo> list{
        {"held_out_log_likelihood", "nats", Direction::higher_is_better,
         "mean joint log density of the held-out rows", true},
        {"held_out_bits", "bits", Direction::lower_is_better, "the same as a code length per value", false},
        {"held_out_outside", "", Direction::lower_is_better, "share of held-out rows where the density is 0",
         false},
        {"conditional_kl", "nats", Direction::lower_is_better,
         "KL(truth || fit) of the last column given the others, over the truth's bins", true},
        {"conditional_kl_ratio", "", Direction::lower_is_better,
         "conditional_kl against the best published one; at most 1 means as good", false},
    };
    for (const char* head : k_heads)
      list.push_back({fmt::format("published_{}", head), "nats", Direction::none,
                      fmt::format("conditional_kl of a {} as its authors report it", head), false});
    list.insert(list.end(),
                {{"parameters", "", Direction::lower_is_better, "numbers that were fitted", false},
                 {"fit_s", "s", Direction::lower_is_better, "time of one fit", false},
                 {"evaluate_s", "s", Direction::lower_is_better, "time of log density at 1000 rows", false}});
    return list;
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    if (options.quantise_context && !input.dataset->has(k_centre))
      return "quantise_context needs the bins of a known conditional density, and the dataset has none";
    return refuses_density_table(input, options.n_train);
  }

  double memory_bytes(const CellInput& input) const override {
    const auto shape = input.dataset->shape("x");
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    return method->fit_memory_bytes(shape[0], shape[1]) + 32.0 * static_cast<double>(shape[0] * shape[1]) +
           8e6;
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const DensityTable table = table_of(input, options);
    const TimedFit fit = fit_density(input, table.samples());
    if (const Outcome outcome = fit.density->outcome(); outcome.termination == Termination::failed)
      throw MethodError("the fit failed: " + outcome.sentence);
    CellResult result;
    // A context that was quantised has no density: its likelihood would reward spikes at the bins' centres.
    if (!options.quantise_context)
      add_held_out(held_out_log_pdf(*fit.density, table.held_out_rows()), table.n_columns, result);
    if (input.dataset->has(k_pmf)) add_conditional(*input.dataset, *fit.density, table, result);
    result.metrics.push_back(
        {"parameters", "", static_cast<double>(fit.density->parameter_count()), Direction::lower_is_better});
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    auto table = std::make_shared<DensityTable>(table_of(input, options));
    auto fit = std::make_shared<TimedFit>(fit_density(input, table->samples()));
    auto points = std::make_shared<std::vector<double>>();
    for (index_t i = 0; i < k_evaluated * table->n_columns; ++i)
      points->push_back(table->held_out[static_cast<std::size_t>(i) % table->held_out.size()]);
    auto out = std::make_shared<std::vector<double>>(k_evaluated);
    return {{"fit_s", [input, table] { fit_density(input, table->samples()); }},
            {"evaluate_s", [fit, points, out, table] {
               fit->density->log_pdf({points->data(), {k_evaluated, table->n_columns}}, *out);
             }}};
  }

 private:
  static void add_held_out(const std::vector<double>& log_p, index_t n_columns, CellResult& result) {
    const auto n = static_cast<double>(log_p.size());
    double mean = 0, outside = 0;
    for (const double value : log_p) {
      mean += value / n;
      outside += value == -std::numeric_limits<double>::infinity() ? 1.0 : 0.0;
    }
    result.metrics.push_back({"held_out_log_likelihood", "nats", mean, Direction::higher_is_better});
    result.metrics.push_back({"held_out_bits", "bits",
                              -mean / std::numbers::ln2 / static_cast<double>(n_columns),
                              Direction::lower_is_better});
    result.metrics.push_back({"held_out_outside", "", outside / n, Direction::lower_is_better});
  }

  static void add_conditional(const Dataset& dataset, const FittedDensity& density, const DensityTable& table,
                              CellResult& result) {
    const std::span<const double> truth = dataset.doubles(k_pmf), centre = dataset.doubles(k_centre);
    const index_t n_bins = static_cast<index_t>(centre.size()), n = table.held_out_rows().shape(0);
    double kl = 0;
    std::vector<double> shown;
    for (index_t begin = 0; begin < n; begin += k_context_block) {
      const index_t end = std::min(begin + k_context_block, n);
      const std::vector<double> fitted = conditional_pmf(density, table, centre, begin, end);
      if (begin == 0) shown = fitted;
      for (std::size_t i = 0; i < fitted.size(); ++i) {
        const double p = truth[static_cast<std::size_t>(begin * n_bins) + i];
        if (p > 0) kl += p * (std::log(p) - std::log(fitted[i])) / static_cast<double>(n);
      }
    }
    result.metrics.push_back({"conditional_kl", "nats", kl, Direction::lower_is_better});
    double best = std::numeric_limits<double>::infinity();
    for (const char* head : k_heads) {
      const std::string name = fmt::format("published_{}", head),
                        attribute = fmt::format("published_kl_{}", head);
      if (!dataset.has_attribute("truth", attribute)) continue;
      const double published = dataset.number("truth", attribute);
      best = std::min(best, published);
      result.metrics.push_back({name, "nats", published, Direction::none});
    }
    if (std::isfinite(best))
      result.metrics.push_back({"conditional_kl_ratio", "", kl / best, Direction::lower_is_better});

    // The first held-out context as a figure.
    const auto first = [&](std::span<const double> pmf) {
      return std::vector<double>(pmf.begin(), pmf.begin() + n_bins);
    };
    const std::vector<double> z(centre.begin(), centre.end());
    result.curves.push_back({"first context", "z", "probability", false, false, z, first(shown)});
    result.curves.push_back(
        {"its truth", "z", "probability", false, false, z, first(truth), "first context"});
  }
};

}  // namespace

const Protocol& density_table() {
  static const DensityOfTable protocol;
  return protocol;
}

}  // namespace borel
