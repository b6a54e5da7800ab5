#include "results/results_h5.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

#include <nlohmann/json.hpp>

#include "dataset/h5.hpp"
#include "dataset/schema.hpp"

namespace borel {
namespace {

using nlohmann::json;

/// Writes one column of a table from its rows.
template <class Row, class Value>
void column(h5::Writer& out, const std::string& path, const std::vector<Row>& rows, Value&& value) {
  using T = std::decay_t<std::invoke_result_t<Value, const Row&>>;
  std::vector<T> values;
  values.reserve(rows.size());
  for (const Row& row : rows) values.push_back(value(row));
  const h5::Shape shape = {static_cast<std::int64_t>(rows.size())};
  if constexpr (std::is_same_v<T, std::string>)
    out.strings(path, values, shape);
  else
    out.array(path, std::span<const T>(values), shape);
}

template <class T>
void values(h5::Writer& out, const std::string& path, const std::vector<T>& all) {
  out.array(path, std::span<const T>(all), {static_cast<std::int64_t>(all.size())});
}

std::string specs_json(const CellRecord& cell) {
  json list = json::array();
  for (const MethodUse& use : cell.methods)
    list.push_back({{"family", use.family},
                    {"id", use.id},
                    {"spec", use.spec},
                    {"label", use.label},
                    {"plugin_file", use.plugin_file},
                    {"plugin_sha256", use.plugin_sha256}});
  return list.dump();
}

void write_cells(h5::Writer& out, const std::vector<CellRecord>& cells) {
  using Row = CellRecord;
  column(out, "cells/id", cells, [](const Row& c) { return c.cell_id; });
  column(out, "cells/protocol", cells, [](const Row& c) { return c.protocol; });
  column(out, "cells/options", cells, [](const Row& c) { return c.options; });
  column(out, "cells/dataset", cells, [](const Row& c) { return c.dataset; });
  column(out, "cells/dataset_digest", cells, [](const Row& c) { return c.dataset_digest; });
  column(out, "cells/label", cells, [](const Row& c) { return c.label; });
  column(out, "cells/specs", cells, specs_json);
  column(out, "cells/repetition", cells, [](const Row& c) { return c.repetition; });
  column(out, "cells/seed", cells, [](const Row& c) { return std::to_string(c.seed); });
  column(out, "cells/outcome", cells, [](const Row& c) { return std::string(to_string(c.result.outcome)); });
  column(out, "cells/reason", cells, [](const Row& c) { return c.result.reason; });
  column(out, "cells/wall_s", cells, [](const Row& c) { return c.result.wall_s; });
}

void write_protocols(h5::Writer& out, const std::vector<CellRecord>& cells) {
  out.group("protocols");
  std::map<std::string, std::vector<std::int64_t>> rows;
  for (std::size_t i = 0; i < cells.size(); ++i)
    rows[cells[i].protocol].push_back(static_cast<std::int64_t>(i));
  for (const auto& [protocol, members] : rows) {
    const std::string group = "protocols/" + protocol;
    values(out, group + "/cell", members);
    out.group(group + "/metrics");
    std::map<std::string, std::pair<const Metric*, std::vector<double>>> metrics;
    for (std::size_t row = 0; row < members.size(); ++row)
      for (const Metric& metric : cells[static_cast<std::size_t>(members[row])].result.metrics) {
        auto& [example, all] = metrics[metric.name];
        if (!example) all.assign(members.size(), std::numeric_limits<double>::quiet_NaN());
        example = &metric;
        all[row] = metric.value;
      }
    for (const auto& [name, metric] : metrics) {
      const std::string path = group + "/metrics/" + name;
      values(out, path, metric.second);
      out.attribute(path, "unit", metric.first->unit);
      out.attribute(path, "direction", std::string(to_string(metric.first->direction)));
    }
    // Which metrics a cell has, in its own order: a NaN in a column can also be a value.
    column(out, group + "/metric_names", members, [&](std::int64_t i) {
      json names = json::array();
      for (const Metric& metric : cells[static_cast<std::size_t>(i)].result.metrics)
        names.push_back(metric.name);
      return names.dump();
    });
  }
}

/// Series of all cells, one after the other.
template <class Item>
struct Flat {
  std::int64_t cell, first;
  const Item* item;
};

template <class Item, class Members, class Size>
std::vector<Flat<Item>> flattened(const std::vector<CellRecord>& cells, Members&& members, Size&& size) {
  std::vector<Flat<Item>> out;
  std::int64_t first = 0;
  for (std::size_t i = 0; i < cells.size(); ++i)
    for (const Item& item : members(cells[i].result)) {
      out.push_back({static_cast<std::int64_t>(i), first, &item});
      first += static_cast<std::int64_t>(size(item));
    }
  return out;
}

template <class Item, class Series>
std::vector<double> all_values(const std::vector<Flat<Item>>& rows, Series&& series) {
  std::vector<double> out;
  for (const Flat<Item>& row : rows) {
    const std::vector<double>& part = series(*row.item);
    out.insert(out.end(), part.begin(), part.end());
  }
  return out;
}

void write_curves(h5::Writer& out, const std::vector<CellRecord>& cells) {
  using Row = Flat<Curve>;
  const std::vector<Row> rows = flattened<Curve>(
      cells, [](const CellResult& r) -> auto& { return r.curves; },
      [](const Curve& c) { return c.x.size(); });
  column(out, "curves/cell", rows, [](const Row& r) { return r.cell; });
  column(out, "curves/name", rows, [](const Row& r) { return r.item->name; });
  column(out, "curves/x_label", rows, [](const Row& r) { return r.item->x_label; });
  column(out, "curves/y_label", rows, [](const Row& r) { return r.item->y_label; });
  column(out, "curves/reference_of", rows, [](const Row& r) { return r.item->reference_of; });
  column(out, "curves/log_x", rows, [](const Row& r) { return static_cast<std::uint8_t>(r.item->log_x); });
  column(out, "curves/log_y", rows, [](const Row& r) { return static_cast<std::uint8_t>(r.item->log_y); });
  column(out, "curves/first", rows, [](const Row& r) { return r.first; });
  column(out, "curves/count", rows, [](const Row& r) { return static_cast<std::int64_t>(r.item->x.size()); });
  values(out, "curves/x",
         all_values(
             rows, [](const Curve& c) -> auto& { return c.x; }));
  values(out, "curves/y",
         all_values(
             rows, [](const Curve& c) -> auto& { return c.y; }));
}

void write_pictures(h5::Writer& out, const std::vector<CellRecord>& cells) {
  using Row = Flat<Picture>;
  const std::vector<Row> rows = flattened<Picture>(
      cells, [](const CellResult& r) -> auto& { return r.pictures; },
      [](const Picture& p) { return p.values.size(); });
  column(out, "pictures/cell", rows, [](const Row& r) { return r.cell; });
  column(out, "pictures/name", rows, [](const Row& r) { return r.item->name; });
  column(out, "pictures/x_label", rows, [](const Row& r) { return r.item->x_label; });
  column(out, "pictures/y_label", rows, [](const Row& r) { return r.item->y_label; });
  column(out, "pictures/n_rows", rows, [](const Row& r) { return r.item->n_rows; });
  column(out, "pictures/n_cols", rows, [](const Row& r) { return r.item->n_cols; });
  column(out, "pictures/first", rows, [](const Row& r) { return r.first; });
  values(out, "pictures/values",
         all_values(
             rows, [](const Picture& p) -> auto& { return p.values; }));
}

void write_timings(h5::Writer& out, const std::vector<CellRecord>& cells) {
  using Row = Flat<Timing>;
  const std::vector<Row> rows = flattened<Timing>(
      cells, [](const CellResult& r) -> auto& { return r.timings; },
      [](const Timing& t) { return t.seconds.size(); });
  column(out, "timings/cell", rows, [](const Row& r) { return r.cell; });
  column(out, "timings/name", rows, [](const Row& r) { return r.item->name; });
  column(out, "timings/first", rows, [](const Row& r) { return r.first; });
  column(out, "timings/count", rows,
         [](const Row& r) { return static_cast<std::int64_t>(r.item->seconds.size()); });
  values(out, "timings/seconds",
         all_values(
             rows, [](const Timing& t) -> auto& { return t.seconds; }));
}

// ---- reading

/// A slice of a flat column. @throws DatasetError when the index lies outside
std::vector<double> slice(const std::vector<double>& all, std::int64_t first, std::int64_t count) {
  if (first < 0 || count < 0 || first > static_cast<std::int64_t>(all.size()) - count)
    throw DatasetError(
        "results file: an index column points outside its values; remake it with: borel report <run>");
  return {all.begin() + first, all.begin() + first + count};
}

CellResult& result_at(RunResults& results, std::int64_t cell) {
  if (cell < 0 || cell >= static_cast<std::int64_t>(results.cells.size()))
    throw DatasetError("results file: a row belongs to no cell; remake it with: borel report <run>");
  return results.cells[static_cast<std::size_t>(cell)].result;
}

void read_cells(const h5::Reader& in, RunResults& results) {
  const auto id = in.read_strings("cells/id"), protocol = in.read_strings("cells/protocol"),
             options = in.read_strings("cells/options"), dataset = in.read_strings("cells/dataset"),
             digest = in.read_strings("cells/dataset_digest"), specs = in.read_strings("cells/specs"),
             label = in.read_strings("cells/label"), seed = in.read_strings("cells/seed"),
             outcome = in.read_strings("cells/outcome"), reason = in.read_strings("cells/reason");
  const auto repetition = in.read<std::int64_t>("cells/repetition");
  const auto wall_s = in.read<double>("cells/wall_s");
  for (std::size_t i = 0; i < id.size(); ++i) {
    CellRecord cell;
    cell.cell_id = id[i];
    cell.protocol = protocol.at(i);
    cell.options = options.at(i);
    cell.dataset = dataset.at(i);
    cell.dataset_digest = digest.at(i);
    for (const json& use : json::parse(specs.at(i)))
      cell.methods.push_back({use.at("family"), use.at("id"), use.at("spec"), use.at("label"),
                              use.at("plugin_file"), use.at("plugin_sha256")});
    cell.label = label.at(i);
    cell.repetition = repetition.at(i);
    std::from_chars(seed.at(i).data(), seed[i].data() + seed[i].size(), cell.seed);
    cell.result.outcome = outcome_from(outcome.at(i));
    cell.result.reason = reason.at(i);
    cell.result.wall_s = wall_s.at(i);
    results.cells.push_back(std::move(cell));
  }
}

void read_metrics(const h5::Reader& in, RunResults& results) {
  for (const std::string& protocol : in.children("protocols")) {
    const std::string group = "protocols/" + protocol;
    const auto rows = in.read<std::int64_t>(group + "/cell");
    const auto names = in.read_strings(group + "/metric_names");
    std::map<std::string, std::vector<double>> columns;
    for (const std::string& name : in.children(group + "/metrics"))
      columns[name] = in.read<double>(group + "/metrics/" + name);
    for (std::size_t row = 0; row < rows.size(); ++row)
      for (const std::string name : json::parse(names.at(row))) {
        const std::string path = group + "/metrics/" + name;
        result_at(results, rows[row])
            .metrics.push_back({name, in.text_attribute(path, "unit"), columns.at(name).at(row),
                                direction_from(in.text_attribute(path, "direction"))});
      }
  }
}

void read_curves(const h5::Reader& in, RunResults& results) {
  const auto cell = in.read<std::int64_t>("curves/cell"), first = in.read<std::int64_t>("curves/first"),
             count = in.read<std::int64_t>("curves/count");
  const auto name = in.read_strings("curves/name"), x_label = in.read_strings("curves/x_label"),
             y_label = in.read_strings("curves/y_label"),
             reference_of = in.read_strings("curves/reference_of");
  const auto log_x = in.read<std::uint8_t>("curves/log_x"), log_y = in.read<std::uint8_t>("curves/log_y");
  const auto x = in.read<double>("curves/x"), y = in.read<double>("curves/y");
  for (std::size_t i = 0; i < cell.size(); ++i)
    result_at(results, cell[i])
        .curves.push_back({name.at(i), x_label.at(i), y_label.at(i), log_x.at(i) != 0, log_y.at(i) != 0,
                           slice(x, first.at(i), count.at(i)), slice(y, first.at(i), count.at(i)),
                           reference_of.at(i)});
}

void read_pictures(const h5::Reader& in, RunResults& results) {
  const auto cell = in.read<std::int64_t>("pictures/cell"), first = in.read<std::int64_t>("pictures/first"),
             n_rows = in.read<std::int64_t>("pictures/n_rows"),
             n_cols = in.read<std::int64_t>("pictures/n_cols");
  const auto name = in.read_strings("pictures/name"), x_label = in.read_strings("pictures/x_label"),
             y_label = in.read_strings("pictures/y_label");
  const auto all = in.read<double>("pictures/values");
  for (std::size_t i = 0; i < cell.size(); ++i)
    result_at(results, cell[i])
        .pictures.push_back({name.at(i), x_label.at(i), y_label.at(i), n_rows.at(i), n_cols.at(i),
                             slice(all, first.at(i), n_rows.at(i) * n_cols.at(i))});
}

void read_timings(const h5::Reader& in, RunResults& results) {
  const auto cell = in.read<std::int64_t>("timings/cell"), first = in.read<std::int64_t>("timings/first"),
             count = in.read<std::int64_t>("timings/count");
  const auto name = in.read_strings("timings/name");
  const auto seconds = in.read<double>("timings/seconds");
  for (std::size_t i = 0; i < cell.size(); ++i)
    result_at(results, cell[i]).timings.push_back({name.at(i), slice(seconds, first.at(i), count.at(i))});
}

}  // namespace

void write_results_h5(const RunResults& results, const std::filesystem::path& file) {
  h5::Writer out(file);
  out.attribute("", "borel_schema", schema_text(DatasetKind::results));
  out.attribute("", "title", results.title);
  out.attribute("", "description", results.description);
  out.attribute("", "study_file", results.study_file);
  out.attribute("", "study_digest", results.study_digest);
  // HDF5 keeps attributes in the object header, which holds 64 KiB; a study file may be longer.
  const std::vector<std::string> text = {results.study_text};
  out.strings("study_text", text, {1});
  out.group("provenance");
  for (const auto& [name, value] : results.provenance) out.attribute("provenance", name, value);
  write_cells(out, results.cells);
  write_protocols(out, results.cells);
  write_curves(out, results.cells);
  write_pictures(out, results.cells);
  write_timings(out, results.cells);
  out.commit();
}

RunResults read_results_h5(const std::filesystem::path& file) {
  const h5::Reader in(file);
  if (in.text_attribute("", "borel_schema") != schema_text(DatasetKind::results))
    throw DatasetError(file.string() + ": is not a results file (borel_schema says '" +
                       in.text_attribute("", "borel_schema") + "')");
  RunResults results;
  results.title = in.text_attribute("", "title");
  results.description = in.text_attribute("", "description");
  results.study_file = in.text_attribute("", "study_file");
  results.study_digest = in.text_attribute("", "study_digest");
  results.study_text = in.read_strings("study_text").at(0);
  for (const auto& [name, value] : in.object("provenance").attributes)
    if (const std::string* text = std::get_if<std::string>(&value))
      results.provenance.emplace_back(name, *text);
  try {
    read_cells(in, results);
    read_metrics(in, results);
    read_curves(in, results);
    read_pictures(in, results);
    read_timings(in, results);
  } catch (const std::out_of_range&) {
    throw DatasetError(file.string() +
                       ": columns of one table have different lengths; remake it with: borel report <run>");
  } catch (const json::exception& error) {
    throw DatasetError(file.string() + ": a JSON column is damaged: " + error.what());
  }
  return results;
}

}  // namespace borel
