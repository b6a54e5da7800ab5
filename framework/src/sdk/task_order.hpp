// Tells ThreadSanitizer what a task scheduler orders. TBB comes without instrumentation, so the sanitizer sees neither
// its queues nor its reference counts and would report every argument of every task as a race. The files that call TBB's
// templates are therefore compiled without instrumentation (CMake: borel_uninstrumented_threads) and say the order
// here, which leaves races between the tasks themselves visible.
#pragma once

#ifdef BOREL_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#endif

namespace borel {

/// Everything before the construction happens before each Task; everything in each Task happens before the destruction,
/// also when a task throws. Costs nothing without the sanitizer.
class TaskOrder {
 public:
  TaskOrder() { release(begin_); }
  ~TaskOrder() { acquire(end_); }
  TaskOrder(const TaskOrder&) = delete;
  TaskOrder& operator=(const TaskOrder&) = delete;

  /// Lives as long as a task's body runs.
  class Task {
   public:
    explicit Task(TaskOrder& order) : order_(order) { acquire(order.begin_); }
    ~Task() { release(order_.end_); }
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;

   private:
    TaskOrder& order_;
  };

 private:
#ifdef BOREL_THREAD_SANITIZER
  static void acquire(char& point) { __tsan_acquire(&point); }
  static void release(char& point) { __tsan_release(&point); }
#else
  static void acquire(char&) {}
  static void release(char&) {}
#endif
  char begin_ = 0, end_ = 0;
};

}  // namespace borel
