#include "report/number_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace borel {
namespace {

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

/// "{scheme=euler, of=pi{factor=2}}" -> "{euler, pi{2}}"
std::string without_names(std::string_view params) {
  std::string text;
  std::size_t name = 0;  // where the parameter that is being read began in `text`
  for (char c : params) {
    if (c == '=') {
      text.resize(name);
    } else {
      text += c;
      if (c == '{' || c == ' ') name = text.size();
    }
  }
  return text;
}

}  // namespace

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  const std::string plain = fmt::format("{:.{}g}", value, digits);
  std::string text;
  const std::size_t exponent = plain.find('e');
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] == '-') {
      text += "−";
    } else if (i > exponent && exponent != std::string::npos &&
               (plain[i] == '+' || (plain[i] == '0' && i == exponent + 2))) {
      continue;  // e+05 and e-05 as e5 and e−5
    } else {
      text += plain[i];
    }
  }
  return text;
}

std::string number_text(double value, const ConfidenceInterval& interval) {
  if (!interval.known() || interval.lower == interval.upper) return number_text(value);
  // As many digits as it takes to tell the ends apart.
  int digits = 3;
  while (digits < 7 && number_text(interval.lower, digits) == number_text(interval.upper, digits)) ++digits;
  return fmt::format("{} [{}, {}]", number_text(value, std::max(4, digits)),
                     number_text(interval.lower, digits), number_text(interval.upper, digits));
}

std::string seconds_text(double seconds) {
  const double size = std::abs(seconds);
  if (!std::isfinite(seconds)) return number_text(seconds);
  if (size >= 1 || size == 0) return number_text(seconds, 3) + " s";
  if (size >= 1e-3) return number_text(seconds * 1e3, 3) + " ms";
  if (size >= 1e-6) return number_text(seconds * 1e6, 3) + " µs";
  return number_text(seconds * 1e9, 3) + " ns";
}

std::string p_text(double p_value) {
  return p_value < 0.001 ? "p < 0.001" : "p = " + number_text(p_value, 2);
}

std::string exact_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return {buffer.data(), error == std::errc{} ? end : buffer.data()};
}

std::string words(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

std::string timed_words(std::string_view name) {
  if (name.size() > 2 && name.substr(name.size() - 2) == "_s") name.remove_suffix(2);
  return words(name);
}

std::string axis_text(std::string_view name, std::string_view unit) {
  return unit.empty() ? words(name) : fmt::format("{} ({})", words(name), unit);
}

std::string counted(std::size_t n, std::string_view thing) {
  return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), starts_character));
}

std::string shorten(std::string_view text, std::size_t n_max) {
  if (character_count(text) <= n_max) return std::string(text);
  std::size_t n = 0, end = 0;
  while (end < text.size() && (!starts_character(text[end]) || n++ < n_max - 1)) ++end;
  return std::string(text.substr(0, end)) + "…";
}

std::string shorten_label(std::string_view label, std::size_t n_max) {
  const std::size_t brace = label.find('{');
  if (brace == std::string_view::npos || character_count(label) <= n_max) return shorten(label, n_max);
  constexpr std::size_t k_least_name = 4;
  const std::size_t name = std::min(brace, k_least_name);
  std::string params(label.substr(brace));
  if (name + 1 + character_count(params) > n_max) params = without_names(params);
  const std::size_t n_params = character_count(params);
  const std::size_t room = n_max > n_params ? n_max - n_params : 0;
  return shorten(shorten(label.substr(0, brace), std::max(name + 1, room)) + params, n_max);
}

}  // namespace borel
