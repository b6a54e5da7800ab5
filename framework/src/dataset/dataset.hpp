// Datasets: one HDF5 file with a schema, opened once, checked, then read from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dataset/h5.hpp"
#include "dataset/schema.hpp"

namespace borel {

class DatasetWriter;

struct DatasetInfo {
  DatasetKind kind = DatasetKind::samples;
  std::string id, path, title, source, licence, content_digest;
  int schema_version = 1;
  std::uint64_t seed = 0;
  std::vector<std::pair<std::string, std::string>> facts;  // array -> "float64 [82 x 1]", for display
  std::uint64_t size_bytes = 0;                            // of the values, unpacked
};

/// Opened, checked, immutable. Threads: all members may be called from any thread; arrays are loaded at first
/// use, once, and kept. Names: "x", "split/train"; "" is the root, where the schema's own attributes lie.
class Dataset {
 public:
  /// Values up to this size are read, checked and compared with the digest when a file is opened; larger
  /// files are checked array by array as they load, and their digest by verify().
  static constexpr std::uint64_t k_verify_on_open_bytes = 64ULL << 20;

  /// @throws DatasetError: damaged, refused structure, schema not met, value not finite, digest does not
  /// match
  static std::shared_ptr<const Dataset> open(const std::filesystem::path& file);
  /// The same from memory; for data made by the program itself (tests, small problems). Checks the same
  /// rules.
  static std::shared_ptr<const Dataset> from(const DatasetWriter& contents);
  ~Dataset();

  const DatasetInfo& info() const;
  bool has(std::string_view name) const;

  /// Row-major values. The span lives as long as the dataset. @throws DatasetError: unknown name (with the
  /// nearest), other element type, damaged or non-finite values
  std::span<const double> doubles(std::string_view name) const;
  std::span<const float> floats(std::string_view name) const;
  std::span<const std::uint8_t> bytes(std::string_view name) const;
  std::span<const std::int64_t> integers(std::string_view name) const;
  std::vector<std::int64_t> shape(std::string_view name) const;
  /// Rows [first_row, first_row + out.size() / row size) of an array of doubles, without keeping or checking them: for data
  /// larger than memory. @throws DatasetError: unknown name, other element type, rows that are not there, damaged file
  void read_rows(std::string_view name, std::int64_t first_row, std::span<double> out) const;
  /// Names directly inside a group ("" is the root), sorted: the images of an image set.
  std::vector<std::string> children(std::string_view group) const;

  bool has_attribute(std::string_view object, std::string_view name) const;
  std::string attribute(std::string_view object, std::string_view name) const;
  /// A numeric attribute. @throws DatasetError: missing, or not a number
  double number(std::string_view object, std::string_view name) const;
  /// A whole number. @param most  at most 2^53 @throws DatasetError: missing, not a number, not whole, outside [least, most]
  std::int64_t integer(std::string_view object, std::string_view name, std::int64_t least,
                       std::int64_t most) const;

  /// Reads every value and compares the content digest. @throws DatasetError. O(bytes).
  void verify() const;

 private:
  struct State;
  explicit Dataset(std::unique_ptr<State> state);
  template <class T>
  std::span<const T> values(std::string_view name) const;
  /// Finite values, block by block.
  void check_rows(std::string_view name) const;
  std::unique_ptr<State> state_;
};

/// Title, kind, digest and shapes without reading values. @throws DatasetError
DatasetInfo read_dataset_info(const std::filesystem::path& file);

/// $BOREL_DATA, else $XDG_CACHE_HOME/borel, else ~/.cache/borel. Not created. @throws DatasetError when none
/// is set
std::filesystem::path data_folder();

/// An id (in data_folder()) or a path (ends in .h5 or contains '/'). One opened dataset is shared by all
/// callers while anyone holds it. @throws DatasetError: unknown id, with the nearest known one and the
/// command that makes it; or what open() throws. A file outside data_folder() is screened in a child process
/// first (see screen.hpp).
std::shared_ptr<const Dataset> find_dataset(std::string_view id_or_path);

}  // namespace borel
