// Sequences for multi-query associative recall, from easy to hard.
#include <array>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "dataset/multi_query_recall.hpp"
#include "dataset/recipe_lists.hpp"

namespace borel {
namespace {

constexpr std::uint64_t k_seed = 4927;

// Sequences with the task's pairs; in training a third each has a quarter, half and all of them (the paper mixes 4 to 64 pairs):
// recall is learnt on few and then holds for many.
void add_split(const RecallTask& task, const std::string& split, std::int64_t n, DatasetWriter& writer) {
  Rng rng(Seed{k_seed}.derive(split));
  const auto length = static_cast<std::size_t>(task.length);
  std::vector<std::uint8_t> inputs(static_cast<std::size_t>(n) * length), targets(inputs.size());
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    RecallTask its = task;
    if (split == "train") its.n_pairs >>= i % 3;
    draw_recall_sequence(its, rng, std::span(inputs).subspan(i * length, length),
                         std::span(targets).subspan(i * length, length));
  }
  const auto size = static_cast<std::int64_t>(inputs.size());
  writer.array(split, std::move(inputs), {size});
  writer.array("target/" + split, std::move(targets), {size});
}

void fill(const RecallTask& task, DatasetWriter& writer) {
  task.check();
  writer.attribute("", "sequence_length", static_cast<std::int64_t>(task.length));
  writer.attribute("", "n_pairs", static_cast<std::int64_t>(task.n_pairs));
  writer.attribute("", "vocabulary", static_cast<std::int64_t>(task.vocabulary));
  writer.attribute("", "slot", static_cast<std::int64_t>(task.slot));
  writer.attribute("", "power", task.power);
  add_split(task, "train", 20000, writer);
  add_split(task, "validation", 500, writer);
  add_split(task, "test", 1000, writer);
}

}  // namespace

void add_recall_recipes(std::vector<Recipe>& list) {
  constexpr std::array<RecallTask, 5> k_tasks{RecallTask{.length = 32, .n_pairs = 8},
                                              {.length = 63, .n_pairs = 21, .slot = 1},
                                              {.length = 64, .n_pairs = 8},
                                              {.length = 64, .n_pairs = 16},
                                              {.length = 128, .n_pairs = 32}};
  for (const RecallTask& task : k_tasks) {
    list.push_back({.id = fmt::format("mqar_n{}_kv{}", task.length, task.n_pairs),
                    .kind = DatasetKind::tokens,
                    .title = fmt::format("Associative recall: {} pairs, then {} queries, in {} tokens",
                                         task.n_pairs, task.n_pairs, task.length),
                    .licence = "generated here (no copyright)",
                    .source = "multi-query associative recall, Arora et al. 2023, arXiv:2312.04927",
                    .seed = k_seed,
                    .version = 2,
                    .make = [task](DatasetWriter& writer) { fill(task, writer); }});
  }
}

}  // namespace borel
