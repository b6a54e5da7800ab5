// Rules about a fitted density: log_pdf, cdf, quantile, sample, modes, support and the saved state tell the
// same story.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "borel/density.hpp"
#include "contract/contract.hpp"
#include "contract/density_subject.hpp"
#include "contract/golden.hpp"
#include "contract/memory_state.hpp"

namespace borel::contract {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr std::size_t k_n = 200;            // samples of the usual fit
constexpr double k_smooth_integral = 1e-7;  // quadrature against cdf, continuous densities
constexpr double k_jump_integral = 2e-3;    // with jumps, which fixed panels cut
constexpr double k_inversion = 1e-9;        // |cdf(quantile(p)) - p|
constexpr double k_ks_level = 1e-7;  // over some thousand tests, a false alarm once in thousands of runs

/// Composite Gauss-Legendre with 4 points on equal panels; nothing adaptive, nothing of the plugin's or the
/// SDK's own.
double integral(const FittedDensity& density, double low, double high, int n_panels) {
  constexpr double k_node[] = {-0.8611363115940526, -0.3399810435848563, 0.3399810435848563,
                               0.8611363115940526};
  constexpr double k_weight[] = {0.3478548451374538, 0.6521451548625461, 0.6521451548625461,
                                 0.3478548451374538};
  const double half = 0.5 * (high - low) / n_panels;
  std::vector<double> x;
  for (int panel = 0; panel < n_panels; ++panel)
    for (const double node : k_node) x.push_back(low + (2 * panel + 1 + node) * half);
  const std::vector<double> log_p = log_pdf_of(density, x);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += half * k_weight[i % 4] * std::exp(log_p[i]);
  return sum;
}

std::vector<double> levels() {
  std::vector<double> p{1e-9, 1e-6, 1e-3};
  for (int i = 1; i < 40; ++i) p.push_back(i / 40.0);
  p.insert(p.end(), {1 - 1e-3, 1 - 1e-6, 1 - 1e-9});
  return p;
}

Verdict integrates_to_one(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    const double bound = method.traits().smooth ? k_smooth_integral : k_jump_integral;
    const double p[] = {1e-7, 1 - 1e-7};
    const std::vector<double> ends = quantile_of(*density, p);
    const double mass = integral(*density, ends[0], ends[1], 40000);
    if (!(std::abs(mass - (p[1] - p[0])) <= bound))
      return fmt::format("the integral of the density from {} to {} is {:.12g}, not 1 - 2e-7 (bound {})",
                         ends[0], ends[1], mass, bound);
    return "";
  });
}

Verdict cdf_is_the_integral(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    const double bound = method.traits().smooth ? k_smooth_integral : k_jump_integral;
    const std::vector<double> at = quantile_of(*density, levels()), f = cdf_of(*density, at);
    for (std::size_t i = 1; i < at.size(); ++i) {
      if (!(f[i] >= f[i - 1]))
        return fmt::format("cdf falls from {} at {} to {} at {}", f[i - 1], at[i - 1], f[i], at[i]);
      const double mass = integral(*density, at[i - 1], at[i], 1500);
      if (!(std::abs(mass - (f[i] - f[i - 1])) <= bound))
        return fmt::format(
            "between {} and {} cdf grows by {:.12g}, the density's integral is {:.12g} (bound {})", at[i - 1],
            at[i], f[i] - f[i - 1], mass, bound);
    }
    const double ends[] = {-k_infinity, -1e308, 1e308, k_infinity};
    const std::vector<double> g = cdf_of(*density, ends);
    if (!(g[0] == 0 && g[1] <= 1e-9 && g[2] >= 1 - 1e-9 && g[3] == 1))
      return fmt::format("cdf at -inf, -1e308, 1e308, inf is {}, {}, {}, {}", g[0], g[1], g[2], g[3]);
    return "";
  });
}

Verdict quantile_inverts_cdf(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    const std::vector<double> p = levels(), q = quantile_of(*density, p), f = cdf_of(*density, q);
    for (std::size_t i = 0; i < p.size(); ++i) {
      if (!(std::abs(f[i] - p[i]) <= k_inversion))
        return fmt::format("cdf(quantile({})) = {:.12g} at x = {}", p[i], f[i], q[i]);
      if (i > 0 && !(q[i] >= q[i - 1]))
        return fmt::format("quantile falls from {} to {} at p = {}", q[i - 1], q[i], p[i]);
    }
    const double ends[] = {0, 1};
    const std::vector<double> support = quantile_of(*density, ends);
    const RealInterval range = density->support();
    if (!(support[0] == range.begin && support[1] == range.end))
      return fmt::format("quantile(0), quantile(1) = {}, {}, but the support is {} to {}", support[0],
                         support[1], range.begin, range.end);
    for (const double bad : {-0.1, 1.1, std::nan("")}) {
      try {
        quantile_of(*density, {&bad, 1});
        return fmt::format("quantile({}) was accepted", bad);
      } catch (const MethodError&) {
      }
    }
    return "";
  });
}

/// P(sqrt(n) D > x), Kolmogorov's limit with Stephens's correction for finite n.
double ks_p_value(double distance, double n) {
  const double x = distance * (std::sqrt(n) + 0.12 + 0.11 / std::sqrt(n));
  double p = 0;
  for (int k = 1; k <= 100; ++k) p += (k % 2 ? 2 : -2) * std::exp(-2.0 * k * k * x * x);
  return x < 0.2 ? 1 : p;
}

Verdict samples_follow_cdf(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    constexpr std::size_t k_draws = 2000;
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    const auto draw = [&](std::uint64_t number) {
      Rng rng(seed.derive(number));
      std::vector<double> out(k_draws);
      density->sample(rng, TensorView<double, 2>(out.data(), {k_draws, 1}));
      return out;
    };
    if (draw(0) != draw(0)) return "two draws with one seed differ";
    if (draw(0) == draw(1)) return "draws do not depend on the seed";
    for (std::uint64_t number = 0; number < 5; ++number) {
      std::vector<double> sample = draw(number);
      std::sort(sample.begin(), sample.end());
      const std::vector<double> f = cdf_of(*density, sample);
      double distance = 0;
      for (std::size_t i = 0; i < k_draws; ++i) {
        if (!(f[i] >= 0 && f[i] <= 1)) return fmt::format("cdf at the sample {} is {}", sample[i], f[i]);
        distance = std::max(
            {distance, f[i] - static_cast<double>(i) / k_draws, static_cast<double>(i + 1) / k_draws - f[i]});
      }
      const double p_value = ks_p_value(distance, k_draws);
      if (!(p_value >= k_ks_level))
        return fmt::format("{} samples are {} away from the cdf (Kolmogorov-Smirnov p = {:.3g}, level {})",
                           k_draws, distance, p_value, k_ks_level);
    }
    return "";
  });
}

Verdict modes_are_local_maxima(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    const std::vector<double> modes = density->modes();
    if (modes.empty()) return "no mode was found";
    const double p[] = {0.001, 0.999};
    const std::vector<double> ends = quantile_of(*density, p);
    const double width = ends[1] - ends[0];
    double highest = -k_infinity;
    for (std::size_t i = 0; i < modes.size(); ++i) {
      if (i > 0 && !(modes[i] > modes[i - 1]))
        return fmt::format("modes {} and {} are not ascending", modes[i - 1], modes[i]);
      // A small step: kernels with kinks make maxima that are close together. It sees a mode that is 1e-6
      // off.
      const double step = 1e-6 * width;
      const double around[] = {modes[i] - step, modes[i], modes[i] + step};
      const std::vector<double> log_p = log_pdf_of(*density, around);
      if (!(log_p[1] >= std::max(log_p[0], log_p[2]) - 1e-12))
        return fmt::format("the mode {} has log density {:.15g}, {} away it is {:.15g}", modes[i], log_p[1],
                           step, std::max(log_p[0], log_p[2]));
      highest = std::max(highest, log_p[1]);
    }
    std::vector<double> grid;
    for (int i = 0; i <= 2000; ++i) grid.push_back(ends[0] + width * i / 2000);
    const std::vector<double> log_p = log_pdf_of(*density, grid);
    const auto top = std::max_element(log_p.begin(), log_p.end());
    if (!(highest >= *top - 1e-6))
      return fmt::format("the density at {} is higher than at every mode ({} against {})",
                         grid[static_cast<std::size_t>(top - log_p.begin())], *top, highest);
    return "";
  });
}

Verdict support_holds_the_density(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    if (density->n_dims() != 1)
      return fmt::format("{} dimensions after fitting one column", density->n_dims());
    const RealInterval range = density->support();
    if (!(range.begin < range.end)) return fmt::format("the support is {} to {}", range.begin, range.end);
    std::vector<double> outside, inside;
    const double span = std::isfinite(range.end - range.begin) ? range.end - range.begin : 1.0;
    for (const double part : {1e-12, 1e-3, 10.0}) {
      if (std::isfinite(range.begin)) outside.push_back(range.begin - part * span);
      if (std::isfinite(range.end)) outside.push_back(range.end + part * span);
    }
    outside.insert(outside.end(), {-k_infinity, k_infinity});
    for (const double log_p : log_pdf_of(*density, outside))
      if (!(log_p == -k_infinity))
        return fmt::format("log_pdf outside of the support {} to {} is {}", range.begin, range.end, log_p);
    // Inside, far from all samples: the logarithm must not be lost to underflow of the density. 1e-3 to 1e3
    // spreads away.
    for (const double far : {10.0, 100.0, 1000.0}) {
      if (range.begin == -k_infinity) inside.push_back(-1 - far);
      if (range.end == k_infinity) inside.push_back(2 + far);
    }
    const std::vector<double> log_p = log_pdf_of(*density, inside);
    for (std::size_t i = 0; i < inside.size(); ++i)
      if (!std::isfinite(log_p[i]) || !(log_p[i] < 0))
        return fmt::format("log_pdf({}) = {} inside of the support", inside[i], log_p[i]);
    return "";
  });
}

Verdict saves_and_loads(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    MemoryState state, again;
    density->save(state);
    const auto loaded = method.load(state);
    loaded->save(again);
    if (!state.same_numbers(again))
      return "a loaded density does not save the numbers that it was loaded from";
    std::vector<double> grid;
    for (int i = 0; i < 500; ++i) grid.push_back(-6 + 14.0 * i / 499);
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), [](double u, double v) { return u == v; });
    };
    if (!same(log_pdf_of(*density, grid), log_pdf_of(*loaded, grid))) return "log_pdf differs after loading";
    if (!same(cdf_of(*density, grid), cdf_of(*loaded, grid))) return "cdf differs after loading";
    if (density->parameter_count() != loaded->parameter_count())
      return "parameter_count differs after loading";
    const RealInterval a = density->support(), b = loaded->support();
    if (!(a.begin == b.begin && a.end == b.end)) return "the support differs after loading";
    const MemoryState empty;
    try {
      const auto made_of_nothing = method.load(empty);
    } catch (const Error&) {
      return "";
    }
    return "an empty saved state was accepted";
  });
}

Verdict counts_its_parameters(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(k_n, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 200 plain samples";
    if (density->parameter_count() < 0)
      return fmt::format("parameter_count is {}", density->parameter_count());
    if (density->outcome().sentence.empty()) return "outcome() has no sentence for the reader";
    if (density->outcome().termination == Termination::failed)
      return "fitting plain samples failed: " + density->outcome().sentence;
    return "";
  });
}

/// Golden file: `spec`, `sample` (x, weight), then `log_pdf`, `cdf`, `quantile` (at, expected, bound) and
/// `mean_log_likelihood` (at least, bound) of the fit to the samples above; `spec` begins a new case.
Verdict matches_golden_values(const Subject& subject) {
  const Golden golden = read_golden(subject.method);
  if (golden.lines.empty()) return no_golden_values(golden);
  std::string spec;
  std::vector<double> x, w;
  std::unique_ptr<FittedDensity> density;
  int n_compared = 0;
  for (const GoldenLine& line : golden.lines) {
    const std::string& what = line.text(0);
    if (what == "spec") {
      spec = line.text(1);
      x.clear(), w.clear(), density.reset();
      continue;
    }
    if (what == "sample") {
      x.push_back(line.real(1)), w.push_back(line.real(2));
      continue;
    }
    if (!density) {
      FitContext context;
      context.seed = subject.seed;
      density = subject.registry.make<DensityEstimator>(spec)->fit(as_samples(x, w), context);
    }
    double found = 0, expected = 0, bound = 0;
    if (what == "mean_log_likelihood") {
      const std::vector<double> log_p = log_pdf_of(*density, x);
      double total = 0;
      for (std::size_t i = 0; i < x.size(); ++i) found += w[i] * log_p[i], total += w[i];
      found /= total, expected = line.real(1), bound = line.real(2);
      found = std::min(found, expected);  // better is fine
    } else {
      const double at = line.real(1);
      expected = line.real(2), bound = line.real(3);
      if (what == "log_pdf")
        found = log_pdf_of(*density, {&at, 1})[0];
      else if (what == "cdf")
        found = cdf_of(*density, {&at, 1})[0];
      else if (what == "quantile")
        found = quantile_of(*density, {&at, 1})[0];
      else
        return broken(fmt::format("golden.csv line {}: unknown quantity '{}'", line.number, what));
    }
    ++n_compared;
    if (!(std::abs(found - expected) <= bound) && !(found == expected))
      return broken(fmt::format("golden.csv line {}, {}: {} is {:.15g}, expected {:.15g} within {}",
                                line.number, spec, what, found, expected, bound));
  }
  return n_compared > 0 ? kept() : no_golden_values(golden);
}

constexpr Rule k_rules[] = {
    {"MatchesGoldenValues", "densities equal numbers from an independent source", matches_golden_values},
    {"IntegratesToOne", "a fixed quadrature of the density gives 1", integrates_to_one},
    {"CdfIsTheIntegralOfTheDensity", "cdf grows by the integral of the density, from 0 to 1",
     cdf_is_the_integral},
    {"QuantileInvertsCdf", "cdf(quantile(p)) = p; the ends are the support; p outside of [0, 1] is refused",
     quantile_inverts_cdf},
    {"SamplesFollowTheCdf",
     "samples pass Kolmogorov-Smirnov against the own cdf, and depend on the seed alone", samples_follow_cdf},
    {"ModesAreLocalMaxima", "modes are ascending local maxima and hold the global one",
     modes_are_local_maxima},
    {"SupportHoldsTheDensity", "log_pdf is -infinity outside of the support and finite inside",
     support_holds_the_density},
    {"SavesAndLoads", "a loaded density gives the same bits", saves_and_loads},
    {"SaysHowTheFitEnded", "parameter_count and outcome are filled", counts_its_parameters},
};

}  // namespace

std::span<const Rule> density_rules() {
  static const std::vector<Rule> rules = [] {
    std::vector<Rule> all(std::begin(k_rules), std::end(k_rules));
    const std::span<const Rule> about_data = density_data_rules();
    all.insert(all.end(), about_data.begin(), about_data.end());
    return all;
  }();
  return rules;
}

}  // namespace borel::contract
