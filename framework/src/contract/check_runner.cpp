#include "contract/check_runner.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "loader/plugin_file.hpp"

extern char** environ;

namespace borel::contract {
namespace {

using Clock = std::chrono::steady_clock;

/// Loading and between two rules; generous for sanitizer builds.
constexpr double k_start_limit_s = 60;
constexpr std::size_t k_max_quoted_bytes = 400;

/// A file descriptor that is closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close_now(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  void close_now() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

/// The running child: its results come through a pipe, what it prints is kept in a file.
class Worker {
 public:
  Worker(const std::vector<std::string>& arguments) : printed_(open_temporary()) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
      throw Error(fmt::format("check: no pipe to the child: {}", std::strerror(errno)));
    results_.emplace(ends[0]);
    const Descriptor write_end(ends[1]);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, printed_.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, printed_.get(), STDERR_FILENO);
    // dup2 on itself would keep the close-on-exec mark.
    const Descriptor spare(fcntl(write_end.get(), F_DUPFD_CLOEXEC, k_result_descriptor + 1));
    posix_spawn_file_actions_adddup2(&actions, spare.get(), k_result_descriptor);
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const int error = posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
      throw Error(fmt::format("check: the child process could not be started: {}", std::strerror(error)));
  }
  ~Worker() { finish(); }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// The next line; empty when the child has ended or the time is over (see timed_out()).
  std::optional<std::string> read_line(double limit_s) {
    const auto deadline =
        Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit_s));
    for (;;) {
      if (const std::size_t newline = buffer_.find('\n'); newline != std::string::npos) {
        std::string line = buffer_.substr(0, newline);
        buffer_.erase(0, newline + 1);
        return line;
      }
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      pollfd wait{results_->get(), POLLIN, 0};
      const int ready = left <= 0 ? 0 : poll(&wait, 1, static_cast<int>(left));
      if (ready < 0 && errno == EINTR) continue;
      if (ready == 0) timed_out_ = true;
      if (ready <= 0) return std::nullopt;
      char block[4096];
      const ssize_t n = read(results_->get(), block, sizeof block);
      if (n <= 0) return std::nullopt;
      buffer_.append(block, static_cast<std::size_t>(n));
    }
  }

  bool timed_out() const { return timed_out_; }

  /// Ends the child if it still runs. @return how it ended, for a message
  std::string finish() {
    if (pid_ <= 0) return {};
    if (timed_out_) kill(pid_, SIGKILL);
    results_->close_now();
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    if (WIFSIGNALED(status))
      return fmt::format("the process died: {} (signal {})", strsignal(WTERMSIG(status)), WTERMSIG(status));
    return fmt::format("the process was ended with exit code {}", WEXITSTATUS(status));
  }

  /// What was printed since the last call, up to byte `end` of all that was printed, cut for a message.
  std::string printed(off_t end = std::numeric_limits<off_t>::max()) {
    std::string text;
    char block[4096];
    while (printed_bytes_ < end) {
      const auto wanted = static_cast<std::size_t>(std::min<off_t>(sizeof block, end - printed_bytes_));
      const ssize_t n = pread(printed_.get(), block, wanted, printed_bytes_);
      if (n <= 0) break;
      printed_bytes_ += n;
      if (text.size() < k_max_quoted_bytes) text.append(block, static_cast<std::size_t>(n));
    }
    if (text.size() > k_max_quoted_bytes) text = text.substr(0, k_max_quoted_bytes) + "...";
    return text;
  }

 private:
  static int open_temporary() {
    const int fd = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) return fd;
    std::string name = (std::filesystem::temp_directory_path() / "borel_check_XXXXXX").string();
    const int named = mkostemp(name.data(), O_APPEND | O_CLOEXEC);
    if (named < 0) throw Error(fmt::format("check: no temporary file: {}", std::strerror(errno)));
    unlink(name.c_str());
    return named;
  }

  Descriptor printed_;
  std::optional<Descriptor> results_;
  pid_t pid_ = -1;
  std::string buffer_;
  off_t printed_bytes_ = 0;
  bool timed_out_ = false;
};

std::string with_output(std::string reason, const std::string& printed) {
  return printed.empty() ? reason : reason.append("; it printed:\n").append(printed);
}

/// Reads the results of one child. @return true when all rules are done, false when a new child must go on
bool follow(Worker& worker, const CheckRequest& request, std::size_t& n_done,
            FunctionRef<void(const CheckResult&)> report) {
  for (;;) {
    const auto first = worker.read_line(k_start_limit_s);
    if (!first) {
      const bool late = worker.timed_out();
      const std::string end = worker.finish();
      if (n_done > 0 && !late)
        throw PluginError(with_output(
            fmt::format("plugin {}: between two rules {}", request.file.string(), end), worker.printed()));
      throw PluginError(with_output(fmt::format("plugin {}: while it was loaded, {}", request.file.string(),
                                                late ? fmt::format("{} s went by", k_start_limit_s) : end),
                                    worker.printed()));
    }
    const auto message = nlohmann::json::parse(*first);
    if (message.contains("error")) throw PluginError(message["error"].get<std::string>());
    if (message.contains("end")) return true;
    CheckResult result{message["method"], message["begin"], message["description"], {}, 0};
    const double limit_s = message["limit_s"];
    const auto second = worker.read_line(limit_s);
    ++n_done;
    if (!second) {
      const bool late = worker.timed_out();
      const std::string end = worker.finish();
      result.seconds = late ? limit_s : 0;
      result.verdict = broken(
          with_output(late ? fmt::format("no answer within {} s; the process was killed", limit_s) : end,
                      worker.printed()));
      report(result);
      return false;
    }
    const auto answer = nlohmann::json::parse(*second);
    result.verdict = {static_cast<Verdict::Kind>(answer["verdict"].get<int>()), answer["text"]};
    result.seconds = answer["seconds"];
    if (const std::string printed = worker.printed(answer["printed_bytes"].get<off_t>());
        !printed.empty() && result.verdict.kind != Verdict::Kind::broken)
      result.verdict = broken("a method never prints; this was printed:\n" + printed);
    report(result);
  }
}

}  // namespace

void check_plugin(const CheckRequest& request, const std::vector<std::string>& worker_arguments,
                  FunctionRef<void(const CheckResult&)> report) {
  inspect_plugin(request.file);  // a file that does not fit needs no child
  std::size_t n_done = 0;
  for (bool complete = false; !complete;) {
    std::vector<std::string> arguments = worker_arguments;
    arguments.insert(arguments.end(), {request.file.string(), request.spec, request.rule,
                                       fmt::format("{}", request.seed.value),
                                       fmt::format("{}", request.time_limit_s), fmt::format("{}", n_done)});
    Worker worker(arguments);
    complete = follow(worker, request, n_done, report);
  }
}

}  // namespace borel::contract
