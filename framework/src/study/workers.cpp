#include "study/workers.hpp"

#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include "sdk/task_order.hpp"

namespace borel {

void run_workers(int threads, FunctionRef<void()> worker) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  TaskOrder order;
  arena.execute([&] {
    tbb::task_group workers;
    for (int i = 0; i < threads; ++i)
      workers.run([&] {
        const TaskOrder::Task task(order);
        worker();
      });
    workers.wait();
  });
}

void isolated(FunctionRef<void()> body) { tbb::this_task_arena::isolate(body); }

}  // namespace borel
