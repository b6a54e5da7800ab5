#include "dataset/import_export.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <fstream>
#include <random>

#include "dataset/csv.hpp"
#include "dataset/npy.hpp"
#include "dataset/png.hpp"
#include "dataset/temporary_folder.hpp"

namespace borel {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

template <class F>
std::string message_of(F&& action) {
  try {
    action();
  } catch (const DatasetError& error) {
    return error.what();
  }
  return "no error";
}

void write(const std::filesystem::path& file, std::string_view text) {
  std::ofstream(file, std::ios::binary) << text;
}

std::string read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Csv, ReadsHeadersCommentsAndSeparators) {
  const auto table = parse_csv("# note\nname;\"b\"\r\n1;2\n\n-3e2;+4.5\n", "t");
  EXPECT_THAT(table.columns, ElementsAre("name", "b"));
  EXPECT_THAT(table.values, ElementsAre(1, 2, -300, 4.5));
  EXPECT_EQ(table.rows, 2);
  EXPECT_THAT(parse_csv("1,2\n3,4", "t").columns, ElementsAre("column_1", "column_2"));
  EXPECT_EQ(table.column("2", "t"), 1U);
}

TEST(Csv, ErrorsNameFileLineAndField) {
  EXPECT_THAT(message_of([] { parse_csv("a,b\n1,2\n3\n", "my.csv"); }),
              HasSubstr("my.csv:3: 1 fields, but the first line has 2"));
  EXPECT_THAT(message_of([] { parse_csv("a,b\n1,2\n3,x\n", "my.csv"); }),
              AllOf(HasSubstr("my.csv:3"), HasSubstr("field 2 (b) is 'x'")));
  EXPECT_THAT(message_of([] { parse_csv("a,b\n1,\n", "my.csv"); }), HasSubstr("missing values"));
  EXPECT_THAT(message_of([] { parse_csv("a\nnan\n", "my.csv"); }), HasSubstr("not a finite number"));
  EXPECT_THAT(message_of([] { parse_csv("a\n1e999\n", "my.csv"); }), HasSubstr("my.csv:2"));
  EXPECT_THAT(message_of([] { parse_csv("# only\n", "my.csv"); }), HasSubstr("no row"));
  EXPECT_THAT(message_of([] { parse_csv("waiting,b\n1,2\n", "t").column("wating", "t"); }),
              HasSubstr("did you mean 'waiting'?"));
}

TEST(Csv, WrittenNumbersReadBackTheSame) {
  const std::vector<double> values{0.1, 1e-300, -2.0 / 3, 12345678.9};
  const std::string text = csv_text(std::vector<std::string>{"a", "b"}, values);
  EXPECT_EQ(parse_csv(text, "t").values, values);
}

TEST(Npy, RoundTripsEveryElementType) {
  const std::vector<double> d{1.5, -2, 3, 4, 5, 6};
  EXPECT_EQ(std::get<std::vector<double>>(parse_npy(npy_bytes<double>(d, {2, 3}), "t").values), d);
  const std::vector<float> f{1.5F};
  const auto back = parse_npy(npy_bytes<float>(f, {1}), "t");
  EXPECT_EQ(std::get<std::vector<float>>(back.values), f);
  EXPECT_THAT(back.shape, ElementsAre(1));
  const std::vector<std::int64_t> i{INT64_MIN, 7};
  EXPECT_EQ(std::get<std::vector<std::int64_t>>(parse_npy(npy_bytes<std::int64_t>(i, {2, 1}), "t").values),
            i);
  const std::vector<std::uint8_t> u{0, 255};
  EXPECT_EQ(std::get<std::vector<std::uint8_t>>(parse_npy(npy_bytes<std::uint8_t>(u, {2}), "t").values), u);
}

TEST(Npy, ConvertsBigEndianSmallIntegers) {
  std::string header = "{'descr': '>i2', 'fortran_order': False, 'shape': (2,), }\n";
  std::string bytes = std::string("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  bytes += header;
  bytes += std::string("\x01\x00\xFF\xFE", 4);
  EXPECT_THAT(std::get<std::vector<std::int64_t>>(parse_npy(bytes, "t").values), ElementsAre(256, -2));
}

TEST(Npy, RefusesDamage) {
  const std::string good = npy_bytes<double>(std::vector<double>{1, 2}, {2});
  EXPECT_THAT(message_of([&] { parse_npy("hello", "f.npy"); }), HasSubstr("not an NPY file"));
  for (const std::size_t size : {10, 11, 12})  // of version 2, whose header begins at byte 12
    EXPECT_THAT(message_of([&] { parse_npy(std::string("\x93NUMPY\x02\0\0\0\0\0", size), "f.npy"); }),
                HasSubstr("NPY header"));
  EXPECT_THAT(message_of([&] { parse_npy(good.substr(0, good.size() - 1), "f.npy"); }),
              HasSubstr("needs 2 elements of 8 bytes"));
  std::string fortran = good;
  fortran.replace(fortran.find("False"), 5, "True ");
  EXPECT_THAT(message_of([&] { parse_npy(fortran, "f.npy"); }), HasSubstr("Fortran order"));
  std::string complex = good;
  complex.replace(complex.find("<f8"), 3, "<c8");
  EXPECT_THAT(message_of([&] { parse_npy(complex, "f.npy"); }), HasSubstr("'<c8' is not supported"));
  std::string huge = good;
  huge.replace(huge.find("(2,), }"), 27, "(2305843009213693952,), }  ");
  EXPECT_THAT(message_of([&] { parse_npy(huge.substr(0, huge.size() - 16), "f.npy"); }),
              HasSubstr("0 bytes of values"));
  std::mt19937 random(3);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = good.substr(0, random() % (good.size() + 1));
    if (!bytes.empty()) bytes[random() % bytes.size()] = static_cast<char>(random());
    message_of([&] { parse_npy(bytes, "f.npy"); });  // any DatasetError will do, nothing else may happen
  }
}

std::string png_of(const Image& image) {
  png_image about{};
  about.version = PNG_IMAGE_VERSION;
  about.width = static_cast<png_uint_32>(image.width);
  about.height = static_cast<png_uint_32>(image.height);
  about.format = image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t size = 0;
  png_image_write_to_memory(&about, nullptr, &size, 0, image.pixels.data(), 0, nullptr);
  std::string bytes(size, '\0');
  png_image_write_to_memory(&about, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr);
  return bytes.substr(0, size);
}

Image test_image(std::int64_t channels) {
  Image image{5, 7, channels, {}};
  for (std::int64_t i = 0; i < 35 * channels; ++i) image.pixels.push_back(static_cast<std::uint8_t>(i * 37));
  return image;
}

TEST(Png, DecodesBitForBit) {
  for (std::int64_t channels : {1, 3}) {
    const Image image = test_image(channels), back = decode_png(png_of(image), "t");
    EXPECT_EQ(back.pixels, image.pixels);
    EXPECT_EQ(back.height, 5);
    EXPECT_EQ(back.width, 7);
    EXPECT_EQ(back.channels, channels);
  }
}

TEST(Png, RefusesDamageWithoutCrashing) {
  const std::string good = png_of(test_image(3));
  EXPECT_THAT(message_of([&] { decode_png(good.substr(0, good.size() / 2), "f.png"); }),
              HasSubstr("f.png: PNG refused"));
  EXPECT_THAT(message_of([&] { decode_png("GIF89a", "f.png"); }), HasSubstr("PNG refused"));
  std::mt19937 random(4);
  int refused = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string bytes = good;
    bytes[random() % bytes.size()] = static_cast<char>(random());
    refused += message_of([&] { decode_png(bytes, "f.png"); }) != "no error";
  }
  EXPECT_GE(refused, 300);
}

class Import : public testing::Test {
 protected:
  ImportRequest request(DatasetKind kind, std::vector<std::string> inputs) {
    for (std::string& input : inputs) {
      const std::size_t equals = input.find('=');
      input = equals == std::string::npos
                  ? (folder_ / input).string()
                  : input.substr(0, equals + 1) + (folder_ / input.substr(equals + 1)).string();
    }
    ImportRequest made;
    made.kind = kind;
    made.id = "mine";
    made.inputs = std::move(inputs);
    return made;
  }
  TemporaryFolder folder_;
};

TEST_F(Import, CsvColumnBecomesSamplesAndComesOutAgain) {
  write(folder_ / "d.csv", "a,b\n1,10\n2,20.5\n");
  auto wanted = request(DatasetKind::samples, {"d.csv"});
  wanted.columns = {"b"};
  const auto dataset = Dataset::from(import_dataset(wanted));
  EXPECT_THAT(dataset->doubles("x"), ElementsAre(10, 20.5));
  EXPECT_THAT(dataset->shape("x"), ElementsAre(2, 1));
  const auto files = export_dataset(*dataset, {}, ExportFormat::csv, folder_ / "out");
  ASSERT_EQ(files.size(), 1U);
  EXPECT_EQ(read(files[0]), "x\n10\n20.5\n");
  const auto arrays = export_dataset(*dataset, {"x"}, ExportFormat::npy, folder_ / "out");
  EXPECT_THAT(std::get<std::vector<double>>(parse_npy(read(arrays[0]), "t").values), ElementsAre(10, 20.5));
  wanted.columns = {"c"};
  EXPECT_THAT(message_of([&] { import_dataset(wanted); }), HasSubstr("no column 'c'"));
}

TEST_F(Import, TextIsSplitIntoTrainAndTest) {
  write(folder_ / "t.txt", "0123456789");
  auto wanted = request(DatasetKind::tokens, {"t.txt"});
  wanted.test_share = 0.3;
  const auto dataset = Dataset::from(import_dataset(wanted));
  EXPECT_EQ(dataset->bytes("train").size(), 7U);
  EXPECT_THAT(dataset->bytes("test"), ElementsAre('7', '8', '9'));
}

TEST_F(Import, NumbersOfATextAreBytes) {
  write(folder_ / "good.csv", "0\n255\n7\n");
  const auto dataset = Dataset::from(import_dataset(request(DatasetKind::tokens, {"good.csv"})));
  EXPECT_THAT(dataset->bytes("train"), ElementsAre(0, 255));
  for (const char* bad : {"256", "-1", "0.5", "1e300"}) {
    write(folder_ / "bad.csv", std::string("1\n") + bad + "\n");
    EXPECT_THAT(message_of([&] { import_dataset(request(DatasetKind::tokens, {"bad.csv"})); }),
                HasSubstr("whole numbers from 0 to 255"))
        << bad;
  }
}

TEST_F(Import, PngFilesBecomeImages) {
  write(folder_ / "grey.png", png_of(test_image(1)));
  write(folder_ / "colour.png", png_of(test_image(3)));
  const auto dataset =
      Dataset::from(import_dataset(request(DatasetKind::images, {"grey.png", "colour.png"})));
  EXPECT_THAT(dataset->children(""), ElementsAre("colour", "grey"));
  EXPECT_THAT(dataset->shape("colour"), ElementsAre(5, 7, 3));
}

TEST_F(Import, QkvAndProblemsNeedArrayNames) {
  const std::vector<float> q{1, 2, 3, 4};
  write(folder_ / "q.npy", npy_bytes<float>(q, {2, 2}));
  EXPECT_THAT(message_of([&] { import_dataset(request(DatasetKind::qkv, {"q.npy"})); }),
              HasSubstr("<array>="));
  const auto dataset =
      Dataset::from(import_dataset(request(DatasetKind::qkv, {"q=q.npy", "k=q.npy", "v=q.npy"})));
  EXPECT_THAT(dataset->shape("k"), ElementsAre(1, 2, 2));
  write(folder_ / "x.csv", "1\n2\n3\n");
  auto problem = request(DatasetKind::problem, {"c=x.csv"});
  problem.attributes = {{"objective", "linear_entropy"}, {"epsilon", "0.5"}};
  EXPECT_EQ(Dataset::from(import_dataset(problem))->number("", "epsilon"), 0.5);
  problem.attributes.pop_back();
  EXPECT_THAT(message_of([&] { import_dataset(problem); }), HasSubstr("'epsilon'"));
}

TEST_F(Import, RefusesUnknownFilesAndKinds) {
  write(folder_ / "d.xlsx", "PK");
  EXPECT_THAT(message_of([&] { import_dataset(request(DatasetKind::samples, {"d.xlsx"})); }),
              HasSubstr("'.xlsx' is not one of"));
  EXPECT_THAT(message_of([&] { import_dataset(request(DatasetKind::samples, {"none.csv"})); }),
              HasSubstr("cannot open"));
  EXPECT_THAT(message_of([&] { import_dataset(request(DatasetKind::results, {"d.xlsx"})); }),
              HasSubstr("written by the program"));
}

}  // namespace
}  // namespace borel
