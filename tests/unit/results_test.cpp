#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "results/csv.hpp"
#include "results/results_h5.hpp"
#include "study/record_json.hpp"
#include "study_fakes.hpp"

namespace borel::test {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Two protocols, a failure, missing metrics, odd numbers, odd text.
RunResults rich_results() {
  RunResults results;
  results.title = "Title, with \"quotes\"";
  results.description = "two\nlines";
  results.study_file = "a.toml";
  results.study_text = std::string(100000, '#');
  results.study_digest = "d";
  results.provenance = {{"cpu", "x"}, {"host", "y"}};
  for (int i = 0; i < 4; ++i) {
    CellRecord cell;
    cell.cell_id = std::string(31, 'a') + std::to_string(i);
    cell.protocol = i < 2 ? "one.thing" : "other.thing";
    cell.options = "one.thing{n=1}";
    cell.dataset = "data";
    cell.dataset_digest = "sha256:0";
    cell.methods = {{"guesser", "m", "guesser/m{a=1, b=\"x\"}", "m, or \"n\"", "/p.so", "00ff"}};
    cell.label = "m, or \"n\" + other";
    cell.repetition = i;
    cell.seed = 0xFFFFFFFFFFFFFFF0ULL + static_cast<std::uint64_t>(i);
    cell.result.wall_s = 0.1 * i;
    if (i == 1) {
      cell.result.outcome = CellOutcome::failed;
      cell.result.reason = "it broke,\nbadly";
    } else {
      cell.result.metrics = {{"error", "nats", 0.1 + i, Direction::lower_is_better},
                             {"gap", "", i == 0 ? std::nan("") : INFINITY, Direction::none}};
      if (i == 3) cell.result.metrics.pop_back();
      cell.result.curves = {{"c", "x", "y", true, false, {1, 2, 3}, {4, std::nan(""), 6.5}},
                            {"empty", "x", "y", false, true, {}, {}, "c"}};
      cell.result.pictures = {{"p", "a", "b", 2, 3, {1, 2, 3, 4, 5, 1 / 3.0}}};
      cell.result.timings = {{"fit_s", {0.25, 1e-9}}};
    }
    results.cells.push_back(cell);
  }
  return results;
}

std::string as_text(const CellRecord& cell) {
  return json_text(to_json(cell)) + json_text(to_json(cell.result)) + json_text(to_json(cell.result.timings));
}

TEST(ResultsH5, ReadsBackWhatWasWritten) {
  TemporaryFolder folder;
  const RunResults results = rich_results();
  write_results_h5(results, folder.path() / "r.h5");
  const RunResults back = read_results_h5(folder.path() / "r.h5");
  EXPECT_EQ(back.title, results.title);
  EXPECT_EQ(back.description, results.description);
  EXPECT_EQ(back.study_text, results.study_text);
  EXPECT_EQ(back.study_digest, results.study_digest);
  EXPECT_EQ(back.provenance, results.provenance);
  ASSERT_EQ(back.cells.size(), results.cells.size());
  for (std::size_t i = 0; i < results.cells.size(); ++i)
    EXPECT_EQ(as_text(back.cells[i]), as_text(results.cells[i]));
}

TEST(ResultsH5, SameResultsGiveTheSameBytes) {
  TemporaryFolder folder;
  write_results_h5(rich_results(), folder.path() / "a.h5");
  write_results_h5(rich_results(), folder.path() / "b.h5");
  EXPECT_EQ(read_text(folder.path() / "a.h5"), read_text(folder.path() / "b.h5"));
}

TEST(ResultsH5, HoldsARunWithoutCells) {
  TemporaryFolder folder;
  RunResults none;
  none.title = "none";
  write_results_h5(none, folder.path() / "r.h5");
  EXPECT_TRUE(read_results_h5(folder.path() / "r.h5").cells.empty());
}

TEST(ResultsH5, RefusesOtherFiles) {
  TemporaryFolder folder;
  DatasetWriter writer(DatasetKind::samples, "s", "t", "src", "none");
  writer.array("x", std::vector<double>{1}, {1, 1});
  writer.save(folder.path() / "samples.h5");
  EXPECT_THROW(read_results_h5(folder.path() / "samples.h5"), DatasetError);
  std::ofstream(folder.path() / "text.h5") << "not HDF5";
  EXPECT_THROW(read_results_h5(folder.path() / "text.h5"), DatasetError);
}

TEST(ResultsCsv, QuotesTextAndKeepsEveryBit) {
  TemporaryFolder folder;
  write_csv(rich_results(), folder.path() / "csv");
  const std::string table = read_text(folder.path() / "csv" / "one.thing.csv");
  EXPECT_THAT(table,
              testing::StartsWith(
                  "cell_id,dataset,options,label,guesser,repetition,seed,outcome,reason,error,gap\r\n"));
  EXPECT_THAT(table, testing::HasSubstr("\"m, or \"\"n\"\" + other\""));
  EXPECT_THAT(table, testing::HasSubstr("failed,\"it broke,\nbadly\",,\r\n"));
  EXPECT_THAT(table, testing::HasSubstr(",18446744073709551600,ok,,0.1,nan\r\n"));
  EXPECT_THAT(read_text(folder.path() / "csv" / "other.thing.csv"), testing::HasSubstr(",ok,,2.1,inf\r\n"));
  EXPECT_THAT(read_text(folder.path() / "csv" / "timings.csv"), testing::HasSubstr("fit_s,1,1e-09\r\n"));
  EXPECT_THAT(read_text(folder.path() / "csv" / "curves.csv"), testing::HasSubstr(",c,3,6.5\r\n"));
}

}  // namespace
}  // namespace borel::test
