#include "protocols/protocol.hpp"
#include "report/report.hpp"

namespace borel {

void write_report(const RunResults& results, const std::filesystem::path& run_folder) {
  ProtocolTable table;
  for (const Protocol* protocol : protocols())
    table.emplace(protocol->id(), ProtocolDescription{std::string(protocol->summary()), protocol->metrics()});
  write_report(results, run_folder, table);
}

}  // namespace borel
