// The journal: what happened in a run, one JSON record a line, each with its CRC-32. The only source of truth
// of a run; results.h5, CSV and the report are made from it.
//
//   {"crc32":"1a2b3c4d","record":{"type":"cell",...}}          the checksum covers the bytes of the record's
//   value
//
// Record types: `plan` (cells with everything that makes them), `run` (one start of the program: provenance),
// `cell` (one result), `timing` (raw seconds of one cell). A later record of the same cell replaces an
// earlier one.
//
// A line is one write() to a file opened with O_APPEND, then fdatasync before append() returns: kill -9 and
// power loss lose no acknowledged record and can leave at most one torn line at the end. A line that cannot be written
// whole (disk full) is cut off again. After a failed fdatasync nobody knows what is on disk (Linux forgets the error), so
// the writer then refuses everything; so it does when a torn line cannot be cut off.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include <nlohmann/json_fwd.hpp>

#include "results/run_results.hpp"

namespace borel {

struct Plan;

class JournalWriter {
 public:
  /// Opens or creates the file and removes a torn last line. @throws Error
  explicit JournalWriter(std::filesystem::path file);
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  /// On disk when it returns. Any thread; threads that wait at the same time share one fdatasync. @throws Error; the
  /// records before stay as they are
  void append(const nlohmann::json& record);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
  std::mutex mutex_;
  std::condition_variable synced_;
  std::uint64_t written_ = 0, on_disk_ = 0;
  bool syncing_ = false;
  std::string broken_ = {};  // why nothing can be appended any more
  off_t end_ = 0;            // behind the last whole line
};

/// A journal line, with newline.
std::string journal_line(const nlohmann::json& record);

/// What a journal says about one cell, apart from what the plan knows.
struct JournalCell {
  CellResult result;  ///< with timings
  bool has_result = false;
  bool has_timing = false;
  std::string timing_problem;  ///< why there are no timings; "" when there are
  std::int64_t attempts = 0;
  std::string finished_at;  ///< UTC, ISO 8601
};

struct Journal {
  std::string title, description, study_name, study_file, study_text, study_digest, plan_digest;
  std::vector<std::pair<CellRecord, std::string>> planned;  ///< of the last plan, with their inputs (JSON)
  std::map<std::string, JournalCell> cells;                 ///< by id, also those of earlier plans
  std::vector<std::vector<std::pair<std::string, std::string>>> runs;  ///< provenance of each start
  std::vector<std::string> damage;  ///< lines that were left out and why, with their numbers
  bool has_plan = false;
  std::string digest;  ///< SHA-256 of the file
};

/// Identity of a `plan` record: cells with their labels, title, description and the study's text. A plan is
/// written again only when this changes.
std::string plan_record_digest(const Plan& plan);

/// A missing file is an empty journal. Damaged lines are listed, not fatal. @throws Error when it cannot be
/// read
Journal read_journal(const std::filesystem::path& file);

}  // namespace borel
