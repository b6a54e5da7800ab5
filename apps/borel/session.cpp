#include "session.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include <fmt/format.h>

namespace borel::app {

void Session::load() {
  if (registry_) return;
  static Registry& registry = *new Registry;  // never freed, and reachable for leak checkers
  registry_ = &registry;
  report_ = load_plugins(search, *registry_);
  report_.throw_if_named_was_refused();
  for (const RefusedPlugin& plugin : report_.refused)
    fmt::print(stderr, "borel: refused: {}\n", plugin.reason);
}

const Registry& Session::registry() {
  load();
  return *registry_;
}

const LoadReport& Session::plugins() {
  load();
  return report_;
}

MethodSpec resolve_method(const std::string& text, const Registry& registry) {
  MethodSpec spec = parse_method_spec(text);
  if (!spec.family.empty()) return spec;
  std::vector<std::string> families, known;
  for (const MethodEntry* method : registry.entries()) {
    known.push_back(method->family + "/" + method->id);
    if (method->id == spec.id) families.push_back(method->family);
  }
  if (families.size() == 1) {
    spec.family = families.front();
    return spec;
  }
  if (families.size() > 1)
    throw RegistryError(fmt::format("'{}' is in several families ({}); write <family>/{}", spec.id,
                                    fmt::join(families, ", "), spec.id));
  std::string near;
  for (const std::string& family : registry.families()) {
    const std::string id = nearest_name(spec.id, registry.ids(family));
    if (!id.empty()) near = fmt::format("; did you mean '{}/{}'?", family, id);
  }
  throw RegistryError(
      fmt::format("no method named '{}'{} `borel list` shows all, `borel list protocol` the protocols",
                  spec.id, near.empty() ? "." : near));
}

int terminal_width() {
  if (!isatty(STDOUT_FILENO)) return 0;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

namespace {

/// Characters, not bytes: UTF-8 continuation bytes do not count.
int length(std::string_view text) {
  int n = 0;
  for (char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

}  // namespace

std::string fit(const std::string& text, int width) {
  if (width <= 0 || length(text) <= width) return text;
  std::string cut;
  int n = 0;
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++n > width - 3) break;
    cut += c;
  }
  return cut += "...";
}

std::string wrap(const std::string& text, int indent, int width) {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  if (width <= 0) return margin + text;
  std::string out = margin, word;
  int column = indent;
  std::istringstream words(text);
  while (words >> word) {
    if (column > indent && column + 1 + length(word) > width) {
      out.append("\n").append(margin);
      column = indent;
    }
    if (column > indent) out += ' ', ++column;
    out += word;
    column += length(word);
  }
  return out;
}

}  // namespace borel::app
