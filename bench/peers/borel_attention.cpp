// Borel's side of attention_peers: reads the same tensors [n, heads, d], as views with strides or, where the peer has
// its own order too, put into [heads, n, d] before the clock runs, times one method and
// writes the output in the same layout.
//   borel_peer_attention <folder> <method> <position or -> <n> <heads> <d> <threads> <repetitions> <causal> [backward] [heads_first]
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <tbb/task_arena.h>

#include "bench/ceilings.hpp"
#include "borel/attention.hpp"
#include "borel/error.hpp"
#include "loader/plugin_set.hpp"

namespace {

using namespace borel;

std::vector<float> read(const std::string& file, index_t n) {
  std::vector<float> values(static_cast<std::size_t>(n));
  std::ifstream in(file, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(values.data()), n * static_cast<index_t>(sizeof(float))))
    throw Error("cannot read " + std::to_string(n) + " floats from " + file);
  return values;
}

/// [a, b, d] to [b, a, d].
std::vector<float> swap_axes(const std::vector<float>& values, index_t a, index_t b, index_t d) {
  std::vector<float> out(values.size());
  for (index_t i = 0; i < a; ++i)
    for (index_t j = 0; j < b; ++j)
      std::copy_n(values.begin() + (i * b + j) * d, d, out.begin() + (j * a + i) * d);
  return out;
}

void run(char** argv, bool backward, bool heads_first) {
  const std::string folder = argv[1], position = argv[3];
  const index_t n = std::atol(argv[4]), h = std::atol(argv[5]), d = std::atol(argv[6]);
  const int threads = std::atoi(argv[7]), repetitions = std::atoi(argv[8]);
  Registry registry;
  load_plugins({{}, false, true}, registry);
  const auto method = registry.make<Attention>(parse_method_spec(argv[2], "attention"));
  const index_t size = n * h * d;
  std::vector<float> q = read(folder + "/q.f32", size), k = read(folder + "/k.f32", size),
                     v = read(folder + "/v.f32", size);
  for (auto* values : {&q, &k, &v})
    if (heads_first) *values = swap_axes(*values, n, h, d);
  std::vector<float> o(q.size()), d_q(q.size()), d_k(q.size()), d_v(q.size());
  const std::array<index_t, 3> shape{h, n, d},
      strides = heads_first ? std::array<index_t, 3>{n * d, d, 1} : std::array<index_t, 3>{d, h * d, 1};
  AttentionCall call;
  call.q = {q.data(), shape, strides}, call.k = {k.data(), shape, strides},
  call.v = {v.data(), shape, strides};
  call.causal = std::atoi(argv[9]) != 0;
  AttentionContext context;
  context.h_q = context.h_kv = h, context.d_k = context.d_v = d, context.max_n = n,
  context.causal = call.causal;
  const AttentionDefaults defaults(*method, context, n, n, Seed{1});
  defaults.attach(call);
  PositionPlan plan;
  if (position != "-") {
    PositionContext where;
    where.n_q = where.n_k = n, where.n_heads = h, where.d_head = method->plan_d_head(context);
    where.causal = call.causal;
    where.scaled_scores = !method->traits().own_scale;
    plan = position_plan(*registry.make<PositionEncoding>(parse_method_spec(position, "position")), where);
    call.position = &plan;
  }
  const TensorView<float, 3> out(o.data(), shape, strides);
  std::vector<double> times_ms;
  tbb::task_arena(threads).execute([&] {
    std::vector<float> saved;
    TensorView<float, 3> statistics;
    if (backward) {
      const index_t n_saved = method->backward()->saved_per_row(context);
      saved.resize(static_cast<std::size_t>(h * n * n_saved));
      statistics = {saved.data(), {h, n, n_saved}};
      method->backward()->forward_saving(call, out, statistics);
    }
    for (int i = -1; i < repetitions; ++i) {
      const auto start = std::chrono::steady_clock::now();
      if (backward) {
        AttentionBackward::Gradients gradients;
        gradients.d_q = {d_q.data(), shape, strides}, gradients.d_k = {d_k.data(), shape, strides},
        gradients.d_v = {d_v.data(), shape, strides};
        method->backward()->backward(call, out, statistics, out, gradients);
      } else {
        method->forward(call, out);
      }
      if (i >= 0)
        times_ms.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    }
  });
  if (heads_first) o = swap_axes(o, h, n, d);
  const std::string output = folder + "/borel.f32";
  std::ofstream(output, std::ios::binary)
      .write(reinterpret_cast<const char*>(o.data()), static_cast<std::streamsize>(o.size() * sizeof(float)));
  const bench::Ceilings ceilings = bench::measure_ceilings(threads);
  fmt::print("{{\"times_ms\": [{}], \"output\": \"{}\", \"sgemm\": {}, \"blas\": \"{}\", \"flops\": {}}}\n",
             fmt::join(times_ms, ", "), output, ceilings.sgemm_gflops, ceilings.blas_core,
             method->flops(context, n, n));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 10) {
    fmt::print(stderr, "usage: see the first lines of bench/peers/borel_attention.cpp\n");
    return 2;
  }
  try {
    const std::vector<std::string> words(argv + 10, argv + argc);
    const auto said = [&](const char* word) { return std::ranges::find(words, word) != words.end(); };
    run(argv, said("backward"), said("heads_first"));
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
  return 0;
}
