// SIGINT and SIGTERM as a request to stop: the first one is a flag that work looks at, the second ends the program.
#pragma once

#include <csignal>

#include <atomic>

namespace borel::app {

/// Catches both signals while it lives. What is finished must be on disk at any time: the second signal ends the
/// program at once, with 128 plus the signal's number. One at a time.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

  const std::atomic<bool>& stop_requested() const;
  int exit_code() const;  ///< 130 after SIGINT, 143 after SIGTERM; only after a request

 private:
  struct sigaction old_interrupt_;
  struct sigaction old_terminate_;
};

}  // namespace borel::app
