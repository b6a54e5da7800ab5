// Objects that are dear to make, lent to one borrower at a time.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace borel::probe {

/// Holds as many objects as were ever out at once. The last one back goes out first: its memory is still in a cache.
/// Threads: any number of borrowers.
template <class T>
class Pool {
  struct GiveBack {
    Pool* to;
    void operator()(T* object) const {
      const std::lock_guard lock(to->mutex_);
      to->free_.emplace_back(object);
    }
  };

 public:
  explicit Pool(std::function<std::unique_ptr<T>()> make) : make_(std::move(make)) {}

  /// Comes back when the pointer dies. The pool outlives it.
  std::unique_ptr<T, GiveBack> lend() {
    std::unique_ptr<T> object;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        object = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!object) {
      object = make_();
      const std::lock_guard lock(mutex_);
      free_.reserve(++n_made_);  // so that giving back never allocates
    }
    return {object.release(), GiveBack{this}};
  }

 private:
  std::function<std::unique_ptr<T>()> make_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<T>> free_;
  std::size_t n_made_ = 0;
};

}  // namespace borel::probe
