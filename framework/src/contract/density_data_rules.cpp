// Rules about what a density estimator makes of its data: order, weights, scale, sizes, ties, bad rows,
// threads.
#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "borel/density.hpp"
#include "contract/contract.hpp"
#include "contract/density_subject.hpp"
#include "dataset/berlinet_devroye.hpp"

namespace borel::contract {
namespace {

constexpr double k_infinity = std::numeric_limits<double>::infinity();
constexpr double k_same_fit = 1e-6;  // log density of two fits to the same data in another form, nats

std::vector<double> grid() {
  std::vector<double> x;
  for (int i = 0; i < 200; ++i) x.push_back(-3 + 8.0 * i / 199);
  return x;
}

/// Largest difference of log density over a grid; infinity when one is not finite and the other is.
double distance(const FittedDensity& a, const FittedDensity& b) {
  const std::vector<double> x = grid(), p = log_pdf_of(a, x), q = log_pdf_of(b, x);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (p[i] == q[i]) continue;
    const double difference = std::abs(p[i] - q[i]);
    largest = std::max(largest, std::isnan(difference) ? k_infinity : difference);
  }
  return largest;
}

double cdf_distance(const FittedDensity& a, const FittedDensity& b) {
  const std::vector<double> x = grid(), p = cdf_of(a, x), q = cdf_of(b, x);
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double difference = std::abs(p[i] - q[i]);
    largest = std::max(largest, std::isnan(difference) ? k_infinity : difference);
  }
  return largest;
}

Verdict row_order(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    std::vector<double> x = two_humps(127, seed.derive("data"));
    const auto first = fit_or_decline(method, as_samples(x), seed);
    std::reverse(x.begin(), x.end());
    std::rotate(x.begin(), x.begin() + 31, x.end());
    const auto second = fit_or_decline(method, as_samples(x), seed);
    if (!first || !second) return "declines 127 plain samples";
    const double d = distance(*first, *second);
    return d <= k_same_fit ? ""
                           : fmt::format("log density changes by {} with the order of the rows (bound {})", d,
                                         k_same_fit);
  });
}

Verdict weights(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    if (!method.traits().accepts_weights) return "";
    const std::vector<double> x = two_humps(150, seed.derive("data"));
    const auto plain = fit_or_decline(method, as_samples(x), seed);
    if (!plain) return "declines 150 plain samples";
    const std::vector<double> fours(x.size(), 4.0);
    const auto scaled = fit_or_decline(method, as_samples(x, fours), seed);
    if (!scaled) return "declines weights of 4";
    if (const double d = distance(*plain, *scaled); !(d <= k_same_fit))
      return fmt::format("log density changes by {} when all weights are 4 (bound {})", d, k_same_fit);

    std::vector<double> longer = x, zeros(x.size(), 1.0);
    longer.insert(longer.begin() + 40, {50.0, -80.0, 1e6});
    zeros.insert(zeros.begin() + 40, {0.0, 0.0, 0.0});
    const auto masked = fit_or_decline(method, as_samples(longer, zeros), seed);
    if (!masked) return "declines rows of weight 0";
    if (const double d = distance(*plain, *masked); !(d <= k_same_fit))
      return fmt::format("log density changes by {} with rows of weight 0 (bound {})", d, k_same_fit);

    // Weight 2 on every tenth row against that row given twice. The effective number of samples is not quite
    // the same, so a bandwidth may move a little: compared in the cdf. A method that chooses its size by a criterion may
    // fall on either side of a tie: the middle of three draws.
    const double bound = method.traits().smooth ? 0.03 : 0.1;  // the number of bins may change
    std::vector<double> distances;
    for (const char* draw : {"data", "second", "third"}) {
      const std::vector<double> once = two_humps(150, seed.derive(draw));
      std::vector<double> repeated = once, doubled(once.size(), 1.0);
      for (std::size_t i = 0; i < once.size(); i += 10) repeated.push_back(once[i]), doubled[i] = 2;
      const auto weighted = fit_or_decline(method, as_samples(once, doubled), seed);
      const auto twice = fit_or_decline(method, as_samples(repeated), seed);
      if (!weighted || !twice) return "declines weights of 1 and 2, or repeated rows";
      distances.push_back(cdf_distance(*weighted, *twice));
    }
    std::ranges::sort(distances);
    if (!(distances[1] <= bound))
      return fmt::format("weight 2 differs from a repeated row by {} in the cdf (bound {})", distances[1],
                         bound);
    // And weights must matter: all of it on the left hump.
    std::vector<double> left(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) left[i] = x[i] < 0.5 ? 1.0 : 1e-6;
    const auto one_sided = fit_or_decline(method, as_samples(x, left), seed);
    const double zero = 0.5;
    if (!one_sided) return "declines very unequal weights";
    if (const double f = cdf_of(*one_sided, {&zero, 1})[0]; !(f >= 0.8))
      return fmt::format("weights are not used: with nearly all weight below 0.5, cdf(0.5) = {}", f);
    return "";
  });
}

Verdict affine(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    if (!method.traits().affine_equivariant) return "";
    const std::vector<double> x = two_humps(150, seed.derive("data"));
    const auto plain = fit_or_decline(method, as_samples(x), seed);
    if (!plain) return "declines 150 plain samples";
    for (const auto& [a, b] :
         {std::pair{8.0, 0.0}, std::pair{4096.0, -256.0}, std::pair{1.0 / 65536, 3.0 / 65536}}) {
      std::vector<double> y = x, at = grid();
      for (double& value : y) value = a * value + b;
      for (double& value : at) value = a * value + b;
      const auto moved = fit_or_decline(method, as_samples(y), seed);
      if (!moved) return fmt::format("declines {} x + {}", a, b);
      const std::vector<double> p = log_pdf_of(*plain, grid()), q = log_pdf_of(*moved, at);
      for (std::size_t i = 0; i < p.size(); ++i)
        if (!(p[i] == q[i]) && !(std::abs(q[i] + std::log(a) - p[i]) <= 1e-4))
          return fmt::format("fitted to {} x + {}, log density at x = {} is {} in place of {}", a, b,
                             grid()[i], q[i] + std::log(a), p[i]);
    }
    return "";
  });
}

Verdict tiny_and_ragged(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    if (fit_or_decline(method, as_samples({}), seed)) return "0 samples were accepted";
    for (const std::size_t n : {1u, 2u, 3u, 5u, 63u, 64u, 65u, 127u}) {
      const std::vector<double> x = two_humps(n, seed.derive(n));
      std::string reason;
      const auto density = fit_or_decline(method, as_samples(x), seed, &reason);
      if (!density) {
        if (n >= 63) return fmt::format("declines {} plain samples: {}", n, reason);
        continue;
      }
      const std::string wrong = sanity(*density, x, method.traits().affine_equivariant);
      if (!wrong.empty()) return fmt::format("n = {}: {}", n, wrong);
    }
    return "";
  });
}

Verdict ties(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    std::vector<double> rounded = two_humps(300, seed.derive("data")), mostly(100, 2.5), constant(50, -7.25),
                        two(80, 1.0);
    for (double& value : rounded) value = std::round(value * 5) / 5;
    mostly[10] = 2, mostly[20] = 3.5, mostly[30] = -1;
    for (std::size_t i = 0; i < two.size(); i += 2) two[i] = -1;
    for (const auto& [name, x] :
         {std::pair{"values rounded to 0.2", rounded}, std::pair{"97 of 100 equal", mostly},
          std::pair{"all equal", constant}, std::pair{"two values", two}}) {
      std::string reason;
      const auto density = fit_or_decline(method, as_samples(x), seed, &reason);
      if (!density) {
        if (x == rounded) return fmt::format("declines {}: {}", name, reason);
        if (reason.size() < 20) return fmt::format("declines {} without a reason: '{}'", name, reason);
        continue;
      }
      const std::string wrong = sanity(*density, x, method.traits().affine_equivariant);
      if (!wrong.empty()) return fmt::format("{}: {}", name, wrong);
    }
    return "";
  });
}

Verdict bad_rows(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> good = two_humps(60, seed.derive("data"));
    for (const double bad : {std::nan(""), k_infinity, -k_infinity}) {
      std::vector<double> x = good;
      x[37] = bad;
      std::string reason;
      if (fit_or_decline(method, as_samples(x), seed, &reason))
        return fmt::format("a sample of {} was accepted", bad);
      if (reason.find("37") == std::string::npos)
        return fmt::format("the refusal of {} does not name row 37: {}", bad, reason);
    }
    if (method.traits().accepts_weights)
      for (const double bad : {-1.0, std::nan(""), k_infinity}) {
        std::vector<double> w(good.size(), 1.0);
        w[12] = bad;
        std::string reason;
        if (fit_or_decline(method, as_samples(good, w), seed, &reason))
          return fmt::format("a weight of {} was accepted", bad);
        if (reason.find("12") == std::string::npos)
          return fmt::format("the refusal of weight {} does not name row 12: {}", bad, reason);
      }
    const std::vector<double> table(60, 1.0);
    const index_t too_many = method.traits().max_dims + 1;
    if (too_many <= 60) {
      const Samples wide{TensorView<const double, 2>(table.data(), {60 / too_many, too_many}), {}};
      if (fit_or_decline(method, wide, seed)) return fmt::format("{} dimensions were accepted", too_many);
    }
    return "";
  });
}

Verdict extreme_scales(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> base = two_humps(100, seed.derive("data"));
    struct Case {
      double scale, shift;
      bool must_fit;
    };
    for (const auto& [scale, shift, must_fit] :
         {Case{1e-150, 0, true}, Case{1e150, 0, true}, Case{1, 1e9, true}, Case{1e-300, 0, false},
          Case{1e300, 0, false}, Case{5e-324, 0, false}, Case{4e307, 0, false}}) {
      std::vector<double> x = base;
      for (double& value : x) value = value * scale + shift;
      std::string reason;
      const auto density = fit_or_decline(method, as_samples(x), seed, &reason);
      if (!density) {
        if (must_fit && method.traits().affine_equivariant)
          return fmt::format("declines samples of scale {} around {}: {}", scale, shift, reason);
        continue;
      }
      if (!method.traits().affine_equivariant) continue;  // a fixed scale cannot fit every unit
      const std::string wrong = sanity(*density, x, method.traits().affine_equivariant);
      if (!wrong.empty()) return fmt::format("scale {} around {}: {}", scale, shift, wrong);
    }
    // One sample a million spreads away.
    std::vector<double> x = base;
    x[50] = 1e6;
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "";
    const std::string wrong = sanity(*density, x, method.traits().affine_equivariant);
    return wrong.empty() ? "" : "with an outlier at 1e6: " + wrong;
  });
}

Verdict heavy_tails_and_peaks(const Subject& subject) {
  static constexpr double k_inversion = 1e-6;
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    for (const BerlinetDevroyeDensity& truth : berlinet_devroye_densities()) {
      Rng rng(seed.derive(truth.name));
      std::vector<double> x(200);
      for (double& value : x) value = truth.draw(rng);
      std::string reason;
      const auto density = fit_or_decline(method, as_samples(x), seed, &reason);
      if (!density) {
        if (!truth.hard && method.traits().affine_equivariant)
          return fmt::format("declines 200 samples of the {} density: {}", truth.name, reason);
        if (reason.size() < 20)
          return fmt::format("declines the {} density without a reason: '{}'", truth.name, reason);
        continue;
      }
      if (!method.traits().affine_equivariant) continue;  // a fixed scale cannot fit every density
      const std::string wrong = sanity(*density, x, true);
      if (!wrong.empty()) return fmt::format("{} density: {}", truth.name, wrong);
      const double p[] = {0.05, 0.35, 0.95};
      const std::vector<double> back = cdf_of(*density, quantile_of(*density, p));
      for (std::size_t i = 0; i < back.size(); ++i)
        if (!(std::abs(back[i] - p[i]) <= k_inversion))
          return fmt::format("{} density: cdf(quantile({})) = {}", truth.name, p[i], back[i]);
    }
    return "";
  });
}

Verdict same_bits_for_any_thread_count(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(9000, seed.derive("data"));
    std::array<std::vector<double>, 2> found;
    const tbb::global_control allow(tbb::global_control::max_allowed_parallelism, 2);
    for (const int n_threads : {1, 2}) {
      tbb::task_arena arena(n_threads);
      arena.execute([&] {
        const auto density = fit_or_decline(method, as_samples(x), seed);
        if (!density) return;
        std::vector<double>& out = found[static_cast<std::size_t>(n_threads - 1)];
        out = log_pdf_of(*density, x);
        const std::vector<double> f = cdf_of(*density, x);
        out.insert(out.end(), f.begin(), f.end());
      });
    }
    if (found[0].empty()) return "declines 9000 plain samples";
    for (std::size_t i = 0; i < found[0].size(); ++i)
      if (!(found[0][i] == found[1][i]))
        return fmt::format("value {} is {:.17g} with 1 thread and {:.17g} with 2", i, found[0][i],
                           found[1][i]);
    return "";
  });
}

Verdict same_seed_same_fit(const Subject& subject) {
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const std::vector<double> x = two_humps(127, seed.derive("data"));
    const auto first = fit_or_decline(method, as_samples(x), seed),
               second = fit_or_decline(method, as_samples(x), seed);
    if (!first || !second) return "declines 127 plain samples";
    return distance(*first, *second) == 0 ? "" : "two fits with one seed differ";
  });
}

Verdict histogram_fit(const Subject& subject) {
  static constexpr double k_bound =
      0.01;  // binning must stay far below the sampling error, 1 / sqrt(2000) = 0.02
  if (!subject.make<DensityEstimator>()->histogram_fit())
    return not_applicable("the method does not fit histograms");
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    const HistogramFit* ability = method.histogram_fit();
    if (!ability) return "";
    const std::vector<double> x = two_humps(2000, seed.derive("data"));
    const auto from_samples = fit_or_decline(method, as_samples(x), seed);
    if (!from_samples) return "declines 2000 plain samples";
    FitContext context;
    context.seed = seed;
    const auto binned =
        ability->fit_histogram(make_fine_histogram(as_samples(x), ability->bins_wanted()), context);
    const double d = cdf_distance(*from_samples, *binned);
    return d <= k_bound
               ? ""
               : fmt::format("the fit of the fine histogram differs by {} in the cdf (bound {})", d, k_bound);
  });
}

double mean_log_pdf(const FittedDensity& density, std::span<const double> x) {
  double sum = 0;
  for (const double value : log_pdf_of(density, x)) sum += value / static_cast<double>(x.size());
  return sum;
}

Verdict follows_the_data(const Subject& subject) {
  // A weak test of statistics, for gross errors only, and only for methods that claim it: 2000 samples must bring the
  // cdf near the empirical one. A parametric family keeps its own shape, and is held to the rule below.
  static constexpr double k_bound = 0.08;
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    if (!method.traits().follows_any_data) return "";
    std::vector<double> x = two_humps(2000, seed.derive("data"));
    const auto density = fit_or_decline(method, as_samples(x), seed);
    if (!density) return "declines 2000 plain samples";
    std::sort(x.begin(), x.end());
    const std::vector<double> f = cdf_of(*density, x);
    double largest = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double difference = std::abs(f[i] - (static_cast<double>(i) + 0.5) / 2000);
      largest = std::max(largest, std::isnan(difference) ? k_infinity : difference);
    }
    return largest <= k_bound
               ? ""
               : fmt::format("the cdf is {} away from that of its 2000 samples (bound {})", largest, k_bound);
  });
}

Verdict fits_its_own_data_best(const Subject& subject) {
  // What every honest estimator does, of whatever family: data are explained better by the fit to them than by the
  // same method's fit to their mirror image of another width.
  return for_every_variant(subject, [](const DensityEstimator& method, Seed seed) -> std::string {
    if (!method.traits().affine_equivariant) return "";  // settings in the unit of the data may be far off
    const std::vector<double> x = two_humps(1000, seed.derive("data"));
    std::vector<double> y = x;
    for (double& value : y) value = 0.9 - 1.7 * value;
    const auto of_x = fit_or_decline(method, as_samples(x), seed),
               of_y = fit_or_decline(method, as_samples(y), seed);
    if (!of_x || !of_y) return "declines 1000 plain samples";
    for (const bool mirrored : {false, true}) {
      const std::vector<double>& data = mirrored ? y : x;
      const double own = mean_log_pdf(mirrored ? *of_y : *of_x, data),
                   other = mean_log_pdf(mirrored ? *of_x : *of_y, data);
      if (!(own > other))
        return fmt::format(
            "the fit to the data gives them a mean log density of {}, a fit to other data gives {}", own,
            other);
    }
    return "";
  });
}

constexpr Rule k_rules[] = {
    {"RowOrderDoesNotMatter", "the fit does not depend on the order of the samples", row_order},
    {"WeightsCountAsRepetitions", "weights act like repeated rows, up to a common factor", weights},
    {"AffineEquivariance", "where claimed: fitting a x + b gives the transformed density", affine},
    {"HandlesTinyAndRaggedSizes",
     "0 samples are refused; 1, 2, 3, ... 63, 64, 65, 127 give a density or a reason", tiny_and_ragged},
    {"HandlesTiesAndConstantData", "ties and constant data give a density or a reason", ties},
    {"RefusesBadRows", "not finite samples and bad weights are refused, and the row is named", bad_rows},
    {"HandlesExtremeScales", "scales from 1e-150 to 1e150 are fitted; beyond, a density or a reason",
     extreme_scales},
    {"HandlesHeavyTailsAndPeaks",
     "the Berlinet-Devroye densities are fitted; of tails or peaks without bound and of far modes, a density "
     "or a reason",
     heavy_tails_and_peaks},
    {"SameBitsForAnyThreadCount", "1 and 2 threads give the same bits", same_bits_for_any_thread_count},
    {"SameSeedSameFit", "the fit depends on samples and seed alone", same_seed_same_fit},
    {"FitsHistogramsLikeSamples", "a fine histogram gives the same density up to binning", histogram_fit},
    {"FollowsTheData", "where claimed: the cdf comes near the empirical one", follows_the_data},
    {"FitsItsOwnDataBest", "data are more likely under the fit to them than under a fit to other data",
     fits_its_own_data_best},
};

}  // namespace

std::span<const Rule> density_data_rules() { return k_rules; }

}  // namespace borel::contract
