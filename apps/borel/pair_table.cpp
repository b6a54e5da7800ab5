#include "pair_table.hpp"

#include <algorithm>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "session.hpp"

namespace borel::app {
namespace {

constexpr std::string_view k_footnotes =
    "123456789ADEFGHIJKLMNOPQRSTUVWXYZ";  // apart from the marks of pairs that work

/// Reasons in the order of their first appearance; each has a character.
class Footnotes {
 public:
  char mark(const AttentionPairing& pair) {
    if (pair.works()) return pair.causal ? pair.bidirectional ? '+' : 'c' : 'b';
    auto at = std::ranges::find(reasons_, pair.reason);
    if (at == reasons_.end()) at = reasons_.insert(at, pair.reason);
    const auto index = static_cast<std::size_t>(at - reasons_.begin());
    return index < k_footnotes.size() ? k_footnotes[index] : '-';
  }
  void print() const {
    for (std::size_t n = 0; n < reasons_.size(); ++n) {
      const std::string text = wrap(reasons_[n], 3, terminal_width());
      fmt::print("{}  {}\n", n < k_footnotes.size() ? k_footnotes[n] : '-', text.substr(3));
    }
  }

 private:
  std::vector<std::string> reasons_;
};

std::vector<std::string> ids_of(const std::vector<AttentionPairing>& pairings,
                                std::string AttentionPairing::*side) {
  std::vector<std::string> ids;
  for (const AttentionPairing& pair : pairings)
    if (std::ranges::find(ids, pair.*side) == ids.end()) ids.push_back(pair.*side);
  return ids;
}

std::size_t longest(const std::vector<std::string>& ids) {
  return ids.empty() ? 0 : std::ranges::max(ids, {}, &std::string::size).size();
}

}  // namespace

void print_pair_grid(const std::vector<AttentionPairing>& pairings, bool by_position) {
  const auto row_side = by_position ? &AttentionPairing::position : &AttentionPairing::attention,
             column_side = by_position ? &AttentionPairing::attention : &AttentionPairing::position;
  const std::vector<std::string> rows = ids_of(pairings, row_side), columns = ids_of(pairings, column_side);
  const std::size_t name_width = longest(rows), header_lines = longest(columns);
  const auto width = static_cast<std::size_t>(terminal_width());
  const std::size_t cell = width == 0 || name_width + 2 * columns.size() < width ? 2 : 1;
  const std::size_t per_block =
      width == 0 ? columns.size()
                 : std::max<std::size_t>(8, (width - std::min(width, name_width + 2)) / cell);
  Footnotes footnotes;
  for (std::size_t first = 0; first < columns.size(); first += per_block) {
    const std::size_t last = std::min(columns.size(), first + per_block);
    const auto line = [&](const std::string& name, auto&& character) {
      std::string text = fmt::format("{:<{}} ", name, name_width);
      for (std::size_t c = first; c < last; ++c) text.append(cell - 1, ' ').push_back(character(columns[c]));
      fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
    };
    for (std::size_t letter = 0; letter < header_lines;
         ++letter)  // names stand upright, ending above their column
      line("", [&](const std::string& id) {
        return letter + id.size() < header_lines ? ' ' : id[letter + id.size() - header_lines];
      });
    for (const std::string& row : rows)
      line(row, [&](const std::string& column) {
        const auto pair = std::ranges::find_if(pairings, [&](const AttentionPairing& p) {
          return p.*row_side == row && p.*column_side == column;
        });
        return footnotes.mark(*pair);
      });
    fmt::print("\n");
  }
  fmt::print("{} of {} pairs work\n+  under both masks\nc  causal only\nb  bidirectional only\n",
             std::ranges::count_if(pairings, &AttentionPairing::works), pairings.size());
  footnotes.print();
}

void print_pairs_of(const MethodSpec& method, const std::vector<AttentionPairing>& pairings) {
  const auto other =
      method.family == "attention" ? &AttentionPairing::position : &AttentionPairing::attention;
  std::vector<std::string> works;
  std::vector<std::pair<std::string, std::vector<std::string>>> refused;
  for (const AttentionPairing& pair : pairings) {
    if (pair.works()) {
      works.push_back(pair.*other +
                      (pair.causal ? pair.bidirectional ? "" : " (causal only)" : " (bidirectional only)"));
      continue;
    }
    auto known = std::ranges::find(refused, pair.reason, &decltype(refused)::value_type::first);
    if (known == refused.end()) known = refused.insert(known, {pair.reason, {}});
    known->second.push_back(pair.*other);
  }
  const int width = terminal_width();
  fmt::print("{}/{} works with {} of {}\n", method.family, method.id, works.size(), pairings.size());
  if (!works.empty()) fmt::print("{}\n", wrap(fmt::format("{}", fmt::join(works, ", ")), 2, width));
  for (const auto& [reason, ids] : refused)
    fmt::print("\n{}\n{}\n", wrap(reason + ":", 0, width),
               wrap(fmt::format("{}", fmt::join(ids, ", ")), 2, width));
}

void print_pairs_json(const std::vector<AttentionPairing>& pairings) {
  nlohmann::ordered_json out = {{"pairs", nlohmann::ordered_json::array()}};
  for (const AttentionPairing& pair : pairings)
    out["pairs"].push_back({{"attention", pair.attention},
                            {"position", pair.position},
                            {"causal", pair.causal},
                            {"bidirectional", pair.bidirectional},
                            {"reason", pair.reason}});
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace borel::app
