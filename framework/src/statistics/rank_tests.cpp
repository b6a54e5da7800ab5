#include "statistics/rank_tests.hpp"

#include <algorithm>
#include <boost/math/special_functions/beta.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <cassert>
#include <cmath>
#include <numeric>
#include <utility>

#include "borel/rng.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_wilcoxon_exact_limit = 200;
constexpr std::size_t k_mann_whitney_exact_limit = 60;
constexpr double k_aa_level = 0.05;

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

/// Sum of t^3 - t over the groups of equal values.
double tie_term(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t j = i;
    while (j < values.size() && values[j] == values[i]) ++j;
    const double t = static_cast<double>(j - i);
    sum += t * t * t - t;
    i = j;
  }
  return sum;
}

/// Mid-ranks are multiples of 1/2: twice the rank is an integer, which makes exact distributions a counting
/// problem.
std::vector<std::size_t> doubled(std::span<const double> ranks) {
  std::vector<std::size_t> out;
  out.reserve(ranks.size());
  for (double rank : ranks) out.push_back(static_cast<std::size_t>(std::llround(2 * rank)));
  return out;
}

double two_sided(double lower, double upper) { return std::min(1.0, 2 * std::min(lower, upper)); }

struct FriedmanStatistic {
  double chi2 = 0, f = 0;
};

FriedmanStatistic friedman_statistic(std::span<const double> rank_sum, double n, double k, double ties) {
  double spread = 0;
  for (double sum : rank_sum) spread += (sum / n - (k + 1) / 2) * (sum / n - (k + 1) / 2);
  const double divisor = 1 - ties / (n * k * (k * k - 1));
  if (divisor <= 0) return {};  // every block is one tie: nothing differs
  const double chi2 = 12 * n / (k * (k + 1)) * spread / divisor;
  const double rest = n * (k - 1) - chi2;
  const double tiny = 1e-12 * n * (k - 1);
  const double f = rest > tiny ? (n - 1) * chi2 / rest : std::numeric_limits<double>::infinity();
  return {chi2, f};
}

double f_tail(double f, double n, double k) {
  if (n < 2) return 1;
  if (std::isinf(f)) return 0;
  const double a = k - 1, b = (k - 1) * (n - 1);
  return boost::math::ibetac(a / 2, b / 2, a * f / (a * f + b));
}

}  // namespace

std::vector<double> mid_ranks(std::span<const double> values) {
  assert(std::ranges::none_of(values, [](double value) { return std::isnan(value); }));
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (std::size_t i = 0; i < order.size();) {
    std::size_t j = i;
    while (j < order.size() && values[order[j]] == values[order[i]]) ++j;
    const double shared = 0.5 * static_cast<double>(i + 1 + j);
    for (; i < j; ++i) ranks[order[i]] = shared;
  }
  return ranks;
}

WilcoxonResult wilcoxon_signed_rank(std::span<const double> differences) {
  std::vector<double> sizes;
  std::vector<bool> positive;
  for (double d : differences) {
    assert(!std::isnan(d));
    if (d == 0) continue;
    sizes.push_back(std::abs(d));
    positive.push_back(d > 0);
  }
  WilcoxonResult result;
  result.n_used = static_cast<std::int64_t>(sizes.size());
  if (sizes.empty()) return result;
  const std::vector<double> ranks = mid_ranks(sizes);
  for (std::size_t i = 0; i < ranks.size(); ++i)
    (positive[i] ? result.positive_rank_sum : result.negative_rank_sum) += ranks[i];
  const double total = result.positive_rank_sum + result.negative_rank_sum;
  result.rank_biserial = (result.positive_rank_sum - result.negative_rank_sum) / total;

  const double n = static_cast<double>(sizes.size());
  if (result.n_used > k_wilcoxon_exact_limit) {
    result.exact = false;
    const double variance = n * (n + 1) * (2 * n + 1) / 24 - tie_term(sizes) / 48;
    const double distance = std::abs(result.positive_rank_sum - total / 2) - 0.5;
    result.p_value = std::min(1.0, 2 * normal_cdf(-std::max(0.0, distance) / std::sqrt(variance)));
    return result;
  }
  // Under the null every sign is a fair coin: convolve one coin after the other.
  const std::vector<std::size_t> steps = doubled(ranks);
  const std::size_t all = std::accumulate(steps.begin(), steps.end(), std::size_t{0});
  std::vector<double> probability(all + 1, 0.0);
  probability[0] = 1;
  std::size_t reach = 0;
  for (std::size_t step : steps) {
    reach += step;
    for (std::size_t s = reach + 1; s-- > 0;)
      probability[s] = 0.5 * (probability[s] + (s >= step ? probability[s - step] : 0.0));
  }
  const auto seen = static_cast<std::size_t>(std::llround(2 * result.positive_rank_sum));
  double lower = 0, upper = 0;
  for (std::size_t s = 0; s <= seen; ++s) lower += probability[s];
  for (std::size_t s = seen; s <= all; ++s) upper += probability[s];
  result.p_value = two_sided(lower, upper);
  return result;
}

MannWhitneyResult mann_whitney_u(std::span<const double> a, std::span<const double> b) {
  MannWhitneyResult result;
  if (a.empty() || b.empty()) return result;
  std::vector<double> pooled(a.begin(), a.end());
  pooled.insert(pooled.end(), b.begin(), b.end());
  const std::vector<double> ranks = mid_ranks(pooled);
  const double n_a = static_cast<double>(a.size()), n_b = static_cast<double>(b.size()), n = n_a + n_b;
  const double rank_sum =
      std::accumulate(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(a.size()), 0.0);
  result.u = rank_sum - n_a * (n_a + 1) / 2;
  result.superiority = result.u / (n_a * n_b);

  if (pooled.size() > k_mann_whitney_exact_limit) {
    result.exact = false;
    const double variance = n_a * n_b / 12 * (n + 1 - tie_term(pooled) / (n * (n - 1)));
    const double distance = std::max(0.0, std::abs(result.u - n_a * n_b / 2) - 0.5);
    if (variance > 0) result.p_value = std::min(1.0, 2 * normal_cdf(-distance / std::sqrt(variance)));
    return result;
  }
  // Under the null every choice of n_a of the n ranks is equally likely: P(count chosen so far, their sum).
  const std::vector<std::size_t> steps = doubled(ranks);
  const std::size_t all = std::accumulate(steps.begin(), steps.end(), std::size_t{0});
  const std::size_t width = all + 1, chosen_max = a.size();
  std::vector<double> count((chosen_max + 1) * width, 0.0);
  count[0] = 1;
  for (std::size_t step : steps)
    for (std::size_t c = chosen_max; c > 0; --c)
      for (std::size_t s = all + 1; s-- > step;) count[c * width + s] += count[(c - 1) * width + s - step];
  const std::span<const double> sums(count.data() + chosen_max * width, width);
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  const auto seen = static_cast<std::size_t>(std::llround(2 * rank_sum));
  const auto middle = sums.begin() + static_cast<std::ptrdiff_t>(seen);
  const double lower = std::accumulate(sums.begin(), middle + 1, 0.0) / total;
  const double upper = std::accumulate(middle, sums.end(), 0.0) / total;
  result.p_value = two_sided(lower, upper);
  return result;
}

std::vector<double> holm_adjusted(std::span<const double> p_values) {
  std::vector<std::size_t> order(p_values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return p_values[a] < p_values[b]; });
  std::vector<double> adjusted(p_values.size());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, static_cast<double>(order.size() - i) * p_values[order[i]]);
    adjusted[order[i]] = std::min(1.0, largest);
  }
  return adjusted;
}

FriedmanResult friedman(const BlockTable& table, int n_shuffles, std::uint64_t seed) {
  const auto k = static_cast<std::size_t>(table.n_methods);
  FriedmanResult result;
  result.average_rank.assign(k, 0.0);
  if (table.n_blocks < 1 || k < 1) return result;
  std::vector<double> ranks;  // [n_blocks, k]
  double ties = 0;
  for (std::int64_t b = 0; b < table.n_blocks; ++b) {
    const auto block = table.block(b);
    const std::vector<double> row = mid_ranks(block);
    ranks.insert(ranks.end(), row.begin(), row.end());
    ties += tie_term({block.begin(), block.end()});
    for (std::size_t m = 0; m < k; ++m) result.average_rank[m] += row[m];
  }
  const double n = static_cast<double>(table.n_blocks), kd = static_cast<double>(k);
  const std::vector<double> rank_sum = result.average_rank;
  for (double& rank : result.average_rank) rank /= n;
  if (k < 2) return result;
  const FriedmanStatistic seen = friedman_statistic(rank_sum, n, kd, ties);
  result.chi2 = seen.chi2;
  result.f = seen.f;
  result.p_chi2 = boost::math::gamma_q((kd - 1) / 2, seen.chi2 / 2);
  result.p_f = f_tail(seen.f, n, kd);
  if (n_shuffles <= 0) return result;

  Rng rng{Seed{seed}.derive("friedman")};
  int at_least = 0, rejected = 0;
  std::vector<double> sums(k);
  for (int shuffle = 0; shuffle < n_shuffles; ++shuffle) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (std::size_t start = 0; start < ranks.size(); start += k) {
      for (std::size_t i = k; i > 1; --i) std::swap(ranks[start + i - 1], ranks[start + rng.below(i)]);
      for (std::size_t m = 0; m < k; ++m) sums[m] += ranks[start + m];
    }
    const FriedmanStatistic shuffled = friedman_statistic(sums, n, kd, ties);
    at_least += shuffled.chi2 >= seen.chi2 * (1 - 1e-12);
    rejected += f_tail(shuffled.f, n, kd) < k_aa_level;
  }
  result.p_permutation = (1.0 + at_least) / (1.0 + n_shuffles);
  result.relabelled_rejection_rate = static_cast<double>(rejected) / n_shuffles;
  return result;
}

double range_cdf(double q, int k) {
  assert(k >= 2);
  if (q <= 0) return 0;
  // k Int phi(z) [Phi(z) - Phi(z - q)]^(k-1) dz; the trapezoid rule converges geometrically for this
  // integrand.
  constexpr double k_step = 1.0 / 32, k_low = -9, k_inverse_sqrt_2pi = 0.3989422804014327;
  const double high = 9 + q;
  double sum = 0;
  for (double z = k_low; z <= high; z += k_step)
    sum += k_inverse_sqrt_2pi * std::exp(-z * z / 2) * std::pow(normal_cdf(z) - normal_cdf(z - q), k - 1);
  return std::min(1.0, k * sum * k_step);
}

double nemenyi_quantile(double alpha, int k) {
  assert(k >= 2 && alpha > 0 && alpha < 1);
  double low = 0, high = 40;
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    (range_cdf(middle, k) < 1 - alpha ? low : high) = middle;
  }
  return 0.5 * (low + high) / std::sqrt(2.0);
}

double nemenyi_critical_difference(double alpha, int k, std::int64_t n_blocks) {
  return nemenyi_quantile(alpha, k) * std::sqrt(k * (k + 1.0) / (6.0 * static_cast<double>(n_blocks)));
}

std::vector<Clique> nemenyi_cliques(std::span<const double> ascending_ranks, double critical_difference) {
  std::vector<Clique> cliques;
  std::size_t reached = 0;  // one past the last method of the clique found before
  for (std::size_t first = 0; first < ascending_ranks.size(); ++first) {
    std::size_t last = first;
    while (last + 1 < ascending_ranks.size() &&
           ascending_ranks[last + 1] - ascending_ranks[first] < critical_difference)
      ++last;
    if (last > first && last + 1 > reached) {
      cliques.push_back({first, last});
      reached = last + 1;
    }
  }
  return cliques;
}

}  // namespace borel
