// A small layer over the HDF5 C library: whole files as typed arrays and attributes, nothing else.
//
// Reader refuses, before any value is read, everything a Borel file never contains: links that are not hard
// links, external storage, virtual layouts, filters that are not built in, foreign element types, sizes over
// the caps. Writer writes chunked, shuffled, deflated, checksummed arrays into a temporary file and renames
// it when complete.
//
// Threads: every call takes one process-wide lock (the library has one of its own anyway), so objects may be
// shared. Names: paths without a leading slash ("split/train"); "" is the root group. Errors: DatasetError
// naming the file, the object, the rule and, where it has one, the library's own reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "borel/error.hpp"

namespace borel::h5 {

enum class ElementType { float64, float32, int64, uint8, string };
using Shape = std::vector<std::int64_t>;

std::string_view type_name(ElementType type);
/// Bytes of one element; 0 for strings, whose length varies.
std::size_t element_size(ElementType type);
/// "82 x 1"; "scalar" for rank 0.
std::string shape_text(const Shape& shape);

template <class T>
constexpr ElementType element_type_of();
template <>
constexpr ElementType element_type_of<double>() {
  return ElementType::float64;
}
template <>
constexpr ElementType element_type_of<float>() {
  return ElementType::float32;
}
template <>
constexpr ElementType element_type_of<std::int64_t>() {
  return ElementType::int64;
}
template <>
constexpr ElementType element_type_of<std::uint8_t>() {
  return ElementType::uint8;
}

/// Values an attribute may have: a scalar or a list.
using AttributeValue = std::variant<std::string, double, std::int64_t, std::vector<std::string>,
                                    std::vector<double>, std::vector<std::int64_t>>;

struct Object {
  bool is_group = false;
  ElementType type = ElementType::float64;  // the rest: arrays only
  Shape shape{};
  std::int64_t count = 0;
  std::uint64_t size_bytes = 0;  // as declared; strings count 16 bytes each
  std::map<std::string, AttributeValue> attributes{};
};

/// What a file may ask for. A file over a cap is refused before anything is allocated.
struct Caps {
  std::uint64_t total_bytes = 16ULL << 30;
  std::uint64_t chunk_bytes = 256ULL << 20;
  std::int64_t objects = 65536;
  int rank = 8;
  int depth = 12;
};

/// One process-wide lock for sequences of HDF5 calls outside this layer; also switches off HDF5's own error
/// printing in the calling thread. Reentrant.
class ApiLock {
 public:
  ApiLock();
  ~ApiLock();
  ApiLock(const ApiLock&) = delete;
  ApiLock& operator=(const ApiLock&) = delete;
};

class Reader {
 public:
  /// Opens and inspects the whole structure. @throws DatasetError
  explicit Reader(std::filesystem::path file, const Caps& caps = {});
  ~Reader();
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;

  const std::filesystem::path& file() const { return file_; }
  /// Every group and array by path, sorted; "" is the root.
  const std::map<std::string, Object, std::less<>>& objects() const { return objects_; }
  bool has(std::string_view path) const { return objects_.find(path) != objects_.end(); }
  /// @throws DatasetError with the nearest existing name
  const Object& object(std::string_view path) const;
  /// Names directly inside a group, sorted.
  std::vector<std::string> children(std::string_view group) const;

  /// The whole array in row-major order; the element type must be exactly T's. @throws DatasetError
  template <class T>
  std::vector<T> read(std::string_view array) const;
  /// Rows [first_row, first_row + out.size() / row size) of the first axis, for streaming.
  template <class T>
  void read_rows(std::string_view array, std::int64_t first_row, std::span<T> out) const;
  std::vector<std::string> read_strings(std::string_view array) const;

  bool has_attribute(std::string_view object, std::string_view name) const;
  std::string text_attribute(std::string_view object, std::string_view name) const;
  /// Integers are converted.
  double number_attribute(std::string_view object, std::string_view name) const;

 private:
  const AttributeValue& attribute(std::string_view object, std::string_view name) const;
  void read_block(std::string_view array, ElementType type, std::int64_t first_row, void* out,
                  std::size_t n) const;

  std::filesystem::path file_;
  std::int64_t id_ = -1;
  std::map<std::string, Object, std::less<>> objects_;
};

/// How the values of an array are stored; both carry checksums. `plain` for numbers that do not pack.
enum class Packing { deflate, plain };

class Writer {
 public:
  /// Starts a temporary file beside `file`. @throws DatasetError
  explicit Writer(std::filesystem::path file);
  /// Removes the temporary file unless commit() was called.
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// Parents are made as needed; a group that exists is fine.
  void group(std::string_view path);
  /// @pre values.size() == product of shape
  template <class T>
  void array(std::string_view path, std::span<const T> values, const Shape& shape);
  void strings(std::string_view path, std::span<const std::string> values, const Shape& shape);
  /// An array that write_rows() fills.
  void declare(std::string_view path, ElementType type, const Shape& shape,
               Packing packing = Packing::deflate);
  template <class T>
  void write_rows(std::string_view path, std::int64_t first_row, std::span<const T> values);
  void attribute(std::string_view object, std::string_view name, const AttributeValue& value);
  /// Closes, flushes to the disk and renames over `file`: readers see the old file or the complete new one.
  void commit();

 private:
  void write_block(std::string_view path, ElementType type, std::int64_t first_row, const void* values,
                   std::size_t n);

  std::filesystem::path file_, temporary_;
  std::int64_t id_ = -1;
};

}  // namespace borel::h5
