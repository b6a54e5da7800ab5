#include <fmt/format.h>
#include <fmt/ranges.h>

#include <mutex>

#include "dataset/h5.hpp"
#include "dataset/h5_handle.hpp"

namespace borel::h5 {

namespace {
std::mutex& api_mutex() {
  static std::mutex mutex;
  return mutex;
}

// Recursion is counted here, not by std::recursive_mutex: that one remembers the thread's id, which differs
// in a child process that was started with the lock held (screen.cpp).
thread_local int depth = 0;
}  // namespace

std::string_view type_name(ElementType type) {
  switch (type) {
    case ElementType::float64:
      return "float64";
    case ElementType::float32:
      return "float32";
    case ElementType::int64:
      return "int64";
    case ElementType::uint8:
      return "uint8";
    case ElementType::string:
      return "string";
  }
  return "unknown";
}

std::size_t element_size(ElementType type) {
  switch (type) {
    case ElementType::float64:
    case ElementType::int64:
      return 8;
    case ElementType::float32:
      return 4;
    case ElementType::uint8:
      return 1;
    case ElementType::string:
      return 0;
  }
  return 0;
}

std::string shape_text(const Shape& shape) {
  return shape.empty() ? "scalar" : fmt::format("{}", fmt::join(shape, " x "));
}

ApiLock::ApiLock() {
  if (depth++ == 0) api_mutex().lock();
  // The setting is per thread, hence repeated; the plugin mask is global: filters must never load code from a
  // file's say.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

ApiLock::~ApiLock() {
  if (--depth == 0) api_mutex().unlock();
}

std::string library_reason() {
  std::string reason;
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
        auto& text = *static_cast<std::string*>(out);
        if (text.empty() && error->desc) text = error->desc;
        return 0;
      },
      &reason);
  return reason.empty() ? reason : fmt::format(" (HDF5: {})", reason);
}

std::string absolute(std::string_view path) { return fmt::format("/{}", path); }

}  // namespace borel::h5
