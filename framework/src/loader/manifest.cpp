#include "loader/manifest.hpp"

#include <charconv>

#include <fmt/format.h>

#include "borel/plugin.hpp"

namespace borel {
namespace {

/// Facts that must be equal, in the order they are reported, and how to make them so.
struct FactRule {
  std::string_view name, label, advice;
};
constexpr FactRule k_fact_rules[] = {
    {"machine", "machine", "build it on this kind of machine"},
    {"pointer_bytes", "pointer size", "build it as a 64-bit library"},
    {"sanitizer", "sanitizer", "rebuild it with the same -fsanitize= option as this program"},
    {"standard_library", "standard library mode",
     "rebuild it with the same _GLIBCXX_DEBUG and _GLIBCXX_USE_CXX11_ABI"},
    {"language", "language level", "rebuild it with -std=c++20"},
    {"float_rules", "floating-point rules", "rebuild it without -ffast-math or -Ofast"},
    {"headers", "public headers", "rebuild it against the headers of this installation"},
};

constexpr std::size_t k_max_manifest_bytes = 4096;

std::map<std::string, std::string> parse_lines(std::string_view text, bool& complete) {
  std::map<std::string, std::string> facts;
  complete = false;
  while (!text.empty()) {
    const std::size_t newline = text.find('\n');
    if (newline == std::string_view::npos) break;
    const std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline + 1);
    if (line == "end") {
      complete = true;
      break;
    }
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) break;
    facts.emplace(line.substr(0, equals), line.substr(equals + 1));
  }
  return facts;
}

}  // namespace

Manifest parse_manifest(std::string_view section) {
  constexpr std::string_view k_magic = BOREL_MANIFEST_MAGIC "\n";
  if (section.size() > k_max_manifest_bytes)
    throw PluginError(fmt::format("has a manifest of {} bytes; at most {} are allowed", section.size(),
                                  k_max_manifest_bytes));
  if (section.substr(0, k_magic.size()) != k_magic)
    throw PluginError("has a manifest section that does not begin with the magic word " BOREL_MANIFEST_MAGIC
                      "; it is no Borel plugin or was damaged");
  bool complete = false;
  Manifest manifest;
  manifest.facts = parse_lines(section.substr(k_magic.size()), complete);
  const std::string abi = manifest.facts["abi"];
  const auto [end, error] = std::from_chars(abi.data(), abi.data() + abi.size(), manifest.abi);
  if (error != std::errc() || end != abi.data() + abi.size())
    throw PluginError("has a damaged manifest: no ABI version in it; build it again");
  if (manifest.abi < BOREL_PLUGIN_ABI)
    throw PluginError(
        fmt::format("was built for the older plugin ABI {}; this program has ABI {}; rebuild the plugin",
                    manifest.abi, BOREL_PLUGIN_ABI));
  if (manifest.abi > BOREL_PLUGIN_ABI)
    throw PluginError(
        fmt::format("was built for the newer plugin ABI {}; this program has ABI {}; use a newer borel, or "
                    "rebuild the plugin against this one",
                    manifest.abi, BOREL_PLUGIN_ABI));
  if (!complete) throw PluginError("has a damaged manifest: its end is missing; build it again");
  manifest.id = manifest.facts["id"];
  const std::size_t dot = manifest.id.find('.');
  if (dot == std::string::npos || !is_snake_case(manifest.id.substr(0, dot)) ||
      !is_snake_case(manifest.id.substr(dot + 1)))
    throw PluginError(fmt::format(
        "has a bad plugin id '{}' in its manifest; the form is <family>.<id> in snake_case", manifest.id));
  manifest.facts.erase("abi");
  manifest.facts.erase("id");
  return manifest;
}

std::map<std::string, std::string> host_build_facts() {
  bool complete = false;
  return parse_lines(BOREL_BUILD_FACTS "end\n", complete);
}

void check_build_facts(const Manifest& manifest) {
  const auto host = host_build_facts();
  std::string differences;
  for (const FactRule& rule : k_fact_rules) {
    const auto found = manifest.facts.find(std::string(rule.name));
    const std::string plugin_has = found == manifest.facts.end() ? "nothing" : found->second;
    const std::string& host_has = host.at(std::string(rule.name));
    if (plugin_has == host_has) continue;
    differences += fmt::format("{} {}: the plugin has '{}', this program has '{}'; {}",
                               differences.empty() ? "" : ";", rule.label, plugin_has, host_has, rule.advice);
  }
  if (!differences.empty()) throw PluginError("was built differently from this program:" + differences);
}

}  // namespace borel
