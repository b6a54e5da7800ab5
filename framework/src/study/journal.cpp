#include "study/journal.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>
#include <zlib.h>
#include <nlohmann/json.hpp>

#include "borel/error.hpp"
#include "dataset/digest.hpp"
#include "study/plan.hpp"
#include "study/record_json.hpp"

namespace borel {
namespace {

using nlohmann::json;

constexpr std::string_view k_prefix = "{\"crc32\":\"";
constexpr std::string_view k_middle = "\",\"record\":";
constexpr std::size_t k_crc_digits = 8;

std::string crc_text(std::string_view bytes) {
  const uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  return fmt::format("{:08x}", crc);
}

/// The record's text in a line without newline; "" and a reason when the line is damaged.
std::string_view checked_record(std::string_view line, std::string& reason) {
  const std::size_t head = k_prefix.size() + k_crc_digits + k_middle.size();
  if (line.size() < head + 1 || !line.starts_with(k_prefix) ||
      line.substr(k_prefix.size() + k_crc_digits, k_middle.size()) != k_middle || !line.ends_with('}')) {
    reason = "not a journal line";
    return {};
  }
  const std::string_view record = line.substr(head, line.size() - head - 1);
  if (crc_text(record) != line.substr(k_prefix.size(), k_crc_digits)) {
    reason = "the checksum does not match";
    return {};
  }
  return record;
}

void take_plan(const json& record, Journal& out) {
  out.has_plan = true;
  out.title = record.at("title").get<std::string>();
  out.description = record.at("description").get<std::string>();
  out.study_name = record.at("study_name").get<std::string>();
  out.study_file = record.at("study_file").get<std::string>();
  out.study_text = record.at("study_text").get<std::string>();
  out.study_digest = record.at("study_digest").get<std::string>();
  out.plan_digest = record.at("plan_digest").get<std::string>();
  out.planned.clear();
  for (const json& cell : record.at("cells"))
    out.planned.emplace_back(cell_record_from(cell), cell.at("inputs").get<std::string>());
}

void take(const json& record, Journal& out) {
  const std::string type = record.at("type").get<std::string>();
  if (type == "plan") {
    take_plan(record, out);
  } else if (type == "run") {
    std::vector<std::pair<std::string, std::string>> facts;
    for (const json& fact : record.at("provenance"))
      facts.emplace_back(fact.at(0).get<std::string>(), fact.at(1).get<std::string>());
    out.runs.push_back(std::move(facts));
  } else if (type == "cell") {
    JournalCell& cell = out.cells[record.at("id").get<std::string>()];
    std::vector<Timing> timings = std::move(cell.result.timings);
    cell.result = cell_result_from(record.at("result"));
    cell.result.timings = std::move(timings);
    cell.has_result = true;
    cell.finished_at = record.at("at").get<std::string>();
    ++cell.attempts;
  } else if (type == "timing") {
    JournalCell& cell = out.cells[record.at("id").get<std::string>()];
    cell.result.timings = timings_from(record.at("timings"));
    cell.timing_problem = record.value("problem", std::string());
    cell.has_timing = true;
  }  // types of later versions carry nothing that this one needs
}

[[noreturn]] void fail(const std::filesystem::path& file, std::string_view what) {
  throw Error(fmt::format("journal {}: {}: {}", file.string(), what, std::strerror(errno)));
}

/// A new file survives a power loss only when its name does too.
void sync_folder_of(const std::filesystem::path& file) {
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail(file, "its folder cannot be opened");
  const int status = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  // Some file systems cannot flush a folder and say EINVAL.
  if (status != 0 && errno != EINVAL) fail(file, "its folder cannot be flushed to the disk");
}

}  // namespace

std::string journal_line(const json& record) {
  const std::string text = json_text(record);
  return fmt::format("{}{}{}{}}}\n", k_prefix, crc_text(text), k_middle, text);
}

JournalWriter::JournalWriter(std::filesystem::path file) : file_(std::move(file)) {
  descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail(file_, "cannot be opened");
  struct stat facts {};
  if (::fstat(descriptor_, &facts) != 0) fail(file_, "cannot be examined");
  // Nothing after the last newline was ever acknowledged.
  off_t end = facts.st_size;
  char byte = '\n';
  while (end > 0 && ::pread(descriptor_, &byte, 1, end - 1) == 1 && byte != '\n') --end;
  if (end != facts.st_size && ::ftruncate(descriptor_, end) != 0)
    fail(file_, "a torn last line cannot be removed");
  end_ = end;
  if (facts.st_size == 0) sync_folder_of(file_);
}

JournalWriter::~JournalWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void JournalWriter::append(const json& record) {
  const std::string line = journal_line(record);
  std::unique_lock lock(mutex_);
  const auto refuse_when_broken = [&] {
    if (!broken_.empty()) throw Error(broken_);
  };
  refuse_when_broken();
  for (std::size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int reason = errno;
      if (::ftruncate(descriptor_, end_) != 0)
        broken_ =
            fmt::format("journal {}: half a record at its end cannot be cut off: {}; nothing more is written",
                        file_.string(), std::strerror(errno));
      errno = reason;
      fail(file_, "a record cannot be written");
    }
    done += static_cast<std::size_t>(n);
  }
  end_ += static_cast<off_t>(line.size());
  const std::uint64_t mine = ++written_;
  while (on_disk_ < mine) {
    if (syncing_) {
      synced_.wait(lock);
      if (on_disk_ < mine) refuse_when_broken();
      continue;
    }
    syncing_ = true;
    const std::uint64_t covered = written_;
    lock.unlock();
    const int reason = ::fdatasync(descriptor_) == 0 ? 0 : errno;
    lock.lock();
    syncing_ = false;
    if (reason == 0)
      on_disk_ = covered;
    else
      broken_ = fmt::format("journal {}: cannot be flushed to the disk: {}; nothing more is written",
                            file_.string(), std::strerror(reason));
    synced_.notify_all();
    refuse_when_broken();
  }
}

std::string plan_record_digest(const Plan& plan) {
  std::string text = plan.title + '\n' + plan.description + '\n' + plan.study_file + '\n' + plan.study_text;
  for (const PlannedCell& cell : plan.cells) text += '\n' + json_text(to_json(cell.record));
  return sha256_hex(text);
}

Journal read_journal(const std::filesystem::path& file) {
  Journal out;
  if (!std::filesystem::exists(file)) return out;
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(file, "cannot be opened");
  const std::string text(std::istreambuf_iterator<char>(in), {});
  if (in.bad()) fail(file, "cannot be read");
  out.digest = sha256_hex(text);
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    ++number;
    const std::size_t newline = text.find('\n', begin);
    if (newline == std::string::npos) {
      out.damage.push_back(
          fmt::format("{}:{}: the last line is torn (the program was killed while writing it); it is "
                      "left out, and its cell runs again",
                      file.string(), number));
      break;
    }
    const std::string_view line = std::string_view(text).substr(begin, newline - begin);
    begin = newline + 1;
    std::string reason;
    const std::string_view record = checked_record(line, reason);
    if (reason.empty()) {
      try {
        take(json::parse(record), out);
        continue;
      } catch (const std::exception& error) {
        reason = error.what();
      }
    }
    out.damage.push_back(fmt::format("{}:{}: damaged line ({}); it is left out, and its cell runs again",
                                     file.string(), number, reason));
  }
  return out;
}

}  // namespace borel
