#include "sample_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "borel/rng.hpp"

namespace borel {
namespace {

MethodUse use(std::string family, std::string label) {
  MethodUse method;
  method.family = std::move(family);
  method.id = label.substr(0, label.find('{'));
  method.spec = method.family + "/" + label;
  method.plugin_file = "lib/borel/plugins/" + method.family + "." + method.id + ".so";
  method.plugin_sha256 =
      fmt::format("{:016x}{:016x}", Seed{1}.derive(label).value, Seed{2}.derive(label).value);
  method.label = std::move(label);
  return method;
}

using Measure = std::function<CellResult(std::size_t method, std::size_t dataset, Rng& rng)>;

void add_cells(RunResults& run, const std::string& protocol, const std::string& options,
               const std::string& family, const std::vector<std::string>& methods,
               const std::vector<std::string>& datasets, const Measure& measure) {
  for (std::size_t d = 0; d < datasets.size(); ++d)
    for (std::size_t m = 0; m < methods.size(); ++m)
      for (std::int64_t r = 0; r < 3; ++r) {
        CellRecord cell;
        cell.protocol = protocol;
        cell.options = options;
        cell.dataset = datasets[d];
        cell.repetition = r;
        cell.dataset_digest = fmt::format("{:016x}", Seed{3}.derive(datasets[d]).value);
        cell.methods = {use(family, methods[m])};
        cell.label = methods[m];
        if (family == "attention") cell.methods.push_back(use("position", "rope"));
        const Seed seed = Seed{5}
                              .derive(protocol)
                              .derive(datasets[d])
                              .derive(methods[m])
                              .derive(static_cast<std::uint64_t>(r));
        cell.seed = seed.value;
        cell.cell_id = fmt::format("{:016x}{:016x}", seed.value, seed.derive("id").value);
        Rng rng{seed};
        cell.result = measure(m, d, rng);
        cell.result.wall_s = 0.05 + rng.uniform();
        run.cells.push_back(std::move(cell));
      }
}

CellResult ended(CellOutcome outcome, std::string reason) {
  CellResult result;
  result.outcome = outcome;
  result.reason = std::move(reason);
  return result;
}

CellResult fit_density(std::size_t m, std::size_t d, Rng& rng) {
  if (m == 4 && d == 1)
    return ended(CellOutcome::failed,
                 "fourier: n_terms is 40, but 82 samples allow at most 20; lower n_terms.");
  if (m == 3 && d == 2 && rng.uniform() < 0.5)
    return ended(CellOutcome::timeout, "The time limit of 10 s was reached.");
  const double quality = std::vector<double>{3.1, 2.4, 2.1, 1.9, 2.6}[m];
  CellResult result;
  result.metrics = {
      {"log_likelihood", "nats", -quality - 0.4 * static_cast<double>(d) + 0.06 * rng.normal(),
       Direction::higher_is_better},
      {"kl", "nats", std::pow(10.0, -4.5 + quality + 0.1 * rng.normal()), Direction::lower_is_better},
      {"n_parameters", "", 3.0 * static_cast<double>(m) + 2, Direction::none}};
  Curve density{"density", "velocity (km/s)", "density", false, false, {}, {}};
  const double wobble = 0.03 * rng.normal();
  for (int i = 0; i < 300; ++i) {
    const double x = 9 + 26.0 * i / 299;
    const auto bump = [&](double at, double width) {
      return std::exp(-0.5 * std::pow((x - at - wobble) / width, 2)) / width;
    };
    density.x.push_back(x);
    density.y.push_back(0.14 *
                        (0.1 * bump(10, 0.6) +
                         0.8 * bump(20 + 0.3 * static_cast<double>(m), 1.5 + 0.3 * static_cast<double>(m)) +
                         0.1 * bump(33, 1)));
  }
  result.curves.push_back(density);
  Curve truth = density;
  truth.name = "true density", truth.reference_of = "density";
  for (std::size_t i = 0; i < truth.x.size(); ++i) truth.y[i] = 0.02 + 0.001 * truth.x[i];
  result.curves.push_back(truth);
  Timing fit{"fit_s", {}};
  for (int i = 0; i < 5; ++i)
    fit.seconds.push_back(2e-4 * std::pow(6.0, 4.0 - quality) * std::exp(0.1 * rng.normal()));
  result.timings.push_back(fit);
  return result;
}

CellResult optimise(std::size_t m, std::size_t d, Rng& rng) {
  if (m == 9 && d == 0) return ended(CellOutcome::crashed, "The worker ended with signal 11 (SIGSEGV).");
  if (m == 8)
    return ended(CellOutcome::skipped,
                 "lagrangian_newton needs second derivatives, and this problem has none.");
  CellResult result;
  Curve gap{"gap", "iteration", "certified gap", true, true, {}, {}};
  const double rate = 0.02 * (1 + static_cast<double>(m)) * std::exp(0.2 * rng.normal());
  double value = 1;
  for (int i = 1; i <= 2000 && value > 1e-10; ++i) {
    value = m < 3 ? 1.0 / (1 + rate * 30 * i) : std::exp(-rate * i);
    gap.x.push_back(i);
    gap.y.push_back(value);
  }
  result.metrics = {{"gap", "", value, Direction::lower_is_better},
                    {"iterations", "", static_cast<double>(gap.x.size()), Direction::lower_is_better}};
  result.curves.push_back(gap);
  result.timings.push_back(
      {"time_to_end_s", {gap.x.back() * 1e-5, gap.x.back() * 1.1e-5, gap.x.back() * 1.05e-5}});
  return result;
}

CellResult recall(std::size_t m, std::size_t, Rng& rng) {
  CellResult result;
  Curve accuracy{"accuracy", "context (bytes)", "next-byte accuracy", true, false, {}, {}};
  for (double n = 64; n <= 65536; n *= 4) {
    accuracy.x.push_back(n);
    accuracy.y.push_back(0.9 - 0.05 * static_cast<double>(m) * std::log2(n / 32) / 2 + 0.015 * rng.normal());
  }
  result.metrics = {{"accuracy", "", accuracy.y.back(), Direction::higher_is_better}};
  result.curves.push_back(accuracy);
  Picture map{"attention_map", "key", "query", 48, 48, {}};
  for (int i = 0; i < 48; ++i)
    for (int j = 0; j < 48; ++j)
      map.values.push_back(
          j > i ? 0 : std::exp(-(i - j) * 0.1 * (1 + static_cast<double>(m))) + 0.05 * rng.uniform());
  result.pictures.push_back(map);
  result.timings.push_back(
      {"forward_s", {3e-3 / (1.0 + static_cast<double>(m)), 3.2e-3 / (1.0 + static_cast<double>(m))}});
  return result;
}

}  // namespace

RunResults sample_run() {
  RunResults run;
  run.title = "Sample: four families <script>alert(1)</script> & \"quotes\"";
  run.description = "A made-up run that exercises every part of the report. Its numbers mean nothing.";
  run.study_file = "studies/sample.toml";
  run.study_digest = "0123456789abcdef";
  run.study_text = "title = \"<b>not bold</b>\"\nrepetitions = 3\n";
  run.provenance = {
      {"host", "sample"}, {"cpu", "Example 9000 <i>"}, {"compiler", "GCC 12.2"}, {"threads", "2"}};
  add_cells(run, "attention.recall", "attention.recall{n_heads=4}", "attention",
            {"softmax", "relu2{scaling=normalised}", "linear{feature=elu1}", "retention"}, {"english_text"},
            recall);
  add_cells(
      run, "density.fit", "", "density",
      {"histogram{bin_rule=freedman_diaconis}", "kde{bandwidth=silverman}", "kde{bandwidth=isj}",
       "gmm{n_components=4}", "fourier{n_terms=40}"},
      {"acidity", "faithful", "galaxies", "sp500_returns", "treering", "it's \"odd\"; `touch /tmp/x` <é>"},
      fit_density);
  add_cells(run, "optimizer.convergence", "", "optimizer",
            {"away_steps", "exponentiated_gradient", "frank_wolfe", "frank_wolfe{variant=pairwise}",
             "projected_gradient", "projected_gradient{accelerated=true}", "mirror_prox", "bregman",
             "lagrangian_newton", "wild"},
            {"markowitz", "npmle_galaxies"}, optimise);
  std::sort(run.cells.begin(), run.cells.end(), [](const CellRecord& a, const CellRecord& b) {
    return std::tuple(a.protocol, a.options, a.dataset, a.label, a.repetition) <
           std::tuple(b.protocol, b.options, b.dataset, b.label, b.repetition);
  });
  return run;
}

ProtocolTable sample_protocols() {
  return {{"attention.recall",
           {"Does the mechanism find the one key that matters as the context grows?",
            {{"accuracy", "", Direction::higher_is_better, "share of next bytes predicted", true}}}},
          {"density.fit",
           {"How well does a fitted density describe data that it has not seen?",
            {{"log_likelihood", "nats", Direction::higher_is_better, "mean held-out log-likelihood", true},
             {"kl", "nats", Direction::lower_is_better, "divergence from the true density", true},
             {"n_parameters", "", Direction::none, "numbers that were fitted", false}}}},
          {"optimizer.convergence",
           {"How fast does the certified gap close?",
            {{"gap", "", Direction::lower_is_better, "Frank-Wolfe gap at the end", true},
             {"iterations", "", Direction::lower_is_better, "until the stop rule", false}}}}};
}

}  // namespace borel
