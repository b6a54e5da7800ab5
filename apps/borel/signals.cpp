#include "signals.hpp"

#include <unistd.h>

namespace borel::app {
namespace {

std::atomic<bool> requested{false};
std::atomic<int> last_signal{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

extern "C" void on_signal(int number) {
  if (requested.exchange(true)) ::_exit(128 + number);
  last_signal.store(number);
}

}  // namespace

SignalGuard::SignalGuard() {
  requested.store(false);
  last_signal.store(0);
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigaction(SIGINT, &action, &old_interrupt_);
  ::sigaction(SIGTERM, &action, &old_terminate_);
}

SignalGuard::~SignalGuard() {
  ::sigaction(SIGINT, &old_interrupt_, nullptr);
  ::sigaction(SIGTERM, &old_terminate_, nullptr);
}

const std::atomic<bool>& SignalGuard::stop_requested() const { return requested; }
int SignalGuard::exit_code() const { return 128 + last_signal.load(); }

}  // namespace borel::app
