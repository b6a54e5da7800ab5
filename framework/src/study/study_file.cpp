#include "study/study_file.hpp"

#include <algorithm>
#include <fstream>
#include <set>
#include <sstream>

#include <fmt/format.h>
#include <toml++/toml.h>

namespace borel {
namespace {

Spot spot_of(const toml::node& node) {
  const toml::source_position& begin = node.source().begin;
  return {static_cast<std::uint32_t>(begin.line), static_cast<std::uint32_t>(begin.column)};
}
Spot spot_of(const toml::key& key) {
  const toml::source_position& begin = key.source().begin;
  return {static_cast<std::uint32_t>(begin.line), static_cast<std::uint32_t>(begin.column)};
}

std::string_view kind_text(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a real number";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

/// Text of a value in the syntax of method specs; nullopt for dates.
std::optional<std::string> value_text(const toml::node& node);

std::optional<MethodSpec> table_spec(const toml::table& table) {
  MethodSpec spec;
  for (const auto& [key, value] : table) {
    const std::optional<std::string> text = value_text(value);
    if (!text) return std::nullopt;
    if (key.str() == "id")
      spec.id = *text;
    else
      spec.params.emplace(key.str(), *text);
  }
  return spec;
}

std::optional<std::string> value_text(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::string:
      return node.as_string()->get();
    case toml::node_type::integer:
      return param_text(node.as_integer()->get());
    case toml::node_type::floating_point:
      return param_text(node.as_floating_point()->get());
    case toml::node_type::boolean:
      return param_text(node.as_boolean()->get());
    case toml::node_type::array: {
      std::string text = "[";
      for (const toml::node& item : *node.as_array()) {
        const std::optional<std::string> element = value_text(item);
        if (!element) return std::nullopt;
        if (text.size() > 1) text += ", ";
        text += *element;
      }
      return text + ']';
    }
    case toml::node_type::table: {
      const std::optional<MethodSpec> spec = table_spec(*node.as_table());
      if (!spec) return std::nullopt;
      return spec->text();
    }
    default:
      return std::nullopt;
  }
}

/// Reads the keys of one table; what was not asked for in the end is unknown.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string where, Problems& problems)
      : table_(table), where_(std::move(where)), problems_(problems) {}

  const toml::node* find(std::string_view key) {
    known_.emplace_back(key);
    return table_.get(key);
  }

  void text(std::string_view key, std::string& value) {
    if (const toml::node* node = find(key)) {
      if (const auto* given = node->as_string())
        value = given->get();
      else
        wrong(key, *node, "a text");
    }
  }
  void flag(std::string_view key, bool& value) {
    if (const toml::node* node = find(key)) {
      if (const auto* given = node->as_boolean())
        value = given->get();
      else
        wrong(key, *node, "true or false");
    }
  }
  void integer(std::string_view key, std::int64_t& value, std::int64_t low, std::int64_t high) {
    if (const toml::node* node = find(key)) {
      const auto* given = node->as_integer();
      if (given && given->get() >= low && given->get() <= high)
        value = given->get();
      else
        wrong(key, *node, fmt::format("an integer in [{}, {}]", low, high));
    }
  }
  void positive(std::string_view key, double& value) {
    if (const toml::node* node = find(key)) {
      const std::optional<double> given = node->is_number() ? node->value<double>() : std::nullopt;
      if (given && *given > 0 && *given < 1e15)
        value = *given;
      else
        wrong(key, *node, "a number greater than 0");
    }
  }
  const toml::table* table(std::string_view key) {
    const toml::node* node = find(key);
    if (node && !node->is_table()) wrong(key, *node, "a table");
    return node ? node->as_table() : nullptr;
  }

  void wrong(std::string_view key, const toml::node& node, std::string_view expected) {
    const std::optional<std::string> given = node.is_value() ? value_text(node) : std::nullopt;
    problems_.add(spot_of(node), fmt::format("{} must be {}, got {}{}", path(key), expected, kind_text(node),
                                             given ? fmt::format(" ({})", *given) : std::string()));
  }

  std::string path(std::string_view key) const {
    return where_.empty() ? fmt::format("'{}'", key) : fmt::format("'{}' in {}", key, where_);
  }

  /// Reports the keys that nobody asked for.
  void finish() {
    for (const auto& [key, value] : table_)
      if (std::find(known_.begin(), known_.end(), key.str()) == known_.end())
        problems_.add(spot_of(key), fmt::format("unknown key {}{}; known: {}", path(key.str()),
                                                did_you_mean(key.str(), known_), fmt::join(known_, ", ")));
  }

 private:
  const toml::table& table_;
  std::string where_;
  Problems& problems_;
  std::vector<std::string> known_;
};

void read_spec(const toml::node& node, std::string_view what, std::vector<WrittenSpec>& out,
               Problems& problems) {
  try {
    if (const auto* text = node.as_string()) {
      out.push_back({parse_method_spec(text->get()), spot_of(node)});
      return;
    }
    if (const auto* table = node.as_table()) {
      std::optional<MethodSpec> spec = table_spec(*table);
      if (spec && !spec->id.empty()) {
        const auto params = std::move(spec->params);
        *spec = parse_method_spec(spec->id);
        for (const auto& [name, value] : params)
          if (!spec->params.emplace(name, value).second)
            problems.add(spot_of(node), fmt::format("parameter '{}' of {} is given twice", name, spec->id));
        out.push_back({std::move(*spec), spot_of(node)});
        return;
      }
    }
    problems.add(spot_of(node),
                 fmt::format("{} must be a text such as \"kde{{bandwidth=isj}}\" or a table such as "
                             "{{id = \"kde\", bandwidth = \"isj\"}}, got {}",
                             what, kind_text(node)));
  } catch (const ParamError& error) {
    problems.add(spot_of(node), error.what());
  }
}

/// A list, or a single value that stands for a list of one.
template <class Visit>
void each_item(const toml::node& node, std::string_view what, Problems& problems, Visit&& visit) {
  const toml::array* list = node.as_array();
  if (!list) return visit(node);
  if (list->empty()) problems.add(spot_of(node), fmt::format("{} must not be empty", what));
  for (const toml::node& item : *list) visit(item);
}

CompareTable read_comparison(const toml::table& table, std::size_t number, Problems& problems) {
  CompareTable out;
  out.spot = spot_of(table);
  const std::string where = fmt::format("[[compare]] number {}", number);
  TableReader reader(table, where, problems);
  for (const auto& [key, value] : table) out.keys.emplace(key.str(), spot_of(value));

  reader.text("protocol", out.protocol.name);
  out.protocol.spot = out.keys.count("protocol") ? out.keys["protocol"] : out.spot;
  if (!out.keys.count("protocol")) problems.add(out.spot, fmt::format("'protocol' is missing in {}", where));

  if (const toml::node* node = reader.find("datasets")) {
    each_item(*node, "'datasets'", problems, [&](const toml::node& item) {
      if (const auto* text = item.as_string())
        out.datasets.push_back({text->get(), spot_of(item)});
      else
        problems.add(spot_of(item),
                     fmt::format("a dataset must be an id or a path (a text), got {}", kind_text(item)));
    });
  } else {
    problems.add(out.spot, fmt::format("'datasets' is missing in {}", where));
  }

  if (const toml::table* options = reader.table("options")) {
    out.options.spot = spot_of(*options);
    for (const auto& [key, value] : *options) {
      if (const std::optional<std::string> text = value_text(value))
        out.options.spec.params.emplace(key.str(), *text);
      else
        reader.wrong(key.str(), value, "a number, a text, a list or a method");
    }
  }
  std::int64_t repetitions = 0;
  reader.integer("repetitions", repetitions, 1, 1000000);
  if (repetitions > 0) out.repetitions = repetitions;

  // The other keys name roles; which of them exist depends on the protocol.
  for (const auto& [key, value] : table) {
    if (key.str() == "protocol" || key.str() == "datasets" || key.str() == "options" ||
        key.str() == "repetitions")
      continue;
    std::vector<WrittenSpec>& specs = out.methods[std::string(key.str())];
    each_item(value, fmt::format("'{}'", key.str()), problems,
              [&](const toml::node& item) { read_spec(item, "a method", specs, problems); });
  }
  return out;
}

ModelTable read_model(const toml::table& table, std::size_t number, Problems& problems) {
  ModelTable out;
  out.spot = spot_of(table);
  const std::string where = fmt::format("[[model]] number {}", number);
  TableReader reader(table, where, problems);
  reader.text("name", out.name);
  reader.text("config", out.config);
  if (out.name.empty() ||
      out.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") != std::string::npos)
    problems.add(out.spot, fmt::format("'name' in {} must be small letters, digits and '_'", where));
  if (out.config.empty())
    problems.add(out.spot, fmt::format("'config' is missing in {}: a training configuration", where));
  toml::table changes = table;
  changes.erase("name");
  changes.erase("config");
  std::ostringstream text;
  text << changes;
  out.changes = text.str();
  return out;
}

}  // namespace

void Problems::add(Spot spot, std::string_view text) { lines_.emplace_back(spot, text); }

void Problems::throw_if_any() const {
  if (lines_.empty()) return;
  auto sorted = lines_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.line, a.first.column) < std::pair(b.first.line, b.first.column);
  });
  std::set<std::string> seen;  // one wrong name can break many combinations
  std::string text;
  for (const auto& [spot, line] : sorted) {
    std::string full = spot.line ? fmt::format("{}:{}:{}: {}", file_, spot.line, spot.column, line)
                                 : fmt::format("{}: {}", file_, line);
    if (!seen.insert(full).second) continue;
    text += text.empty() ? full : "\n" + full;
  }
  throw StudyError(text);
}

Study parse_study(std::string_view text, std::string_view file) {
  Study study;
  study.file = file;
  study.text = text;
  study.name = std::filesystem::path(file).stem().string();
  study.problems = Problems(study.file);
  toml::table root;
  try {
    root = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    const toml::source_position& at = error.source().begin;
    throw StudyError(
        fmt::format("{}:{}:{}: not valid TOML: {}", file, at.line, at.column, error.description()));
  }

  TableReader reader(root, "", study.problems);
  study.title = study.name;
  reader.text("title", study.title);
  reader.text("description", study.description);
  reader.integer("repetitions", study.repetitions, 1, 1000000);
  std::int64_t seed = 1;
  reader.integer("seed", seed, 0, std::numeric_limits<std::int64_t>::max());
  study.seed = static_cast<std::uint64_t>(seed);
  if (const toml::table* table = reader.table("limits")) {
    TableReader limits(*table, "[limits]", study.problems);
    limits.positive("time_per_cell_s", study.limits.time_per_cell_s);
    limits.positive("memory_gb", study.limits.memory_gb);
    limits.finish();
  }
  if (const toml::table* table = reader.table("timing")) {
    TableReader timing(*table, "[timing]", study.problems);
    timing.flag("enabled", study.timing.enabled);
    timing.integer("rounds", study.timing.rounds, 1, 10000);
    timing.positive("max_task_s", study.timing.max_task_s);
    timing.finish();
  }
  if (const toml::node* models = reader.find("model")) {
    std::set<std::string> names;
    each_item(*models, "'model'", study.problems, [&](const toml::node& item) {
      const toml::table* table = item.as_table();
      if (!table) return study.problems.add(spot_of(item), "'model' must hold tables; write [[model]]");
      study.models.push_back(read_model(*table, study.models.size() + 1, study.problems));
      if (!names.insert(study.models.back().name).second)
        study.problems.add(spot_of(item), fmt::format("two models are named '{}'", study.models.back().name));
    });
  }
  const toml::node* compare = reader.find("compare");
  const toml::array* list = compare ? compare->as_array() : nullptr;
  if (!list || list->empty()) {
    study.problems.add(compare ? spot_of(*compare) : Spot{},
                       "a study needs at least one [[compare]] table (protocol, datasets, methods)");
  } else {
    std::size_t number = 0;
    for (const toml::node& item : *list) {
      ++number;
      if (const toml::table* table = item.as_table())
        study.comparisons.push_back(read_comparison(*table, number, study.problems));
      else
        study.problems.add(spot_of(item), "'compare' must hold tables; write [[compare]]");
    }
  }
  reader.finish();
  return study;
}

Study read_study(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!std::filesystem::is_regular_file(file) || !in ||
      (in.peek() != std::ifstream::traits_type::eof() && !(text << in.rdbuf())))
    throw StudyError(fmt::format("{}: cannot be read as a study file (TOML); does it exist?", file.string()));
  return parse_study(text.str(), file.string());
}

std::vector<std::string> study_datasets(const Study& study) {
  std::set<std::string> names;
  for (const CompareTable& comparison : study.comparisons)
    for (const WrittenName& dataset : comparison.datasets) names.insert(dataset.name);
  return {names.begin(), names.end()};
}

std::string role_key(std::string_view family) {
  if (family.ends_with('y')) return std::string(family.substr(0, family.size() - 1)) + "ies";
  return std::string(family) + 's';
}

}  // namespace borel
