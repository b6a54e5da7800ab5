// How cells become blocks, ranks and intervals.
#include "statistics/comparison.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/figures.hpp"

namespace borel {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const MetricInfo k_loss{"loss", "nats", Direction::lower_is_better, "", true};
const MetricInfo k_score{"score", "", Direction::higher_is_better, "", true};

CellRecord cell(std::string method, std::string dataset, std::int64_t repetition, double loss) {
  CellRecord record;
  record.protocol = "density.fit";
  record.dataset = std::move(dataset);
  record.repetition = repetition;
  MethodUse use;
  use.family = "density";
  use.label = record.label = std::move(method);
  record.methods = {use};
  record.result.metrics = {{"loss", "nats", loss, Direction::lower_is_better},
                           {"score", "", -loss, Direction::higher_is_better}};
  return record;
}

CellRecord failed(std::string method, std::string dataset, std::int64_t repetition, CellOutcome outcome) {
  CellRecord record = cell(std::move(method), std::move(dataset), repetition, 0);
  record.result = {};
  record.result.outcome = outcome;
  record.result.reason = "It broke.";
  return record;
}

/// `a` is best everywhere, `b` second, `c` worst; n_datasets x 3.
RunResults ordered_study(int n_datasets) {
  RunResults results;
  for (int d = 0; d < n_datasets; ++d)
    for (int r = 0; r < 3; ++r)
      for (int m = 0; m < 3; ++m)
        results.cells.push_back(cell(std::string(1, static_cast<char>('a' + m)), "data" + std::to_string(d),
                                     r, 100 * d + m + 0.1 * r));
  return results;
}

// Two encodings on the network of one, one on its own: a list of three, not a table with a hole.
TEST(Comparison, NetworksOfAStudyArePartOfWhatIsCompared) {
  RunResults results;
  for (const auto& [method, dataset, loss] :
       {std::tuple{"rope", "model/rope", 2.0}, std::tuple{"pi", "model/rope", 3.0},
        std::tuple{"alibi", "model/alibi", 1.0}})
    results.cells.push_back(cell(method, dataset, 0, loss));
  const auto groups = comparison_groups(results);
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_THAT(groups[0].entries,
              ElementsAre("alibi on model/alibi", "pi on model/rope", "rope on model/rope"));
  EXPECT_THAT(groups[0].datasets, ElementsAre("networks of their own"));
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.table.n_blocks, 1);
  EXPECT_EQ(groups[0].entries[comparison.standings[0].entry], "alibi on model/alibi");
}

// Their mean is no number, which has no rank.
TEST(Comparison, AHeatMapShowsInfinitiesOfBothSigns) {
  constexpr double k_infinity = std::numeric_limits<double>::infinity();
  RunResults results;
  for (const auto& [method, repetition, loss] :
       {std::tuple{"a", 0, k_infinity}, std::tuple{"a", 1, -k_infinity}, std::tuple{"b", 0, 1.0},
        std::tuple{"b", 1, 2.0}})
    results.cells.push_back(cell(method, "data", repetition, loss));
  const auto groups = comparison_groups(results);
  const Figure figure = heat_map_figure(groups.front(), k_loss);
  EXPECT_THAT(figure.csv, HasSubstr("a,data,nan"));
  EXPECT_THAT(figure.csv, HasSubstr("b,data,1.5"));
}

TEST(Comparison, RanksByTheDirectionOfTheMetric) {
  const RunResults results = ordered_study(2);
  const auto groups = comparison_groups(results);
  ASSERT_EQ(groups.size(), 1u);
  for (const MetricInfo& metric : {k_loss, k_score}) {
    const Comparison comparison = compare_entries(groups[0], metric);
    EXPECT_EQ(comparison.table.n_blocks, 6);
    EXPECT_EQ(comparison.unit, BlockUnit::repetition);
    EXPECT_EQ(groups[0].entries[comparison.standings[0].entry], "a");
    EXPECT_EQ(comparison.standings[0].average_rank, 1);
    EXPECT_EQ(comparison.standings[0].share_best, 1);
    EXPECT_EQ(comparison.standings[2].average_rank, 3);
    ASSERT_EQ(comparison.pairs.size(), 3u);
    EXPECT_EQ(comparison.pairs[0].wilcoxon.p_value, 2.0 / 64);
    EXPECT_EQ(comparison.pairs[0].wilcoxon.rank_biserial, 1);
    EXPECT_EQ(comparison.pairs[0].p_holm, 6.0 / 64);
  }
}

TEST(Comparison, ManyDatasetsAreTheUnitOfEvidence) {
  const RunResults results = ordered_study(5);
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.unit, BlockUnit::dataset);
  EXPECT_EQ(comparison.table.n_blocks, 5);
  EXPECT_THAT(describe_evidence(comparison), HasSubstr("5 datasets"));
}

TEST(Comparison, CellsWithoutAValueShareTheWorstRankAndAreNeverDropped) {
  for (CellOutcome outcome :
       {CellOutcome::failed, CellOutcome::timeout, CellOutcome::crashed, CellOutcome::skipped}) {
    RunResults results = ordered_study(2);
    for (CellRecord& record : results.cells)
      if (record.label == "a" && record.dataset == "data1")
        record = failed("a", "data1", record.repetition, outcome);
    for (CellRecord& record : results.cells)
      if (record.label == "b" && record.dataset == "data1" && record.repetition == 0)
        record.result.metrics[0].value = std::nan("");
    const auto groups = comparison_groups(results);
    const Comparison comparison = compare_entries(groups[0], k_loss);
    EXPECT_EQ(comparison.table.n_blocks, 6);
    // a: 1 1 1 | 2.5 3 3, b: 2 2 2 | 2.5 1 1, c: 3 3 3 | 1 2 2
    EXPECT_THAT(comparison.friedman.average_rank, ElementsAre(11.5 / 6, 10.5 / 6, 14.0 / 6));
    for (const Standing& standing : comparison.standings)
      EXPECT_EQ(standing.n_without_value, standing.entry == 0 ? 3 : standing.entry == 1 ? 1 : 0);
  }
}

TEST(Comparison, ABlockWithACellThatWasNotRunIsLeftOutAndSaid) {
  RunResults results = ordered_study(2);
  results.cells.pop_back();
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.table.n_blocks, 5);
  EXPECT_EQ(comparison.n_incomplete, 1);
  EXPECT_THAT(describe_evidence(comparison), HasSubstr("1 block is left out"));
}

TEST(Comparison, RepetitionsWithTheSameBitsCountOnce) {
  RunResults results = ordered_study(2);
  for (CellRecord& record : results.cells)
    for (Metric& metric : record.result.metrics) metric.value = std::round(metric.value);
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.table.n_blocks, 2);
  EXPECT_EQ(comparison.n_repeated, 4);
  EXPECT_FALSE(comparison.standings[0].rank_interval.known());
}

TEST(Comparison, ADatasetWithoutTheMetricIsLeftOutAndNobodyFailsThere) {
  RunResults results = ordered_study(2);
  for (CellRecord& record : results.cells)
    if (record.dataset == "data1")
      record.result.metrics.erase(record.result.metrics.begin());  // no truth known
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.table.n_blocks, 3);
  EXPECT_EQ(comparison.n_not_applicable, 3);
  EXPECT_EQ(comparison.standings[0].share_best, 1);
  for (const Standing& standing : comparison.standings) EXPECT_EQ(standing.n_without_value, 0);
  EXPECT_THAT(describe_evidence(comparison),
              HasSubstr("3 blocks are left out because the metric does not exist"));

  // One that failed there: then the others may have had the metric as well.
  for (CellRecord& record : results.cells)
    if (record.dataset == "data1" && record.label == "a")
      record = failed("a", "data1", record.repetition, CellOutcome::failed);
  const auto with_failure = comparison_groups(results);
  EXPECT_EQ(compare_entries(with_failure[0], k_loss).n_not_applicable, 0);
}

TEST(Comparison, RepetitionsAreNotEvidenceWhenTwoMethodsOnlyRepeatThemselves) {
  RunResults results = ordered_study(2);
  for (CellRecord& record : results.cells)
    if (record.label != "c")  // a and b are deterministic, c is not
      for (Metric& metric : record.result.metrics) metric.value = std::round(metric.value);
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.n_deterministic, 2);
  EXPECT_EQ(comparison.unit, BlockUnit::dataset);
  EXPECT_EQ(comparison.table.n_blocks, 2);
  EXPECT_THAT(describe_evidence(comparison), HasSubstr("for 2 methods repetitions are copies"));
}

TEST(Comparison, ShareBestCountsRepetitionsNotMeanRanks) {
  RunResults results = ordered_study(5);
  for (CellRecord& record : results.cells)  // b wins one repetition of three in data0
    if (record.label == "b" && record.dataset == "data0" && record.repetition == 0)
      record.result.metrics[0].value = -1;
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_EQ(comparison.unit, BlockUnit::dataset);
  EXPECT_NEAR(comparison.standings[0].share_best, 14.0 / 15, 1e-12);
  EXPECT_NEAR(comparison.standings[1].share_best, 1.0 / 15, 1e-12);
}

TEST(Comparison, FewBlocksAreSaidToBeTooFew) {
  const RunResults results = ordered_study(1);
  const auto groups = comparison_groups(results);
  const Comparison comparison = compare_entries(groups[0], k_loss);
  EXPECT_GE(comparison.pairs[0].p_holm, 0.05);
  EXPECT_THAT(describe_evidence(comparison), HasSubstr("cannot go below p = 0.75"));
}

TEST(Comparison, VaryingRolesNameTheEntriesAndConstantRolesTheGroup) {
  RunResults results = ordered_study(1);
  for (CellRecord& record : results.cells) {
    MethodUse position;
    position.family = "position";
    position.label = "none";
    record.methods.push_back(position);
  }
  EXPECT_EQ(comparison_groups(results)[0].constant_methods, "position none");
  RunResults more = results;
  for (CellRecord record : results.cells) {
    record.methods[1].label = "rope";
    more.cells.push_back(record);
  }
  const auto groups = comparison_groups(more);
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_THAT(groups[0].entries,
              ElementsAre("a + none", "a + rope", "b + none", "b + rope", "c + none", "c + rope"));
  EXPECT_EQ(groups[0].constant_methods, "");
}

TEST(Comparison, ShortNamesShowOnlyWhatTellsMethodsApart) {
  RunResults results = ordered_study(1);
  const char* const labels[] = {"gmm{components=[1, 2], n=3}", "gmm{components=[1, 3], n=3}", "kde{n=3}"};
  for (std::size_t i = 0; i < results.cells.size(); ++i) results.cells[i].methods[0].label = labels[i % 3];
  EXPECT_THAT(comparison_groups(results)[0].short_names,
              ElementsAre("gmm{components=[1, 2]}", "gmm{components=[1, 3]}", "kde"));
  MethodUse position;
  position.family = "position";
  for (std::size_t i = 0; i < results.cells.size(); ++i) {
    results.cells[i].methods[0].label = labels[i % 2];
    position.label = i % 3 == 0 ? "none" : "rope{base=100, of=pi{factor=2}}";
    results.cells[i].methods.push_back(position);
  }
  EXPECT_THAT(comparison_groups(results)[0].short_names,
              ElementsAre("gmm{components=[1, 2]} + none", "gmm{components=[1, 2]} + rope",
                          "gmm{components=[1, 3]} + none", "gmm{components=[1, 3]} + rope"));
}

TEST(Comparison, OptionsSeparateGroups) {
  RunResults results = ordered_study(1);
  results.cells[0].options = "density.fit{n_train=10}";
  EXPECT_EQ(comparison_groups(results).size(), 2u);
}

TEST(Comparison, SummaryOfOneDatasetHasItsInterval) {
  const RunResults results = ordered_study(1);
  const auto groups = comparison_groups(results);
  const ValueSummary summary = summarise(groups[0], 1, 0, "loss");
  EXPECT_LE(std::abs(summary.mean - 1.1), 1e-12);
  EXPECT_GE(summary.interval.lower, 1.0);
  EXPECT_LE(summary.interval.upper, 1.2);
  EXPECT_EQ(summary.n_cells, 3);
  EXPECT_TRUE(summarise(groups[0], 1, 0, "unknown").values.empty());
}

}  // namespace
}  // namespace borel
