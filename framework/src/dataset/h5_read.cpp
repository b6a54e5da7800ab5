#include <fmt/format.h>

#include "dataset/h5.hpp"
#include "dataset/h5_handle.hpp"
#include "dataset/h5_inspect.hpp"

namespace borel::h5 {
namespace {

hid_t memory_type(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return H5T_NATIVE_DOUBLE;
    case ElementType::float32:
      return H5T_NATIVE_FLOAT;
    case ElementType::int64:
      return H5T_NATIVE_INT64;
    case ElementType::uint8:
      return H5T_NATIVE_UINT8;
    case ElementType::string:
      break;
  }
  return -1;
}

}  // namespace

Reader::Reader(std::filesystem::path file, const Caps& caps) : file_(std::move(file)) {
  std::error_code error;
  const auto status = std::filesystem::status(file_, error);
  if (!std::filesystem::exists(status)) throw DatasetError(fmt::format("{}: no such file", file_.string()));
  if (!std::filesystem::is_regular_file(status))
    throw DatasetError(fmt::format("{}: not a regular file", file_.string()));
  const ApiLock lock;
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  const htri_t is_hdf5 = H5Fis_hdf5(file_.c_str());
  if (is_hdf5 == 0) throw DatasetError(fmt::format("{}: not an HDF5 file", file_.string()));
  id_ = H5Fopen(file_.c_str(), H5F_ACC_RDONLY, access.get());
  if (id_ < 0)
    throw DatasetError(fmt::format("{}: cannot open the HDF5 file{}; copy or make it again", file_.string(),
                                   library_reason()));
  try {
    objects_ = inspect(id_, file_, caps);
  } catch (...) {
    H5Fclose(std::exchange(id_, -1));
    throw;
  }
}

Reader::~Reader() {
  if (id_ < 0) return;
  const ApiLock lock;
  H5Fclose(id_);
}

Reader::Reader(Reader&& other) noexcept
    : file_(std::move(other.file_)), id_(std::exchange(other.id_, -1)), objects_(std::move(other.objects_)) {}

Reader& Reader::operator=(Reader&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(id_, other.id_);
  std::swap(objects_, other.objects_);
  return *this;
}

const Object& Reader::object(std::string_view path) const {
  if (const auto found = objects_.find(path); found != objects_.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [name, object] : objects_)
    if (!name.empty()) known.push_back(name);
  throw DatasetError(fmt::format("{}: no object /{}{}", file_.string(), path, did_you_mean(path, known)));
}

std::vector<std::string> Reader::children(std::string_view group) const {
  const std::string prefix = group.empty() ? "" : std::string(group) + "/";
  std::vector<std::string> names;
  for (const auto& [name, object] : objects_)
    if (name.size() > prefix.size() && name.starts_with(prefix) &&
        name.find('/', prefix.size()) == std::string::npos)
      names.push_back(name.substr(prefix.size()));
  return names;
}

void Reader::read_block(std::string_view array, ElementType type, std::int64_t first_row, void* out,
                        std::size_t n) const {
  const Object& about = object(array);
  if (about.is_group)
    throw DatasetError(fmt::format("{}: object /{} is a group, not an array", file_.string(), array));
  if (about.type != type)
    throw DatasetError(fmt::format("{}: array /{} has elements of type {}, asked for {}", file_.string(),
                                   array, type_name(about.type), type_name(type)));
  std::int64_t row = 1;
  for (std::size_t axis = 1; axis < about.shape.size(); ++axis) row *= about.shape[axis];
  const std::int64_t rows = about.shape.empty() ? 1 : about.shape[0];
  const auto wanted = static_cast<std::int64_t>(n);
  if (wanted == 0) return;
  if (row == 0 || wanted % row != 0 || first_row < 0 || first_row + wanted / row > rows)
    throw DatasetError(
        fmt::format("{}: array /{} has {} rows of {} elements; cannot read {} elements from row {}",
                    file_.string(), array, rows, row, n, first_row));
  const ApiLock lock;
  const Handle dataset(H5Dopen2(id_, absolute(array).c_str(), H5P_DEFAULT), H5Dclose);
  const Handle space(H5Dget_space(dataset.get()), H5Sclose);
  // Memory of the same rank as the file's selection: otherwise HDF5 walks element by element.
  std::vector<hsize_t> extent(about.shape.begin(), about.shape.end());
  if (!extent.empty()) extent[0] = static_cast<hsize_t>(wanted / row);
  const Handle memory(extent.empty()
                          ? H5Screate(H5S_SCALAR)
                          : H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr),
                      H5Sclose);
  if (!extent.empty()) {
    std::vector<hsize_t> start(extent.size(), 0);
    start[0] = static_cast<hsize_t>(first_row);
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start.data(), nullptr, extent.data(), nullptr);
  }
  if (!dataset || H5Dread(dataset.get(), memory_type(type), memory.get(), space.get(), H5P_DEFAULT, out) < 0)
    throw DatasetError(
        fmt::format("{}: the values of array /{} cannot be read{}; the file is damaged: copy or make it "
                    "again",
                    file_.string(), array, library_reason()));
}

template <class T>
std::vector<T> Reader::read(std::string_view array) const {
  std::vector<T> values(static_cast<std::size_t>(object(array).count));
  read_block(array, element_type_of<T>(), 0, values.data(), values.size());
  return values;
}

template <class T>
void Reader::read_rows(std::string_view array, std::int64_t first_row, std::span<T> out) const {
  read_block(array, element_type_of<T>(), first_row, out.data(), out.size());
}

template std::vector<double> Reader::read(std::string_view) const;
template std::vector<float> Reader::read(std::string_view) const;
template std::vector<std::int64_t> Reader::read(std::string_view) const;
template std::vector<std::uint8_t> Reader::read(std::string_view) const;
template void Reader::read_rows(std::string_view, std::int64_t, std::span<double>) const;
template void Reader::read_rows(std::string_view, std::int64_t, std::span<float>) const;
template void Reader::read_rows(std::string_view, std::int64_t, std::span<std::int64_t>) const;
template void Reader::read_rows(std::string_view, std::int64_t, std::span<std::uint8_t>) const;

std::vector<std::string> Reader::read_strings(std::string_view array) const {
  const Object& about = object(array);
  if (about.is_group || about.type != ElementType::string)
    throw DatasetError(fmt::format("{}: object /{} is not an array of strings", file_.string(), array));
  const auto n = static_cast<std::size_t>(about.count);
  std::vector<std::string> values;
  if (n == 0) return values;
  const ApiLock lock;
  const Handle dataset(H5Dopen2(id_, absolute(array).c_str(), H5P_DEFAULT), H5Dclose);
  const Handle type(H5Dget_type(dataset.get()), H5Tclose), space(H5Dget_space(dataset.get()), H5Sclose);
  const auto bad = [&] {
    throw DatasetError(fmt::format("{}: the strings of array /{} cannot be read{}", file_.string(), array,
                                   library_reason()));
  };
  if (H5Tis_variable_str(type.get()) > 0) {
    std::vector<char*> pointers(n, nullptr);
    if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0) bad();
    for (const char* text : pointers) values.emplace_back(text ? text : "");
    H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, pointers.data());
  } else {
    const std::size_t width = H5Tget_size(type.get());
    std::string bytes(width * n, '\0');
    if (H5Dread(dataset.get(), type.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0) bad();
    for (std::size_t i = 0; i < n; ++i) {
      const std::string text = bytes.substr(i * width, width);
      values.push_back(text.substr(0, text.find('\0')));
    }
  }
  return values;
}

bool Reader::has_attribute(std::string_view object, std::string_view name) const {
  const auto found = objects_.find(object);
  return found != objects_.end() && found->second.attributes.contains(std::string(name));
}

const AttributeValue& Reader::attribute(std::string_view object, std::string_view name) const {
  const auto& attributes = this->object(object).attributes;
  if (const auto found = attributes.find(std::string(name)); found != attributes.end()) return found->second;
  std::vector<std::string> known;
  for (const auto& [key, value] : attributes) known.push_back(key);
  throw DatasetError(fmt::format("{}: object /{} has no attribute '{}'{}", file_.string(), object, name,
                                 did_you_mean(name, known)));
}

std::string Reader::text_attribute(std::string_view object, std::string_view name) const {
  if (const auto* text = std::get_if<std::string>(&attribute(object, name))) return *text;
  throw DatasetError(fmt::format("{}: attribute '{}' of /{} must be text", file_.string(), name, object));
}

double Reader::number_attribute(std::string_view object, std::string_view name) const {
  const AttributeValue& value = attribute(object, name);
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
  throw DatasetError(fmt::format("{}: attribute '{}' of /{} must be a number", file_.string(), name, object));
}

}  // namespace borel::h5
