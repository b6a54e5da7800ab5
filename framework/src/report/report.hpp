// The report of a run: one HTML file that works offline, and its figures as files for papers.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "results/run_results.hpp"

namespace borel {

struct ReportOptions {
  std::string gnuplot = "gnuplot";  ///< program that draws; looked up in PATH unless it holds a slash
  double gnuplot_limit_s = 120;  ///< a batch that takes longer is ended and the rest is reported as not drawn
  const std::atomic<bool>* interrupted =
      nullptr;  ///< when it becomes true, gnuplot is ended and Stopped thrown
};

/// What the report needs to know about a protocol beyond its cells.
struct ProtocolDescription {
  std::string summary;
  std::vector<MetricInfo> metrics;
};

/// By protocol id. Protocols that are not in it are described from their cells: no summary, and the first
/// metric with a direction is the headline.
using ProtocolTable = std::map<std::string, ProtocolDescription>;

/// Writes run_folder/report.html and run_folder/figures/<name>.{gp,csv,pdf}; replaces what stood there.
/// Without gnuplot the report is complete but for the figures, and says how to get them. Deterministic: same
/// results, same bytes (for one gnuplot). Threads: none of its own; one gnuplot process at a time for each of
/// SVG and PDF. Returns the number of figures of the page that could not be drawn.
/// @throws Error when the folder cannot be written, Stopped when interrupted
std::size_t write_report(const RunResults& results, const std::filesystem::path& run_folder,
                         const ProtocolTable& protocols, const ReportOptions& options = {});

/// With the protocols of this program.
std::size_t write_report(const RunResults& results, const std::filesystem::path& run_folder,
                         const ReportOptions& options);

}  // namespace borel
