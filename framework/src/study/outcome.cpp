#include "study/outcome.hpp"

#include <array>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

constexpr std::array<std::string_view, 5> k_outcomes = {"ok", "skipped", "failed", "timeout", "crashed"};
constexpr std::array<std::string_view, 3> k_directions = {"lower_is_better", "higher_is_better", "none"};

template <class E, std::size_t N>
E from_name(std::string_view what, std::string_view name, const std::array<std::string_view, N>& names) {
  for (std::size_t i = 0; i < N; ++i)
    if (names[i] == name) return static_cast<E>(i);
  throw Error(fmt::format("{} '{}' is unknown; known: {}", what, name, fmt::join(names, ", ")));
}

}  // namespace

std::string_view to_string(CellOutcome outcome) { return k_outcomes[static_cast<std::size_t>(outcome)]; }
std::string_view to_string(Direction direction) { return k_directions[static_cast<std::size_t>(direction)]; }
CellOutcome outcome_from(std::string_view name) {
  return from_name<CellOutcome>("cell outcome", name, k_outcomes);
}
Direction direction_from(std::string_view name) {
  return from_name<Direction>("direction", name, k_directions);
}

}  // namespace borel
