// Contents of a dataset in memory, checked and written as one file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "dataset/h5.hpp"
#include "dataset/schema.hpp"

namespace borel {

/// Values that are made when they are needed, block by block and more than once: arrays larger than memory.
struct GeneratedDoubles {
  /// Writes values [first, first + out.size()) in row-major order; the same ones every time.
  std::function<void(std::int64_t first, std::span<double> out)> fill;
};

class DatasetWriter {
 public:
  using Values = std::variant<std::vector<double>, std::vector<float>, std::vector<std::int64_t>,
                              std::vector<std::uint8_t>>;

  DatasetWriter(DatasetKind kind, std::string_view id, std::string_view title, std::string_view source,
                std::string_view licence, std::uint64_t seed = 0);

  /// @throws DatasetError: a shape that does not fit the number of values, or a name used twice
  template <class T>
  void array(std::string_view path, std::vector<T> values, h5::Shape shape);
  /// Stored without packing. @throws DatasetError: a name used twice
  void array(std::string_view path, GeneratedDoubles values, h5::Shape shape);
  /// Groups are made as needed; "" is the root. A later value replaces an earlier one.
  void attribute(std::string_view object, std::string_view name, h5::AttributeValue value);

  /// Structure (groups, shapes, attributes including the content digest) and values.
  const Objects& objects() const { return objects_; }
  const std::map<std::string, Values, std::less<>>& values() const { return values_; }
  const std::map<std::string, GeneratedDoubles, std::less<>>& generated() const { return generated_; }

  /// Checks the schema and that values are finite, computes the digest. @throws DatasetError. Returns the
  /// digest.
  std::string seal();
  /// seal(), then writes the file in one step (see h5::Writer). The folder must exist. Returns the digest.
  std::string save(const std::filesystem::path& file);

 private:
  void make_parents(std::string_view path);
  void declare(std::string_view path, h5::ElementType type, std::size_t element_bytes, h5::Shape shape);

  Objects objects_;
  std::map<std::string, Values, std::less<>> values_;
  std::map<std::string, GeneratedDoubles, std::less<>> generated_;
};

}  // namespace borel
