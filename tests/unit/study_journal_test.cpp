#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "study/journal.hpp"
#include "study/record_json.hpp"
#include "study_fakes.hpp"

namespace borel::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

void write_text(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

json cell(const std::string& id, double value) {
  CellResult result;
  result.metrics = {{"error", "nats", value, Direction::lower_is_better}};
  return {{"type", "cell"}, {"id", id}, {"at", "now"}, {"result", to_json(result)}};
}

double value_of(const Journal& journal, const std::string& id) {
  return journal.cells.at(id).result.metrics.at(0).value;
}

TEST(Journal, KeepsEveryBitOfEveryNumber) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  const std::vector<double> values = {0.1,
                                      -0.0,
                                      1 / 3.0,
                                      5e-324,
                                      1.7976931348623157e308,
                                      1e22,
                                      123456789.0,
                                      std::numeric_limits<double>::infinity(),
                                      -std::numeric_limits<double>::infinity(),
                                      std::numeric_limits<double>::quiet_NaN()};
  {
    JournalWriter writer(file);
    for (std::size_t i = 0; i < values.size(); ++i) writer.append(cell(std::to_string(i), values[i]));
  }
  const Journal journal = read_journal(file);
  EXPECT_TRUE(journal.damage.empty());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double back = value_of(journal, std::to_string(i));
    if (std::isnan(values[i]))
      EXPECT_TRUE(std::isnan(back));
    else
      EXPECT_EQ(std::memcmp(&back, &values[i], sizeof back), 0) << values[i] << " came back as " << back;
  }
}

TEST(Journal, KeepsCurvesPicturesAndText) {
  CellResult result;
  result.outcome = CellOutcome::failed;
  result.reason = "line one\nline \"two\" \\ \xC3\xA9";
  result.curves.push_back({"c", "x", "y", true, false, {1, 2}, {3, 4}, "d"});
  result.pictures.push_back({"p", "x", "y", 1, 2, {5, 6}});
  result.wall_s = 1.25;
  const CellResult back = cell_result_from(json::parse(json_text(to_json(result))));
  EXPECT_EQ(back.outcome, result.outcome);
  EXPECT_EQ(back.reason, result.reason);
  EXPECT_EQ(back.curves.at(0).y, result.curves.at(0).y);
  EXPECT_TRUE(back.curves.at(0).log_x);
  EXPECT_EQ(back.curves.at(0).reference_of, "d");
  EXPECT_EQ(back.pictures.at(0).n_cols, 2);
  EXPECT_EQ(back.pictures.at(0).values, result.pictures.at(0).values);
  EXPECT_EQ(back.wall_s, 1.25);
}

TEST(Journal, SurvivesMessagesThatAreNotUtf8) {
  TemporaryFolder folder;
  CellResult result;
  result.outcome = CellOutcome::failed;
  result.reason = "bad \xFF byte";
  JournalWriter writer(folder.path() / "j");
  writer.append({{"type", "cell"}, {"id", "a"}, {"at", "now"}, {"result", to_json(result)}});
  EXPECT_THAT(read_journal(folder.path() / "j").cells.at("a").result.reason, HasSubstr("byte"));
}

TEST(Journal, EveryLineIsJsonWithAChecksum) {
  const std::string line = journal_line(cell("a", 1));
  const json parsed = json::parse(line);
  EXPECT_EQ(parsed.at("crc32").get<std::string>().size(), 8U);
  EXPECT_EQ(parsed.at("record").at("id"), "a");
}

TEST(Journal, LeavesOutATornLastLineAndGoesOnAfterIt) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  const std::string first = journal_line(cell("a", 1)), second = journal_line(cell("b", 2));
  for (std::size_t keep = 1; keep < second.size(); ++keep) {
    write_text(file, first + second.substr(0, keep));
    const Journal torn = read_journal(file);
    EXPECT_EQ(torn.cells.size(), 1U);
    ASSERT_EQ(torn.damage.size(), 1U);
    EXPECT_THAT(torn.damage[0], HasSubstr(":2: the last line is torn"));
    JournalWriter(file).append(cell("c", 3));
    const Journal after = read_journal(file);
    EXPECT_TRUE(after.damage.empty());
    EXPECT_EQ(after.cells.size(), 2U);
    EXPECT_EQ(value_of(after, "c"), 3);
  }
}

TEST(Journal, NamesDamagedLinesInTheMiddleAndKeepsTheRest) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  const std::string second = journal_line(cell("b", 2));
  // Any single flipped bit of a line must be noticed; a flip that makes a newline splits the line in two.
  for (std::size_t byte = 0; byte + 1 < second.size(); ++byte)
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = second;
      damaged[byte] = static_cast<char>(damaged[byte] ^ (1 << bit));
      write_text(file, journal_line(cell("a", 1)) + damaged + journal_line(cell("c", 3)));
      const Journal journal = read_journal(file);
      EXPECT_GE(journal.damage.size(), 1U) << byte << " " << bit;
      EXPECT_THAT(journal.damage.at(0), HasSubstr(":2: "));
      EXPECT_EQ(journal.cells.count("a") + journal.cells.count("c"), 2U);
      EXPECT_EQ(journal.cells.size(), 2U);
    }
}

TEST(Journal, LaterRecordsReplaceEarlierOnesButKeepTimings) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  JournalWriter writer(file);
  writer.append(cell("a", 1));
  writer.append(
      {{"type", "timing"}, {"id", "a"}, {"timings", to_json(std::vector<Timing>{{"fit_s", {1, 2}}})}});
  writer.append(cell("a", 5));
  writer.append({{"type", "something later"}, {"id", "a"}});
  const Journal journal = read_journal(file);
  EXPECT_TRUE(journal.damage.empty());
  EXPECT_EQ(value_of(journal, "a"), 5);
  EXPECT_EQ(journal.cells.at("a").attempts, 2);
  EXPECT_EQ(journal.cells.at("a").result.timings.at(0).seconds.size(), 2U);
}

TEST(Journal, TakesRecordsFromManyThreads) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  constexpr int k_threads = 8, k_each = 25;
  {
    JournalWriter writer(file);
    std::vector<std::thread> threads;
    for (int t = 0; t < k_threads; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < k_each; ++i) writer.append(cell(fmt::format("{}-{}", t, i), t));
      });
    for (std::thread& thread : threads) thread.join();
  }
  const Journal journal = read_journal(file);
  EXPECT_TRUE(journal.damage.empty());
  EXPECT_EQ(journal.cells.size(), static_cast<std::size_t>(k_threads * k_each));
}

TEST(Journal, ARecordThatDoesNotFitOnTheDiskLeavesTheOthersWhole) {
  TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "journal.jsonl";
  JournalWriter writer(file);
  writer.append(cell("a", 1));
  const auto size = std::filesystem::file_size(file);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{size + 20, before.rlim_max};  // the next line is written in part
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
  EXPECT_THROW(writer.append(cell("b", 2)), Error);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(std::filesystem::file_size(file), size);
  writer.append(cell("c", 3));  // there is room again
  const Journal journal = read_journal(file);
  EXPECT_TRUE(journal.damage.empty());
  EXPECT_EQ(journal.cells.size(), 2U);
  EXPECT_EQ(value_of(journal, "c"), 3);
}

std::string message_of_append(JournalWriter& writer) {
  try {
    writer.append(cell("a", 1));
  } catch (const Error& error) {
    return error.what();
  }
  return "appended";
}

TEST(Journal, WritesNothingMoreAfterAFailedFlush) {
  TemporaryFolder folder;
  const std::filesystem::path pipe = folder.path() / "pipe";  // takes what is written, but cannot be flushed
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  JournalWriter writer(pipe);
  EXPECT_THAT(message_of_append(writer), HasSubstr("cannot be flushed to the disk"));
  EXPECT_THAT(message_of_append(writer), HasSubstr("nothing more is written"));
}

TEST(Journal, WritesNothingMoreWhenHalfARecordStays) {
  JournalWriter writer("/dev/full");
  EXPECT_THAT(message_of_append(writer), HasSubstr("No space left"));
  EXPECT_THAT(message_of_append(writer), HasSubstr("cannot be cut off"));
}

TEST(Journal, MissingFileIsEmpty) {
  TemporaryFolder folder;
  const Journal journal = read_journal(folder.path() / "none");
  EXPECT_FALSE(journal.has_plan);
  EXPECT_TRUE(journal.cells.empty());
}

TEST(RunLock, KeepsASecondProgramOut) {
  TemporaryFolder folder;
  const RunFolder run{folder.path() / "run"};
  {
    const RunLock lock(run);
    try {
      const RunLock second(run);
      FAIL() << "two locks at once";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::to_string(::getpid())));
    }
  }
  EXPECT_NO_THROW(RunLock{run});
}

}  // namespace
}  // namespace borel::test
