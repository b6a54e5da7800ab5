// The chunk engine at the sizes of its targets (H = 8, d = 64, float32): causal forward, backward, one decoding step;
// grouped: eight query heads on two key heads.
//
//   borel_chunk_attention_bench --benchmark_filter='gated_delta/' --benchmark_min_time=1
//
// Counters: GFLOP/s with flops as Attention::flops counts them, those of the forward pass also for the way back; share is
// that over the sgemm of this run with as many threads.
#include <memory>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <tbb/task_arena.h>

#include "borel/attention.hpp"
#include "borel/error.hpp"
#include "loader/own_plugins.hpp"
#include "share.hpp"

namespace {

using borel::Attention;
using borel::index_t;
using borel::TensorView;
namespace bench = borel::bench;

constexpr index_t k_h = 8, k_h_grouped = 2, k_d = 64, k_n_steps = 1024;

enum class Way { forward, backward, step };

struct Work {
  Work(const std::string& spec, index_t n, index_t h_kv)
      : method(borel::own_plugins().make<Attention>(borel::parse_method_spec(spec, "attention"))) {
    borel::Rng rng(borel::Seed{1});
    for (std::vector<float>* values : {&q, &o, &d_o, &d_q})
      values->resize(static_cast<std::size_t>(k_h * n * k_d));
    for (std::vector<float>* values : {&k, &v, &d_k, &d_v})
      values->resize(static_cast<std::size_t>(h_kv * n * k_d));
    for (std::vector<float>* values : {&q, &k, &v, &d_o}) rng.fill_normal(std::span<float>(*values));
    const std::array<index_t, 3> shape = {k_h, n, k_d}, key_shape = {h_kv, n, k_d};
    call.q = {q.data(), shape}, call.k = {k.data(), key_shape}, call.v = {v.data(), key_shape},
    out = {o.data(), shape};
    defaults = std::make_unique<borel::AttentionDefaults>(
        *method, borel::AttentionContext{.h_q = k_h, .h_kv = h_kv, .d_k = k_d, .d_v = k_d, .max_n = n}, n, n,
        borel::Seed{2});
    defaults->attach(call);
    if (const borel::AttentionStep* ability = method->step())
      state.resize(static_cast<std::size_t>(ability->state_size(call.context)));
  }

  void forward() { method->forward(call, out); }

  void backward() {
    const std::array<index_t, 3> shape = out.shape();
    method->backward()->backward(
        call, out, {}, {d_o.data(), shape},
        {{d_q.data(), shape}, {d_k.data(), call.k.shape()}, {d_v.data(), call.v.shape()}, {}, {}, nullptr});
  }

  /// One token after the other; a context that has all tokens of the call begins anew.
  void step() {
    const borel::AttentionStep& ability = *method->step();
    const index_t n = call.n_q();
    if (t == n) t = 0;
    if (t == 0) ability.start(call.context, call.parameters, state);
    const auto token_of = [&](const TensorView<const float, 3>& x) {
      return TensorView<const float, 2>(x.data() + t * x.stride(1), {x.shape(0), x.shape(2)},
                                        {x.stride(0), 1});
    };
    extra.clear();
    for (const TensorView<const float, 3>& input : call.extra) extra.push_back(token_of(input));
    ability.step({t, token_of(call.q), token_of(call.k), token_of(call.v), nullptr, extra, call.parameters,
                  call.context},
                 state, {o.data() + t * k_d, {k_h, k_d}, {n * k_d, 1}});
    ++t;
  }

  std::unique_ptr<Attention> method;
  std::vector<float> q, k, v, o, d_o, d_q, d_k, d_v;
  std::unique_ptr<borel::AttentionDefaults> defaults;
  borel::AttentionCall call;
  TensorView<float, 3> out;
  std::vector<float> state;  // of step()
  std::vector<TensorView<const float, 2>> extra;
  index_t t = 0;
};

void run(benchmark::State& state, const std::string& spec, index_t n, index_t h_kv, int threads, Way way) {
  std::unique_ptr<Work> work;
  try {
    work = std::make_unique<Work>(spec, n, h_kv);
    if (way == Way::backward && !work->method->backward())
      return state.SkipWithError("this method has no backward()");
    tbb::task_arena arena(threads);
    const double seconds = arena.execute([&] {
      const auto once = [&] {
        if (way == Way::forward) work->forward();
        if (way == Way::backward) work->backward();
        if (way == Way::step) work->step();
      };
      once();  // caches and scratch memory grow here
      return bench::seconds_of(state, once);
    });
    const auto n_tokens = static_cast<double>(way == Way::step ? 1 : n);
    state.counters["Mtok/s"] = 1e-6 * n_tokens / seconds;
    if (way != Way::step)
      bench::report_share(state, work->method->flops(work->call.context, n, n), seconds, threads);
  } catch (const borel::Error& error) {
    state.SkipWithError(error.what());
  }
}

void add(const std::string& name, const std::string& spec, index_t n, int threads, Way way,
         index_t h_kv = k_h) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { run(state, spec, n, h_kv, threads, way); })
      ->Unit(way == Way::step ? benchmark::kMicrosecond : benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (const std::string core = bench::better_blas_core(); !core.empty())
    fmt::print(stderr, "OpenBLAS runs slower kernels than this processor has: set OPENBLAS_CORETYPE={}\n",
               core);
  for (const char* id : {"linear", "retention", "lru", "gla", "ssd", "delta", "gated_delta", "rwkv6",
                         "performer", "cosformer", "hedgehog", "taylor"}) {
    const bool longest = std::string_view(id) == "linear";
    for (const index_t n : {4096, 16384, 262144})
      for (const int threads : {1, 2})
        if (n <= 16384 || longest)
          add(fmt::format("{}/forward/n:{}/threads:{}", id, n, threads), id, n, threads, Way::forward);
    add(fmt::format("{}/backward/n:4096/threads:1", id), id, 4096, 1, Way::backward);
    add(fmt::format("{}/step", id), id, k_n_steps, 1, Way::step);
    add(fmt::format("{}/grouped/forward/n:4096/threads:1", id), id, 4096, 1, Way::forward, k_h_grouped);
    add(fmt::format("{}/grouped/step", id), id, k_n_steps, 1, Way::step, k_h_grouped);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
