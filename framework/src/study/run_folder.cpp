#include "study/run_folder.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {

RunLock::RunLock(const RunFolder& folder) {
  std::error_code status;
  std::filesystem::create_directories(folder.root, status);
  if (status)
    throw Error(fmt::format("run folder {} cannot be made: {}", folder.root.string(), status.message()));
  // A run replaces study.toml, results, figures: it must not move in among files of somebody else.
  if (!std::filesystem::exists(folder.journal()))
    for (const auto& entry : std::filesystem::directory_iterator(folder.root))
      if (entry.path().filename() != "run.lock")
        throw Error(
            fmt::format("{} is not empty and no run folder (it holds {}); choose another one with --out",
                        folder.root.string(), entry.path().filename().string()));
  const std::string file = (folder.root / "run.lock").string();
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw Error(fmt::format("{} cannot be opened: {}", file, std::strerror(errno)));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t n = ::pread(descriptor_, holder, sizeof holder - 1, 0);
    ::close(descriptor_);
    throw Error(
        fmt::format("run folder {} is in use by process {}; wait for it, stop it, or choose another folder "
                    "with --out",
                    folder.root.string(), n > 0 ? holder : "?"));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, pid.data(), pid.size(), 0) < 0) {
    ::close(descriptor_);
    throw Error(fmt::format("{} cannot be written: {}", file, std::strerror(errno)));
  }
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

RunFolder existing_run(const std::filesystem::path& folder) {
  const RunFolder run{folder};
  if (!std::filesystem::is_regular_file(run.journal()))
    throw Error(fmt::format(
        "{} is not a run folder: it has no journal.jsonl. A run is made by: borel run <study.toml>",
        folder.string()));
  return run;
}

void write_whole_file(const std::filesystem::path& file, std::string_view text) {
  const std::string temporary = file.string() + ".new";
  const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  bool good = descriptor >= 0;
  for (std::size_t done = 0; good && done < text.size();) {
    const ssize_t n = ::write(descriptor, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    good = n >= 0;
    if (good) done += static_cast<std::size_t>(n);
  }
  good = good && ::fdatasync(descriptor) == 0;
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (good && ::rename(temporary.c_str(), file.c_str()) == 0) return;
  throw Error(fmt::format("{} cannot be written: {}", file.string(), std::strerror(good ? errno : reason)));
}

}  // namespace borel
