// Attention against the ceiling of the same run: H = 8 heads, float32, one thread unless the name says otherwise.
//
//   borel_attention_bench --benchmark_filter='softmax/' --benchmark_min_time=1
//
// Counters: GFLOP/s counts each causal pair once, 2 (d_k + d_v) operations a pair; share is that over the sgemm of this
// run. `borel bench` times any method of any plugin set; the cases here are the ones that the engines are held to.
#include <string>
#include <tuple>
#include <vector>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <tbb/task_arena.h>

#include "borel/attention.hpp"
#include "borel/error.hpp"
#include "loader/own_plugins.hpp"
#include "protocols/visible_pairs.hpp"
#include "share.hpp"

namespace {

using namespace borel;

constexpr Seed k_seed{7};

struct Shape {
  index_t n_q, n_k, d = 64;
  bool causal = true;
  index_t h = 8, h_kv = 8;
};

/// Owns one call and everything that it points to.
struct Work {
  std::unique_ptr<Attention> method;
  std::vector<float> q, k, v, o, saved, d_q, d_k, d_v;
  std::unique_ptr<PositionEncoding> encoding;
  PositionPlan plan;
  std::unique_ptr<AttentionDefaults> defaults;
  AttentionCall call;
  TensorView<float, 3> out;

  Work(const std::string& spec, const Shape& s, const std::string& position) {
    method = own_plugins().make<Attention>(parse_method_spec(spec, "attention"));
    Rng rng(k_seed);
    const auto fill = [&](std::vector<float>& values, index_t n) {
      values.resize(static_cast<std::size_t>(n));
      rng.fill_normal(std::span<float>(values));
    };
    fill(q, s.h * s.n_q * s.d);
    fill(k, s.h_kv * s.n_k * s.d);
    fill(v, s.h_kv * s.n_k * s.d);
    o.resize(q.size());
    call.q = {q.data(), {s.h, s.n_q, s.d}};
    call.k = {k.data(), {s.h_kv, s.n_k, s.d}};
    call.v = {v.data(), {s.h_kv, s.n_k, s.d}};
    call.causal = s.causal;
    call.query_offset = s.n_k - s.n_q;
    out = {o.data(), {s.h, s.n_q, s.d}};
    AttentionContext context;
    context.h_q = s.h, context.h_kv = s.h_kv, context.d_k = context.d_v = s.d;
    context.max_n = s.n_k, context.causal = s.causal;
    defaults = std::make_unique<AttentionDefaults>(*method, context, s.n_q, s.n_k, k_seed);
    defaults->attach(call);
    if (position.empty()) return;
    encoding = own_plugins().make<PositionEncoding>(parse_method_spec(position, "position"));
    PositionContext where;
    where.n_q = s.n_q, where.n_k = s.n_k, where.query_offset = call.query_offset;
    where.n_heads = s.h, where.d_head = method->plan_d_head(context);
    where.train_length = std::max<index_t>(1, s.n_k / 4), where.causal = s.causal;
    where.scaled_scores = !method->traits().own_scale;
    const ParameterSet parameters(encoding->parameters(s.h, where.d_head, s.h * s.d), k_seed);
    plan = position_plan(*encoding, where, parameters.values());
    call.position = &plan;
  }

  void forward() { method->forward(call, out); }

  void backward() {
    const AttentionBackward& ability = *method->backward();
    const index_t n_saved = ability.saved_per_row(call.context);
    if (saved.empty()) {
      saved.resize(static_cast<std::size_t>(call.h_q() * call.n_q() * n_saved));
      d_q.assign(q.size(), 0), d_k.assign(k.size(), 0), d_v.assign(v.size(), 0);
      ability.forward_saving(call, out, {saved.data(), {call.h_q(), call.n_q(), n_saved}});
    }
    AttentionBackward::Gradients gradients;
    gradients.d_q = {d_q.data(), call.q.shape()};
    gradients.d_k = {d_k.data(), call.k.shape()};
    gradients.d_v = {d_v.data(), call.v.shape()};
    ability.backward(call, out, {saved.data(), {call.h_q(), call.n_q(), n_saved}}, out, gradients);
  }
};

void run(benchmark::State& state, const std::string& spec, const Shape& shape, const std::string& position,
         int threads, bool backward) {
  std::unique_ptr<Work> work;
  try {
    work = std::make_unique<Work>(spec, shape, position);
  } catch (const Error& error) {
    return state.SkipWithError(error.what());
  }
  if (backward && !work->method->backward()) return state.SkipWithError("this method has no backward()");
  tbb::task_arena arena(threads);
  const double seconds = arena.execute([&] {
    const auto once = [&] { backward ? work->backward() : work->forward(); };
    once();  // caches and scratch memory grow here
    return bench::seconds_of(state, once);
  });
  // The way back has five products where the forward pass has two.
  const double flops =
      (backward ? 2.5 : 1) * 4 * static_cast<double>(shape.h * shape.d) * visible_pairs(work->call);
  bench::report_share(state, flops, seconds, threads);
}

void add(const std::string& name, const std::string& spec, const Shape& shape,
         const std::string& position = "", int threads = 1, bool backward = false) {
  benchmark::RegisterBenchmark(
      name.c_str(), [=](benchmark::State& state) { run(state, spec, shape, position, threads, backward); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

void register_all() {
  const Shape causal_1024{1024, 1024}, causal_4096{4096, 4096};
  Shape full_1024 = causal_1024, full_4096 = causal_4096;
  full_1024.causal = full_4096.causal = false;
  add("softmax/causal/n:1024", "softmax", causal_1024);
  add("softmax/causal/n:4096", "softmax", causal_4096);
  add("softmax/causal/n:4096/threads:2", "softmax", causal_4096, "", 2);
  for (const char* shape_name : {"causal", "full"})
    add(fmt::format("softmax/bf16/{}/n:4096", shape_name), "softmax{precision=bf16}",
        shape_name[0] == 'c' ? causal_4096 : full_4096);
  add("softmax/full/n:1024", "softmax", full_1024);
  add("softmax/full/n:4096", "softmax", full_4096);
  for (const index_t d : {80, 128}) {
    Shape shape = causal_4096;
    shape.d = d;
    add(fmt::format("softmax/causal/n:4096/d:{}", d), "softmax", shape);
  }
  add("softmax/backward/n:1024", "softmax", causal_1024, "", 1, true);
  add("softmax/backward/n:4096", "softmax", causal_4096, "", 1, true);
  add("softmax/backward/n:4096/threads:2", "softmax", causal_4096, "", 2, true);

  // Cost linear in n. Position encodings that mask or bias run in the same kernels.
  for (const index_t n : {4096, 16384})
    add(fmt::format("window/w:256/n:{}", n), "softmax", {n, n}, "window{window=256}");
  for (const char* position :
       {"rope", "rerope{window=1024}", "leaky_rerope{window=1024}", "self_extend{window=1024}", "alibi", "t5",
        "kerple", "log_n", "yarn", "streaming", "lambda_mask"})
    add(fmt::format("position/{}/n:4096", position), "softmax", causal_4096, position);

  for (const char* spec : {"softmax1", "qk_norm", "sigmoid", "relu", "relu2", "identity", "sparsemax",
                           "entmax15", "topk", "differential", "forgetting", "softmax{softcap=30}"}) {
    add(fmt::format("method/{}/n:4096", spec), spec, causal_4096);
    add(fmt::format("method_backward/{}/n:1024", spec), spec, causal_1024, "", 1, true);
  }

  // One query against a cache: bound by the bandwidth of reading it.
  for (const index_t n : {1024, 4096, 16384}) {
    Shape one{1, n};
    add(fmt::format("decode/n:{}", n), "softmax", one);
    add(fmt::format("decode/rope/n:{}", n), "softmax", one, "rope");
    one.h_kv = 2;
    add(fmt::format("decode/grouped/n:{}", n), "softmax", one);
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (const std::string core = bench::better_blas_core(); !core.empty())
    fmt::print(stderr, "OpenBLAS runs slower kernels than this processor has: set OPENBLAS_CORETYPE={}\n",
               core);
  benchmark::AddCustomContext("sgemm_gflops_1_thread", fmt::format("{:.1f}", bench::sgemm_gflops(1)));
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
