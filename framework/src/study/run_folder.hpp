// The folder of a run: who may write in it, and where things lie.
#pragma once

#include <filesystem>
#include <string>

namespace borel {

struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path journal() const { return root / "journal.jsonl"; }
  std::filesystem::path study() const { return root / "study.toml"; }
  std::filesystem::path results() const { return root / "results.h5"; }
  std::filesystem::path csv() const { return root / "csv"; }
  std::filesystem::path report() const { return root / "report.html"; }
  std::filesystem::path stamp() const { return root / "outputs.stamp"; }
};

/// Creates the folder when needed and keeps others out while it lives; a killed program leaves no lock
/// behind.
class RunLock {
 public:
  /// @throws Error naming the process that holds it, or why the folder cannot be made
  explicit RunLock(const RunFolder& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// An existing run. @throws Error when there is no journal, with what to do
RunFolder existing_run(const std::filesystem::path& folder);

/// Temporary file, flush, rename: a reader sees the old contents or the new ones. @throws Error
void write_whole_file(const std::filesystem::path& file, std::string_view text);

}  // namespace borel
