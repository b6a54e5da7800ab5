#include <cmath>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "results/collect.hpp"
#include "results/merge.hpp"
#include "results/results_h5.hpp"
#include "study/journal.hpp"
#include "study_fakes.hpp"

namespace borel::test {
namespace {

using testing::HasSubstr;

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

RunSummary run(World& world, std::string_view toml, const std::filesystem::path& folder,
               RunOptions options = {}, Silent* listener = nullptr) {
  Silent own;
  return run_plan(world.plan(toml), world.workshop(), RunFolder{folder}, options, listener ? *listener : own);
}

/// One method that does what the test says, on one dataset, `repetitions` times.
std::string scripted(int repetitions, std::string_view head = "") {
  return fmt::format(
      "repetitions = {}\n{}\n[[compare]]\nprotocol = \"test.guess\"\ndatasets = [\"small\"]\n"
      "methods = [\"scripted\"]\n",
      repetitions, head);
}

std::string quality(const std::filesystem::path& folder) {
  return read_text(folder / "csv" / "test.guess.csv");
}

TEST(StudyEngine, RunsEveryCellOnceAndThenNone) {
  TemporaryFolder folder;
  World world;
  const RunSummary first = run(world, k_study, folder.path());
  EXPECT_EQ(first.n_cells, 12U);
  EXPECT_EQ(first.n_run, 12U);
  EXPECT_EQ(first.n_timed, 4U);
  EXPECT_TRUE(first.all_good());
  EXPECT_TRUE(first.outputs_written);
  EXPECT_EQ(world.protocol.n_runs, 12);
  const std::string journal = read_text(folder.path() / "journal.jsonl");

  const RunSummary second = run(world, k_study, folder.path());
  EXPECT_EQ(second.n_found, 12U);
  EXPECT_EQ(second.n_run, 0U);
  EXPECT_EQ(second.n_timed, 0U);
  EXPECT_FALSE(second.outputs_written);
  EXPECT_EQ(world.protocol.n_runs, 12);
  EXPECT_EQ(read_text(folder.path() / "journal.jsonl"), journal);

  std::filesystem::remove(folder.path() / "results.h5");
  EXPECT_TRUE(run(world, k_study, folder.path()).outputs_written);
  EXPECT_EQ(world.protocol.n_runs, 12);
}

TEST(StudyEngine, RefusesAFolderWithFilesOfSomebodyElse) {
  TemporaryFolder folder;
  World world;
  std::filesystem::create_directories(folder.path() / "figures");
  std::ofstream(folder.path() / "figures" / "mine.csv") << "1\n";
  EXPECT_THROW(run(world, k_study, folder.path()), Error);
  EXPECT_EQ(read_text(folder.path() / "figures" / "mine.csv"), "1\n");
  EXPECT_EQ(world.protocol.n_runs, 0);
}

TEST(StudyEngine, GivesTheSameBitsForAnyNumberOfThreads) {
  World world;
  std::string expected;
  for (int threads : {1, 2, 4}) {
    TemporaryFolder folder;
    RunOptions options;
    options.threads = threads;
    run(world, k_study, folder.path(), options);
    if (expected.empty()) expected = quality(folder.path());
    EXPECT_EQ(quality(folder.path()), expected) << threads;
  }
  EXPECT_THAT(expected, HasSubstr("shifted"));
}

TEST(StudyEngine, ShardsMergeToTheWholeStudy) {
  World world;
  TemporaryFolder folder;
  run(world, k_study, folder.path() / "whole");
  std::vector<std::filesystem::path> parts;
  std::size_t n = 0;
  for (int i = 1; i <= 3; ++i) {
    RunOptions options;
    options.shard = {i, 3};
    parts.push_back(folder.path() / fmt::format("part{}", i));
    n += run(world, k_study, parts.back(), options).n_run;
  }
  EXPECT_EQ(n, 12U);
  std::reverse(parts.begin(), parts.end());
  const MergeSummary merged = merge_runs(parts, RunFolder{folder.path() / "merged"});
  EXPECT_EQ(merged.n_finished, 12U);
  EXPECT_EQ(merged.n_planned, 12U);
  EXPECT_EQ(quality(folder.path() / "merged"), quality(folder.path() / "whole"));
  EXPECT_EQ(read_results_h5(folder.path() / "merged" / "results.h5").study_digest,
            read_results_h5(folder.path() / "whole" / "results.h5").study_digest);
  EXPECT_THROW(merge_runs(parts, RunFolder{folder.path() / "merged"}), Error);
  // The merged folder is a run like any other.
  EXPECT_EQ(run(world, k_study, folder.path() / "merged").n_run, 0U);
}

TEST(StudyEngine, MergeNamesConflicts) {
  World world;
  TemporaryFolder folder;
  Scripted::script = [](const CellInput&) { return 1.0; };
  run(world, scripted(2), folder.path() / "a");
  Scripted::script = [](const CellInput&) { return 2.0; };
  run(world, scripted(2), folder.path() / "b");
  world.plugin_digest = "changed";
  run(world, scripted(2), folder.path() / "c");
  const auto conflict = [&](const char* one, const char* other) -> std::string {
    try {
      merge_runs({folder.path() / one, folder.path() / other}, RunFolder{folder.path() / "out"});
    } catch (const Error& error) {
      EXPECT_FALSE(std::filesystem::exists(folder.path() / "out"));
      return error.what();
    }
    return "no conflict";
  };
  EXPECT_THAT(conflict("a", "b"), AllOf(HasSubstr("2 conflict(s)"), HasSubstr("has different results in")));
  EXPECT_THAT(conflict("b", "c"), AllOf(HasSubstr("2 conflict(s)"), HasSubstr("another plugin file")));
  EXPECT_EQ(
      merge_runs({folder.path() / "a", folder.path() / "a"}, RunFolder{folder.path() / "out"}).n_finished,
      2U);
}

TEST(StudyEngine, RecordsEveryKindOfFailureWithItsReason) {
  World world;
  TemporaryFolder folder;
  Scripted::script = [](const CellInput& input) -> double {
    switch (input.repetition) {
      case 0:
        throw MethodError("the moon is full");
      case 1:
        throw std::runtime_error("odd");
      case 2:
        throw 42;
      case 3:
        throw std::bad_alloc();
      case 4:
        return std::nan("");
      default:
        return 0;
    }
  };
  Silent listener;
  const RunSummary summary = run(world, scripted(6), folder.path(), {}, &listener);
  EXPECT_EQ(summary.count(CellOutcome::failed), 5U);
  EXPECT_EQ(summary.count(CellOutcome::ok), 1U);
  EXPECT_FALSE(summary.all_good());
  ASSERT_EQ(listener.results.cells.size(), 6U);
  const std::vector<std::string> reasons = {
      "the moon is full", "unexpected error: odd",   "not an exception of the standard",
      "out of memory",    "'error' is not a number", ""};
  for (std::size_t i = 0; i < reasons.size(); ++i)
    EXPECT_THAT(listener.results.cells[i].result.reason, HasSubstr(reasons[i]));
}

TEST(StudyEngine, RetriesFailedCellsOnlyWhenAsked) {
  World world;
  TemporaryFolder folder;
  bool broken = true;
  std::atomic<int> n_calls{0};
  Scripted::script = [&](const CellInput& input) -> double {
    ++n_calls;
    if (broken && input.repetition == 1) throw MethodError("not yet");
    return 1;
  };
  run(world, scripted(3), folder.path());
  EXPECT_EQ(n_calls, 3);
  broken = false;
  EXPECT_EQ(run(world, scripted(3), folder.path()).n_run, 0U);
  RunOptions retry;
  retry.retry_failed = true;
  const RunSummary summary = run(world, scripted(3), folder.path(), retry);
  EXPECT_EQ(summary.n_run, 1U);
  EXPECT_EQ(n_calls, 4);
  EXPECT_TRUE(summary.all_good());
}

TEST(StudyEngine, AddingToAStudyRunsOnlyWhatIsNew) {
  World world;
  TemporaryFolder folder;
  Scripted::script = [](const CellInput&) { return 1.0; };
  run(world, scripted(2), folder.path());
  EXPECT_EQ(run(world, scripted(5), folder.path()).n_run, 3U);
  EXPECT_EQ(run(world, scripted(2), folder.path()).n_run, 0U);
  EXPECT_EQ(collect_results(read_journal(folder.path() / "journal.jsonl")).cells.size(), 2U);
}

TEST(StudyEngine, FailFastStartsNothingAfterAFailure) {
  World world;
  TemporaryFolder folder;
  std::atomic<int> n_calls{0};
  Scripted::script = [&](const CellInput&) -> double {
    ++n_calls;
    throw MethodError("no");
  };
  RunOptions options;
  options.fail_fast = true;
  const RunSummary summary = run(world, scripted(5), folder.path(), options);
  EXPECT_EQ(n_calls, 1);
  EXPECT_EQ(summary.n_missing, 4U);
  EXPECT_EQ(summary.count(CellOutcome::failed), 1U);
}

TEST(StudyEngine, TimeLimitEndsACellWhetherItThrowsOrReturns) {
  World world;
  TemporaryFolder folder;
  Scripted::script = [&](const CellInput& input) -> double {
    while (!input.stop.stop_requested()) std::this_thread::yield();
    if (input.repetition == 0) input.stop.throw_if_stopped();
    return 1;  // gave up early without saying so
  };
  Silent listener;
  const RunSummary summary =
      run(world, scripted(2, "[limits]\ntime_per_cell_s = 0.05"), folder.path(), {}, &listener);
  EXPECT_EQ(summary.count(CellOutcome::timeout), 2U);
  for (const CellRecord& cell : listener.results.cells) {
    EXPECT_THAT(cell.result.reason, HasSubstr("0.05 s"));
    EXPECT_TRUE(cell.result.metrics.empty());
  }
}

TEST(StudyEngine, MemoryBudgetRefusesOneAndSerialisesSeveral) {
  World world;
  Scripted::script = [](const CellInput&) { return 1.0; };
  world.protocol.needed_bytes = 2e6;
  {
    TemporaryFolder folder;
    Silent listener;
    const RunSummary summary =
        run(world, scripted(2, "[limits]\nmemory_gb = 0.001"), folder.path(), {}, &listener);
    EXPECT_EQ(summary.count(CellOutcome::failed), 2U);
    EXPECT_THAT(listener.results.cells.at(0).result.reason, HasSubstr("memory_gb"));
  }
  std::atomic<int> n_inside{0}, n_most{0};
  Scripted::script = [&](const CellInput&) {
    n_most = std::max(n_most.load(), ++n_inside);
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    --n_inside;
    return 1.0;
  };
  TemporaryFolder folder;
  RunOptions options;
  options.threads = 4;
  EXPECT_TRUE(run(world, scripted(12, "[limits]\nmemory_gb = 0.003"), folder.path(), options).all_good());
  EXPECT_EQ(n_most, 1);
}

TEST(StudyEngine, RefusalsAndUnreadableDatasetsAreOutcomes) {
  World world;
  TemporaryFolder folder;
  Silent listener;
  const RunSummary summary = run(world, R"(
repetitions = 1
[[compare]]
protocol = "test.guess"
datasets = ["refused", "small"]
methods = ["shifted"]
)",
                                 folder.path(), {}, &listener);
  EXPECT_EQ(summary.count(CellOutcome::skipped), 1U);
  EXPECT_TRUE(summary.all_good());
  EXPECT_EQ(listener.results.cells.at(0).result.reason, "this dataset has no truth.");

  const Plan plan = world.plan(k_study);
  world.datasets.add("small", {4, 5, 6});  // changes between plan and run
  TemporaryFolder other;
  Silent quiet;
  const RunSummary changed = run_plan(plan, world.workshop(), RunFolder{other.path()}, {}, quiet);
  EXPECT_EQ(changed.count(CellOutcome::failed), 6U);
  EXPECT_EQ(changed.count(CellOutcome::ok), 6U);
}

TEST(StudyEngine, InterruptionKeepsWhatIsDoneAndResumeGivesTheSameBits) {
  World world;
  TemporaryFolder folder;
  run(world, k_study, folder.path() / "whole");
  for (std::size_t stop_after : {1U, 5U, 11U}) {
    const std::filesystem::path part = folder.path() / std::to_string(stop_after);
    std::atomic<bool> interrupted{false};
    std::size_t n_finished = 0;
    Silent listener;
    listener.on_finished = [&](const CellRecord&) {
      if (++n_finished == stop_after) interrupted = true;
    };
    RunOptions options;
    options.interrupted = &interrupted;
    const RunSummary stopped = run(world, k_study, part, options, &listener);
    EXPECT_TRUE(stopped.interrupted);
    EXPECT_EQ(stopped.n_run, stop_after);
    EXPECT_FALSE(stopped.outputs_written);
    const RunSummary resumed = run(world, k_study, part);
    EXPECT_EQ(resumed.n_found, stop_after);
    EXPECT_EQ(resumed.n_run, 12U - stop_after);
    EXPECT_EQ(quality(part), quality(folder.path() / "whole"));
  }
}

TEST(StudyEngine, AnInterruptedCellHasNoOutcome) {
  World world;
  TemporaryFolder folder;
  std::atomic<bool> interrupted{false};
  Scripted::script = [&](const CellInput& input) -> double {
    interrupted = true;
    EXPECT_TRUE(input.stop.stop_requested());
    return 1;  // a number that an interruption may have cut short
  };
  RunOptions options;
  options.interrupted = &interrupted;
  const RunSummary summary = run(world, scripted(2), folder.path(), options);
  EXPECT_EQ(summary.n_run, 0U);
  EXPECT_EQ(summary.n_missing, 2U);
}

TEST(StudyEngine, TimesRepetitionZeroOfWhatPassedInRounds) {
  World world;
  TemporaryFolder folder;
  Silent listener;
  Scripted::script = [](const CellInput& input) -> double {
    if (input.repetition == 0) throw MethodError("no");
    return 1;
  };
  run(world, R"(
repetitions = 2
[timing]
rounds = 4
[[compare]]
protocol = "test.guess"
datasets = ["small"]
methods = ["shifted", "scripted"]
)",
      folder.path(), {}, &listener);
  std::size_t n_timed = 0;
  for (const CellRecord& cell : listener.results.cells) {
    const bool expected = cell.repetition == 0 && cell.methods[0].id == "shifted";
    EXPECT_EQ(cell.result.timings.size(), expected ? 1U : 0U);
    if (!expected) continue;
    ++n_timed;
    EXPECT_EQ(cell.result.timings[0].name, "guess_s");
    EXPECT_EQ(cell.result.timings[0].seconds.size(), 4U);
    for (double seconds : cell.result.timings[0].seconds) EXPECT_LE(std::abs(seconds - 5e-6), 5e-6);
  }
  EXPECT_EQ(n_timed, 1U);
}

TEST(StudyEngine, ReportsADamagedJournalLineAndRunsItsCellAgain) {
  World world;
  TemporaryFolder folder;
  run(world, k_study, folder.path());
  const std::string expected = quality(folder.path());
  std::string text = read_text(folder.path() / "journal.jsonl");
  const std::size_t at = text.find("\"type\":\"cell\"");
  ASSERT_NE(at, std::string::npos);
  text[at + 8] = 'k';
  std::ofstream(folder.path() / "journal.jsonl", std::ios::binary) << text;
  Silent listener;
  const RunSummary summary = run(world, k_study, folder.path(), {}, &listener);
  EXPECT_EQ(summary.n_run, 1U);
  ASSERT_EQ(listener.warnings.size(), 1U);
  EXPECT_THAT(listener.warnings[0], HasSubstr("journal.jsonl:3: damaged line"));
  EXPECT_EQ(quality(folder.path()), expected);
}

}  // namespace
}  // namespace borel::test
