// Reads an R data pair that this test writes by the published format: a list of two character vectors.
#include "dataset/r_data.hpp"
#include "dataset/temporary_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>

#include "borel/error.hpp"

namespace borel {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
std::string r_char(std::string_view text) {
  return big_endian(9 | 1 << 18) + big_endian(static_cast<std::uint32_t>(text.size())) + std::string(text);
}
std::string r_strings(const std::vector<std::string>& texts, std::uint32_t flags = 0) {
  std::string bytes = big_endian(16 | flags) + big_endian(static_cast<std::uint32_t>(texts.size()));
  for (const auto& text : texts) bytes += r_char(text);
  return bytes;
}
std::string serialised(const std::string& object) {
  return "X\n" + big_endian(2) + big_endian(0x40202) + big_endian(0x20300) + object;
}
std::string compressed(const std::string& bytes) {
  uLongf size = compressBound(bytes.size());
  std::string out(size, '\0');
  compress(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
           bytes.size());
  return out.substr(0, size);
}
std::string named(std::uint32_t type_and_length_flags, const std::string& items,
                  const std::vector<std::string>& names) {
  return big_endian(type_and_length_flags) + items + big_endian(2 | 1 << 10) + big_endian(1) +
         r_char("names") + r_strings(names) + big_endian(254);
}

class RData : public testing::Test {
 protected:
  void SetUp() override {
    const std::string object = serialised(r_strings({"First line", "", "caf\xC3\xA9"}));
    const std::string piece = big_endian(static_cast<std::uint32_t>(object.size())) + compressed(object);
    const std::string place =
        big_endian(13) + big_endian(2) + big_endian(5) + big_endian(static_cast<std::uint32_t>(piece.size()));
    const std::string variables = named(19 | 1 << 9, big_endian(1) + place, {"novel"});
    const std::string index = named(19 | 1 << 9, big_endian(1) + variables, {"variables"});
    write("d.rdx", compressed(serialised(index)));
    write("d.rdb", "?????" + piece);
  }
  void write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary | std::ios::trunc) << bytes;
  }
  std::string read(const std::string& name) {
    std::ifstream stream(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  std::string message(std::string_view name) {
    try {
      read_r_strings(folder_ / "d", name);
    } catch (const DatasetError& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

TEST_F(RData, ReadsACharacterVector) {
  EXPECT_THAT(read_r_strings(folder_ / "d", "novel"), ElementsAre("First line", "", "caf\xC3\xA9"));
}

TEST_F(RData, UnknownVariableGetsTheNearest) {
  EXPECT_THAT(message("novels"), HasSubstr("did you mean 'novel'?"));
}

TEST_F(RData, AttributesWithoutNamesNameNothing) {
  const std::string list = big_endian(19 | 1 << 9) + big_endian(1) + r_strings({"x"});
  write("d.rdx", compressed(serialised(list + r_strings({"names"}))));  // no pairlist: its items have no tags
  EXPECT_THAT(message("novel"), HasSubstr("no variable"));
}

TEST_F(RData, DamageIsRefused) {
  const std::string data = read("d.rdb");
  write("d.rdb", data.substr(0, data.size() - 4));
  EXPECT_THAT(message("novel"), HasSubstr("lies outside"));
  std::string flipped = data;
  flipped[20] = static_cast<char>(flipped[20] ^ 0x55);
  write("d.rdb", flipped);
  EXPECT_NE(message("novel"), "no error");
  write("d.rdx", "nonsense");
  EXPECT_THAT(message("novel"), HasSubstr("damaged compressed data"));
  write("d.rdx", compressed(serialised(big_endian(19) + big_endian(0x7FFFFFFF))));
  EXPECT_THAT(message("novel"), HasSubstr("impossible length"));
}

}  // namespace
}  // namespace borel
