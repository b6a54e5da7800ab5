#include "borel/registry.hpp"

#include <fmt/format.h>

namespace borel {

MethodEntry::~MethodEntry() = default;
Registry::Registry() = default;
Registry::~Registry() = default;

void Registry::insert(std::unique_ptr<MethodEntry> method) {
  const auto broken = [&](std::string_view rule) {
    throw RegistryError(fmt::format("{} '{}' in {}: {}", method->family, method->id, origin_, rule));
  };
  if (!is_snake_case(method->family)) broken("the family name must be snake_case");
  if (!is_snake_case(method->id))
    broken("the id must be snake_case: lower-case words, digits, single underscores");
  if (method->info.summary.empty()) broken("the summary is missing");
  if (method->info.source.empty()) broken("the source is missing (paper, section, number; or \"own\")");
  method->origin = origin_;
  auto& family = methods_[method->family];
  if (const auto taken = family.find(method->id); taken != family.end())
    throw RegistryError(
        fmt::format("{} '{}' is registered twice: by {} and by {}; remove one of them from the plugin set",
                    method->family, method->id, taken->second->origin, origin_));
  added_.push_back(method.get());
  std::string id = method->id;
  family.emplace(std::move(id), std::move(method));
}

void Registry::expect_family(const MethodSpec& spec, std::string_view family) {
  if (!spec.family.empty() && spec.family != family)
    throw ParamError(
        fmt::format("method spec '{}': a method of family '{}' must stand here", spec.text(), family));
}

std::vector<std::string> Registry::ids(std::string_view family) const {
  std::vector<std::string> ids;
  if (const auto found = methods_.find(family); found != methods_.end())
    for (const auto& [id, method] : found->second) ids.push_back(id);
  return ids;
}

std::vector<std::string> Registry::families() const {
  std::vector<std::string> names;
  for (const auto& [family, methods] : methods_)
    if (!methods.empty()) names.push_back(family);
  return names;
}

const MethodEntry& Registry::entry(std::string_view family, std::string_view id) const {
  const auto methods = methods_.find(family);
  if (methods == methods_.end() || methods->second.empty()) {
    const std::vector<std::string> known = families();
    throw RegistryError(fmt::format(
        "no family named '{}' is loaded{} Known: {}", family,
        did_you_mean(family, known).empty() ? "." : did_you_mean(family, known),
        known.empty() ? "none; is the plugin path right?" : fmt::format("{}", fmt::join(known, " "))));
  }
  const auto found = methods->second.find(id);
  if (found == methods->second.end()) {
    const std::vector<std::string> known = ids(family);
    const std::string hint = did_you_mean(id, known);
    throw RegistryError(fmt::format("no {} named '{}'{} Known: {}", family, id, hint.empty() ? "." : hint,
                                    fmt::join(known, " ")));
  }
  return *found->second;
}

std::vector<const MethodEntry*> Registry::entries() const {
  std::vector<const MethodEntry*> all;
  for (const auto& [family, methods] : methods_)
    for (const auto& [id, method] : methods) all.push_back(method.get());
  return all;
}

std::string Registry::canonical(const MethodSpec& spec) const {
  return entry(spec.family, spec.id).canonical(spec);
}

void Registry::add_from(std::string_view origin, FunctionRef<void(Registry&)> register_into) {
  const std::string outer = std::exchange(origin_, std::string(origin));
  const std::size_t before = added_.size();
  try {
    register_into(*this);
  } catch (...) {
    for (std::size_t i = before; i < added_.size(); ++i) {
      const std::string family = added_[i]->family, id = added_[i]->id;
      auto methods = methods_.find(family);
      methods->second.erase(id);
      if (methods->second.empty()) methods_.erase(methods);
    }
    added_.resize(before);
    origin_ = outer;
    throw;
  }
  origin_ = outer;
}

}  // namespace borel
