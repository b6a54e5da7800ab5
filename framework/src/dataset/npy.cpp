#include "dataset/npy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace borel {
namespace {

constexpr std::string_view k_magic = "\x93NUMPY";

// The value of one key of the header, a Python dictionary of literals that NumPy writes in a fixed style.
std::string_view header_value(std::string_view header, std::string_view key, std::string_view who) {
  const std::size_t found = header.find(fmt::format("'{}':", key));
  if (found == std::string_view::npos)
    throw DatasetError(fmt::format("{}: damaged NPY header: no key '{}'", who, key));
  std::string_view rest = header.substr(found + key.size() + 3);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const std::size_t end = rest.starts_with('(') ? rest.find(')') : rest.find_first_of(",}");
  if (end == std::string_view::npos) throw DatasetError(fmt::format("{}: damaged NPY header", who));
  return rest.substr(0, end + (rest.starts_with('(') ? 1 : 0));
}

h5::Shape parse_shape(std::string_view text, std::string_view who) {
  h5::Shape shape;
  std::size_t at = 1;
  while (at < text.size()) {
    at = text.find_first_of("0123456789", at);
    if (at == std::string_view::npos) break;
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), extent);
    if (error != std::errc()) throw DatasetError(fmt::format("{}: NPY shape {} is out of range", who, text));
    shape.push_back(extent);
    at = static_cast<std::size_t>(end - text.data());
  }
  return shape;
}

template <class Stored>
Stored element(const char* bytes, bool swap) {
  char ordered[sizeof(Stored)];
  std::memcpy(ordered, bytes, sizeof(Stored));
  if (swap) std::reverse(ordered, ordered + sizeof(Stored));
  Stored value;
  std::memcpy(&value, ordered, sizeof(Stored));
  return value;
}

template <class Stored, class Kept>
void read_elements(std::string_view data, std::int64_t count, bool swap, std::string_view who,
                   NpyArray& out) {
  const auto n = static_cast<std::size_t>(count);
  if (data.size() / sizeof(Stored) != n || data.size() % sizeof(Stored) != 0)
    throw DatasetError(fmt::format("{}: {} bytes of values, but shape [{}] needs {} elements of {} bytes",
                                   who, data.size(), h5::shape_text(out.shape), n, sizeof(Stored)));
  std::vector<Kept> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    const Stored value = element<Stored>(data.data() + i * sizeof(Stored), swap);
    if constexpr (std::is_same_v<Stored, std::uint64_t>)
      if (value > static_cast<std::uint64_t>(INT64_MAX))
        throw DatasetError(fmt::format("{}: element {} is {}: too large for int64", who, i, value));
    values[i] = static_cast<Kept>(value);
  }
  out.type = h5::element_type_of<Kept>();
  out.values = std::move(values);
}

}  // namespace

NpyArray parse_npy(std::string_view bytes, std::string_view who) {
  if (!bytes.starts_with(k_magic) || bytes.size() < 10)
    throw DatasetError(fmt::format("{}: not an NPY file", who));
  const int version = static_cast<unsigned char>(bytes[6]);
  if (version < 1 || version > 3) throw DatasetError(fmt::format("{}: unknown NPY version {}", who, version));
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  std::size_t header_size = 0;
  for (std::size_t i = length_bytes; i-- > 0 && bytes.size() >= 8 + length_bytes;)
    header_size = header_size << 8 | static_cast<unsigned char>(bytes[8 + i]);
  if (bytes.size() < 8 + length_bytes || header_size > bytes.size() - (8 + length_bytes))
    throw DatasetError(fmt::format("{}: the NPY header ends too early", who));
  const std::string_view header = bytes.substr(8 + length_bytes, header_size);
  const std::string_view data = bytes.substr(8 + length_bytes + header_size);

  std::string_view descr = header_value(header, "descr", who);
  if (header_value(header, "fortran_order", who).starts_with("True"))
    throw DatasetError(
        fmt::format("{}: the array is in Fortran order; save numpy.ascontiguousarray(array)", who));
  NpyArray array;
  array.shape = parse_shape(header_value(header, "shape", who), who);
  std::int64_t count = 1;
  for (std::int64_t extent : array.shape)
    if (__builtin_mul_overflow(count, extent, &count))
      throw DatasetError(fmt::format("{}: shape [{}] is too large", who, h5::shape_text(array.shape)));
  if (descr.size() >= 2) descr = descr.substr(1, descr.size() - 2);  // the quotes
  const bool swap = descr.starts_with('>');
  const std::string_view type = descr.empty() ? descr : descr.substr(1);
  using Reader = void (*)(std::string_view, std::int64_t, bool, std::string_view, NpyArray&);
  constexpr std::pair<std::string_view, Reader> readers[] = {
      {"f8", read_elements<double, double>},
      {"f4", read_elements<float, float>},
      {"u1", read_elements<std::uint8_t, std::uint8_t>},
      {"i8", read_elements<std::int64_t, std::int64_t>},
      {"i4", read_elements<std::int32_t, std::int64_t>},
      {"i2", read_elements<std::int16_t, std::int64_t>},
      {"i1", read_elements<std::int8_t, std::int64_t>},
      {"u8", read_elements<std::uint64_t, std::int64_t>},
      {"u4", read_elements<std::uint32_t, std::int64_t>},
      {"u2", read_elements<std::uint16_t, std::int64_t>},
  };
  for (const auto& [name, read] : readers)
    if (name == type) {
      read(data, count, swap, who, array);
      return array;
    }
  throw DatasetError(fmt::format(
      "{}: element type '{}' is not supported; use float64, float32 or an integer type", who, descr));
}

template <class T>
std::string npy_bytes(std::span<const T> values, const h5::Shape& shape) {
  constexpr const char* descr = std::is_same_v<T, double>         ? "<f8"
                                : std::is_same_v<T, float>        ? "<f4"
                                : std::is_same_v<T, std::int64_t> ? "<i8"
                                                                  : "|u1";
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", descr,
                                   fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  constexpr std::size_t fixed = 10, alignment = 64;
  header.append(alignment - (fixed + header.size() + 1) % alignment, ' ');
  header += '\n';
  std::string bytes(k_magic);
  bytes += '\x01';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xFF);
  bytes += static_cast<char>(header.size() >> 8);
  bytes += header;
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  return bytes;
}

template std::string npy_bytes(std::span<const double>, const h5::Shape&);
template std::string npy_bytes(std::span<const float>, const h5::Shape&);
template std::string npy_bytes(std::span<const std::int64_t>, const h5::Shape&);
template std::string npy_bytes(std::span<const std::uint8_t>, const h5::Shape&);

}  // namespace borel
