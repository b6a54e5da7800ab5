// borel list: the methods of the plugin set.
#include <algorithm>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "method_json.hpp"
#include "pair_table.hpp"
#include "session.hpp"

namespace borel::app {
namespace {

struct ListOptions {
  std::string family;
  bool json = false;
  bool pairs = false;
};

/// Everything, one side as the rows, or one method's pairs.
void list_pairs(const ListOptions& options, const Registry& registry) {
  const auto is_side = [](const std::string& family) {
    return family == "attention" || family == "position";
  };
  MethodSpec one;
  if (!options.family.empty() && !is_side(options.family)) {
    const std::vector<std::string> families = registry.families();
    const bool other = std::ranges::find(families, options.family) != families.end();
    if (!other) one = resolve_method(options.family, registry);
    if (other || !is_side(one.family))
      throw RegistryError(
          fmt::format("--pairs is about attention and position, not about '{}'", options.family));
  }
  const std::vector<AttentionPairing> pairings = attention_pairings(registry, one);
  if (options.json) return print_pairs_json(pairings);
  if (!one.empty()) return print_pairs_of(one, pairings);
  print_pair_grid(pairings, options.family == "position");
}

void list_json(const std::vector<const MethodEntry*>& methods, const LoadReport& plugins) {
  nlohmann::ordered_json out = {{"methods", nlohmann::ordered_json::array()},
                                {"refused", nlohmann::ordered_json::array()}};
  for (const MethodEntry* method : methods) out["methods"].push_back(method_json(*method));
  out["protocols"] = nlohmann::ordered_json::array();
  for (const Protocol* protocol : protocols()) out["protocols"].push_back(protocol_json(*protocol));
  for (const RefusedPlugin& plugin : plugins.refused)
    out["refused"].push_back({{"file", plugin.file.string()}, {"reason", plugin.reason}});
  fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void list_table(const std::vector<const MethodEntry*>& methods) {
  std::size_t path_width = 0;
  for (const MethodEntry* method : methods)
    path_width = std::max(path_width, method->family.size() + method->id.size() + 1);
  const int width = terminal_width();
  const int left = static_cast<int>(path_width) + 2;
  for (const MethodEntry* method : methods)
    fmt::print("{:<{}}  {}\n", method->family + "/" + method->id, path_width,
               fit(method->info.summary + "  [" + method->info.source + "]",
                   width == 0 ? 0 : std::max(20, width - left)));
}

void list_protocols(bool json) {
  if (json) {
    nlohmann::ordered_json out = {{"protocols", nlohmann::ordered_json::array()}};
    for (const Protocol* protocol : protocols()) out["protocols"].push_back(protocol_json(*protocol));
    fmt::print("{}\n", out.dump(2));
    return;
  }
  std::size_t id_width = 0;
  for (const Protocol* protocol : protocols()) id_width = std::max(id_width, protocol->id().size());
  for (const Protocol* protocol : protocols())
    fmt::print("{:<{}}  {}\n", protocol->id(), id_width, protocol->summary());
}

void run(const ListOptions& options, Session& session) {
  if (options.family == "protocol") return list_protocols(options.json);
  if (options.pairs) return list_pairs(options, session.registry());
  std::vector<const MethodEntry*> methods = session.registry().entries();
  if (!options.family.empty()) {
    std::erase_if(methods, [&](const MethodEntry* method) { return method->family != options.family; });
    const std::vector<std::string> known = session.registry().families();
    const std::string hint = did_you_mean(options.family, known);
    if (methods.empty())
      throw RegistryError(fmt::format("no family named '{}'{} Known: {}", options.family,
                                      hint.empty() ? "." : hint, fmt::join(known, " ")));
  }
  if (options.json) return list_json(methods, session.plugins());
  list_table(methods);
  if (methods.empty())
    fmt::print(stderr, "borel: no plugin was found; searched: {}\n",
               fmt::join(
                   [&] {
                     std::vector<std::string> folders;
                     for (const auto& folder : session.plugins().searched) folders.push_back(folder.string());
                     return folders;
                   }(),
                   " "));
}

}  // namespace

void add_list(CLI::App& app, Session& session) {
  auto* list = app.add_subcommand("list", "List the methods of the plugin set, or the protocols");
  auto options = std::make_shared<ListOptions>();
  list->add_option("family", options->family,
                   "attention, position, density, optimizer, problem; all methods when left out. protocol: "
                   "the protocols. With --pairs "
                   "position for a grid with encodings as rows, or one method, such as softmax");
  list->add_flag("--json", options->json, "Machine-readable: everything that is known about each method");
  list->add_flag(
      "--pairs", options->pairs,
      "Which attention mechanism takes which position encoding, as a grid with the reasons of refusals");
  list->callback([options, &session] { run(*options, session); });
}

}  // namespace borel::app
