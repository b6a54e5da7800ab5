#include "protocols/protocol.hpp"
#include "report/report.hpp"

namespace borel {

std::size_t write_report(const RunResults& results, const std::filesystem::path& run_folder,
                         const ReportOptions& options) {
  ProtocolTable table;
  for (const Protocol* protocol : protocols())
    table.emplace(protocol->id(), ProtocolDescription{std::string(protocol->summary()), protocol->metrics()});
  return write_report(results, run_folder, table, options);
}

}  // namespace borel
