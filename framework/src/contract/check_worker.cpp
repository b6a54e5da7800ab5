// The child of `borel check`.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iterator>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "contract/check_runner.hpp"
#include "loader/plugin_file.hpp"
#include "loader/plugin_set.hpp"

namespace borel::contract {
namespace {

void send(const nlohmann::json& message) {
  const std::string line = message.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  for (std::size_t at = 0; at < line.size();) {
    const ssize_t written = write(k_result_descriptor, line.data() + at, line.size() - at);
    if (written <= 0) _exit(3);  // the parent is gone
    at += static_cast<std::size_t>(written);
  }
}

/// Bytes printed so far: standard output and standard error are one file.
std::int64_t printed_bytes() {
  std::fflush(nullptr);
  struct stat status {};
  return fstat(STDOUT_FILENO, &status) == 0 ? status.st_size : 0;
}

std::vector<MethodSpec> specs_to_check(const Registry& registry, const CheckRequest& request) {
  std::vector<MethodSpec> specs;
  for (const MethodEntry* method : registry.entries())
    if (method->origin == request.file.string()) specs.push_back({method->family, method->id, {}});
  if (request.spec.empty()) return specs;
  MethodSpec wanted = parse_method_spec(request.spec);
  std::vector<std::string> known;
  for (const MethodSpec& spec : specs) {
    known.push_back(spec.text());
    if (spec.id == wanted.id && (wanted.family.empty() || wanted.family == spec.family)) {
      wanted.family = spec.family;
      registry.canonical(wanted);
      return {wanted};
    }
  }
  throw RegistryError(fmt::format("check: {} registers no method '{}'. It registers: {}",
                                  request.file.string(), request.spec, fmt::join(known, " ")));
}

std::vector<const Rule*> wanted_rules(const std::string& family, const CheckRequest& request) {
  std::vector<const Rule*> rules = rules_for(family);
  if (request.rule.empty()) return rules;
  std::vector<std::string> known;
  for (const Rule* rule : rules) known.emplace_back(rule->name);
  std::erase_if(rules, [&](const Rule* rule) { return rule->name != request.rule; });
  if (rules.empty()) {
    const std::string hint = did_you_mean(request.rule, known);
    throw RegistryError(fmt::format("check: no rule '{}' for {} methods{} Known: {}", request.rule, family,
                                    hint.empty() ? "." : hint, fmt::join(known, " ")));
  }
  return rules;
}

void run_rules(const CheckRequest& request, std::size_t n_done) {
  auto& registry = *new Registry;  // never freed: plugins stay loaded until the process ends
  // The file first: a built-in plugin with the same id must not be checked in its place.
  load_plugin(request.file, registry);
  load_plugins({{}, true, true}, registry);  // methods that are made of other methods need those
  std::size_t number = 0;
  for (const MethodSpec& spec : specs_to_check(registry, request)) {
    const MethodEntry& method = registry.entry(spec.family, spec.id);
    for (const Rule* rule : wanted_rules(spec.family, request)) {
      if (number++ < n_done) continue;
      const double limit_s = request.time_limit_s > 0 ? request.time_limit_s : rule->time_limit_s;
      send({{"begin", rule->name},
            {"description", rule->description},
            {"method", registry.canonical(spec)},
            {"limit_s", limit_s}});
      const auto start = std::chrono::steady_clock::now();
      const Verdict verdict = run_rule(*rule, {registry, method, spec, request.seed});
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
      send({{"verdict", static_cast<int>(verdict.kind)},
            {"text", verdict.text},
            {"seconds", seconds.count()},
            {"printed_bytes", printed_bytes()}});
    }
  }
  send({{"end", true}});
}

}  // namespace

int run_check_worker(const CheckRequest& request, std::size_t n_done) {
  try {
    run_rules(request, n_done);
    return 0;
  } catch (const std::exception& error) {
    send({{"error", error.what()}});
    return 2;
  }
}

}  // namespace borel::contract
