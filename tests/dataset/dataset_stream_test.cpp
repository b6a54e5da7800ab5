// Data larger than memory: arrays that are made as they are written, and samples read block by block.
#include "dataset/dataset_stream.hpp"

#include <atomic>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "borel/error.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

using testing::HasSubstr;

double value_at(std::int64_t i) { return static_cast<double>(i * i % 1009) - 0.25; }

GeneratedDoubles values() {
  return {[](std::int64_t first, std::span<double> out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = value_at(first + static_cast<std::int64_t>(i));
  }};
}

DatasetWriter generated(std::int64_t rows, std::int64_t columns, bool weighted = false) {
  DatasetWriter writer(DatasetKind::samples, "generated", "Generated", "this test", "none");
  writer.array("x", values(), {rows, columns});
  if (weighted) writer.array("weights", std::vector<double>(static_cast<std::size_t>(rows), 2.0), {rows});
  return writer;
}

std::vector<double> all_of(SampleStream& stream, std::size_t* n_blocks = nullptr) {
  std::vector<double> all;
  for (Samples block = stream.next(); block.n_samples() > 0; block = stream.next()) {
    for (index_t i = 0; i < block.n_samples(); ++i)
      for (index_t d = 0; d < block.n_dims(); ++d) all.push_back(block.x(i, d));
    if (n_blocks) ++*n_blocks;
  }
  return all;
}

std::vector<double> expected(std::int64_t n) {
  std::vector<double> list;
  for (std::int64_t i = 0; i < n; ++i) list.push_back(value_at(i));
  return list;
}

TEST(GeneratedDoubles, HaveTheDigestAndTheValuesOfTheSameArray) {
  const TemporaryFolder folder;
  constexpr std::int64_t k_rows = 1'500'000;
  const std::string digest = generated(k_rows, 1).save(folder / "generated.h5");
  DatasetWriter whole(DatasetKind::samples, "generated", "Generated", "this test", "none");
  whole.array("x", expected(k_rows), {k_rows, 1});
  EXPECT_EQ(digest, whole.seal());
  const auto dataset = Dataset::open(folder / "generated.h5");
  EXPECT_EQ(dataset->info().content_digest, digest);
  const std::span<const double> read = dataset->doubles("x");
  EXPECT_EQ(std::vector<double>(read.begin(), read.end()), expected(k_rows));
  const auto small = Dataset::from(generated(100, 3));
  const std::span<const double> in_memory = small->doubles("x");
  EXPECT_EQ(std::vector<double>(in_memory.begin(), in_memory.end()), expected(300));
}

TEST(GeneratedDoubles, AreCheckedWhenSealed) {
  DatasetWriter writer(DatasetKind::samples, "bad", "Bad", "this test", "none");
  writer.array("x", GeneratedDoubles{[](std::int64_t, std::span<double> out) {
                 std::fill(out.begin(), out.end(), std::numeric_limits<double>::infinity());
               }},
               {10, 1});
  EXPECT_THROW(writer.seal(), DatasetError);
}

TEST(DatasetStream, GivesEveryRowOnceAndAgainAfterRewind) {
  const TemporaryFolder folder;
  constexpr std::int64_t k_rows = 2'500'000;
  generated(k_rows, 1).save(folder / "long.h5");
  for (const auto& dataset : {Dataset::open(folder / "long.h5"), Dataset::from(generated(k_rows, 1))}) {
    DatasetStream stream(dataset);
    EXPECT_EQ(stream.n_samples(), k_rows);
    EXPECT_EQ(stream.n_dims(), 1);
    std::size_t n_blocks = 0;
    EXPECT_EQ(all_of(stream, &n_blocks), expected(k_rows));
    EXPECT_GE(n_blocks, 2U);
    EXPECT_EQ(stream.next().n_samples(), 0);
    stream.rewind();
    EXPECT_EQ(stream.next().x(1, 0), value_at(1));  // left while the reader is ahead
    stream.rewind();
    EXPECT_EQ(all_of(stream), expected(k_rows));
  }
}

TEST(DatasetStream, KnowsColumnsWeightsAndLimits) {
  const auto dataset = Dataset::from(generated(1000, 3, true));
  DatasetStream stream(dataset, 10);
  const Samples block = stream.next();
  EXPECT_EQ(block.n_samples(), 10);
  EXPECT_EQ(block.n_dims(), 3);
  EXPECT_EQ(block.x(9, 2), value_at(29));
  EXPECT_EQ(block.weights.size(), 10U);
  EXPECT_EQ(block.weights[9], 2);
  EXPECT_EQ(stream.next().n_samples(), 0);
  EXPECT_EQ(DatasetStream(dataset, 0).next().n_samples(), 0);
  EXPECT_THROW(DatasetStream(dataset, 1001), DatasetError);
}

TEST(DatasetStream, EndsEarlyWithoutWaiting) {
  const auto dataset = Dataset::from(generated(6'000'000, 1));
  for (int blocks = 0; blocks < 3; ++blocks) {
    DatasetStream stream(dataset);
    for (int i = 0; i < blocks; ++i) stream.next();
  }
}

TEST(DatasetStream, PassesErrorsOn) {
  const TemporaryFolder folder;
  constexpr std::int64_t k_rows = 10'000'000;  // larger than what is verified on opening
  const std::filesystem::path file = folder / "damaged.h5";
  generated(k_rows, 1).save(file);
  {
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(std::filesystem::file_size(file) / 2));
    bytes.put('\x5a').put('\x5b').put('\x5c');
  }
  DatasetStream stream(Dataset::open(file));
  EXPECT_THAT(
      [&] {
        try {
          all_of(stream);
        } catch (const DatasetError& error) {
          return std::string(error.what());
        }
        return std::string("no error");
      }(),
      HasSubstr("damaged.h5"));

  const std::atomic<bool> stop{true};
  DatasetStream stopped(Dataset::from(generated(10, 1)), -1,
                        StopToken(&stop, StopToken::Clock::time_point::max()));
  EXPECT_THROW(stopped.next(), Stopped);
}

TEST(Dataset, ReadsRowsAndRefusesOthers) {
  const TemporaryFolder folder;
  generated(20, 3).save(folder / "rows.h5");
  for (const auto& dataset : {Dataset::open(folder / "rows.h5"), Dataset::from(generated(20, 3))}) {
    std::vector<double> rows(6);
    dataset->read_rows("x", 4, rows);
    EXPECT_EQ(rows, (std::vector<double>{value_at(12), value_at(13), value_at(14), value_at(15), value_at(16),
                                         value_at(17)}));
    EXPECT_THROW(dataset->read_rows("x", 19, rows), DatasetError);
    EXPECT_THROW(dataset->read_rows("x", -1, rows), DatasetError);
    EXPECT_THROW(dataset->read_rows("y", 0, rows), DatasetError);
  }
}

}  // namespace
}  // namespace borel
