#include "statistics/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "study/study_models.hpp"

namespace borel {
namespace {

constexpr double k_level = 0.95;
constexpr double k_alpha = 0.05;
constexpr std::int64_t k_datasets_for_generality = 5;
constexpr int k_shuffles = 2000;

/// Reports of the same results show the same figures; nothing but the name of what is estimated enters the
/// seed.
Seed report_seed(const ComparisonGroup& group, std::string_view what) {
  return Seed{0}.derive("report").derive(group.protocol).derive(group.options).derive(what);
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : std::string(separator)) + part;
  return text;
}

/// One method of a label: "gmm" and "components=4", "seed=1".
struct LabelPart {
  std::string id;
  std::vector<std::string> params;

  bool has(const std::string& param) const { return std::ranges::find(params, param) != params.end(); }
};

/// "softmax + rope{base=[1, 2], n=3}": two parts. Commas and signs inside of values separate nothing.
std::vector<LabelPart> label_parts(std::string_view label) {
  std::vector<LabelPart> parts(1);
  std::string text;
  int depth = 0;
  const auto end_param = [&] {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin != std::string::npos) parts.back().params.push_back(text.substr(begin));
    text.clear();
  };
  for (std::size_t i = 0; i < label.size(); ++i) {
    const char c = label[i];
    const bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
    if (closes && --depth == 0 && c == '}') {
      end_param();
    } else if (depth == 0 && label.substr(i, 3) == " + ") {
      parts.emplace_back();
      i += 2;
    } else if (depth == 0 && c != '{') {
      parts.back().id += c;
    } else if (depth == 1 && c == ',') {
      end_param();
    } else if (depth > 0) {
      text += c;
    }
    if (opens) ++depth;
  }
  return parts;
}

std::string ids_of(const std::vector<LabelPart>& parts) {
  std::vector<std::string> ids;
  for (const LabelPart& part : parts) ids.push_back(part.id);
  return join(ids, " + ");
}

/// Without parameters where that stays unique, otherwise without those that all labels of the same methods share.
std::vector<std::string> short_names(const std::vector<std::string>& labels) {
  std::map<std::string, std::vector<std::vector<LabelPart>>> by_ids;
  for (const std::string& label : labels) {
    std::vector<LabelPart> parts = label_parts(label);
    by_ids[ids_of(parts)].push_back(std::move(parts));
  }
  std::vector<std::string> names;
  for (const std::string& label : labels) {
    const std::vector<LabelPart> parts = label_parts(label);
    const auto& alike = by_ids[ids_of(parts)];
    std::vector<std::string> shown;
    for (std::size_t at = 0; at < parts.size(); ++at) {
      std::vector<std::string> telling;
      for (const std::string& param : parts[at].params)
        if (!std::ranges::all_of(alike, [&](const auto& other) { return other[at].has(param); }))
          telling.push_back(param);
      shown.push_back(parts[at].id + (telling.empty() ? "" : fmt::format("{{{}}}", join(telling, ", "))));
    }
    names.push_back(join(shown, " + "));
  }
  return names;
}

ComparisonGroup make_group(const std::vector<const CellRecord*>& members) {
  ComparisonGroup group;
  group.protocol = members.front()->protocol;
  group.options = members.front()->options;

  const std::size_t n_roles = members.front()->methods.size();
  std::vector<bool> varies(n_roles, false);
  for (const CellRecord* cell : members)
    for (std::size_t role = 0; role < n_roles; ++role)
      varies[role] = varies[role] || cell->methods.at(role).label != members.front()->methods[role].label;
  if (n_roles > 0 && std::find(varies.begin(), varies.end(), true) == varies.end()) varies[0] = true;
  std::vector<std::string> constant;
  for (std::size_t role = 0; role < n_roles; ++role)
    if (!varies[role])
      constant.push_back(members.front()->methods[role].family + " " + members.front()->methods[role].label);
  group.constant_methods = join(constant, ", ");

  const bool has_networks = compares_networks(members);
  const auto entry_label = [&](const CellRecord& cell) {
    std::vector<std::string> labels;
    for (std::size_t role = 0; role < n_roles; ++role)
      if (varies[role]) labels.push_back(cell.methods[role].label);
    const std::string label = join(labels, " + ");
    return has_networks ? fmt::format("{} on {}", label, cell.dataset) : label;
  };
  const auto dataset_label = [&](const CellRecord& cell) -> std::string {
    return has_networks ? std::string(k_own_networks) : cell.dataset;
  };
  std::map<std::string, const CellRecord*> entries;
  std::set<std::string> datasets;
  std::set<std::int64_t> repetitions;
  for (const CellRecord* cell : members) {
    entries.emplace(entry_label(*cell), cell);
    datasets.insert(dataset_label(*cell));
    repetitions.insert(cell->repetition);
  }
  for (const auto& [label, cell] : entries) {
    group.entries.push_back(label);
    group.entry_methods.push_back(cell->methods);
  }
  group.short_names = short_names(group.entries);
  group.datasets.assign(datasets.begin(), datasets.end());
  group.repetitions.assign(repetitions.begin(), repetitions.end());

  const auto place = [](const auto& sorted, const auto& value) {
    return static_cast<std::size_t>(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
  };
  group.cells.assign(group.entries.size() * group.datasets.size() * group.repetitions.size(), nullptr);
  for (const CellRecord* cell : members) {
    const std::size_t entry = place(group.entries, entry_label(*cell)),
                      dataset = place(group.datasets, dataset_label(*cell)),
                      repetition = place(group.repetitions, cell->repetition);
    group.cells[(entry * group.datasets.size() + dataset) * group.repetitions.size() + repetition] = cell;
  }
  return group;
}

double cost_of(const CellRecord* cell, const MetricInfo& metric) {
  const std::optional<double> value = metric_value(cell, metric.name);
  if (!value) return BlockTable::k_no_value;
  return metric.direction == Direction::higher_is_better ? -*value : *value;
}

/// Costs of all complete (dataset, repetition) blocks, with the dataset of each.
struct Blocks {
  std::vector<std::vector<double>> cost;
  std::vector<std::int64_t> dataset;
};

/// Nobody has the metric although every cell ended well: it does not exist for this dataset.
bool not_applicable(const ComparisonGroup& group, std::size_t dataset, std::size_t repetition,
                    std::string_view metric) {
  for (std::size_t e = 0; e < group.entries.size(); ++e) {
    const CellRecord* cell = group.cell(e, dataset, repetition);
    if (!cell || cell->result.outcome != CellOutcome::ok) return false;
    for (const Metric& found : cell->result.metrics)
      if (found.name == metric) return false;  // also a NaN: it was tried
  }
  return true;
}

Blocks complete_blocks(const ComparisonGroup& group, Comparison& comparison) {
  Blocks blocks;
  for (std::size_t d = 0; d < group.datasets.size(); ++d) {
    std::set<std::vector<double>> seen;
    for (std::size_t r = 0; r < group.repetitions.size(); ++r) {
      std::vector<double> cost;
      for (std::size_t e = 0; e < group.entries.size(); ++e)
        if (const CellRecord* cell = group.cell(e, d, r)) cost.push_back(cost_of(cell, comparison.metric));
      if (cost.size() < group.entries.size()) {
        ++comparison.n_incomplete;
      } else if (not_applicable(group, d, r, comparison.metric.name)) {
        ++comparison.n_not_applicable;
      } else if (!seen.insert(cost).second) {
        ++comparison.n_repeated;  // deterministic methods on fixed data: the same evidence, not more of it
      } else {
        for (std::size_t e = 0; e < cost.size(); ++e)
          if (!std::isfinite(cost[e])) ++comparison.standings[e].n_without_value;
        blocks.cost.push_back(std::move(cost));
        blocks.dataset.push_back(static_cast<std::int64_t>(d));
      }
    }
  }
  return blocks;
}

/// One block per dataset: mean rank over repetitions, so that one failure among many repetitions weighs as
/// one.
Blocks per_dataset(const Blocks& blocks) {
  Blocks merged;
  std::size_t n_merged = 0;
  for (std::size_t b = 0; b < blocks.cost.size(); ++b) {
    const std::vector<double> ranks = mid_ranks(blocks.cost[b]);
    if (merged.dataset.empty() || merged.dataset.back() != blocks.dataset[b]) {
      merged.dataset.push_back(blocks.dataset[b]);
      merged.cost.emplace_back(ranks.size(), 0.0);
      n_merged = 0;
    }
    ++n_merged;
    // Sums of ranks are exact, so that equal means are equal; they are divided in the end.
    for (std::size_t e = 0; e < ranks.size(); ++e) merged.cost.back()[e] += ranks[e];
    const bool last = b + 1 == blocks.cost.size() || blocks.dataset[b + 1] != blocks.dataset[b];
    for (std::size_t e = 0; last && e < ranks.size(); ++e)
      merged.cost.back()[e] /= static_cast<double>(n_merged);
  }
  return merged;
}

/// Calls visit(first block, behind its last block) for every dataset.
template <class Visit>
void for_every_dataset(const Blocks& blocks, Visit&& visit) {
  for (std::size_t begin = 0, end = 0; begin < blocks.dataset.size(); begin = end) {
    while (end < blocks.dataset.size() && blocks.dataset[end] == blocks.dataset[begin]) ++end;
    visit(begin, end);
  }
}

/// Entries with the same finite value in all blocks of each dataset, among datasets that have several. (Blocks that are
/// copies in every entry were left out before.)
std::int64_t n_deterministic(const Blocks& blocks, std::size_t n_entries) {
  std::vector<char> constant(n_entries, 1);
  bool any = false;
  for_every_dataset(blocks, [&](std::size_t begin, std::size_t end) {
    any = any || end - begin > 1;
    for (std::size_t b = begin; b < end && end - begin > 1; ++b)
      for (std::size_t e = 0; e < n_entries; ++e)
        if (!std::isfinite(blocks.cost[b][e]) || blocks.cost[b][e] != blocks.cost[begin][e]) constant[e] = 0;
  });
  return any ? std::count(constant.begin(), constant.end(), 1) : 0;
}

/// Share of blocks in which an entry is or ties for best; every dataset weighs the same.
std::vector<double> shares_best(const Blocks& blocks, std::size_t n_entries) {
  std::vector<double> shares(n_entries, 0.0);
  double n_datasets = 0;
  for_every_dataset(blocks, [&](std::size_t begin, std::size_t end) {
    ++n_datasets;
    std::vector<double> n_best(n_entries, 0.0);  // counted, so that 3 of 3 is 1 exactly
    for (std::size_t b = begin; b < end; ++b) {
      const std::vector<double>& cost = blocks.cost[b];
      const double least = *std::min_element(cost.begin(), cost.end());
      for (std::size_t e = 0; e < n_entries && std::isfinite(least); ++e) n_best[e] += cost[e] == least;
    }
    for (std::size_t e = 0; e < n_entries; ++e) shares[e] += n_best[e] / static_cast<double>(end - begin);
  });
  for (double& share : shares) share /= std::max(1.0, n_datasets);
  return shares;
}

double difference(double worse_cost, double better_cost) {
  if (!std::isfinite(worse_cost) && !std::isfinite(better_cost)) return 0;  // both without a value: a tie
  return worse_cost - better_cost;
}

}  // namespace

bool compares_networks(std::span<const CellRecord* const> cells) {
  return std::ranges::all_of(cells, [](const CellRecord* cell) { return is_study_model(cell->dataset); });
}

std::vector<ComparisonGroup> comparison_groups(const RunResults& results) {
  std::vector<ComparisonGroup> groups;
  std::map<std::pair<std::string, std::string>, std::vector<const CellRecord*>> members;
  for (const CellRecord& cell : results.cells)
    if (!cell.methods.empty()) members[{cell.protocol, cell.options}].push_back(&cell);
  groups.reserve(members.size());
  for (const auto& [key, cells] : members) groups.push_back(make_group(cells));
  return groups;
}

std::optional<double> metric_value(const CellRecord* cell, std::string_view metric) {
  if (!cell || cell->result.outcome != CellOutcome::ok) return std::nullopt;
  for (const Metric& candidate : cell->result.metrics)
    if (candidate.name == metric && !std::isnan(candidate.value)) return candidate.value;
  return std::nullopt;
}

ValueSummary summarise(const ComparisonGroup& group, std::size_t entry, std::size_t dataset,
                       std::string_view metric) {
  ValueSummary summary;
  bool finite = true;
  for (std::size_t r = 0; r < group.repetitions.size(); ++r) {
    const CellRecord* cell = group.cell(entry, dataset, r);
    summary.n_cells += cell != nullptr;
    if (const std::optional<double> value = metric_value(cell, metric)) {
      summary.values.push_back(*value);
      finite = finite && std::isfinite(*value);
    }
  }
  if (summary.values.empty()) return summary;
  summary.mean = std::accumulate(summary.values.begin(), summary.values.end(), 0.0) /
                 static_cast<double>(summary.values.size());
  if (finite)
    summary.interval = bootstrap_mean(
        summary.values, k_level,
        report_seed(group, metric).derive(group.entries[entry]).derive(group.datasets[dataset]));
  return summary;
}

Comparison compare_entries(const ComparisonGroup& group, const MetricInfo& metric) {
  const std::size_t k = group.entries.size();
  Comparison comparison;
  comparison.metric = metric;
  comparison.standings.resize(k);
  for (std::size_t e = 0; e < k; ++e) comparison.standings[e].entry = e;

  Blocks blocks = complete_blocks(group, comparison);
  comparison.n_datasets =
      static_cast<std::int64_t>(std::set(blocks.dataset.begin(), blocks.dataset.end()).size());
  comparison.n_deterministic = n_deterministic(blocks, k);
  const std::vector<double> best = shares_best(blocks, k);
  if (comparison.n_datasets >= k_datasets_for_generality || comparison.n_deterministic >= 2) {
    comparison.unit = BlockUnit::dataset;
    blocks = per_dataset(blocks);
  }
  comparison.table.n_methods = static_cast<std::int64_t>(k);
  comparison.table.n_blocks = static_cast<std::int64_t>(blocks.cost.size());
  for (const auto& row : blocks.cost)
    comparison.table.cost.insert(comparison.table.cost.end(), row.begin(), row.end());
  if (blocks.cost.empty()) return comparison;

  comparison.friedman = friedman(comparison.table, k_shuffles, report_seed(group, metric.name).value);
  std::vector<std::vector<double>> ranks;
  for (const auto& row : blocks.cost) ranks.push_back(mid_ranks(row));
  // Datasets are a sample of datasets; repetitions are a sample within their dataset.
  const std::vector<std::int64_t> strata =
      comparison.unit == BlockUnit::dataset ? std::vector<std::int64_t>(ranks.size(), 0) : blocks.dataset;
  for (Standing& standing : comparison.standings) {
    const std::size_t e = standing.entry;
    std::vector<double> own;
    for (const std::vector<double>& row : ranks) own.push_back(row[e]);
    standing.share_best = best[e];
    standing.average_rank = comparison.friedman.average_rank[e];
    standing.rank_interval = bootstrap_mean(
        own, strata, k_level, report_seed(group, metric.name).derive("rank").derive(group.entries[e]));
  }
  std::stable_sort(comparison.standings.begin(), comparison.standings.end(),
                   [](const Standing& a, const Standing& b) { return a.average_rank < b.average_rank; });
  if (k < 2) return comparison;

  comparison.critical_difference =
      nemenyi_critical_difference(k_alpha, static_cast<int>(k), comparison.table.n_blocks);
  std::vector<double> ascending;
  for (const Standing& standing : comparison.standings) ascending.push_back(standing.average_rank);
  comparison.cliques = nemenyi_cliques(ascending, comparison.critical_difference);

  std::vector<double> p_values;
  for (std::size_t i = 0; i < k; ++i)
    for (std::size_t j = i + 1; j < k; ++j) {
      PairTest pair{comparison.standings[i].entry, comparison.standings[j].entry, {}, 1};
      std::vector<double> differences;
      for (const auto& row : blocks.cost)
        differences.push_back(difference(row[pair.worse], row[pair.better]));
      pair.wilcoxon = wilcoxon_signed_rank(differences);
      p_values.push_back(pair.wilcoxon.p_value);
      comparison.pairs.push_back(pair);
    }
  const std::vector<double> adjusted = holm_adjusted(p_values);
  for (std::size_t i = 0; i < adjusted.size(); ++i) comparison.pairs[i].p_holm = adjusted[i];
  return comparison;
}

std::string describe_evidence(const Comparison& comparison) {
  const auto counted = [](std::int64_t n, std::string_view thing) {
    return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
  };
  std::string text;
  if (comparison.table.n_blocks == 0) {
    text = "No block is complete, so nothing can be ranked.";
  } else if (comparison.unit == BlockUnit::dataset) {
    text = fmt::format("The evidence is {}: each counts once, with its mean rank over repetitions{}.",
                       counted(comparison.n_datasets, "dataset"),
                       comparison.n_datasets >= k_datasets_for_generality
                           ? ""
                           : fmt::format(" (for {} methods repetitions are copies of the same values)",
                                         comparison.n_deterministic));
  } else {
    text = fmt::format(
        "The evidence is {} (dataset, repetition) from {}: conclusions hold for {}, not for new data.",
        counted(comparison.table.n_blocks, "block"), counted(comparison.n_datasets, "dataset"),
        comparison.n_datasets == 1 ? "this dataset" : "these datasets");
  }
  if (comparison.table.n_blocks > 0 && !comparison.pairs.empty()) {
    const double smallest = std::min(1.0, std::exp2(1.0 - static_cast<double>(comparison.table.n_blocks)) *
                                              static_cast<double>(comparison.pairs.size()));
    if (smallest >= k_alpha)
      text += fmt::format(
          " With so few blocks the Wilcoxon-Holm test of a pair cannot go below p = {:.2g}, whatever the "
          "results.",
          smallest);
  }
  if (comparison.n_repeated > 0)
    text +=
        fmt::format(" {} gave the same values again for every method and {} counted once.",
                    counted(comparison.n_repeated, "repetition"), comparison.n_repeated == 1 ? "is" : "are");
  if (comparison.n_not_applicable > 0)
    text += fmt::format(
        " {} left out because the metric does not exist for {} data.",
        counted(comparison.n_not_applicable, "block") + (comparison.n_not_applicable == 1 ? " is" : " are"),
        comparison.n_not_applicable == 1 ? "its" : "their");
  if (comparison.n_incomplete > 0)
    text += fmt::format(
        " {} left out because not all of {} cells were run.",
        counted(comparison.n_incomplete, "block") + (comparison.n_incomplete == 1 ? " is" : " are"),
        comparison.n_incomplete == 1 ? "its" : "their");
  return text;
}

}  // namespace borel
