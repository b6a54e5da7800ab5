#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>

#include "dataset/h5.hpp"
#include "dataset/h5_handle.hpp"

namespace borel::h5 {
namespace {

constexpr std::uint64_t k_chunk_bytes = 256 * 1024;
constexpr unsigned k_deflate_level = 4;

[[noreturn]] void fail(const std::filesystem::path& file, std::string_view path, std::string_view what) {
  throw DatasetError(fmt::format("{}: cannot write {} /{}{}", file.string(), what, path, library_reason()));
}

Handle string_type() {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

Handle file_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case ElementType::float32:
      return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case ElementType::int64:
      return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case ElementType::uint8:
      return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
    case ElementType::string:
      break;
  }
  return string_type();
}

Handle memory_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return {H5Tcopy(H5T_NATIVE_DOUBLE), H5Tclose};
    case ElementType::float32:
      return {H5Tcopy(H5T_NATIVE_FLOAT), H5Tclose};
    case ElementType::int64:
      return {H5Tcopy(H5T_NATIVE_INT64), H5Tclose};
    case ElementType::uint8:
      return {H5Tcopy(H5T_NATIVE_UINT8), H5Tclose};
    case ElementType::string:
      break;
  }
  return string_type();
}

// Whole rows of the last axes first, so that row blocks of the first axis read few chunks.
std::vector<hsize_t> chunk_shape(const Shape& shape, std::size_t element_bytes) {
  std::vector<hsize_t> chunk(shape.size());
  std::uint64_t room = std::max<std::uint64_t>(1, k_chunk_bytes / element_bytes);
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    chunk[axis] = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(shape[axis]), 1, room);
    room = std::max<std::uint64_t>(1, room / chunk[axis]);
  }
  return chunk;
}

Handle simple_space(const Shape& shape) {
  if (shape.empty()) return {H5Screate(H5S_SCALAR), H5Sclose};
  const std::vector<hsize_t> extent(shape.begin(), shape.end());
  return {H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr), H5Sclose};
}

std::int64_t product(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) n *= extent;
  return n;
}

Handle link_creation() {
  Handle plist(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(plist.get(), 1);
  H5Pset_char_encoding(plist.get(), H5T_CSET_UTF8);
  return plist;
}

void sync_to_disk(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

}  // namespace

Writer::Writer(std::filesystem::path file) : file_(std::move(file)) {
  static std::atomic<unsigned> counter{0};
  temporary_ = file_;
  temporary_ += fmt::format(".tmp-{}-{}", ::getpid(), counter++);
  const ApiLock lock;
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V110);
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  id_ = H5Fcreate(temporary_.c_str(), H5F_ACC_TRUNC, creation.get(), access.get());
  if (id_ < 0)
    throw DatasetError(
        fmt::format("{}: cannot create the file{}; does the folder exist, and may you write there?",
                    file_.string(), library_reason()));
}

Writer::~Writer() {
  const ApiLock lock;
  if (id_ < 0) return;
  H5Fclose(id_);
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void Writer::group(std::string_view path) {
  const ApiLock lock;
  std::size_t end = 0;
  while (end != std::string_view::npos && !path.empty()) {
    end = path.find('/', end + 1);
    const std::string part(path.substr(0, end));
    if (H5Lexists(id_, part.c_str(), H5P_DEFAULT) > 0) continue;
    const Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
    H5Pset_obj_track_times(creation.get(), false);
    const Handle links = link_creation();
    const Handle made(H5Gcreate2(id_, part.c_str(), links.get(), creation.get(), H5P_DEFAULT), H5Gclose);
    if (!made) fail(file_, part, "group");
  }
}

void Writer::declare(std::string_view path, ElementType type, const Shape& shape, Packing packing) {
  const ApiLock lock;
  if (const std::size_t slash = path.rfind('/'); slash != std::string_view::npos)
    group(path.substr(0, slash));
  const Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  if (!shape.empty() && product(shape) > 0) {
    const auto chunk = chunk_shape(shape, type == ElementType::string ? 16 : element_size(type));
    H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data());
    // Strings live in the heap, the chunk holds references to them: filters do not apply.
    if (type != ElementType::string) {
      if (packing == Packing::deflate) {
        H5Pset_shuffle(creation.get());
        H5Pset_deflate(creation.get(), k_deflate_level);
      }
      H5Pset_fletcher32(creation.get());
    }
  }
  const Handle space = simple_space(shape);
  const Handle element = file_type(type);
  const Handle links = link_creation();
  const Handle made(H5Dcreate2(id_, absolute(path).c_str(), element.get(), space.get(), links.get(),
                               creation.get(), H5P_DEFAULT),
                    H5Dclose);
  if (!made) fail(file_, path, "array");
}

void Writer::write_block(std::string_view path, ElementType type, std::int64_t first_row, const void* values,
                         std::size_t n) {
  const ApiLock lock;
  const Handle dataset(H5Dopen2(id_, absolute(path).c_str(), H5P_DEFAULT), H5Dclose);
  if (!dataset) fail(file_, path, "array");
  if (n == 0) return;
  const Handle element = memory_type(type);
  const Handle space(H5Dget_space(dataset.get()), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space.get());
  if (rank == 0) {
    if (H5Dwrite(dataset.get(), element.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
      fail(file_, path, "array");
    return;
  }
  std::vector<hsize_t> extent(static_cast<std::size_t>(rank)), start(extent.size(), 0);
  H5Sget_simple_extent_dims(space.get(), extent.data(), nullptr);
  std::size_t row = 1;
  for (std::size_t axis = 1; axis < extent.size(); ++axis) row *= extent[axis];
  start[0] = static_cast<hsize_t>(first_row);
  extent[0] = n / row;
  // Of the same rank as the selection in the file: otherwise HDF5 walks element by element.
  const Handle memory(H5Screate_simple(rank, extent.data(), nullptr), H5Sclose);
  if (n % row != 0 ||
      H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr) < 0 ||
      H5Dwrite(dataset.get(), element.get(), memory.get(), space.get(), H5P_DEFAULT, values) < 0)
    fail(file_, path, "rows of");
}

template <class T>
void Writer::write_rows(std::string_view path, std::int64_t first_row, std::span<const T> values) {
  write_block(path, element_type_of<T>(), first_row, values.data(), values.size());
}

template <class T>
void Writer::array(std::string_view path, std::span<const T> values, const Shape& shape) {
  assert(product(shape) == static_cast<std::int64_t>(values.size()));
  declare(path, element_type_of<T>(), shape);
  write_rows(path, 0, values);
}

template void Writer::write_rows(std::string_view, std::int64_t, std::span<const double>);
template void Writer::write_rows(std::string_view, std::int64_t, std::span<const float>);
template void Writer::write_rows(std::string_view, std::int64_t, std::span<const std::int64_t>);
template void Writer::write_rows(std::string_view, std::int64_t, std::span<const std::uint8_t>);
template void Writer::array(std::string_view, std::span<const double>, const Shape&);
template void Writer::array(std::string_view, std::span<const float>, const Shape&);
template void Writer::array(std::string_view, std::span<const std::int64_t>, const Shape&);
template void Writer::array(std::string_view, std::span<const std::uint8_t>, const Shape&);

void Writer::strings(std::string_view path, std::span<const std::string> values, const Shape& shape) {
  assert(product(shape) == static_cast<std::int64_t>(values.size()));
  declare(path, ElementType::string, shape);
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  write_block(path, ElementType::string, 0, pointers.data(), pointers.size());
}

void Writer::attribute(std::string_view object, std::string_view name, const AttributeValue& value) {
  const ApiLock lock;
  const Handle owner(H5Oopen(id_, absolute(object).c_str(), H5P_DEFAULT), H5Oclose);
  if (!owner) fail(file_, object, "an attribute of");
  const std::string label(name);
  const auto put = [&](ElementType type, const Shape& shape, const void* data) {
    const Handle space = simple_space(shape);
    const Handle stored = file_type(type), given = memory_type(type);
    const Handle creation(H5Pcreate(H5P_ATTRIBUTE_CREATE), H5Pclose);
    H5Pset_char_encoding(creation.get(), H5T_CSET_UTF8);
    if (H5Aexists(owner.get(), label.c_str()) > 0) H5Adelete(owner.get(), label.c_str());
    const Handle made(
        H5Acreate2(owner.get(), label.c_str(), stored.get(), space.get(), creation.get(), H5P_DEFAULT),
        H5Aclose);
    if (!made || (data && H5Awrite(made.get(), given.get(), data) < 0))
      fail(file_, object, fmt::format("attribute '{}' of", label));
  };
  const auto extent = [](const auto& list) { return Shape{static_cast<std::int64_t>(list.size())}; };
  if (const auto* text = std::get_if<std::string>(&value)) {
    const char* pointer = text->c_str();
    put(ElementType::string, {}, &pointer);
  } else if (const auto* number = std::get_if<double>(&value)) {
    put(ElementType::float64, {}, number);
  } else if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    put(ElementType::int64, {}, integer);
  } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    std::vector<const char*> pointers;
    for (const std::string& item : *texts) pointers.push_back(item.c_str());
    put(ElementType::string, extent(pointers), pointers.empty() ? nullptr : pointers.data());
  } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    put(ElementType::float64, extent(*numbers), numbers->empty() ? nullptr : numbers->data());
  } else if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&value)) {
    put(ElementType::int64, extent(*integers), integers->empty() ? nullptr : integers->data());
  }
}

void Writer::commit() {
  const ApiLock lock;
  const bool closed = H5Fclose(std::exchange(id_, -1)) >= 0;
  std::error_code error;
  if (closed) {
    sync_to_disk(temporary_);
    std::filesystem::rename(temporary_, file_, error);
  }
  if (!closed || error) {
    const std::string reason = closed ? ": " + error.message() : library_reason();
    std::filesystem::remove(temporary_, error);
    throw DatasetError(fmt::format("{}: cannot finish writing the file{}", file_.string(), reason));
  }
  sync_to_disk(file_.has_parent_path() ? file_.parent_path() : ".");
}

}  // namespace borel::h5
