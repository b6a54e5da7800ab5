// The only way in which a plugin uses more than one core. Results are the same bits for any number of threads.
#pragma once

#include <atomic>
#include <chrono>
#include <type_traits>
#include <utility>
#include <vector>

#include "borel/export.hpp"
#include "borel/tensor.hpp"

namespace borel {

/// Borrowed callable: two pointers, no allocation. Valid while the callable lives.
template <class Signature>
class FunctionRef;

template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
      FunctionRef(F&& callable)  // NOLINT(google-explicit-constructor)
      : object_(const_cast<void*>(static_cast<const void*>(&callable))),
        call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}

  R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

/// Asks a running method to end early: time limit, memory limit or Ctrl-C. A default token never stops.
/// Threads: any number may ask at once. Cost of asking: one relaxed load, and a clock read when a deadline is set.
class StopToken {
 public:
  using Clock = std::chrono::steady_clock;

  StopToken() = default;
  StopToken(const std::atomic<bool>* flag, Clock::time_point deadline) : flag_(flag), deadline_(deadline) {}

  bool stop_requested() const noexcept {
    return (flag_ && flag_->load(std::memory_order_relaxed)) ||
           (deadline_ != Clock::time_point::max() && Clock::now() >= deadline_);
  }
  /// @throws Stopped with the reason (time limit or user)
  BOREL_EXPORT void throw_if_stopped() const;

 private:
  const std::atomic<bool>* flag_ = nullptr;
  Clock::time_point deadline_ = Clock::time_point::max();
};

/// Calls body(begin, end) for the blocks [0, grain), [grain, 2 grain), ... of [0, n), in parallel, in any order.
/// The blocks depend on n and grain only. Nested calls are fine and are isolated from other work. The first
/// exception is rethrown here. @pre grain >= 1
BOREL_EXPORT void parallel_for(index_t n, index_t grain, FunctionRef<void(index_t begin, index_t end)> body);

/// Number of threads that parallel_for may use here. For reports; never let a result depend on it.
BOREL_EXPORT int max_threads();

/// combine(... combine(map(block 0), map(block 1)) ...): a fixed binary tree over the fixed blocks of parallel_for,
/// hence the same bits for any number of threads. map(begin, end) -> T, combine(T, T) -> T.
template <class T, class Map, class Combine>
T deterministic_reduce(index_t n, index_t grain, T identity, Map&& map, Combine&& combine) {
  if (n <= 0) return identity;
  const index_t n_blocks = (n + grain - 1) / grain;
  std::vector<T> partial(static_cast<std::size_t>(n_blocks), identity);
  parallel_for(n, grain, [&](index_t begin, index_t end) {
    partial[static_cast<std::size_t>(begin / grain)] = map(begin, end);
  });
  for (std::size_t width = 1; width < partial.size(); width *= 2)
    for (std::size_t i = 0; i + width < partial.size(); i += 2 * width)
      partial[i] = combine(std::move(partial[i]), std::move(partial[i + width]));
  return std::move(partial[0]);
}

/// Memory for the inside of hot loops: a piece of a per-thread arena, given back at the end of the scope, in reverse
/// order. Uninitialised, 64-byte aligned. Allocates only while the arena grows.
class BOREL_EXPORT ScratchMemory {
 public:
  explicit ScratchMemory(std::size_t size_bytes);
  ~ScratchMemory();
  ScratchMemory(const ScratchMemory&) = delete;
  ScratchMemory& operator=(const ScratchMemory&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  void* arena_;
  std::size_t mark_;
};

/// Typed scratch array of trivial elements.
template <class T>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  explicit Scratch(index_t n)
      : memory_(static_cast<std::size_t>(n) * sizeof(T)), n_(static_cast<std::size_t>(n)) {}
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::span<T> span() const { return {data(), n_}; }
  T& operator[](index_t i) const { return data()[i]; }

 private:
  ScratchMemory memory_;
  std::size_t n_;
};

}  // namespace borel
