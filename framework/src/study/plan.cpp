#include "study/plan.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "dataset/digest.hpp"
#include "loader/plugin_file.hpp"
#include "study/cell_id.hpp"
#include "study/spec_grid.hpp"

namespace borel {
namespace {

/// A method as it will be used in a role.
struct Candidate {
  MethodSpec canonical;
  MethodUse use;  // label: the one of this place; the shortest of the study is taken in the end
};

struct OptionsCandidate {
  MethodSpec given;
  std::string canonical;
};

class Planner {
 public:
  Planner(const Study& study, const Workshop& workshop)
      : study_(study), workshop_(workshop), problems_(study.problems) {}

  Plan make() {
    for (const CompareTable& comparison : study_.comparisons) add(comparison);
    problems_.throw_if_any();
    Plan plan;
    plan.title = study_.title;
    plan.description = study_.description;
    plan.study_name = study_.name;
    plan.study_file = study_.file;
    plan.study_text = study_.text;
    plan.seed = study_.seed;
    plan.limits = study_.limits;
    plan.timing = study_.timing;
    std::string ids;
    for (auto& [id, cell] : cells_) {
      ids += id;
      plan.cells.push_back(std::move(cell));
    }
    plan.digest = sha256_hex(ids);
    set_labels(plan);
    std::sort(plan.cells.begin(), plan.cells.end(),
              [](const PlannedCell& a, const PlannedCell& b) { return comes_before(a.record, b.record); });
    return plan;
  }

 private:
  const Protocol* find(const WrittenName& written) {
    if (written.name.empty()) return nullptr;  // reported by the reader
    std::vector<std::string> ids;
    for (const Protocol* protocol : workshop_.protocols) {
      if (protocol->id() == written.name) return protocol;
      ids.emplace_back(protocol->id());
    }
    problems_.add(written.spot, fmt::format("unknown protocol '{}'{}; known: {}", written.name,
                                            did_you_mean(written.name, ids), fmt::join(ids, ", ")));
    return nullptr;
  }

  void add(const CompareTable& comparison) {
    const Protocol* protocol = find(comparison.protocol);
    const std::vector<DatasetInfo> datasets = open_all(comparison, protocol);
    if (!protocol) return;
    const std::vector<std::vector<Candidate>> roles = all_roles(comparison, *protocol);
    const std::vector<OptionsCandidate> options = all_options(comparison, *protocol);
    const std::int64_t repetitions = comparison.repetitions.value_or(study_.repetitions);

    for (std::size_t d = 0; d < datasets.size(); ++d)
      for (const OptionsCandidate& option : options)
        each_combination(roles, [&](const std::vector<const Candidate*>& chosen) {
          for (std::int64_t repetition = 0; repetition < repetitions; ++repetition)
            add_cell(*protocol, datasets[d], option, chosen, repetition);
        });
  }

  std::vector<DatasetInfo> open_all(const CompareTable& comparison, const Protocol* protocol) {
    std::vector<DatasetInfo> infos;
    for (const WrittenName& written : comparison.datasets) {
      try {
        DatasetInfo info = workshop_.datasets.info(written.name);
        if (protocol && info.kind != protocol->dataset_kind()) {
          problems_.add(written.spot,
                        fmt::format("protocol {} needs a dataset of kind '{}', but '{}' is of kind '{}'",
                                    protocol->id(), kind_name(protocol->dataset_kind()), written.name,
                                    kind_name(info.kind)));
          continue;
        }
        info.id = written.name;  // what the study calls it
        infos.push_back(std::move(info));
      } catch (const Error& error) {
        problems_.add(written.spot, error.what());
      }
    }
    return infos;
  }

  std::vector<std::vector<Candidate>> all_roles(const CompareTable& comparison, const Protocol& protocol) {
    std::vector<std::vector<Candidate>> all;
    std::vector<std::string> keys;
    bool first = true;
    for (const Role& role : protocol.roles()) {
      keys.push_back(first ? "methods" : role_key(role.family));
      first = false;
      std::vector<WrittenSpec> written;
      if (const auto found = comparison.methods.find(keys.back()); found != comparison.methods.end())
        written = found->second;
      else if (!role.default_spec.empty())
        written.push_back({parse_method_spec(role.default_spec, role.family), comparison.spot});
      else
        problems_.add(comparison.spot,
                      fmt::format("'{}' is missing: protocol {} needs methods of family '{}'", keys.back(),
                                  protocol.id(), role.family));
      all.push_back(candidates(written, role.family));
    }
    for (const auto& [key, specs] : comparison.methods) {
      if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
      std::vector<std::string> known = {"protocol", "datasets", "options", "repetitions"};
      known.insert(known.end(), keys.begin(), keys.end());
      problems_.add(comparison.keys.at(key),
                    fmt::format("unknown key '{}' in [[compare]] of protocol {}{}; known: {}", key,
                                protocol.id(), did_you_mean(key, known), fmt::join(known, ", ")));
    }
    return all;
  }

  std::vector<Candidate> candidates(const std::vector<WrittenSpec>& written, const std::string& family) {
    std::vector<Candidate> out;
    for (const WrittenSpec& item : written) {
      try {
        if (!item.spec.family.empty() && item.spec.family != family)
          throw ParamError(
              fmt::format("'{}': a method of family '{}' must stand here", item.spec.text(), family));
        const MethodEntry& entry = workshop_.registry.entry(family, item.spec.id);
        for (MethodSpec& spec : expand_grid(item.spec, entry.params)) {
          spec.family = family;
          try {
            out.push_back(candidate(spec, entry));
          } catch (const Error& error) {
            problems_.add(item.spot, error.what());
          }
        }
      } catch (const Error& error) {
        problems_.add(item.spot, error.what());
      }
    }
    return out;
  }

  Candidate candidate(const MethodSpec& spec, const MethodEntry& entry) {
    Candidate out;
    out.use.spec = entry.canonical(spec);
    out.canonical = parse_method_spec(out.use.spec, spec.family);
    entry.traits(spec);  // what only construction can check is refused now, not in every cell
    out.use.family = spec.family;
    out.use.id = spec.id;
    MethodSpec label = spec;
    label.family.clear();
    for (const ParamInfo& info : entry.params) {
      const auto given = label.params.find(info.name);
      if (given == label.params.end()) continue;
      if (info.type == ParamType::method && !given->second.empty()) {
        // As it was written: the canonical text of a method in a method names all its defaults.
        MethodSpec inner = parse_method_spec(given->second, info.family);
        inner.family.clear();
        given->second = inner.text();
      } else {
        given->second = out.canonical.params.at(info.name);
      }
    }
    out.use.label = label.text();
    out.use.plugin_file = entry.origin;
    out.use.plugin_sha256 = digest_of(out.canonical, entry);
    std::string& shortest = labels_[out.use.spec];
    if (shortest.empty() ||
        std::pair(out.use.label.size(), out.use.label) < std::pair(shortest.size(), shortest))
      shortest = out.use.label;
    return out;
  }

  /// A method made of other methods depends on their files as well.
  std::string digest_of(const MethodSpec& canonical, const MethodEntry& entry) {
    std::string digests = workshop_.file_digest(entry.origin);
    bool nested = false;
    for (const ParamInfo& info : entry.params) {
      if (info.type != ParamType::method) continue;
      const auto value = canonical.params.find(info.name);
      if (value == canonical.params.end() || value->second.empty()) continue;
      const MethodSpec inner = parse_method_spec(value->second, info.family);
      digests += digest_of(inner, workshop_.registry.entry(info.family, inner.id));
      nested = true;
    }
    return nested ? sha256_hex(digests) : digests;
  }

  std::vector<OptionsCandidate> all_options(const CompareTable& comparison, const Protocol& protocol) {
    std::vector<OptionsCandidate> out;
    MethodSpec written = comparison.options.spec;
    written.id = std::string(protocol.id());
    const std::vector<ParamInfo> infos = protocol.option_infos();
    const auto add_problem = [&](const Error& error) {
      problems_.add(comparison.options.spot.line ? comparison.options.spot : comparison.spot, error.what());
    };
    try {
      for (MethodSpec& given : expand_grid(written, infos)) {
        try {
          std::string canonical = protocol.canonical_options(given);
          out.push_back({std::move(given), std::move(canonical)});
        } catch (const Error& error) {
          add_problem(error);
        }
      }
    } catch (const Error& error) {  // the grid itself: an empty list
      add_problem(error);
    }
    return out;
  }

  template <class Visit>
  void each_combination(const std::vector<std::vector<Candidate>>& roles, Visit&& visit) {
    std::vector<const Candidate*> chosen(roles.size());
    const auto choose = [&](const auto& self, std::size_t role) -> void {
      if (role == roles.size()) return visit(chosen);
      for (const Candidate& candidate : roles[role]) {
        chosen[role] = &candidate;
        self(self, role + 1);
      }
    };
    choose(choose, 0);
  }

  void add_cell(const Protocol& protocol, const DatasetInfo& dataset, const OptionsCandidate& option,
                const std::vector<const Candidate*>& chosen, std::int64_t repetition) {
    PlannedCell cell;
    CellRecord& record = cell.record;
    record.protocol = protocol.id();
    record.options = option.canonical;
    record.dataset = dataset.id;
    record.dataset_digest = dataset.content_digest;
    record.repetition = repetition;
    for (const Candidate* candidate : chosen) {
      record.methods.push_back(candidate->use);
      cell.methods.push_back(candidate->canonical);
    }
    record.seed =
        cell_seed(study_.seed, record.protocol, record.options, record.dataset_digest, repetition).value;
    cell.inputs = cell_inputs(record, protocol.version(), study_.seed, workshop_.library_sha256);
    record.cell_id = cell_id(cell.inputs);
    cell.protocol = &protocol;
    cell.options = option.given;
    // The same data under two names is one cell; keep the name that sorts first, whatever the order in the
    // file.
    const auto [place, is_new] = cells_.try_emplace(record.cell_id, cell);
    if (!is_new && record.dataset < place->second.record.dataset) place->second = std::move(cell);
  }

  /// A cell's label tells cells apart: it names the other roles wherever they vary.
  void set_labels(Plan& plan) const {
    std::map<std::pair<std::string, std::size_t>, std::set<std::string>> used;
    for (PlannedCell& cell : plan.cells)
      for (std::size_t role = 0; role < cell.record.methods.size(); ++role) {
        MethodUse& use = cell.record.methods[role];
        use.label = labels_.at(use.spec);
        used[{cell.record.protocol, role}].insert(use.spec);
      }
    for (PlannedCell& cell : plan.cells) {
      cell.record.label = cell.record.methods.front().label;
      for (std::size_t role = 1; role < cell.record.methods.size(); ++role)
        if (used.at({cell.record.protocol, role}).size() > 1)
          cell.record.label += " + " + cell.record.methods[role].label;
    }
  }

  const Study& study_;
  const Workshop& workshop_;
  Problems problems_;
  std::map<std::string, PlannedCell> cells_;
  std::map<std::string, std::string> labels_;  // canonical spec -> shortest way in which the study writes it
};

}  // namespace

Plan make_plan(const Study& study, const Workshop& workshop) { return Planner(study, workshop).make(); }

std::function<std::string(const std::string&)> plugin_file_digests() {
  return [known = std::map<std::string, std::string>()](const std::string& origin) mutable {
    const auto [place, is_new] = known.try_emplace(origin);
    if (is_new && std::filesystem::is_regular_file(origin)) place->second = file_sha256(origin);
    return place->second;
  };
}

bool comes_before(const CellRecord& a, const CellRecord& b) {
  return std::tie(a.protocol, a.options, a.dataset, a.label, a.repetition, a.cell_id) <
         std::tie(b.protocol, b.options, b.dataset, b.label, b.repetition, b.cell_id);
}

}  // namespace borel
