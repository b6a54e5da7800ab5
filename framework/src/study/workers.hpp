// The threads that a study's cells run on.
#pragma once

#include "borel/parallel.hpp"

namespace borel {

/// Calls worker() `threads` times on at most that many threads, which are also all that parallel loops inside may use.
/// Returns when all have. @pre worker does not throw
void run_workers(int threads, FunctionRef<void()> worker);

/// Runs body() so that this thread, while it waits inside, takes up nothing that was started outside: another cell on
/// its stack would share its timers and its scratch memory.
void isolated(FunctionRef<void()> body);

}  // namespace borel
