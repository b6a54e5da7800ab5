// Sequences for multi-query associative recall, from easy to hard.
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "dataset/multi_query_recall.hpp"
#include "dataset/recipe_lists.hpp"

namespace borel {
namespace {

constexpr std::int64_t k_n_train = 20000, k_n_test = 1000;  // as in the paper
constexpr std::uint64_t k_seed = 4927;

void fill(const RecallTask& task, DatasetWriter& writer) {
  task.check();
  writer.attribute("", "sequence_length", static_cast<std::int64_t>(task.length));
  writer.attribute("", "n_pairs", static_cast<std::int64_t>(task.n_pairs));
  writer.attribute("", "vocabulary", static_cast<std::int64_t>(task.vocabulary));
  writer.attribute("", "power", task.power);
  for (const auto& [split, n] : {std::pair{"train", k_n_train}, std::pair{"test", k_n_test}}) {
    Rng rng(Seed{k_seed}.derive(split));
    const auto length = static_cast<std::size_t>(task.length);
    std::vector<std::uint8_t> inputs(static_cast<std::size_t>(n) * length), targets(inputs.size());
    for (std::size_t first = 0; first < inputs.size(); first += length)
      draw_recall_sequence(task, rng, std::span(inputs).subspan(first, length),
                           std::span(targets).subspan(first, length));
    const auto size = static_cast<std::int64_t>(inputs.size());
    writer.array(split, std::move(inputs), {size});
    writer.array(fmt::format("target/{}", split), std::move(targets), {size});
  }
}

}  // namespace

void add_recall_recipes(std::vector<Recipe>& list) {
  for (const auto& [length, n_pairs] : {std::pair{32, 8}, {64, 8}, {64, 16}, {128, 32}}) {
    const RecallTask task{.length = length, .n_pairs = n_pairs};
    list.push_back({.id = fmt::format("mqar_n{}_kv{}", task.length, task.n_pairs),
                    .kind = DatasetKind::tokens,
                    .title = fmt::format("Associative recall: {} pairs, then {} queries, in {} tokens",
                                         task.n_pairs, task.n_pairs, task.length),
                    .licence = "generated here (no copyright)",
                    .source = "multi-query associative recall, Arora et al. 2023, arXiv:2312.04927",
                    .seed = k_seed,
                    .make = [task](DatasetWriter& writer) { fill(task, writer); }});
  }
}

}  // namespace borel
