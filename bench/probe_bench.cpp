// One training step of the network of studies/train/tiny_gpt.toml, for 1 and 2 threads and several mechanisms; tokens/s.
// The peer is bench/peers/probe_pytorch.py.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include <tbb/global_control.h>

#include "loader/own_plugins.hpp"
#include "probe/training.hpp"

namespace {

using namespace borel;

void training_step(benchmark::State& state, const char* attention, const char* position) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism,
                                  static_cast<std::size_t>(state.range(0)));
  probe::TrainingConfig config;  // 4 layers, width 128, 4 heads, GELU 4x, 16 sequences of 256 bytes
  config.model.attention = {parse_method_spec(attention, "attention")};
  config.model.position = {parse_method_spec(position, "position")};
  std::vector<std::uint8_t> text(1 << 16);
  Rng rng(Seed{1});
  for (std::uint8_t& byte : text) byte = static_cast<std::uint8_t>('a' + rng.below(26));
  probe::Trainer trainer(config, own_plugins(), text);
  trainer.step();
  for (auto _ : state) benchmark::DoNotOptimize(trainer.step().loss);
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(config.n_batch * config.model.train_length),
                         benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace

BENCHMARK_CAPTURE(training_step, softmax_learned, "softmax", "learned")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(training_step, softmax_rope, "softmax", "rope")->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK_CAPTURE(training_step, gated_delta, "gated_delta", "none")->Arg(1)->Arg(2)->UseRealTime();

BENCHMARK_MAIN();
