#include "dataset/r_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "borel/error.hpp"
#include "dataset/distribution_package.hpp"
#include "dataset/inflate.hpp"

namespace borel {
namespace {

// Codes of "R Internals"; the rest does not occur in what we read.
enum RType : int {
  k_symbol = 1,
  k_pairlist = 2,
  k_char = 9,
  k_logical = 10,
  k_integer = 13,
  k_string = 16,
  k_list = 19,
  k_nil = 254,
  k_reference = 255,
};
constexpr int k_has_attributes = 1 << 9;
constexpr int k_has_tag = 1 << 10;
constexpr int k_depth_cap = 100;

struct RValue {
  int type = k_nil;
  std::string text;                // char, symbol
  std::vector<std::int32_t> ints;  // integer, logical
  std::vector<RValue> items;       // string, list, pairlist
  std::vector<std::string> names;  // list: attribute "names"; pairlist: tags
};

class Unserializer {
 public:
  Unserializer(std::string_view bytes, std::string who) : bytes_(bytes), who_(std::move(who)) {
    if (!bytes_.starts_with("X\n")) fail("not in XDR format");
    at_ = 2;
    const int version = integer();
    integer();                         // R version that wrote it
    integer();                         // oldest R version that reads it
    if (version == 3) take(length());  // native encoding
  }

  RValue value(int depth = 0) {
    if (depth > k_depth_cap) fail("nested too deep");
    const int flags = integer();
    RValue result;
    result.type = flags & 0xFF;
    switch (result.type) {
      case k_nil:
        break;
      case k_reference: {
        const int packed = flags >> 8;
        const auto index = static_cast<std::size_t>(packed != 0 ? packed : integer());
        if (index == 0 || index > symbols_.size()) fail("reference to nothing");
        result.type = k_symbol;
        result.text = symbols_[index - 1];
        break;
      }
      case k_symbol:
        result.text = value(depth + 1).text;
        symbols_.push_back(result.text);
        break;
      case k_char: {
        const int n = integer();
        if (n >= 0) result.text = take(static_cast<std::size_t>(n));
        break;
      }
      case k_logical:
      case k_integer:
        for (std::size_t n = length(4); n > 0; --n) result.ints.push_back(integer());
        break;
      case k_string:
      case k_list:
        for (std::size_t n = length(4); n > 0; --n) result.items.push_back(value(depth + 1));
        break;
      case k_pairlist:
        pairs(flags, result, depth);
        return result;
      default:
        fail(fmt::format("object type {} is not supported", result.type));
    }
    if ((flags & k_has_attributes) && result.type != k_char && result.type != k_symbol)
      take_names(value(depth + 1), result);
    return result;
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw DatasetError(fmt::format("{}: serialised R data: {} (at byte {})", who_, what, at_));
  }

  std::string take(std::size_t n) {
    if (n > bytes_.size() - at_) fail("ends too early");
    at_ += n;
    return std::string(bytes_.substr(at_ - n, n));
  }

  std::int32_t integer() {
    const std::string four = take(4);
    std::uint32_t number = 0;
    for (char byte : four) number = number << 8 | static_cast<unsigned char>(byte);
    return static_cast<std::int32_t>(number);
  }

  // An element takes at least `least_bytes` each, so a length that the file cannot hold is refused before
  // use.
  std::size_t length(std::size_t least_bytes = 1) {
    const std::int32_t n = integer();
    if (n < 0 || static_cast<std::size_t>(n) > (bytes_.size() - at_) / least_bytes) fail("impossible length");
    return static_cast<std::size_t>(n);
  }

  // A pairlist is written as a chain of cells, each after the other: a loop, not a recursion.
  void pairs(int flags, RValue& result, int depth) {
    while ((flags & 0xFF) == k_pairlist) {
      if (flags & k_has_attributes) value(depth + 1);
      result.names.push_back(flags & k_has_tag ? value(depth + 1).text : "");
      result.items.push_back(value(depth + 1));
      flags = integer();
    }
    if ((flags & 0xFF) != k_nil) fail("pairlist without end");
  }

  static void take_names(const RValue& attributes, RValue& owner) {
    for (std::size_t i = 0; i < std::min(attributes.items.size(), attributes.names.size()); ++i)
      if (attributes.names[i] == "names")
        for (const RValue& name : attributes.items[i].items) owner.names.push_back(name.text);
  }

  std::string_view bytes_;
  std::string who_;
  std::size_t at_ = 0;
  std::vector<std::string> symbols_;
};

const RValue& item(const RValue& list, std::string_view name, const std::string& who) {
  const auto found = std::find(list.names.begin(), list.names.end(), name);
  const auto index = static_cast<std::size_t>(found - list.names.begin());
  if (found == list.names.end() || index >= list.items.size())
    throw DatasetError(fmt::format("{}: no variable '{}'{}", who, name, did_you_mean(name, list.names)));
  return list.items[index];
}

}  // namespace

std::vector<std::string> read_r_strings(const std::filesystem::path& base, std::string_view name) {
  const std::string index_file = base.string() + ".rdx", data_file = base.string() + ".rdb";
  const std::string index_bytes = inflated(read_file(index_file), index_file);
  const RValue index = Unserializer(index_bytes, index_file).value();
  const RValue& place = item(item(index, "variables", index_file), name, index_file);
  const std::string data = read_file(data_file);
  constexpr std::int32_t prefix = 4;
  if (place.ints.size() != 2 || place.ints[0] < 0 || place.ints[1] <= prefix ||
      static_cast<std::size_t>(place.ints[0]) + static_cast<std::size_t>(place.ints[1]) > data.size())
    throw DatasetError(fmt::format("{}: variable '{}' lies outside {}", index_file, name, data_file));
  const std::string packed = data.substr(static_cast<std::size_t>(place.ints[0] + prefix),
                                         static_cast<std::size_t>(place.ints[1] - prefix));
  const std::string bytes = inflated(packed, data_file);
  const RValue value = Unserializer(bytes, data_file).value();
  if (value.type != k_string)
    throw DatasetError(fmt::format("{}: '{}' is no character vector", data_file, name));
  std::vector<std::string> lines;
  for (const RValue& line : value.items) lines.push_back(line.text);
  return lines;
}

}  // namespace borel
