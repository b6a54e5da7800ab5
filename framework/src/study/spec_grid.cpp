#include "study/spec_grid.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace borel {
namespace {

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

bool is_list(std::string_view text) { return text.size() >= 2 && text.front() == '[' && text.back() == ']'; }

std::string unquoted(std::string_view text) {
  if (text.size() < 2 || text.front() != '"' || text.back() != '"') return std::string(text);
  std::string out;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == '\\' && i + 2 < text.size()) ++i;
    out += text[i];
  }
  return out;
}

}  // namespace

std::vector<std::string> list_elements(std::string_view text) {
  text = trimmed(text);
  if (!is_list(text)) return {std::string(text)};
  text = trimmed(text.substr(1, text.size() - 2));
  std::vector<std::string> elements;
  if (text.empty()) return elements;
  int depth = 0;
  bool in_quotes = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || (text[i] == ',' && depth == 0 && !in_quotes)) {
      elements.push_back(unquoted(trimmed(text.substr(begin, i - begin))));
      begin = i + 1;
      continue;
    }
    const char c = text[i];
    if (in_quotes && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_quotes = !in_quotes;
    } else if (!in_quotes) {
      depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    }
  }
  return elements;
}

std::vector<MethodSpec> expand_grid(const MethodSpec& spec, std::span<const ParamInfo> params) {
  std::vector<MethodSpec> specs = {spec};
  for (const auto& [name, text] : spec.params) {
    const std::string_view value = trimmed(text);
    if (!is_list(value)) continue;
    const auto info = std::find_if(params.begin(), params.end(),
                                   [&wanted = name](const ParamInfo& p) { return p.name == wanted; });
    if (info == params.end()) continue;
    const std::vector<std::string> elements = list_elements(value);
    if (elements.empty() && info->type != ParamType::reals)
      throw ParamError(
          fmt::format("'{}' must not be an empty list: give one value or more, or leave it out", name));
    const bool of_lists = !elements.empty() && is_list(elements.front());
    if (info->type == ParamType::reals && !of_lists) continue;
    std::vector<MethodSpec> next;
    for (const MethodSpec& base : specs)
      for (const std::string& element : elements) {
        next.push_back(base);
        next.back().params[name] = element;
      }
    specs = std::move(next);
  }
  return specs;
}

}  // namespace borel
