#include "results/collect.hpp"

#include <algorithm>
#include <string_view>

#include "study/plan.hpp"

namespace borel {
namespace {

using Facts = std::vector<std::pair<std::string, std::string>>;

/// Whether `value` is one of the values of "a; b; c".
bool lists(std::string_view all, std::string_view value) {
  for (std::size_t at = all.find(value); at != std::string_view::npos; at = all.find(value, at + 1)) {
    const std::size_t end = at + value.size();
    if ((at == 0 || all.substr(0, at).ends_with("; ")) &&
        (end == all.size() || all.substr(end).starts_with("; ")))
      return true;
  }
  return false;
}

/// One value per name; several starts (another machine, another thread count) are joined by "; " in order.
Facts joined(const std::vector<Facts>& runs) {
  Facts out;
  for (const Facts& run : runs)
    for (const auto& [name, value] : run) {
      const auto known = std::find_if(out.begin(), out.end(),
                                      [&wanted = name](const auto& fact) { return fact.first == wanted; });
      if (known == out.end())
        out.emplace_back(name, value);
      else if (!lists(known->second, value))
        known->second.append("; ").append(value);
    }
  return out;
}

}  // namespace

RunResults collect_results(const Journal& journal) {
  RunResults results;
  results.title = journal.title;
  results.description = journal.description;
  results.study_file = journal.study_file;
  results.study_text = journal.study_text;
  results.study_digest = journal.study_digest;
  std::size_t n_timed = 0;
  for (const auto& [record, inputs] : journal.planned) {
    const auto found = journal.cells.find(record.cell_id);
    if (found == journal.cells.end() || !found->second.has_result) continue;
    results.cells.push_back(record);
    results.cells.back().result = found->second.result;
    n_timed += found->second.has_timing;
  }
  std::sort(results.cells.begin(), results.cells.end(), comes_before);
  results.provenance = joined(journal.runs);
  results.provenance.emplace_back("cells_planned", std::to_string(journal.planned.size()));
  results.provenance.emplace_back("cells_finished", std::to_string(results.cells.size()));
  results.provenance.emplace_back("cells_timed", std::to_string(n_timed));
  return results;
}

}  // namespace borel
