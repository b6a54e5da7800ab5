#include "dataset/dataset.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <thread>

#include "dataset/dataset_writer.hpp"
#include "dataset/recipes.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

DatasetWriter small_samples() {
  DatasetWriter writer(DatasetKind::samples, "small", "Three numbers", "this test", "none", 7);
  writer.array<double>("x", {1.0, 2.5, -3.0}, {3, 1});
  writer.array<std::int64_t>("split/train", {0, 2}, {2});
  writer.attribute("x", "units", std::string("µm"));
  writer.attribute("truth", "entropy_nats", 0.25);
  return writer;
}

template <class F>
std::string message_of(F&& action) {
  try {
    action();
  } catch (const DatasetError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Dataset, ReadsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const auto digest = small_samples().save(folder / "small.h5");
  const auto dataset = Dataset::open(folder / "small.h5");
  EXPECT_THAT(dataset->doubles("x"), ElementsAre(1.0, 2.5, -3.0));
  EXPECT_THAT(dataset->integers("split/train"), ElementsAre(0, 2));
  EXPECT_THAT(dataset->shape("x"), ElementsAre(3, 1));
  EXPECT_EQ(dataset->attribute("x", "units"), "µm");
  EXPECT_EQ(dataset->number("truth", "entropy_nats"), 0.25);
  EXPECT_EQ(dataset->info().content_digest, digest);
  EXPECT_EQ(dataset->info().kind, DatasetKind::samples);
  EXPECT_EQ(dataset->info().seed, 7U);
  EXPECT_EQ(dataset->info().size_bytes, 40U);
  EXPECT_THAT(dataset->children("split"), ElementsAre("train"));
  EXPECT_FALSE(dataset->has("weights"));
}

TEST(Dataset, AllElementTypesSurviveTheRoundTrip) {
  const TemporaryFolder folder;
  DatasetWriter writer(DatasetKind::model, "types", "t", "s", "l");
  writer.array<float>("a/f", {1.5F, -2.25F}, {2});
  writer.array<std::uint8_t>("a/b/u", {0, 255, 7, 8}, {2, 2});
  writer.array<std::int64_t>("i", {INT64_MIN, INT64_MAX}, {1, 2});
  writer.array<double>("empty", {}, {0, 3});
  writer.array<double>("scalar", {4.5}, {});
  writer.save(folder / "types.h5");
  const auto dataset = Dataset::open(folder / "types.h5");
  EXPECT_THAT(dataset->floats("a/f"), ElementsAre(1.5F, -2.25F));
  EXPECT_THAT(dataset->bytes("a/b/u"), ElementsAre(0, 255, 7, 8));
  EXPECT_THAT(dataset->integers("i"), ElementsAre(INT64_MIN, INT64_MAX));
  EXPECT_TRUE(dataset->doubles("empty").empty());
  EXPECT_THAT(dataset->doubles("scalar"), ElementsAre(4.5));
}

TEST(Dataset, InMemoryEqualsFromFile) {
  const TemporaryFolder folder;
  small_samples().save(folder / "small.h5");
  const auto here = Dataset::from(small_samples());
  EXPECT_EQ(here->info().content_digest, Dataset::open(folder / "small.h5")->info().content_digest);
  EXPECT_THAT(here->doubles("x"), ElementsAre(1.0, 2.5, -3.0));
}

TEST(Dataset, UnknownNamesGetTheNearestOne) {
  const auto dataset = Dataset::from(small_samples());
  EXPECT_THAT(message_of([&] { dataset->doubles("split/trian"); }), HasSubstr("did you mean 'split/train'?"));
  EXPECT_THAT(message_of([&] { dataset->floats("x"); }),
              HasSubstr("elements of type float64, asked for float32"));
}

TEST(Dataset, AWholeNumberIsOneAndLiesInItsRange) {
  DatasetWriter writer = small_samples();
  for (const auto& [name, value] :
       {std::pair{"good", 7.0}, std::pair{"broken", 7.5}, std::pair{"large", 1e300},
        std::pair{"none", std::numeric_limits<double>::quiet_NaN()}})
    writer.attribute("", name, value);
  writer.attribute("", "stored", std::int64_t{7});
  writer.seal();
  const auto dataset = Dataset::from(writer);
  EXPECT_EQ(dataset->integer("", "good", 7, 7), 7);
  EXPECT_EQ(dataset->integer("", "stored", 0, 10), 7);
  EXPECT_THAT(message_of([&] { dataset->integer("", "stored", 8, 10); }),
              HasSubstr("'stored' of object / must be a whole number from 8 to 10, it is 7"));
  for (const char* name : {"broken", "large", "none"})
    EXPECT_THROW(dataset->integer("", name, 0, 1LL << 53), DatasetError) << name;
}

TEST(Dataset, ManyThreadsReadOneArray) {
  const TemporaryFolder folder;
  DatasetWriter writer(DatasetKind::model, "wide", "t", "s", "l");
  for (int i = 0; i < 16; ++i) {
    std::vector<double> values(10000, i);
    writer.array(fmt::format("a{}", i), std::move(values), {100, 100});
  }
  writer.save(folder / "wide.h5");
  h5::Reader reader(folder / "wide.h5");
  const auto dataset = Dataset::open(folder / "wide.h5");
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 16; ++i) {
        std::vector<double> rows(300);
        reader.read_rows<double>(fmt::format("a{}", i), 7, rows);
        wrong += rows[5] != i || dataset->doubles(fmt::format("a{}", i))[9999] != i;
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(Dataset, WriterLeavesNothingBehindWhenItFails) {
  const TemporaryFolder folder;
  {
    h5::Writer writer(folder / "half.h5");
    writer.array<double>("x", std::vector<double>{1, 2}, {2});
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THAT(message_of([&] { h5::Writer writer(folder / "no/such/folder.h5"); }),
              HasSubstr("does the folder exist"));
}

TEST(Dataset, StringsAndListsSurvive) {
  const TemporaryFolder folder;
  {
    h5::Writer writer(folder / "s.h5");
    writer.strings("names", std::vector<std::string>{"", "Émile", "Borel"}, {3});
    writer.attribute("names", "axes", std::vector<std::string>{"a", "bc"});
    writer.attribute("", "v", std::vector<double>{1, 2});
    writer.attribute("", "n", std::int64_t{3});
    writer.commit();
  }
  const h5::Reader reader(folder / "s.h5");
  EXPECT_THAT(reader.read_strings("names"), ElementsAre("", "Émile", "Borel"));
  EXPECT_EQ(std::get<std::vector<std::string>>(reader.object("names").attributes.at("axes")),
            (std::vector<std::string>{"a", "bc"}));
  EXPECT_EQ(reader.number_attribute("", "n"), 3);
  EXPECT_THAT(reader.children(""), ElementsAre("names"));
}

TEST(FindDataset, NamesTheCommandOrTheNearestId) {
  const TemporaryFolder folder;
  ::setenv("BOREL_DATA", folder.path().c_str(), 1);
  EXPECT_THAT(message_of([] { find_dataset("galaxies"); }), HasSubstr("run: borel data make galaxies"));
  EXPECT_THAT(message_of([] { find_dataset("galaxis"); }), HasSubstr("did you mean 'galaxies'?"));
  EXPECT_THAT(message_of([] { find_dataset("./nothing.h5"); }), HasSubstr("no such file"));
  const auto made = make_dataset("galaxies");
  EXPECT_FALSE(made.was_there);
  EXPECT_TRUE(make_dataset("galaxies").was_there);
  const auto dataset = find_dataset("galaxies");
  EXPECT_EQ(dataset, find_dataset("galaxies"));
  EXPECT_EQ(dataset->info().content_digest, made.content_digest);
  EXPECT_EQ(find_dataset(made.file.string())->info().id, "galaxies");
  ::unsetenv("BOREL_DATA");
}

TEST(Recipes, GalaxiesAreThePublishedValues) {
  const auto dataset = Dataset::from(run_recipe(*find_recipe("galaxies")));
  const auto x = dataset->doubles("x");
  ASSERT_EQ(x.size(), 82U);
  double sum = 0;
  for (double value : x) sum += value;
  EXPECT_LE(std::abs(sum / 82 - 20.82817), 5e-6);
  EXPECT_EQ(x.front(), 9.172);
  EXPECT_EQ(x.back(), 34.279);
}

}  // namespace
}  // namespace borel
