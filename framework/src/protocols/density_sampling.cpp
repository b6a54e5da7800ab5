// density.sampling: does a fitted density draw what its cdf says, and how far are the draws from the truth
// (or from held-out rows)?
#include <algorithm>
#include <cmath>

#include "borel/error.hpp"
#include "protocols/density_data.hpp"
#include "protocols/density_distance.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

struct Options {
  std::int64_t n_train = 0, column = 0, n_draws = 10000;

  void declare(ParamBinder& p) {
    p.integer("n_train", n_train, Range::closed(0, 1LL << 40), "rows",
              "Rows to fit, drawn by the repetition's seed; 0 = four fifths, the rest held out.");
    p.integer("column", column, Range::closed(0, 1 << 20), "1",
              "Column of a dataset with several, counted from 0.");
    p.integer("n_draws", n_draws, Range::closed(10, 100000000), "1",
              "Samples drawn from the fitted density.");
  }
};

class DensitySampling final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "density.sampling"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Samples of a fitted density against its own cdf and against the truth";
  }
  std::vector<Role> roles() const override { return {{"density", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::samples; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"ks_own", "", Direction::lower_is_better,
         "Kolmogorov-Smirnov distance of the samples to the fit's own cdf", false},
        {"ks_own_p", "", Direction::none, "its p-value; uniform on [0, 1] for a correct sampler", false},
        {"ks_target", "", Direction::lower_is_better,
         "Kolmogorov-Smirnov distance to the truth, else to held-out rows", true},
        {"w1_target", "sd", Direction::lower_is_better, "Wasserstein-1 distance to the same, in its sd",
         false},
        {"sample_s", "s", Direction::lower_is_better, "time to draw n_draws samples", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    return refuses_density_data(input, options.column, options.n_train);
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    const index_t n = input.dataset->shape("x")[0];
    const auto method = input.registry->make<DensityEstimator>(input.methods.front());
    return method->fit_memory_bytes(n, 1) + 32.0 * static_cast<double>(n) +
           40.0 * static_cast<double>(options.n_draws);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const DensityData data = make_density_data(input, options.column, options.n_train);
    const TimedFit fit = fit_density(input, data.samples());
    std::vector<double> draws(static_cast<std::size_t>(options.n_draws));
    Rng rng(input.seed.derive("draws"));
    fit.density->sample(rng, TensorView<double, 2>(draws.data(), {options.n_draws, 1}));
    for (const double value : draws)
      if (!std::isfinite(value)) throw MethodError("sample() gave a value that is not finite");
    std::sort(draws.begin(), draws.end());

    CellResult result;
    std::vector<double> f(draws.size());
    fit.density->cdf(draws, f);
    const double own = ks_distance(f);
    result.metrics.push_back({"ks_own", "", own, Direction::lower_is_better});
    result.metrics.push_back(
        {"ks_own_p", "", ks_p_value(own, static_cast<double>(draws.size())), Direction::none});

    double ks = 0, w1 = 0;
    if (data.truth) {
      for (std::size_t i = 0; i < draws.size(); ++i) f[i] = data.truth->cdf(draws[i]);
      ks = ks_distance(f);
      // In quantile form; the truth's quantile stands for its share of 1 / n.
      for (std::size_t i = 0; i < draws.size(); ++i) {
        const double level = (static_cast<double>(i) + 0.5) / static_cast<double>(draws.size());
        w1 += std::abs(draws[i] - data.truth->quantile(level)) / static_cast<double>(draws.size());
      }
    } else {
      std::vector<double> held_out = data.held_out;
      std::sort(held_out.begin(), held_out.end());
      ks = ks_distance(draws, held_out);
      w1 = w1_distance(draws, held_out);
    }
    result.metrics.push_back({"ks_target", "", ks, Direction::lower_is_better});
    result.metrics.push_back(
        {"w1_target", "sd", data.sd > 0 ? w1 / data.sd : w1, Direction::lower_is_better});
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    const DensityData data = make_density_data(input, options.column, options.n_train);
    auto fit = std::make_shared<TimedFit>(fit_density(input, data.samples()));
    auto draws = std::make_shared<std::vector<double>>(static_cast<std::size_t>(options.n_draws));
    return {{"sample_s", [fit, draws, seed = input.seed.derive("draws")] {
               Rng rng(seed);
               fit->density->sample(
                   rng, TensorView<double, 2>(draws->data(), {static_cast<index_t>(draws->size()), 1}));
             }}};
  }
};

}  // namespace

const Protocol& density_sampling() {
  static const DensitySampling protocol;
  return protocol;
}

}  // namespace borel
