// Softmax whose weights are made while the scores are in registers, against softmax tile by tile, the definition in double,
// and itself with other rows beside.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "attention_inputs.hpp"
#include "contract/attention_subject.hpp"

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

/// Values are unit vectors, so that outputs are weights: key j has the score -step * j, or the reverse, from one tile to
/// the next within the headroom and beyond it, down to the smallest numbers.
TEST(SoftmaxTiles, WeightsAreExactToTheirLastPlaces) {
  constexpr index_t n = 384;
  const std::string failure = contract::on_every_instruction_set([](std::string_view target) -> std::string {
    for (const float step : {0.001f, 0.05f, 0.3f, 0.9f, -0.05f, -0.3f, -0.9f}) {
      std::vector<float> q(64 * 4, 0), k(n * 4, 0), v(n * n, 0);
      for (index_t r = 0; r < 64; ++r) q[static_cast<std::size_t>(r * 4)] = 2;  // the scale is 1/2
      for (index_t j = 0; j < n; ++j) {
        k[static_cast<std::size_t>(j * 4)] = -step * static_cast<float>(j);
        v[static_cast<std::size_t>(j * n + j)] = 1;
      }
      AttentionCall call;
      call.q = {q.data(), {1, 64, 4}};
      call.k = {k.data(), {1, n, 4}};
      call.v = {v.data(), {1, n, n}};
      call.context = {.h_q = 1, .h_kv = 1, .d_k = 4, .d_v = n, .max_n = n, .causal = false};
      call.causal = false;
      const std::vector<float> o = forward(TileSoftmax(), call);
      std::vector<double> weights;
      double sum = 0, top = -std::numeric_limits<double>::infinity();
      for (index_t j = 0; j < n; ++j)
        top = std::max(top, static_cast<double>(k[static_cast<std::size_t>(j * 4)]));
      for (index_t j = 0; j < n; ++j) {
        weights.push_back(std::exp(static_cast<double>(k[static_cast<std::size_t>(j * 4)]) - top));
        sum += weights.back();
      }
      for (index_t j = 0; j < n; ++j) {
        const double w = weights[static_cast<std::size_t>(j)] / sum,
                     got = static_cast<double>(o[static_cast<std::size_t>(j)]);
        // The exponent of a weight is a float of up to |score|; below the normal numbers a weight may be zero.
        const double allowed =
            w * (6e-7 + 1.2e-7 * std::abs(static_cast<double>(step) * static_cast<double>(n))) + 1.2e-38;
        if (!(std::abs(got - w) <= allowed))
          return std::string(target) + ": step " + std::to_string(step) + ", key " + std::to_string(j) +
                 ": " + std::to_string(got / w - 1);
      }
    }
    return {};
  });
  EXPECT_EQ(failure, "");
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
