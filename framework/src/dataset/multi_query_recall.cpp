#include "dataset/multi_query_recall.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

#include "borel/error.hpp"

namespace borel {
namespace {

// n distinct numbers of [first, last), in random order: the start of a Fisher-Yates shuffle.
std::vector<std::uint8_t> draw_distinct(index_t first, index_t last, index_t n, Rng& rng) {
  std::vector<std::uint8_t> all(static_cast<std::size_t>(last - first));
  std::iota(all.begin(), all.end(), static_cast<std::uint8_t>(first));
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
    std::swap(all[i], all[i + rng.below(all.size() - i)]);
  all.resize(static_cast<std::size_t>(n));
  return all;
}

// One of the slots that are left, in proportion to its weight; it is taken away.
std::size_t take_slot(std::vector<double>& weights, Rng& rng) {
  double left = rng.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  std::size_t chosen = weights.size();
  for (std::size_t slot = 0; slot < weights.size() && left >= 0; ++slot) {
    if (weights[slot] == 0) continue;
    chosen = slot;  // the last one that is left, should rounding eat the end
    left -= weights[slot];
  }
  weights[chosen] = 0;
  return chosen;
}

}  // namespace

void RecallTask::check() const {
  if (n_pairs < 1 || slot < 1 || length < (2 + slot) * n_pairs || (length - 2 * n_pairs) % slot != 0)
    throw ParamError(fmt::format(
        "recall task: the tokens after the pairs must be whole slots, at least one for each pair; got {} "
        "tokens with {} pairs and slots of {}",
        length, n_pairs, slot));
  if (vocabulary > 256 || vocabulary / 2 - 1 < n_pairs)
    throw ParamError(fmt::format(
        "recall task: {} distinct keys and values must fit into a vocabulary of at most 256; got {}", n_pairs,
        vocabulary));
  if (!(power > 0 && power <= 1))
    throw ParamError(fmt::format("recall task: the power of the gaps must be in (0, 1]; got {}", power));
}

void draw_recall_sequence(const RecallTask& task, Rng& rng, std::span<std::uint8_t> inputs,
                          std::span<std::uint8_t> targets) {
  assert(static_cast<index_t>(inputs.size()) == task.length && inputs.size() == targets.size());
  std::ranges::fill(inputs, k_no_token);
  std::ranges::fill(targets, k_no_token);
  const auto keys = draw_distinct(1, task.vocabulary / 2, task.n_pairs, rng);
  const auto values = draw_distinct(task.vocabulary / 2, task.vocabulary, task.n_pairs, rng);
  const auto first_slot = static_cast<std::size_t>(2 * task.n_pairs);
  const auto n_tokens = static_cast<std::size_t>(task.slot);
  std::vector<double> weights((inputs.size() - first_slot) / n_tokens);
  for (std::size_t slot = 0; slot < weights.size(); ++slot)
    weights[slot] = task.power * std::pow(static_cast<double>(slot + 1), task.power - 1);
  for (std::size_t pair = 0; pair < keys.size(); ++pair) {
    inputs[2 * pair] = keys[pair];
    inputs[2 * pair + 1] = values[pair];
    const std::size_t place = first_slot + n_tokens * take_slot(weights, rng);
    inputs[place] = keys[pair];
    targets[place] = values[pair];
  }
}

}  // namespace borel
