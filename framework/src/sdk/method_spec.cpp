#include "borel/method_spec.hpp"

#include <charconv>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

bool is_word_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/// Recursive-descent reader; nested values keep their text and are read again by whoever needs them.
class SpecReader {
 public:
  explicit SpecReader(std::string_view text) : text_(text) {}

  MethodSpec read() {
    MethodSpec spec;
    skip_spaces();
    spec.id = word("a method id");
    if (peek() == '/') {
      ++at_;
      spec.family = std::move(spec.id);
      spec.id = word("a method id after '/'");
    }
    skip_spaces();
    if (peek() == '{') read_params(spec);
    skip_spaces();
    if (at_ != text_.size()) fail("the end of the spec");
    return spec;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  [[noreturn]] void fail(std::string_view expected) const {
    const std::string found = at_ < text_.size() ? fmt::format("'{}'", text_[at_]) : std::string("the end");
    throw ParamError(
        fmt::format("method spec '{}', column {}: expected {}, found {}. Form: id{{name=value, ...}}", text_,
                    at_ + 1, expected, found));
  }

  std::string word(std::string_view what) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_word_char(text_[at_])) ++at_;
    if (at_ == begin) fail(what);
    return std::string(text_.substr(begin, at_ - begin));
  }

  void read_params(MethodSpec& spec) {
    ++at_;  // {
    skip_spaces();
    if (peek() == '}') {
      ++at_;
      return;
    }
    for (;;) {
      skip_spaces();
      const std::size_t name_at = at_;
      std::string name = word("a parameter name");
      skip_spaces();
      if (peek() != '=') fail("'='");
      ++at_;
      skip_spaces();
      std::string value = peek() == '"' ? quoted() : bare();
      if (!spec.params.emplace(name, std::move(value)).second)
        throw ParamError(fmt::format("method spec '{}', column {}: parameter '{}' is given twice", text_,
                                     name_at + 1, name));
      skip_spaces();
      if (peek() == '}') {
        ++at_;
        return;
      }
      if (peek() != ',') fail("',' or '}'");
      ++at_;
    }
  }

  std::string quoted() {
    std::string value;
    ++at_;
    while (peek() != '"') {
      if (at_ >= text_.size()) fail("a closing '\"'");
      if (text_[at_] == '\\') {
        ++at_;
        if (peek() != '"' && peek() != '\\') fail("'\"' or '\\' after '\\'");
      }
      value += text_[at_++];
    }
    ++at_;
    return value;
  }

  /// A word, a list or a nested spec: up to ',' or '}' outside brackets.
  std::string bare() {
    const std::size_t begin = at_;
    std::string open;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (open.empty() && (c == ',' || c == '}')) break;
      if (c == '[' || c == '{') open += c;
      if (c == ']' || c == '}') {
        if (open.empty() || open.back() != (c == ']' ? '[' : '{')) fail("brackets that match");
        open.pop_back();
      }
      if (c == '"') {
        quoted();
        --at_;
      }
    }
    if (!open.empty()) fail(open.back() == '[' ? "a closing ']'" : "a closing '}'");
    std::size_t end = at_;
    while (end > begin && is_space(text_[end - 1])) --end;
    if (end == begin) fail("a value (write \"\" for an empty text)");
    return std::string(text_.substr(begin, end - begin));
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// True when the reader's bare() gives back exactly this text.
bool can_stand_bare(std::string_view value) {
  if (value.empty() || value.front() == '"' || is_space(value.front()) || is_space(value.back()))
    return false;
  std::string open;
  bool in_quotes = false;
  for (std::size_t i = 0; i < value.size(); ++i) {
    const char c = value[i];
    if (in_quotes) {
      if (c == '\\') {
        if (++i == value.size() || (value[i] != '"' && value[i] != '\\')) return false;
      } else if (c == '"') {
        in_quotes = false;
      }
      continue;
    }
    if (c == '"') in_quotes = true;
    if (open.empty() && (c == ',' || c == '}')) return false;
    if (c == '[' || c == '{') open += c;
    if (c == ']' || c == '}') {
      if (open.empty() || open.back() != (c == ']' ? '[' : '{')) return false;
      open.pop_back();
    }
  }
  return open.empty() && !in_quotes;
}

void append_value(std::string& out, std::string_view value) {
  if (can_stand_bare(value)) {
    out += value;
    return;
  }
  out += '"';
  for (char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  out += '"';
}

template <class T>
std::string shortest(T value) {
  char buffer[32];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, result.ptr);
}

}  // namespace

std::string MethodSpec::text() const {
  if (empty()) return {};
  std::string out = family.empty() ? id : family + '/' + id;
  if (params.empty()) return out;
  std::string_view separator = "{";
  for (const auto& [name, value] : params) {
    out.append(separator).append(name).append("=");
    append_value(out, value);
    separator = ", ";
  }
  return out += '}';
}

MethodSpec parse_method_spec(std::string_view text, std::string_view family) {
  MethodSpec spec = SpecReader(text).read();
  if (!family.empty() && !spec.family.empty() && spec.family != family)
    throw ParamError(fmt::format("method spec '{}': a method of family '{}' must stand here, got family '{}'",
                                 text, family, spec.family));
  if (!family.empty()) spec.family = family;
  return spec;
}

std::string param_text(double value) { return shortest(value); }
std::string param_text(std::int64_t value) { return shortest(value); }
std::string param_text(bool value) { return value ? "true" : "false"; }

std::string param_text(std::span<const double> values) {
  std::string out = "[";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ", ";
    out += shortest(values[i]);
  }
  return out += ']';
}

bool is_snake_case(std::string_view name) {
  if (name.empty() || name.front() < 'a' || name.front() > 'z' || name.back() == '_') return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '_' && name[i - 1] != '_');
    if (!allowed) return false;
  }
  return true;
}

}  // namespace borel
