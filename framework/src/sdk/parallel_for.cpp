#include <algorithm>
#include <cassert>

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include "borel/parallel.hpp"
#include "task_order.hpp"

namespace borel {

void parallel_for(index_t n, index_t grain, FunctionRef<void(index_t, index_t)> body) {
  assert(grain >= 1);
  if (n <= 0) return;
  const index_t n_blocks = (n - 1) / grain + 1;
  if (n_blocks == 1) return body(0, n);
  // Isolated: while this thread waits, it must not pick up another cell, whose timers and scratch are this
  // thread's too.
  TaskOrder order;
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(
        tbb::blocked_range<index_t>(0, n_blocks, 1),
        [&](const tbb::blocked_range<index_t>& blocks) {
          const TaskOrder::Task task(order);
          for (index_t block = blocks.begin(); block != blocks.end(); ++block)
            body(block * grain, std::min(n, (block + 1) * grain));
        },
        tbb::simple_partitioner());
  });
}

}  // namespace borel
