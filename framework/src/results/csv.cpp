#include "results/csv.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "study/run_folder.hpp"

namespace borel {
namespace {

std::string field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string out = "\"";
  for (char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out += '"';
}
std::string field(double value) { return fmt::format("{}", value); }  // shortest that reads back
std::string field(std::int64_t value) { return std::to_string(value); }
std::string field(std::uint64_t value) { return std::to_string(value); }

class Table {
 public:
  template <class... Values>
  void row(const Values&... values) {
    (add(field(values)), ...);
    end_row();
  }
  void add(std::string_view ready) {
    if (!fresh_) text_ += ',';
    text_ += ready;
    fresh_ = false;
  }
  void end_row() {
    text_ += "\r\n";
    fresh_ = true;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  bool fresh_ = true;
};

using std::string_view;

std::string protocol_table(const std::vector<const CellRecord*>& cells) {
  std::vector<std::string> metrics;  // in the protocol's order
  for (const CellRecord* cell : cells)
    for (const Metric& metric : cell->result.metrics)
      if (std::find(metrics.begin(), metrics.end(), metric.name) == metrics.end())
        metrics.push_back(metric.name);
  Table table;
  for (string_view name : {"cell_id", "dataset", "options", "label"}) table.add(name);
  for (const MethodUse& use : cells.front()->methods) table.add(field(use.family));
  for (string_view name : {"repetition", "seed", "outcome", "reason"}) table.add(name);
  for (const std::string& name : metrics) table.add(field(name));
  table.end_row();
  for (const CellRecord* cell : cells) {
    table.add(cell->cell_id);
    table.add(field(cell->dataset));
    table.add(field(cell->options));
    table.add(field(cell->label));
    for (const MethodUse& use : cell->methods) table.add(field(use.spec));
    table.add(field(cell->repetition));
    table.add(field(cell->seed));
    table.add(to_string(cell->result.outcome));
    table.add(field(cell->result.reason));
    for (const std::string& name : metrics) {
      std::string text;
      for (const Metric& metric : cell->result.metrics)
        if (metric.name == name) text = field(metric.value);
      table.add(text);
    }
    table.end_row();
  }
  return table.text();
}

}  // namespace

void write_csv(const RunResults& results, const std::filesystem::path& folder) {
  std::error_code status;
  std::filesystem::create_directories(folder, status);
  if (status) throw Error(fmt::format("{} cannot be made: {}", folder.string(), status.message()));

  std::map<std::string, std::vector<const CellRecord*>> by_protocol;
  Table cells, curves, timings;
  cells.row(string_view("cell_id"), string_view("protocol"), string_view("dataset"), string_view("label"),
            string_view("repetition"), string_view("outcome"), string_view("reason"), string_view("wall_s"));
  curves.row(string_view("cell_id"), string_view("protocol"), string_view("dataset"), string_view("label"),
             string_view("repetition"), string_view("curve"), string_view("x"), string_view("y"));
  timings.row(string_view("cell_id"), string_view("protocol"), string_view("dataset"), string_view("label"),
              string_view("task"), string_view("round"), string_view("seconds"));
  for (const CellRecord& cell : results.cells) {
    by_protocol[cell.protocol].push_back(&cell);
    cells.row(cell.cell_id, cell.protocol, cell.dataset, cell.label, cell.repetition,
              to_string(cell.result.outcome), cell.result.reason, cell.result.wall_s);
    for (const Curve& curve : cell.result.curves)
      for (std::size_t i = 0; i < curve.x.size(); ++i)
        curves.row(cell.cell_id, cell.protocol, cell.dataset, cell.label, cell.repetition, curve.name,
                   curve.x[i], curve.y[i]);
    for (const Timing& timing : cell.result.timings)
      for (std::size_t i = 0; i < timing.seconds.size(); ++i)
        timings.row(cell.cell_id, cell.protocol, cell.dataset, cell.label, timing.name,
                    static_cast<std::int64_t>(i), timing.seconds[i]);
  }
  for (const auto& [protocol, members] : by_protocol)
    write_whole_file(folder / (protocol + ".csv"), protocol_table(members));
  write_whole_file(folder / "cells.csv", cells.text());
  write_whole_file(folder / "curves.csv", curves.text());
  write_whole_file(folder / "timings.csv", timings.text());
}

}  // namespace borel
