#include "dataset/screen.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>

#include "dataset/dataset.hpp"
#include "dataset/h5.hpp"

namespace borel {
namespace {

constexpr rlim_t k_least_cpu_seconds = 5;
constexpr std::uintmax_t k_bytes_per_second = 5'000'000;  // of the file; far below any disk and any digest
constexpr unsigned k_wall_seconds_per_cpu_second = 4;
// Twice the cap on the values of a file: enough for any file that may be opened, too little to exhaust a
// machine.
constexpr rlim_t k_address_space_bytes = 32ULL << 30;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool k_limit_memory = false;  // sanitizers map terabytes
#else
constexpr bool k_limit_memory = true;
#endif

void limit(int resource, rlim_t value) {
  rlimit bounds{value, value};
  setrlimit(static_cast<__rlimit_resource>(resource), &bounds);
}

[[noreturn]] void run_child(const std::filesystem::path& file, int report) {
  std::error_code unknown_size;
  const std::uintmax_t bytes = std::filesystem::file_size(file, unknown_size);
  const rlim_t seconds = k_least_cpu_seconds + (unknown_size ? 0 : bytes / k_bytes_per_second);
  limit(RLIMIT_CPU, seconds);
  ::alarm(static_cast<unsigned>(seconds) * k_wall_seconds_per_cpu_second);
  limit(RLIMIT_CORE, 0);
  if (k_limit_memory) limit(RLIMIT_AS, k_address_space_bytes);
  for (int signal : {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGALRM, SIGXCPU}) std::signal(signal, SIG_DFL);
  std::string message;
  try {
    Dataset::open(file)->verify();
  } catch (const std::exception& error) {
    message = error.what();
    if (message.empty()) message = "unknown error";
  }
  std::size_t sent = 0;
  while (sent < message.size()) {
    const ssize_t n = ::write(report, message.data() + sent, message.size() - sent);
    if (n <= 0) break;
    sent += static_cast<std::size_t>(n);
  }
  ::_exit(message.empty() ? 0 : 2);
}

}  // namespace

void screen_dataset(const std::filesystem::path& file) {
  std::array<int, 2> pipe_ends{};
  if (::pipe2(pipe_ends.data(), O_CLOEXEC) != 0)
    throw DatasetError(fmt::format("{}: cannot screen the file: {}", file.string(), std::strerror(errno)));
  pid_t child = -1;
  {
    // With the lock held no other thread is inside HDF5, so the child finds the library in a usable state.
    const h5::ApiLock lock;
    child = ::fork();
    if (child == 0) run_child(file, pipe_ends[1]);
  }
  ::close(pipe_ends[1]);
  std::string message;
  std::array<char, 4096> buffer{};
  for (ssize_t n = 0; child > 0 && (n = ::read(pipe_ends[0], buffer.data(), buffer.size())) > 0;)
    message.append(buffer.data(), static_cast<std::size_t>(n));
  ::close(pipe_ends[0]);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child)
    throw DatasetError(fmt::format("{}: cannot screen the file: {}", file.string(), std::strerror(errno)));
  if (!message.empty()) throw DatasetError(message);
  if (WIFSIGNALED(status))
    throw DatasetError(
        fmt::format("{}: the HDF5 library crashed or ran out of time on this file (signal {}): it is "
                    "damaged; copy or make it again",
                    file.string(), WTERMSIG(status)));
}

}  // namespace borel
