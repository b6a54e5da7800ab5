// borel info: everything that is known about one method or protocol.
#include <algorithm>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "method_json.hpp"
#include "session.hpp"

namespace borel::app {
namespace {

void print_parameters(const std::vector<ParamInfo>& parameters, int width) {
  if (parameters.empty()) fmt::print("  none\n");
  for (const ParamInfo& param : parameters) {
    const std::string unit = param.unit.empty() || param.unit == "1" ? "" : fmt::format(" [{}]", param.unit);
    fmt::print("  {} = {}{}\n", param.name, param.default_text.empty() ? "\"\"" : param.default_text, unit);
    fmt::print("{}\n", wrap(fmt::format("{}. {}", param.rule_text, param.doc), 6, width));
  }
}

/// Protocols have a dot in their id, methods have none. `protocol/density.fit` is one, too.
const Protocol* asked_protocol(std::string text) {
  constexpr std::string_view k_family = "protocol/";
  const bool named = text.starts_with(k_family);
  if (named) text.erase(0, k_family.size());
  const std::string id = text.substr(0, text.find('{'));
  if (!named && id.find('.') == std::string::npos) return nullptr;
  const Protocol& protocol = find_protocol(id);
  if (text.size() > id.size()) {
    const MethodSpec given = parse_method_spec(text, "protocol");
    protocol.canonical_options(
        given);  // options that were given are checked even when nothing of them is shown
  }
  return &protocol;
}

void print_info(const Protocol& protocol) {
  const int width = terminal_width();
  fmt::print("protocol {}\n{}\n\nCompares\n", protocol.id(), wrap(std::string(protocol.summary()), 2, width));
  for (const Role& role : protocol.roles())
    fmt::print("  {}{}\n", role.family,
               role.default_spec.empty() ? "" : " (default " + role.default_spec + ")");
  fmt::print("\nDatasets\n  of kind {}; `borel data list` shows which there are\n\nOptions\n",
             kind_name(protocol.dataset_kind()));
  print_parameters(protocol.option_infos(), width);
  fmt::print("\nMetrics (* ranks in the report)\n");
  for (const MetricInfo& metric : protocol.metrics()) {
    const std::string unit =
        metric.unit.empty() || metric.unit == "1" ? "" : fmt::format(" [{}]", metric.unit);
    const std::string_view better = metric.direction == Direction::lower_is_better    ? ", lower is better"
                                    : metric.direction == Direction::higher_is_better ? ", higher is better"
                                                                                      : "";
    fmt::print("  {}{}{}{}\n{}\n", metric.name, metric.headline ? " *" : "", unit, better,
               wrap(metric.doc, 6, width));
  }
}

void print_info(const MethodEntry& method, const MethodSpec& spec) {
  const int width = terminal_width();
  fmt::print("{}/{}\n{}\n", method.family, method.id, wrap(method.info.summary, 2, width));
  const auto section = [&](std::string_view title, const std::string& text) {
    if (!text.empty()) fmt::print("\n{}\n{}\n", title, wrap(text, 2, width));
  };
  section("Formula", method.info.formula);
  section("Source", method.info.source);
  section("Complexity", method.info.complexity);
  section("Notes", method.info.notes);
  fmt::print("\nParameters\n");
  print_parameters(method.params, width);
  fmt::print("\nTraits\n");
  for (const auto& [name, value] : method.traits(spec)) fmt::print("  {:<24} {}\n", name, value);
  fmt::print("\nPlugin\n  {}\n", method.origin);
}

}  // namespace

void add_info(CLI::App& app, Session& session) {
  struct InfoOptions {
    std::string method;
    bool json = false;
  };
  auto* info = app.add_subcommand(
      "info", "Show formula, source, parameters and traits of a method, or what a protocol measures");
  auto options = std::make_shared<InfoOptions>();
  info->add_option("method", options->method, "attention/softmax, or an id alone; density.fit for a protocol")
      ->required();
  info->add_flag("--json", options->json, "Machine-readable");
  info->callback([options, &session] {
    if (const Protocol* protocol = asked_protocol(options->method)) {
      if (options->json)
        fmt::print("{}\n", protocol_json(*protocol).dump(2));
      else
        print_info(*protocol);
      return;
    }
    const MethodSpec spec = resolve_method(options->method, session.registry());
    const MethodEntry& method = session.registry().entry(spec.family, spec.id);
    method.canonical(spec);  // parameters that were given are checked even when nothing of them is shown
    if (options->json)
      fmt::print("{}\n",
                 method_json(method).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    else
      print_info(method, spec);
  });
}

}  // namespace borel::app
