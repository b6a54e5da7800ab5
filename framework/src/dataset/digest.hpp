// The content digest: SHA-256 over what a dataset says, independent of how HDF5 stores it.
//
// Fed in sorted path order, for every array and every group that has attributes:
//   kind of object, path, element type, shape, values (little-endian, row-major; strings with their length),
//   then the attributes sorted by name with their type and value. Root attributes `content_digest` and
//   `borel_version` are left out. Chunking, compression, byte order, creation order and file layout change
//   nothing.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "dataset/h5.hpp"

namespace borel {

/// Lower-case hexadecimal SHA-256. O(bytes), about 2 GB/s with the CPU's SHA instructions.
std::string sha256_hex(std::string_view bytes);

class ContentDigest {
 public:
  ContentDigest();
  ~ContentDigest();
  ContentDigest(const ContentDigest&) = delete;
  ContentDigest& operator=(const ContentDigest&) = delete;

  void begin_group(std::string_view path);
  void begin_array(std::string_view path, h5::ElementType type, const h5::Shape& shape);
  /// The next values of the array begun last, any block size.
  void values(std::span<const std::byte> little_endian);
  void value(std::string_view text);
  void attribute(std::string_view object, std::string_view name, const h5::AttributeValue& value);
  /// "sha256:<64 hex digits>". Once.
  std::string finish();

 private:
  void text(std::string_view value);
  void integer(std::int64_t value);
  struct State;
  std::unique_ptr<State> state_;
};

/// Of a whole open file; arrays are streamed in blocks of rows. O(bytes) time, a few MB of memory.
std::string content_digest(const h5::Reader& file);

}  // namespace borel
