// Internal to the h5 layer: owned ids and the library's own reason for a failure.
#pragma once

#include <hdf5.h>

#include <string>
#include <string_view>
#include <utility>

namespace borel::h5 {

/// Owns one HDF5 id; negative ids own nothing.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  Handle& operator=(Handle&&) = delete;
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  explicit operator bool() const { return id_ >= 0; }
  hid_t get() const { return id_; }

 private:
  hid_t id_;
  Close close_;
};

/// " (HDF5: <innermost reason>)", or "" when the library gave none. Call right after the failing function.
std::string library_reason();

/// "/" for the root, else "/" + path: how the library spells our paths.
std::string absolute(std::string_view path);

}  // namespace borel::h5
