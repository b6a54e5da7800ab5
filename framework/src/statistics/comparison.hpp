// From cells to comparisons: which methods were measured on the same blocks, who is ahead, and how sure that
// is.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "results/run_results.hpp"
#include "statistics/bootstrap.hpp"
#include "statistics/rank_tests.hpp"

namespace borel {

/// All cells of one protocol with the same options. What is compared (an entry) is the combination of methods
/// in those roles that vary; roles that stay the same are named once, in `constant_methods`. Networks that the study trained
/// are compared as well, so they are part of the entry ("alibi on model/alibi") and share one dataset.
struct ComparisonGroup {
  std::string protocol, options;
  std::string constant_methods;          ///< "" or "position none"
  std::vector<std::string> entries;      ///< labels, sorted
  std::vector<std::string> short_names;  ///< for figures: without parameters that tell nothing apart
  std::vector<std::vector<MethodUse>> entry_methods;  ///< per entry, all roles
  std::vector<std::string> datasets;
  std::vector<std::int64_t> repetitions;
  std::vector<const CellRecord*> cells;  ///< [entry, dataset, repetition]; nullptr = not run

  const CellRecord* cell(std::size_t entry, std::size_t dataset, std::size_t repetition) const {
    return cells[(entry * datasets.size() + dataset) * repetitions.size() + repetition];
  }
};

/// Whether networks that the study trained are what these cells were measured on, all of them.
bool compares_networks(std::span<const CellRecord* const> cells);
/// What stands for their datasets.
constexpr std::string_view k_own_networks = "networks of their own";

/// Groups in the order of the cells. The groups point into `results`, which must outlive them.
std::vector<ComparisonGroup> comparison_groups(const RunResults& results);

/// The value of a metric in a finished cell; empty when the cell is missing, not ok, or has no such number
/// (NaN included).
std::optional<double> metric_value(const CellRecord* cell, std::string_view metric);

/// One metric of one entry on one dataset, over repetitions.
struct ValueSummary {
  std::vector<double> values;  ///< of the cells that gave one, in the order of repetitions
  double mean = std::numeric_limits<double>::quiet_NaN();
  ConfidenceInterval interval;  ///< 95 % bootstrap interval of the mean
  std::int64_t n_cells = 0;     ///< cells that exist; n_cells - values.size() gave no value
};
ValueSummary summarise(const ComparisonGroup& group, std::size_t entry, std::size_t dataset,
                       std::string_view metric);

struct Standing {
  std::size_t entry = 0;
  double average_rank = 0;
  ConfidenceInterval rank_interval;  ///< 95 %, bootstrap over blocks
  double share_best =
      0;  ///< share of (dataset, repetition) blocks, datasets weighing alike, in which it is or ties for best
  std::int64_t n_without_value = 0;  ///< failed, skipped, timed out, crashed or NaN: ranked worst
};

/// Two entries over the same blocks. Positive effect: `better` is better.
struct PairTest {
  std::size_t better = 0, worse = 0;  ///< entries; `better` has the smaller average rank
  WilcoxonResult wilcoxon;
  double p_holm = 1;  ///< adjusted over all pairs of the comparison
};

enum class BlockUnit { repetition, dataset };

struct Comparison {
  MetricInfo metric;
  BlockUnit unit = BlockUnit::repetition;
  BlockTable table;  ///< columns are entries
  std::int64_t n_datasets = 0;
  std::int64_t n_incomplete = 0;  ///< blocks left out because cells were not run at all
  std::int64_t n_not_applicable =
      0;  ///< blocks left out because no method has the metric there, though all ended well
  std::int64_t n_deterministic =
      0;  ///< entries whose values are the same in all repetitions, where others' are not
  std::int64_t n_repeated = 0;      ///< blocks counted once because all methods gave the same bits again
  std::vector<Standing> standings;  ///< best first
  FriedmanResult friedman;
  double critical_difference = std::numeric_limits<double>::quiet_NaN();  ///< Nemenyi, 5 %
  std::vector<Clique> cliques;                                            ///< into `standings`
  std::vector<PairTest> pairs;  ///< all pairs, in the order of the standings
};

/// Ranks the entries of a group by one metric. The unit of evidence is the dataset when there are at least
/// five, each dataset then counting its mean rank over repetitions; with fewer it is the (dataset,
/// repetition), and the conclusions hold for these datasets only. It is the dataset too when two or more
/// entries repeat their values bit by bit: to them repetitions are copies, and counting copies would make up
/// evidence. Cells that gave no value share the worst rank; a block in which all cells ended well and none has
/// the metric is left out (a truth that is not known there). Deterministic.
/// @pre metric.direction is not `none`
Comparison compare_entries(const ComparisonGroup& group, const MetricInfo& metric);

/// One or two sentences for readers: what the blocks are, how far the conclusion reaches, what can not be
/// concluded.
std::string describe_evidence(const Comparison& comparison);

}  // namespace borel
