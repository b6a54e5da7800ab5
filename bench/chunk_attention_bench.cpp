// The chunk engine at the sizes of its targets (H = 8, d = 64, float32): causal forward, backward, one decoding step.
// Counter share = GFLOP/s over those of sgemm on the same machine and threads, flops as Attention::flops counts them.
#include <algorithm>
#include <memory>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <tbb/global_control.h>

#include "bench/ceilings.hpp"
#include "borel/attention.hpp"
#include "loader/plugin_set.hpp"

namespace {

using borel::Attention;
using borel::index_t;
using borel::TensorView;

constexpr index_t k_h = 8, k_d = 64;

struct Work {
  Work(const borel::Registry& registry, const std::string& spec, index_t n)
      : method(registry.make<Attention>(borel::parse_method_spec(spec, "attention"))) {
    borel::Rng rng(borel::Seed{1});
    for (std::vector<float>* values : {&q, &k, &v, &o, &d_o, &d_q, &d_k, &d_v})
      values->resize(static_cast<std::size_t>(k_h * n * k_d));
    for (std::vector<float>* values : {&q, &k, &v, &d_o}) rng.fill_normal(std::span<float>(*values));
    const std::array<index_t, 3> shape = {k_h, n, k_d};
    call.q = {q.data(), shape}, call.k = {k.data(), shape}, call.v = {v.data(), shape}, out = {o.data(), shape};
    defaults = std::make_unique<borel::AttentionDefaults>(
        *method, borel::AttentionContext{.h_q = k_h, .h_kv = k_h, .d_k = k_d, .d_v = k_d, .max_n = n}, n, n,
        borel::Seed{2});
    defaults->attach(call);
  }
  std::unique_ptr<Attention> method;
  std::vector<float> q, k, v, o, d_o, d_q, d_k, d_v;
  std::unique_ptr<borel::AttentionDefaults> defaults;
  borel::AttentionCall call;
  TensorView<float, 3> out;
};

void report(benchmark::State& state, const Work& work, index_t n, double sgemm) {
  const double flops = work.method->flops(work.call.context, n, n);
  state.counters["GF/s"] =
      benchmark::Counter(1e-9 * flops, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1000);
  state.counters["Mtok/s"] =
      benchmark::Counter(1e-6 * static_cast<double>(n), benchmark::Counter::kIsIterationInvariantRate);
  state.counters["sgemm"] = sgemm;
}

void forward(benchmark::State& state, const borel::Registry& registry, const std::string& spec, index_t n, double sgemm) {
  Work work(registry, spec, n);
  work.method->forward(work.call, work.out);
  for (auto unused : state) work.method->forward(work.call, work.out);
  report(state, work, n, sgemm);
}

void backward(benchmark::State& state, const borel::Registry& registry, const std::string& spec, index_t n, double sgemm) {
  Work work(registry, spec, n);
  const borel::AttentionBackward* gradients = work.method->backward();
  if (!gradients) return state.SkipWithError("no gradients");
  work.method->forward(work.call, work.out);
  const std::array<index_t, 3> shape = work.out.shape();
  for (auto unused : state)
    gradients->backward(work.call, work.out, {}, {work.d_o.data(), shape},
                        {{work.d_q.data(), shape}, {work.d_k.data(), shape}, {work.d_v.data(), shape}, {}, {}, nullptr});
  report(state, work, n, sgemm);
}

void step(benchmark::State& state, const borel::Registry& registry, const std::string& spec) {
  constexpr index_t n = 256;
  Work work(registry, spec, n);
  const borel::AttentionStep* ability = work.method->step();
  std::vector<float> memory(static_cast<std::size_t>(ability->state_size(work.call.context)));
  ability->start(work.call.context, work.call.parameters, memory);
  index_t t = 0;
  const auto token_of = [&](const TensorView<const float, 3>& x, index_t at) {
    return TensorView<const float, 2>(x.data() + at * x.stride(1), {x.shape(0), x.shape(2)}, {x.stride(0), 1});
  };
  std::vector<TensorView<const float, 2>> extra(work.call.extra.size());
  for (auto unused : state) {
    const index_t at = t % n;
    for (std::size_t e = 0; e < extra.size(); ++e) extra[e] = token_of(work.call.extra[e], at);
    ability->step({t, token_of(work.call.q, at), token_of(work.call.k, at), token_of(work.call.v, at), nullptr, extra,
                   work.call.parameters, work.call.context},
                  memory, {work.o.data(), {k_h, k_d}, {n * k_d, 1}});
    ++t;
  }
  state.SetItemsProcessed(state.iterations());
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  borel::Registry registry;
  borel::load_plugins({{}, false, true}, registry);
  const double sgemm = borel::bench::measure_ceilings(1).sgemm_gflops;
  const std::vector<std::string> methods = {"linear", "retention", "lru",         "gla",   "ssd",      "delta",
                                            "gated_delta", "rwkv6", "performer", "cosformer", "hedgehog"};
  const auto known = registry.ids<Attention>();
  for (const std::string& id : methods) {
    if (std::ranges::find(known, id) == known.end()) continue;
    for (const index_t n : {4096, 16384, 262144}) {
      if (n > 16384 && id != "linear") continue;
      for (const int threads : {1, 2})
        benchmark::RegisterBenchmark(fmt::format("{}/forward/n:{}/threads:{}", id, n, threads).c_str(),
                                     [&registry, id, n, threads, sgemm](benchmark::State& state) {
                                       const tbb::global_control limit(
                                           tbb::global_control::max_allowed_parallelism,
                                           static_cast<std::size_t>(threads));
                                       forward(state, registry, id, n, sgemm);
                                     })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
    }
    benchmark::RegisterBenchmark(fmt::format("{}/backward/n:4096/threads:1", id).c_str(),
                                 [&registry, id, sgemm](benchmark::State& state) {
                                   const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, 1);
                                   backward(state, registry, id, 4096, sgemm);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(fmt::format("{}/step", id).c_str(),
                                 [&registry, id](benchmark::State& state) { step(state, registry, id); })
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::RunSpecifiedBenchmarks();
}
