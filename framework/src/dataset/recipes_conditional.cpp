// Context and next value with a known conditional density: the three synthetic targets of "Fourier Head: Helping Large
// Language Models Learn Complex Probability Distributions" (Gillman et al. 2024, arXiv 2410.22269, section 4). Rows are
// (x, y, z), z to be predicted from (x, y); the paper draws 5000 rows for each of four seeds and tests on a fifth.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "borel/rng.hpp"
#include "dataset/recipe_lists.hpp"
#include "dataset/rounded.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_n_train = 16000, k_n_test = 4000;  // four seeds of 4000 + 1000
constexpr std::size_t k_bins = 50;                          // of [-1, 1]
constexpr double k_reach = 0.8, k_sd = 0.1, k_concentration = 100;

enum class Target { gaussian, gmm2, beta };

/// KL(truth || head) in nats, means over the seeds 1, 2, 3, 42: from the files model_metrics.json of the authors'
/// repository (nate-gillman/fourier-head, commit 94fa374); for the Fourier head at its best number of frequencies.
struct Published {
  double linear, fourier, gmm;
};

struct ConditionalTarget {
  const char *id, *title;
  Target target;
  Published published;
};

constexpr ConditionalTarget k_targets[] = {
    {"fourier_head_gaussian",
     "Fourier Head target: z ~ N(y, 0.1^2)",
     Target::gaussian,
     {0.169503, 0.086788, 0.025993}},
    {"fourier_head_gmm2",
     "Fourier Head target: z ~ 1/2 N(x, 0.1^2) + 1/2 N(y, 0.1^2)",
     Target::gmm2,
     {0.237577, 0.128923, 0.029965}},
    {"fourier_head_beta",
     "Fourier Head target: z ~ +-Beta(100|x|, 100|y|)",
     Target::beta,
     {0.234229, 0.158919, 0.406985}},
};

/// log of a Gamma(shape, 1) draw: Marsaglia and Tsang (2000), ACM TOMS 26, 363; a shape below 1 by way of shape + 1.
double log_gamma_draw(double shape, Rng& rng) {
  if (shape < 1) {
    const double log_u = std::log(rng.uniform_open());
    return log_gamma_draw(shape + 1, rng) + log_u / shape;
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = rng.normal(), root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log(rng.uniform_open()) < 0.5 * x * x + d - d * v + d * std::log(v))
      return std::log(d) + std::log(v);
  }
}

double beta_draw(double a, double b, Rng& rng) {
  const double log_a = log_gamma_draw(a, rng), log_b = log_gamma_draw(b, rng);
  return 1 / (1 + std::exp(log_b - log_a));
}

std::vector<double> draw_rows(Target target, Seed seed, std::int64_t n) {
  Rng rng(seed);
  std::vector<double> rows;
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = rounded_draw(k_reach * (2 * rng.uniform() - 1));
    const double y =
        rounded_draw(target == Target::gmm2 ? k_reach * (2 * rng.uniform() - 1) : x + k_sd * rng.normal());
    double z = 0;
    switch (target) {
      case Target::gaussian:
        z = y + k_sd * rng.normal();
        break;
      case Target::gmm2:
        z = (rng.uniform() < 0.5 ? x : y) + k_sd * rng.normal();
        break;
      case Target::beta:
        z = (rng.uniform() < 0.5 ? 1 : -1) *
            beta_draw(k_concentration * std::abs(x), k_concentration * std::abs(y), rng);
        break;
    }
    rows.insert(rows.end(), {x, y, rounded_draw(z)});
  }
  return rows;
}

double bin_centre(std::size_t bin) {
  return (2 * static_cast<double>(bin) + 1) / static_cast<double>(k_bins) - 1;
}

/// Up to a constant that is the same for every z.
double log_density(Target target, double x, double y, double z) {
  const auto log_normal = [&](double mean) { return -0.5 * (z - mean) * (z - mean) / (k_sd * k_sd); };
  if (target == Target::beta)
    return (k_concentration * std::abs(x) - 1) * std::log(std::abs(z)) +
           (k_concentration * std::abs(y) - 1) * std::log1p(-std::abs(z));
  if (target == Target::gaussian) return log_normal(y);
  const double a = log_normal(x), b = log_normal(y);
  return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
}

/// The density at the bins' centres, with sum 1: the paper's truth. Its gmm2 is the mean of two normals that are
/// normalised one by one, which counts where one reaches beyond [-1, 1].
void append_bins(Target target, double x, double y, std::vector<double>& out) {
  if (target == Target::gmm2) {
    std::vector<double> a, b;
    append_bins(Target::gaussian, x, x, a);
    append_bins(Target::gaussian, y, y, b);
    for (std::size_t k = 0; k < k_bins; ++k) out.push_back(0.5 * (a[k] + b[k]));
    return;
  }
  std::vector<double> p(k_bins);
  double largest = -INFINITY, sum = 0;
  for (std::size_t k = 0; k < k_bins; ++k) {
    p[k] = log_density(target, x, y, bin_centre(k));
    largest = std::max(largest, p[k]);
  }
  for (double& value : p) sum += value = std::exp(value - largest);
  for (const double value : p) out.push_back(value / sum);
}

void fill(const ConditionalTarget& target, std::uint64_t seed, DatasetWriter& writer) {
  writer.array("x", draw_rows(target.target, Seed{seed}.derive("train"), k_n_train), {k_n_train, 3});
  const std::vector<double> test = draw_rows(target.target, Seed{seed}.derive("test"), k_n_test);
  std::vector<double> pmf, centre;
  for (std::size_t i = 0; i < test.size(); i += 3) append_bins(target.target, test[i], test[i + 1], pmf);
  for (double& value : pmf) value = rounded_truth(value);
  for (std::size_t k = 0; k < k_bins; ++k) centre.push_back(rounded_truth(bin_centre(k)));
  writer.array("test/x", test, {k_n_test, 3});
  writer.array("truth/conditional_pmf", std::move(pmf), {k_n_test, static_cast<std::int64_t>(k_bins)});
  writer.array("truth/bin_centre", std::move(centre), {static_cast<std::int64_t>(k_bins)});
  writer.attribute("truth", "type", std::string("conditional_pmf"));
  writer.attribute("truth", "published_kl_linear_head", target.published.linear);
  writer.attribute("truth", "published_kl_fourier_head", target.published.fourier);
  writer.attribute("truth", "published_kl_gmm_head", target.published.gmm);
}

}  // namespace

void add_conditional_recipes(std::vector<Recipe>& list) {
  for (const ConditionalTarget& target : k_targets) {
    const std::uint64_t seed = 241022269 + static_cast<std::uint64_t>(&target - k_targets);
    list.push_back({.id = target.id,
                    .kind = DatasetKind::samples,
                    .title = target.title,
                    .licence = "generated here (no copyright)",
                    .source = "Gillman et al. (2024), arXiv 2410.22269, section 4; 16000 + 4000 draws",
                    .seed = seed,
                    .make = [&target, seed](DatasetWriter& writer) { fill(target, seed, writer); }});
  }
}

}  // namespace borel
