#include "borel/parallel.hpp"

#include <algorithm>
#include <memory>
#include <new>

#include <sys/mman.h>
#include <tbb/task_arena.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__  // Clang's way to say it
#endif
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>

#include <cstring>
#endif

#include "borel/error.hpp"

namespace borel {

void StopToken::throw_if_stopped() const {
  if (flag_ && flag_->load(std::memory_order_relaxed)) throw Stopped("stopped on request");
  if (deadline_ != Clock::time_point::max() && Clock::now() >= deadline_)
    throw Stopped("stopped by the time limit");
}

int max_threads() { return tbb::this_task_arena::max_concurrency(); }

namespace {

constexpr std::size_t k_alignment = 64;
constexpr std::size_t k_first_chunk_bytes = std::size_t{1} << 16;

// Large chunks are asked for in huge pages where the system has them: fewer faults and fewer misses of the TLB.
constexpr std::size_t k_huge_page_bytes = std::size_t{1} << 21;

std::size_t alignment_of(std::size_t capacity) {
  return capacity >= k_huge_page_bytes ? k_huge_page_bytes : k_alignment;
}

struct AlignedDelete {
  std::size_t capacity = 0;
  void operator()(std::byte* memory) const {
    ::operator delete (memory, std::align_val_t{alignment_of(capacity)});
  }
};

std::unique_ptr<std::byte, AlignedDelete> aligned_memory(std::size_t capacity) {
  auto* memory = static_cast<std::byte*>(::operator new (capacity, std::align_val_t{alignment_of(capacity)}));
#ifdef MADV_HUGEPAGE
  if (capacity >= k_huge_page_bytes)
    ::madvise(memory, capacity / k_huge_page_bytes * k_huge_page_bytes, MADV_HUGEPAGE);
#endif
  return {memory, AlignedDelete{capacity}};
}

// AddressSanitizer sees one block in a chunk. It is told which bytes are in use, with a gap after each piece, and the bytes
// of a new piece are not numbers: whoever reads before writing is found by results.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t k_gap_bytes = k_alignment;
void open_memory(std::byte* memory, std::size_t size_bytes) {
  ASAN_UNPOISON_MEMORY_REGION(memory, size_bytes);
  std::memset(memory, 0xFF, size_bytes);
}
void close_memory(std::byte* memory, std::size_t size_bytes) {
  ASAN_POISON_MEMORY_REGION(memory, size_bytes);
}
#else
constexpr std::size_t k_gap_bytes = 0;
void open_memory(std::byte*, std::size_t) {}
void close_memory(std::byte*, std::size_t) {}
#endif

/// Stack of memory in a few chunks. A position in the stack is the number of bytes before it in all chunks
/// together.
class Arena {
 public:
  std::size_t mark() const { return chunks_.empty() ? 0 : chunks_[current_].begin + chunks_[current_].used; }

  void* take(std::size_t size_bytes) {
    const std::size_t taken = (size_bytes + k_alignment - 1) / k_alignment * k_alignment + k_gap_bytes;
    if (chunks_.empty() || chunks_[current_].capacity - chunks_[current_].used < taken) advance(taken);
    Chunk& chunk = chunks_[current_];
    std::byte* memory = chunk.memory.get() + chunk.used;
    chunk.used += taken;
    open_memory(memory, size_bytes);
    return memory;
  }

  void give_back(std::size_t mark) {
    while (mark < chunks_[current_].begin) chunks_[current_--].shrink(0);
    chunks_[current_].shrink(mark - chunks_[current_].begin);
    if (mark == 0 && chunks_.size() > 1) {  // empty after growth: settle on one chunk that holds it all
      first_capacity_ = chunks_.back().begin + chunks_.back().capacity;
      chunks_.clear();
      current_ = 0;
    }
  }

 private:
  struct Chunk {
    std::unique_ptr<std::byte, AlignedDelete> memory;
    std::size_t capacity, begin, used;
    void shrink(std::size_t now_used) {
      close_memory(memory.get() + now_used, used - now_used);
      used = now_used;
    }
  };

  /// Makes `current_` a chunk with room; the chunks after it are free.
  void advance(std::size_t size_bytes) {
    const std::size_t next = chunks_.empty() ? 0 : current_ + 1;
    if (next == chunks_.size() || chunks_[next].capacity < size_bytes) {
      const std::size_t begin = next == 0 ? 0 : chunks_[current_].begin + chunks_[current_].capacity;
      const std::size_t capacity =
          std::max({size_bytes, first_capacity_, next == 0 ? 0 : 2 * chunks_[current_].capacity});
      auto memory = aligned_memory(capacity);
      close_memory(memory.get(), capacity);
      chunks_.resize(next);
      chunks_.push_back({std::move(memory), capacity, begin, 0});
    }
    current_ = next;
  }

  std::vector<Chunk> chunks_;
  std::size_t current_ = 0;
  std::size_t first_capacity_ = k_first_chunk_bytes;
};

thread_local Arena t_arena;

}  // namespace

ScratchMemory::ScratchMemory(std::size_t size_bytes) : arena_(&t_arena), mark_(t_arena.mark()) {
  data_ = t_arena.take(size_bytes);
}

ScratchMemory::~ScratchMemory() { static_cast<Arena*>(arena_)->give_back(mark_); }

}  // namespace borel
