// Activations in float against those in double, on every instruction set: lengths around the vectors, and what is not finite.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "borel/rng.hpp"
#include "contract/attention_subject.hpp"
#include "fused_bits.hpp"
#include "probe/activation.hpp"

namespace {

using borel::index_t;

// Every activation has one to three inputs and one or two outputs.
struct Activation {
  const char* name;
  int n_in, n_out;
  void (*in_float)(const float* const* in, index_t n, float* const* out);
  void (*in_double)(const double* const* in, index_t n, double* const* out);
};

template <class T>
struct Calls {
  static void gelu(const T* const* in, index_t n, T* const* out) { borel::probe::gelu(in[0], n, out[0]); }
  static void gelu_backward(const T* const* in, index_t n, T* const* out) {
    borel::probe::gelu_backward(in[0], in[1], n, out[0]);
  }
  static void silu(const T* const* in, index_t n, T* const* out) { borel::probe::silu(in[0], n, out[0]); }
  static void silu_backward(const T* const* in, index_t n, T* const* out) {
    borel::probe::silu_backward(in[0], in[1], n, out[0]);
  }
  static void gated(const T* const* in, index_t n, T* const* out) {
    borel::probe::gated(in[0], in[1], n, out[0]);
  }
  static void gated_backward(const T* const* in, index_t n, T* const* out) {
    borel::probe::gated_backward(in[0], in[1], in[2], n, out[0], out[1]);
  }
};
using F = Calls<float>;
using D = Calls<double>;

const Activation k_activations[] = {
    {"gelu", 1, 1, F::gelu, D::gelu},    {"gelu_backward", 2, 1, F::gelu_backward, D::gelu_backward},
    {"silu", 1, 1, F::silu, D::silu},    {"silu_backward", 2, 1, F::silu_backward, D::silu_backward},
    {"gated", 2, 1, F::gated, D::gated}, {"gated_backward", 3, 2, F::gated_backward, D::gated_backward}};

/// Outputs one after the other, with a guard behind each.
template <class T, class Call>
std::vector<T> values(const Activation& activation, Call&& call, const std::vector<float>& in, index_t n) {
  const std::vector<T> inputs(in.begin(), in.end());
  std::vector<T> out(static_cast<std::size_t>(activation.n_out * (n + 1)), T(77));
  const T* from[3] = {inputs.data(), inputs.data() + n, inputs.data() + 2 * n};
  T* to[2] = {out.data(), out.data() + (n + 1)};
  call(from, n, to);
  return out;
}

TEST(Activations, AgreeWithDoubleOnEveryInstructionSet) {
  for (const Activation& activation : k_activations)
    for (index_t n = 1; n <= 35; ++n) {
      std::vector<float> in(static_cast<std::size_t>(3 * n));
      borel::Rng rng(borel::Seed{static_cast<std::uint64_t>(n)});
      rng.fill_normal(in);
      for (float& x : in) x *= 4;
      if (n > 2) in[0] = 100, in[1] = -100;
      const auto expected = values<double>(activation, activation.in_double, in, n);
      borel::test::FusedBits bits;
      EXPECT_EQ(borel::contract::on_every_instruction_set([&](std::string_view target) -> std::string {
                  const auto measured = values<float>(activation, activation.in_float, in, n);
                  // The slope of gelu multiplies the rounding of the logistic by some 20.
                  const double tolerance = borel::test::fuses_multiply_adds(target) ? 4e-6 : 4e-5;
                  for (std::size_t i = 0; i < expected.size(); ++i)
                    if (!(std::abs(static_cast<double>(measured[i]) - expected[i]) <=
                          tolerance * (1 + std::abs(expected[i]))))
                      return std::string(target) + ": " + activation.name + " number " + std::to_string(i) +
                             " of " + std::to_string(n) + " is " + std::to_string(measured[i]) + ", not " +
                             std::to_string(expected[i]);
                  return bits.agree(target, measured)
                             ? ""
                             : std::string(target) + ": " + activation.name + " has other bits";
                }),
                "");
    }
}

// A diverged network shows.
TEST(Activations, ANaNComesThrough) {
  for (const Activation& activation : k_activations)
    EXPECT_EQ(borel::contract::on_every_instruction_set([&](std::string_view target) -> std::string {
                constexpr index_t n = 21;
                std::vector<float> in(3 * n, 0.5F);
                in[3] = in[20] = std::numeric_limits<float>::quiet_NaN();  // in a vector, and in the rest
                const auto out = values<float>(activation, activation.in_float, in, n);
                for (index_t i = 0; i < n; ++i)
                  if (std::isnan(out[static_cast<std::size_t>(i)]) != (i == 3 || i == 20))
                    return std::string(target) + ": " + activation.name + " number " + std::to_string(i);
                return {};
              }),
              "");
}

}  // namespace
