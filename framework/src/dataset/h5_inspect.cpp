#include "dataset/h5_inspect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

namespace borel::h5 {
namespace {

// Deflate reaches at most 1032:1; a larger ratio means chunks that were declared and never stored.
constexpr double k_most_compression = 1100;
constexpr std::uint64_t k_ratio_matters_bytes = 1 << 20;
constexpr hsize_t k_attribute_elements = 4096;

class Inspector {
 public:
  Inspector(const std::filesystem::path& file, const Caps& caps) : file_(file), caps_(caps) {}

  std::map<std::string, Object, std::less<>> run(hid_t file_id) {
    const Handle root(H5Oopen(file_id, "/", H5P_DEFAULT), H5Oclose);
    if (!root) refuse("", fmt::format("has no readable root group{}", library_reason()));
    visit(root.get(), "", 0);
    return std::move(found_);
  }

 private:
  [[noreturn]] void refuse(std::string_view path, std::string_view what) const {
    throw DatasetError(fmt::format("{}: object /{} {}", file_.string(), path, what));
  }

  void visit(hid_t id, const std::string& path, int depth) {
    if (depth > caps_.depth) refuse(path, fmt::format("lies deeper than {} groups: refused", caps_.depth));
    if (static_cast<std::int64_t>(found_.size()) >= caps_.objects)
      refuse(path, fmt::format("is one too many: a file may hold {} objects", caps_.objects));
    H5O_info_t about{};
    if (H5Oget_info2(id, &about, H5O_INFO_BASIC) < 0)
      refuse(path, fmt::format("is unreadable{}", library_reason()));
    if (!seen_.insert(about.addr).second)
      refuse(path,
             "is a second name of another object (hard link or cycle): refused; store each object once");
    if (about.type != H5O_TYPE_GROUP && about.type != H5O_TYPE_DATASET)
      refuse(path, "is neither a group nor an array (named data types are refused)");
    Object object = about.type == H5O_TYPE_GROUP ? Object{.is_group = true} : array(id, path);
    object.attributes = attributes(id, path);
    const bool is_group = object.is_group;
    found_.emplace(path, std::move(object));
    if (is_group) visit_links(id, path, depth);
  }

  void visit_links(hid_t group, const std::string& path, int depth) {
    std::vector<std::pair<std::string, H5L_type_t>> links;
    const auto collect = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
      static_cast<decltype(links)*>(out)->emplace_back(name, info->type);
      return 0;
    };
    hsize_t position = 0;
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, collect, &links) < 0)
      refuse(path, fmt::format("has unreadable links{}", library_reason()));
    for (const auto& [name, type] : links) {
      const std::string child = path.empty() ? name : path + "/" + name;
      if (type == H5L_TYPE_SOFT)
        refuse(child, "is a soft link: refused; store the object itself (h5repack --merge)");
      if (type == H5L_TYPE_EXTERNAL)
        refuse(child, "is an external link to another file: refused; copy the data in");
      if (type != H5L_TYPE_HARD) refuse(child, "is a user-defined link: refused");
      const Handle object(H5Oopen(group, name.c_str(), H5P_DEFAULT), H5Oclose);
      if (!object) refuse(child, fmt::format("cannot be opened{}", library_reason()));
      visit(object.get(), child, depth + 1);
    }
  }

  static std::optional<ElementType> element_type(hid_t type) {
    const H5T_class_t kind = H5Tget_class(type);
    const auto is = [type](hid_t little, hid_t big) {
      return H5Tequal(type, little) > 0 || H5Tequal(type, big) > 0;
    };
    if (kind == H5T_FLOAT && is(H5T_IEEE_F64LE, H5T_IEEE_F64BE)) return ElementType::float64;
    if (kind == H5T_FLOAT && is(H5T_IEEE_F32LE, H5T_IEEE_F32BE)) return ElementType::float32;
    if (kind == H5T_INTEGER && is(H5T_STD_I64LE, H5T_STD_I64BE)) return ElementType::int64;
    if (kind == H5T_INTEGER && is(H5T_STD_U8LE, H5T_STD_U8BE)) return ElementType::uint8;
    if (kind == H5T_STRING) return ElementType::string;
    return std::nullopt;
  }

  void check_storage(hid_t dataset, const std::string& path) const {
    const Handle creation(H5Dget_create_plist(dataset), H5Pclose);
    if (!creation) refuse(path, fmt::format("is unreadable{}", library_reason()));
    const H5D_layout_t layout = H5Pget_layout(creation.get());
    if (layout == H5D_VIRTUAL)
      refuse(path, "has a virtual layout (its values lie in other files): refused; copy the data in");
    if (H5Pget_external_count(creation.get()) != 0)
      refuse(path, "has external storage (its values lie in another file): refused; copy the data in");
    const int n_filters = H5Pget_nfilters(creation.get());
    for (int i = 0; i < n_filters; ++i) {
      unsigned flags = 0, config = 0;
      std::size_t n_values = 0;
      const H5Z_filter_t filter = H5Pget_filter2(creation.get(), static_cast<unsigned>(i), &flags, &n_values,
                                                 nullptr, 0, nullptr, &config);
      if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32)
        refuse(path, fmt::format("uses filter {}, which is not one of deflate, shuffle, fletcher32: refused; "
                                 "rewrite it with h5repack -f GZIP=4",
                                 filter));
    }
  }

  void check_chunk(hid_t dataset, const std::string& path, std::size_t element_bytes) const {
    const Handle creation(H5Dget_create_plist(dataset), H5Pclose);
    if (H5Pget_layout(creation.get()) != H5D_CHUNKED) return;
    std::vector<hsize_t> chunk(static_cast<std::size_t>(H5S_MAX_RANK));
    const int rank = H5Pget_chunk(creation.get(), H5S_MAX_RANK, chunk.data());
    std::uint64_t size = element_bytes;
    for (int axis = 0; axis < rank; ++axis)
      if (__builtin_mul_overflow(size, chunk[static_cast<std::size_t>(axis)], &size)) size = UINT64_MAX;
    if (size > caps_.chunk_bytes)
      refuse(path, fmt::format("has chunks of {} bytes; the cap is {}", size, caps_.chunk_bytes));
  }

  Object array(hid_t dataset, const std::string& path) {
    check_storage(dataset, path);
    Object object;
    const Handle type(H5Dget_type(dataset), H5Tclose);
    const Handle space(H5Dget_space(dataset), H5Sclose);
    if (!type || !space) refuse(path, fmt::format("has no readable type or shape{}", library_reason()));
    const auto element = element_type(type.get());
    if (!element)
      refuse(path,
             "has an element type that Borel does not read; use float64, float32, int64, uint8 or string");
    object.type = *element;
    if (H5Sget_simple_extent_type(space.get()) == H5S_NULL) refuse(path, "is a null array: give it a shape");
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (rank < 0 || rank > caps_.rank)
      refuse(path, fmt::format("has rank {}; the cap is {}", rank, caps_.rank));
    std::vector<hsize_t> extent(static_cast<std::size_t>(rank));
    H5Sget_simple_extent_dims(space.get(), extent.data(), nullptr);
    const std::size_t element_bytes = *element == ElementType::string
                                          ? std::max<std::size_t>(H5Tget_size(type.get()), 16)
                                          : element_size(*element);
    std::uint64_t size = element_bytes;
    for (hsize_t n : extent)
      if (__builtin_mul_overflow(size, n, &size)) size = UINT64_MAX;
    object.shape.assign(extent.begin(), extent.end());
    if (size > caps_.total_bytes || (total_bytes_ += size) > caps_.total_bytes)
      refuse(path, fmt::format("declares {} bytes (shape {}): with it the file is over the cap of {} bytes",
                               size, shape_text(object.shape), caps_.total_bytes));
    check_chunk(dataset, path, element_bytes);
    const hsize_t stored = H5Dget_storage_size(dataset);
    if (size > k_ratio_matters_bytes &&
        static_cast<double>(size) > k_most_compression * static_cast<double>(stored))
      refuse(path,
             fmt::format("declares {} bytes but stores {}: most of it was never written", size, stored));
    object.size_bytes = size;
    object.count = static_cast<std::int64_t>(size / element_bytes);
    return object;
  }

  template <class T>
  static std::vector<T> numbers(hid_t attribute, hid_t memory_type, hsize_t n, bool& ok) {
    std::vector<T> values(n);
    ok = n == 0 || H5Aread(attribute, memory_type, values.data()) >= 0;
    return values;
  }

  static std::vector<std::string> texts(hid_t attribute, hid_t type, hid_t space, hsize_t n, bool& ok) {
    std::vector<std::string> values;
    const Handle memory(H5Tcopy(type), H5Tclose);
    if (n == 0) return values;
    if (H5Tis_variable_str(type) > 0) {
      std::vector<char*> pointers(n, nullptr);
      ok = H5Aread(attribute, memory.get(), pointers.data()) >= 0;
      if (!ok) return values;
      for (const char* text : pointers) values.emplace_back(text ? text : "");
      H5Dvlen_reclaim(memory.get(), space, H5P_DEFAULT, pointers.data());
    } else {
      const std::size_t width = H5Tget_size(type);
      std::string bytes(width * n, '\0');
      ok = H5Aread(attribute, memory.get(), bytes.data()) >= 0;
      for (hsize_t i = 0; ok && i < n; ++i) {
        const std::string text = bytes.substr(i * width, width);
        values.push_back(text.substr(0, text.find('\0')));
      }
    }
    return values;
  }

  std::map<std::string, AttributeValue> attributes(hid_t object, const std::string& path) const {
    std::vector<std::string> names;
    hsize_t position = 0;
    const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* out) -> herr_t {
      static_cast<std::vector<std::string>*>(out)->emplace_back(name);
      return 0;
    };
    if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, &position, collect, &names) < 0)
      refuse(path, fmt::format("has unreadable attributes{}", library_reason()));
    std::map<std::string, AttributeValue> values;
    for (const std::string& name : names) values.emplace(name, attribute(object, path, name));
    return values;
  }

  AttributeValue attribute(hid_t object, const std::string& path, const std::string& name) const {
    const auto bad = [&](std::string_view what) {
      refuse(path, fmt::format("has attribute '{}' that {}", name, what));
    };
    const Handle attribute(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute) bad(fmt::format("cannot be opened{}", library_reason()));
    const Handle type(H5Aget_type(attribute.get()), H5Tclose), space(H5Aget_space(attribute.get()), H5Sclose);
    if (!type || !space) bad(fmt::format("is unreadable{}", library_reason()));
    const hssize_t points = H5Sget_simple_extent_npoints(space.get());
    const int rank = H5Sget_simple_extent_ndims(space.get());
    if (points < 0 || rank > 1 || static_cast<hsize_t>(points) > k_attribute_elements)
      bad(fmt::format("is neither a scalar nor a list of at most {} elements", k_attribute_elements));
    if (H5Aget_storage_size(attribute.get()) > (1U << 20)) bad("is larger than 1 MiB");
    const auto n = static_cast<hsize_t>(points);
    bool ok = true;
    AttributeValue value;
    const auto store = [&](auto list) {
      if (!ok || (rank == 0 && list.empty())) return;
      if (rank == 0)
        value = std::move(list.front());
      else
        value = std::move(list);
    };
    switch (H5Tget_class(type.get())) {
      case H5T_FLOAT:
        store(numbers<double>(attribute.get(), H5T_NATIVE_DOUBLE, n, ok));
        break;
      case H5T_INTEGER:
        store(numbers<std::int64_t>(attribute.get(), H5T_NATIVE_INT64, n, ok));
        break;
      case H5T_STRING:
        store(texts(attribute.get(), type.get(), space.get(), n, ok));
        break;
      default:
        bad("is neither text nor a number");
    }
    if (!ok) bad(fmt::format("cannot be read{}", library_reason()));
    return value;
  }

  const std::filesystem::path& file_;
  const Caps& caps_;
  std::map<std::string, Object, std::less<>> found_;
  std::set<haddr_t> seen_;
  std::uint64_t total_bytes_ = 0;
};

}  // namespace

std::map<std::string, Object, std::less<>> inspect(hid_t file_id, const std::filesystem::path& file,
                                                   const Caps& caps) {
  return Inspector(file, caps).run(file_id);
}

}  // namespace borel::h5
