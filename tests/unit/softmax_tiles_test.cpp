// Softmax whose weights are made while the scores are in registers, against softmax tile by tile, the definition in double,
// and itself with other rows beside.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention_inputs.hpp"
#include "contract/attention_subject.hpp"
#include "reference/softmax_gradient_reference.hpp"

namespace {

using namespace borel;
using test::Inputs;
using test::TileSoftmax;

std::vector<float> forward(const Attention& method, const AttentionCall& call) {
  std::vector<float> o(static_cast<std::size_t>(call.h_q() * call.n_q() * call.d_v()), -1);
  method.forward(call, {o.data(), {call.h_q(), call.n_q(), call.d_v()}});
  return o;
}

/// Also for NaN, and apart for the two zeros.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Every seventh query is long: its scores reach hundreds and outgrow any shift once set.
void stretch_queries(Inputs& inputs) {
  const auto& q = inputs.call.q;
  for (index_t h = 0; h < q.shape(0); ++h)
    for (index_t t = h; t < q.shape(1); t += 7)
      for (index_t c = 0; c < q.shape(2); ++c)
        inputs.q[static_cast<std::size_t>(h * q.stride(0) + t * q.stride(1) + c)] *= 60;
}

TEST(SoftmaxTiles, TakeTheBitsOfScoresInTiles) {
  EXPECT_EQ(contract::on_every_instruction_set([](std::string_view target) -> std::string {
              for (const bool causal : {true, false})
                for (const auto& [n_q, n_k, d] :
                     {std::array<index_t, 3>{331, 512, 16}, {150, 528, 20}, {49, 300, 80}}) {
                  Inputs inputs(4, 2, n_q, n_k, d, 12, 7);
                  inputs.call.causal = causal;
                  stretch_queries(inputs);
                  for (const auto& [name, plan] : test::plans_for(inputs.call)) {
                    inputs.call.position = &plan;
                    if (!same_bits(forward(TileSoftmax(false), inputs.call),
                                   forward(TileSoftmax(true), inputs.call)))
                      return std::string(target) + ": " + name + ", n_k " + std::to_string(n_k);
                  }
                }
              return {};
            }),
            "");
}

/// Blocks that see few tiles, so that tasks pack them for themselves.
TEST(SoftmaxTiles, TakeTheBitsOfScoresInTilesUnderWindows) {
  tbb::task_arena one_thread(1);
  one_thread.execute([] {
    Inputs inputs(4, 2, 2048, 2048, 20, 12, 7);
    PositionPlan window;
    window.visible = {{.distance = {0, 300}}};
    inputs.call.position = &window;
    EXPECT_TRUE(same_bits(forward(TileSoftmax(false), inputs.call), forward(TileSoftmax(true), inputs.call)));
  });
}

TEST(SoftmaxTiles, RowsDoNotDependOnTheirNeighbours) {
  for (const bool causal : {true, false}) {
    Inputs calm(2, 1, 200, 520, 16, 12, 5), stretched(2, 1, 200, 520, 16, 12, 5);
    calm.call.causal = stretched.call.causal = causal;
    stretch_queries(stretched);
    const std::vector<float> a = forward(TileSoftmax(), calm.call),
                             b = forward(TileSoftmax(), stretched.call);
    for (index_t h = 0; h < 2; ++h)
      for (index_t t = 0; t < 200; ++t) {
        const auto row = static_cast<std::ptrdiff_t>((h * 200 + t) * 12);
        const bool same = std::equal(a.begin() + row, a.begin() + row + 12, b.begin() + row);
        EXPECT_EQ(same, (t - h) % 7 != 0) << "head " << h << ", row " << t;
      }
  }
}

struct SoftmaxWithSink final : TileSoftmax {
  explicit SoftmaxWithSink(float logit) : logit_(logit) {}
  float sink(const AttentionCall&, index_t, index_t) const override { return logit_; }

 private:
  float logit_;
};

/// Values are unit vectors, so that outputs are weights: key j has the score -step * j, so that scores rise or fall from one
/// tile to the next within the headroom and beyond it.
std::string weights_are_exact(float step, float sink) {
  constexpr index_t n_q = 64, n = 384;
  std::vector<float> q(n_q * 4, 0), k(n * 4, 0), v(n * n, 0);
  for (index_t r = 0; r < n_q; ++r) q[static_cast<std::size_t>(r * 4)] = 2;  // the scale is 1/2
  std::vector<double> scores;
  for (index_t j = 0; j < n; ++j) {
    k[static_cast<std::size_t>(j * 4)] = -step * static_cast<float>(j);
    v[static_cast<std::size_t>(j * n + j)] = 1;
    scores.push_back(static_cast<double>(k[static_cast<std::size_t>(j * 4)]));
  }
  AttentionCall call;
  call.q = {q.data(), {1, n_q, 4}};
  call.k = {k.data(), {1, n, 4}};
  call.v = {v.data(), {1, n, n}};
  call.context = {.h_q = 1, .h_kv = 1, .d_k = 4, .d_v = n, .max_n = n, .causal = false};
  call.causal = false;
  const std::vector<float> o = forward(SoftmaxWithSink(sink), call);
  const double top = *std::ranges::max_element(scores);
  double sum = std::exp(static_cast<double>(sink) - top);
  for (const double score : scores) sum += std::exp(score - top);
  for (index_t row : {index_t{0}, n_q - 1})
    for (index_t j = 0; j < n; ++j) {
      const double score = scores[static_cast<std::size_t>(j)], w = std::exp(score - top) / sum;
      const auto got = static_cast<double>(o[static_cast<std::size_t>(row * n + j)]);
      // The exponent is a float, and without fused multiply-adds a difference of two, of the size of scores; the shift is up
      // to 48 powers of two, 33 nats, below the largest. Weights of less than 2^-126 beside the shift may be zero.
      const double allowed =
          w * (4e-7 + 8e-8 * (std::abs(score) + std::abs(top) + 33)) + std::ldexp(1.0, -78);
      if (!(std::abs(got - w) <= allowed)) return fmt::format("key {}: {} for {}", j, got, w);
    }
  return {};
}

TEST(SoftmaxTiles, WeightsAreExactToTheirLastPlaces) {
  for (const float step : {0.001f, 0.05f, 0.1f, 0.3f, 0.9f, -0.05f, -0.1f, -0.3f, -0.9f})
    for (const float sink : {-std::numeric_limits<float>::infinity(), -20.0f, 3.0f, 400.0f})
      EXPECT_EQ(contract::on_every_instruction_set([&](std::string_view target) {
                  const std::string failure = weights_are_exact(step, sink);
                  return failure.empty()
                             ? failure
                             : fmt::format("{}, step {}, sink {}: {}", target, step, sink, failure);
                }),
                "");
}

struct DifferentiableSoftmax final : TileSoftmax {
  bool differentiable() const override { return true; }
};

/// A copy in double, gapless.
struct Doubles {
  explicit Doubles(TensorView<const float, 3> from)
      : values(static_cast<std::size_t>(from.shape(0) * from.shape(1) * from.shape(2))),
        view(values.data(), from.shape()) {
    for (index_t h = 0; h < from.shape(0); ++h)
      for (index_t t = 0; t < from.shape(1); ++t) std::ranges::copy(from.row(h, t), view.row(h, t).begin());
  }
  std::vector<double> values;
  TensorView<double, 3> view;
};

/// The tile that is seen last holds the largest scores, twenty nats above the shift that the rows have by then.
TEST(SoftmaxTiles, GradientsOfRowsWithAnOldShift) {
  for (const bool causal : {true, false}) {
    constexpr index_t n = 300, d = 8;
    Inputs inputs(2, 2, n, n, d, d, 13);
    AttentionCall& call = inputs.call;
    call.causal = call.context.causal = causal;
    for (index_t h = 0; h < 2; ++h)
      for (index_t t = 0; t < n; ++t) {
        inputs.q[static_cast<std::size_t>(h * call.q.stride(0) + t * call.q.stride(1))] = 2;
        if (t < 128) inputs.k[static_cast<std::size_t>(h * call.k.stride(0) + t * call.k.stride(1))] += 28;
      }
    const DifferentiableSoftmax method;
    const std::array<index_t, 3> shape{2, n, d};
    std::vector<float> o(2 * n * d), d_o(2 * n * d), saved(2 * n * k_tile_saved_per_row), d_q(2 * n * d, 0),
        d_k(2 * n * d, 0), d_v(2 * n * d, 0);
    Rng rng(Seed{3});
    rng.fill_normal(std::span<float>(d_o));
    const TensorView<float, 3> out(o.data(), shape), kept(saved.data(), {2, n, k_tile_saved_per_row});
    method.forward_saving(call, out, kept);
    AttentionBackward::Gradients gradients;
    gradients.d_q = {d_q.data(), shape}, gradients.d_k = {d_k.data(), shape},
    gradients.d_v = {d_v.data(), shape};
    method.backward(call, out, kept, TensorView<const float, 3>(d_o.data(), shape), gradients);

    const Doubles q(call.q), k(call.k), v(call.v), gradient(TensorView<const float, 3>(d_o.data(), shape));
    std::vector<double> true_q(d_q.size()), true_k(d_k.size()), true_v(d_v.size());
    reference::softmax_backward(q.view, k.view, v.view, PositionPlan(), causal, gradient.view,
                                {true_q.data(), shape}, {true_k.data(), shape}, {true_v.data(), shape});
    const auto expect_near = [&](const std::vector<float>& got, const std::vector<double>& truth,
                                 const char* name) {
      double largest = 0, worst = 0;
      for (std::size_t x = 0; x < got.size(); ++x) {
        largest = std::max(largest, std::abs(truth[x]));
        worst = std::max(worst, std::abs(static_cast<double>(got[x]) - truth[x]));
      }
      EXPECT_LE(worst, 1e-5 * largest) << name << ", causal " << causal;
    };
    expect_near(d_q, true_q, "d_q"), expect_near(d_k, true_k, "d_k"), expect_near(d_v, true_v, "d_v");
  }
}

TEST(SoftmaxTiles, PassNotANumberOnInItsRowAlone) {
  for (const float bad : {std::nanf(""), -std::nanf("")}) {
    Inputs inputs(1, 1, 100, 400, 16, 12, 3);
    inputs.q[static_cast<std::size_t>(40 * inputs.call.q.stride(1) + 3)] = bad;
    const std::vector<float> o = forward(TileSoftmax(), inputs.call);
    for (index_t t = 0; t < 100; ++t)
      for (index_t c = 0; c < 12; ++c)
        EXPECT_EQ(std::isnan(o[static_cast<std::size_t>(t * 12 + c)]), t == 40) << "row " << t;
  }
}

}  // namespace
