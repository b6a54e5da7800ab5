#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "study/cell_id.hpp"
#include "study_fakes.hpp"

namespace borel::test {
namespace {

std::vector<std::string> ids(const Plan& plan) {
  std::vector<std::string> all;
  for (const PlannedCell& cell : plan.cells) all.push_back(cell.record.cell_id);
  return all;
}

std::set<std::string> id_set(const Plan& plan) {
  const auto all = ids(plan);
  return {all.begin(), all.end()};
}

TEST(StudyPlan, HasOneCellPerDatasetMethodAndRepetition) {
  World world;
  const Plan plan = world.plan(k_study);
  EXPECT_EQ(plan.cells.size(), 2U * 2U * 3U);
  EXPECT_EQ(id_set(plan).size(), plan.cells.size());
  for (const PlannedCell& cell : plan.cells) {
    EXPECT_THAT(cell.record.cell_id, testing::MatchesRegex("[0-9a-f]{32}"));
    ASSERT_EQ(cell.record.methods.size(), 2U);
    EXPECT_EQ(cell.record.methods[1].spec, "scaler/times{factor=1}");
  }
}

TEST(StudyPlan, DoesNotDependOnTheOrderInTheFile) {
  World world;
  const Plan one = world.plan(R"(
seed = 7
repetitions = 2
[[compare]]
protocol = "test.guess"
datasets = ["small", "large"]
methods = ["shifted{shift=2, n_draws=10}", "shifted"]
[[compare]]
protocol = "test.guess"
datasets = ["small"]
methods = [{id = "shifted", shift = [1, 3]}]
options = {n_points = 5})");
  const Plan other = world.plan(R"(
repetitions = 2
[[compare]]
options = {n_points = 5}
methods = [{shift = [3, 1], id = "shifted"}]
datasets = ["small"]
protocol = "test.guess"
[[compare]]
methods = ["shifted", "guesser/shifted{n_draws=10, shift=2.0}"]
datasets = ["large", "small"]
protocol = "test.guess"
)"
                                "\n");
  // The seed of the second is the default, so its cells differ; with the same seed they are the same in every
  // field.
  EXPECT_NE(id_set(one), id_set(other));
  const Plan same = world.plan(std::string("seed = 7\n") + other.study_text);
  ASSERT_EQ(ids(one), ids(same));
  EXPECT_EQ(one.digest, same.digest);
  for (std::size_t i = 0; i < one.cells.size(); ++i) {
    EXPECT_EQ(one.cells[i].record.seed, same.cells[i].record.seed);
    EXPECT_EQ(one.cells[i].record.label, same.cells[i].record.label);
  }
}

TEST(StudyPlan, CollapsesDuplicatesHoweverTheyAreWritten) {
  World world;
  const Plan plan = world.plan(R"(
repetitions = 1
[[compare]]
protocol = "test.guess"
datasets = ["small", "small"]
methods = ["shifted", "shifted{shift=0.5}", {id = "shifted", n_draws = 100}]
[[compare]]
protocol = "test.guess"
datasets = "small"
methods = "shifted"
scalers = ["times", "times{factor=1}"]
)");
  ASSERT_EQ(plan.cells.size(), 1U);
  EXPECT_EQ(plan.cells[0].record.label, "shifted");
}

TEST(StudyPlan, LabelsNameGivenParametersAndOtherRolesThatVary) {
  World world;
  const Plan plan = world.plan(R"(
repetitions = 1
[[compare]]
protocol = "test.guess"
datasets = ["small"]
methods = ["shifted", "shifted{shift=2}"]
scalers = ["times", "times{factor=3}"]
)");
  std::set<std::string> labels;
  for (const PlannedCell& cell : plan.cells) labels.insert(cell.record.label);
  EXPECT_THAT(labels, testing::ElementsAre("shifted + times", "shifted + times{factor=3}",
                                           "shifted{shift=2} + times", "shifted{shift=2} + times{factor=3}"));
}

TEST(StudyPlan, SeedsPairMethodsAndSeparateEverythingElse) {
  World world;
  const Plan plan = world.plan(R"(
repetitions = 2
[[compare]]
protocol = "test.guess"
datasets = ["small", "large"]
methods = ["shifted", "shifted{shift=2}"]
options = {n_points = [1, 2]}
)");
  std::map<std::tuple<std::string, std::string, std::int64_t>, std::set<std::uint64_t>> seeds;
  std::set<std::uint64_t> all;
  for (const PlannedCell& cell : plan.cells) {
    seeds[{cell.record.dataset, cell.record.options, cell.record.repetition}].insert(cell.record.seed);
    all.insert(cell.record.seed);
  }
  EXPECT_EQ(seeds.size(), 8U);
  for (const auto& [key, of_key] : seeds) EXPECT_EQ(of_key.size(), 1U);
  EXPECT_EQ(all.size(), 8U);
}

TEST(StudyPlan, IdsChangeWithEveryInputAndWithNothingElse) {
  World world;
  const std::set<std::string> before = id_set(world.plan(k_study));
  const std::string text(k_study);
  const auto replaced = [&](std::string from, std::string_view to) {
    std::string out = text;
    out.replace(out.find(from), from.size(), to);
    return out;
  };
  EXPECT_EQ(id_set(world.plan(replaced("Test study", "Another title"))), before);
  EXPECT_EQ(id_set(world.plan(replaced("rounds = 3", "rounds = 4"))), before);
  const auto disjoint = [&](const std::set<std::string>& now) {
    return std::none_of(now.begin(), now.end(), [&](const std::string& id) { return before.count(id) > 0; });
  };
  EXPECT_TRUE(disjoint(id_set(world.plan(replaced("seed = 7", "seed = 8")))));
  EXPECT_EQ(before.size(), 12U);

  world.protocol.the_version = 2;
  EXPECT_TRUE(disjoint(id_set(world.plan(k_study))));
  world.protocol.the_version = 1;
  world.plugin_digest = "bbbb";
  EXPECT_TRUE(disjoint(id_set(world.plan(k_study))));
  world.plugin_digest = "aaaa";
  world.library_digest = "cccc";  // the engines that all methods run on
  EXPECT_TRUE(disjoint(id_set(world.plan(k_study))));
  world.library_digest = "bbbb";
  world.datasets.add("small", {1, 2, 3.5});
  const std::set<std::string> changed = id_set(world.plan(k_study));
  EXPECT_EQ(std::count_if(changed.begin(), changed.end(),
                          [&](const std::string& id) { return before.count(id) > 0; }),
            6);
}

TEST(StudyPlan, ShardsPartitionTheCells) {
  World world;
  const Plan plan = world.plan(k_study);
  for (int n = 1; n <= 5; ++n)
    for (const PlannedCell& cell : plan.cells) {
      const int shard = shard_of(cell.record.cell_id, n);
      EXPECT_GE(shard, 1);
      EXPECT_LE(shard, n);
    }
  EXPECT_EQ(parse_shard("2/3").index, 2);
  for (std::string_view bad : {"", "1", "0/3", "4/3", "1/0", "a/b", "1/3x", "-1/3"})
    EXPECT_THROW(parse_shard(bad), Error) << bad;
}

}  // namespace
}  // namespace borel::test
