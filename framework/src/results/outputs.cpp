#include "results/outputs.hpp"

#include <fstream>
#include <iterator>

#include "borel/fingerprint.hpp"
#include "report/report.hpp"
#include "results/collect.hpp"
#include "results/csv.hpp"
#include "results/results_h5.hpp"

namespace borel {
namespace {

std::string read_text(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

bool write_outputs(const RunFolder& folder, const Journal& journal, bool again,
                   const std::atomic<bool>* interrupted) {
  const std::string stamp = std::string(BOREL_VERSION " " BOREL_GIT_REVISION " ") + journal.digest + '\n';
  if (!again && read_text(folder.stamp()) == stamp && std::filesystem::exists(folder.results()) &&
      std::filesystem::exists(folder.csv() / "cells.csv") && std::filesystem::exists(folder.report()))
    return false;
  const RunResults results = collect_results(journal);
  write_results_h5(results, folder.results());
  write_csv(results, folder.csv());
  ReportOptions options;
  options.interrupted = interrupted;
  if (write_report(results, folder.root, options) == 0)
    write_whole_file(folder.stamp(), stamp);
  else
    std::filesystem::remove(folder.stamp());  // the next start draws again: gnuplot may be there by then
  return true;
}

}  // namespace borel
