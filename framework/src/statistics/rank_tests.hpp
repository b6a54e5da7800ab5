// Rank tests for comparing methods: Wilcoxon, Mann-Whitney, Friedman, Nemenyi, Holm, and their effect sizes.
// Sources: Demsar, JMLR 7 (2006); Iman and Davenport (1980); Hollander, Wolfe and Chicken (2013).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace borel {

/// Ranks 1..n of `values`, smallest first; ties share the mean of their ranks. O(n log n). @pre no NaN; +-inf
/// is fine
std::vector<double> mid_ranks(std::span<const double> values);

struct WilcoxonResult {
  double positive_rank_sum = 0, negative_rank_sum = 0;
  double p_value = 1;  ///< two-sided
  double rank_biserial =
      0;  ///< effect size in [-1, 1]: (W+ - W-) / (W+ + W-); 0 when all differences are zero
  std::int64_t n_used = 0;  ///< differences that are not zero
  bool exact = true;  ///< exact conditional distribution (also with ties), else the normal approximation
};

/// Wilcoxon signed-rank test of paired differences. Zeros are dropped (Wilcoxon's own rule), ties share
/// ranks; infinite differences have the largest rank. Exact for up to 200 differences: O(n^3) time, O(n^2)
/// memory. @pre no NaN
WilcoxonResult wilcoxon_signed_rank(std::span<const double> differences);

struct MannWhitneyResult {
  double u = 0;             ///< pairs with a > b, plus half of the ties
  double p_value = 1;       ///< two-sided
  double superiority = .5;  ///< U / (n_a n_b) = P(a > b) + P(a = b) / 2 (Vargha and Delaney's A)
  bool exact = true;  ///< exact conditional distribution (also with ties), else the normal approximation
};

/// Mann-Whitney U test of two independent samples. Exact for n_a + n_b <= 60. @pre no NaN
/// Either sample empty: p_value 1, superiority 0.5.
MannWhitneyResult mann_whitney_u(std::span<const double> a, std::span<const double> b);

/// Holm's step-down adjustment: adjusted p-values in the order given, each at most 1. O(n log n)
std::vector<double> holm_adjusted(std::span<const double> p_values);

/// Costs of methods in blocks: row-major [n_blocks, n_methods]. Smaller is better; a method that gave no
/// value in a block has k_no_value and shares the worst rank.
struct BlockTable {
  static constexpr double k_no_value = std::numeric_limits<double>::infinity();
  std::int64_t n_blocks = 0, n_methods = 0;
  std::vector<double> cost;
  std::span<const double> block(std::int64_t b) const {
    return {cost.data() + b * n_methods, static_cast<std::size_t>(n_methods)};
  }
};

struct FriedmanResult {
  std::vector<double> average_rank;  ///< per method, 1 is best
  double chi2 = 0, p_chi2 = 1;       ///< corrected for ties
  double f = 0, p_f = 1;     ///< Iman and Davenport's F, less conservative; inf and 0 when all blocks agree
  double p_permutation = 1;  ///< share of shuffles within blocks with at least this chi2 (+1 rule)
  double relabelled_rejection_rate = 0;  ///< A/A check: share of shuffles in which the F test says p < 0.05
};

/// Friedman's test that all methods have the same mean rank. n_shuffles = 0 leaves the two shuffled figures
/// untouched. Fewer than 2 methods or no block: p-values 1. Deterministic. O(n_shuffles n_blocks n_methods)
FriedmanResult friedman(const BlockTable& table, int n_shuffles, std::uint64_t seed);

/// P(range of k standard normals <= q): the studentised range with infinitely many degrees of freedom. Error
/// < 1e-10.
double range_cdf(double q, int k);
/// The two-tailed Nemenyi quantile: upper-alpha point of range_cdf over sqrt(2). Error < 1e-8. @pre k >= 2, 0
/// < alpha < 1
double nemenyi_quantile(double alpha, int k);
/// Two average ranks over n_blocks blocks differ at level alpha when they are at least this far apart.
double nemenyi_critical_difference(double alpha, int k, std::int64_t n_blocks);

/// Maximal runs [first, last] of the ascending `ranks` that span less than `critical_difference`, of two or
/// more methods.
struct Clique {
  std::size_t first = 0, last = 0;
  bool operator==(const Clique&) const = default;
};
std::vector<Clique> nemenyi_cliques(std::span<const double> ascending_ranks, double critical_difference);

}  // namespace borel
