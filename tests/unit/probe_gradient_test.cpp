// Gradients of the probe network. In float64 with the reference attention: five-point central differences to 1e-6. In
// float with plugins: against the float64 network, and against differences of its own loss where no float64 twin exists.
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "built_plugins.hpp"
#include "probe/pass.hpp"
#include "probe/training.hpp"
#include "reference/softmax_gradient_reference.hpp"

namespace {

using namespace borel;
using namespace borel::probe;

constexpr index_t k_n = 20, k_sequences = 2;

using test::registry;

class ReferenceMixer final : public Mixer<double> {
 public:
  index_t saved_per_row() const override { return 0; }
  void forward(const Call& call, TensorView<double, 3> o, TensorView<double, 3>) const override {
    reference::softmax_forward(call.q, call.k, call.v, *call.position, o);
  }
  void backward(const Call& call, TensorView<const double, 3>, TensorView<const double, 3>,
                TensorView<const double, 3> d_o, const Gradients& g) const override {
    reference::softmax_backward(call.q, call.k, call.v, *call.position, d_o, g.d_q, g.d_k, g.d_v);
  }
};

ModelConfig small_model(const std::string& attention, const std::string& position, FeedForward feed_forward) {
  ModelConfig config;
  config.n_layers = 2;
  config.d_model = 16;
  config.n_heads = 2;
  config.d_feed_forward = 24;
  config.train_length = k_n;
  config.feed_forward = feed_forward;
  config.attention = {parse_method_spec(attention, "attention")};
  config.position = {parse_method_spec(position, "position")};
  return config;
}

std::vector<std::uint8_t> some_bytes(std::uint64_t seed) {
  Rng rng(Seed{seed});
  std::vector<std::uint8_t> bytes(k_n * k_sequences);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>('a' + rng.below(6));
  return bytes;
}

// Larger than initial values, so that every part has a gradient that differences can see.
std::vector<float> lively_parameters(const Architecture& architecture) {
  std::vector<float> p = architecture.initial_parameters(Seed{3});
  Rng rng(Seed{4});
  for (const ParameterSlice& slice : architecture.slices())
    if (slice.trainable)
      for (index_t i = 0; i < slice.size; ++i)
        p[static_cast<std::size_t>(slice.offset + i)] +=
            static_cast<float>((slice.name == "embedding" ? 0.5 : 0.05) * rng.normal());
  return p;
}

template <class T>
struct Subject {
  const Architecture& architecture;
  std::vector<const Mixer<T>*> mixers;
  std::vector<std::uint8_t> inputs = some_bytes(1), targets = some_bytes(2);
  Pass<T> pass{architecture, mixers, k_sequences, k_n, true};

  double loss(std::span<const T> parameters, std::span<const PositionPlan> plans) {
    pass.forward(parameters, plans, inputs);
    return pass.cross_entropies(targets, T(1) / T(k_n * k_sequences)) /
           static_cast<double>(k_n * k_sequences);
  }
  NetworkGradients<T> gradient(std::span<const T> parameters, std::span<const PositionPlan> plans) {
    NetworkGradients<T> out;
    out.flat.resize(parameters.size());
    for (std::size_t l = 0; l < plans.size(); ++l) {
      const Layer& layer = architecture.layers()[l];
      out.plans.push_back(layer.learns_positions
                              ? PlanGradients(plans[l], layer.position->traits().learns_angles)
                              : PlanGradients());
    }
    loss(parameters, plans);
    pass.backward(parameters, plans, inputs, out);
    return out;
  }
};

double norm(std::span<const double> x) {
  return std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
}

// Half along the gradient (a measurable slope), half at random (an error across it shows).
std::vector<double> direction(std::span<const double> gradient, std::uint64_t seed) {
  std::vector<double> noise(gradient.size());
  Rng(Seed{seed}).fill_normal(noise);
  const double g = norm(gradient), r = norm(noise);
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = noise[i] / r + (g > 0 ? gradient[i] / g : 0);
  return noise;
}

// (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h, error O(h^4).
template <class F>
double slope(F&& f, double h) {
  return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
}

std::string test_name(std::string text) {
  for (char& c : text)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return text;
}

struct ReferenceCase {
  const char* position;
  FeedForward feed_forward;
  index_t short_convolution = 0;
};
void PrintTo(const ReferenceCase& made, std::ostream* out) { *out << made.position; }

ModelConfig small_model(const ReferenceCase& made) {
  ModelConfig config = small_model("softmax", made.position, made.feed_forward);
  config.short_convolution = made.short_convolution;
  return config;
}

class ReferenceGradient : public testing::TestWithParam<ReferenceCase> {};

TEST_P(ReferenceGradient, AgreesWithCentralDifferencesForEveryTensor) {
  const Architecture architecture(small_model(GetParam()), registry());
  const std::vector<float> start = lively_parameters(architecture);
  const auto plans = architecture.plans(start, k_n, true, Seed{9});
  const ReferenceMixer mixer;
  Subject<double> subject{architecture, {&mixer, &mixer}};
  std::vector<double> parameters(start.begin(), start.end());
  const std::vector<double> gradient = subject.gradient(parameters, plans).flat;
  for (const ParameterSlice& slice : architecture.slices()) {
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    const auto its = std::span(gradient).subspan(offset, size);
    const std::vector<double> along = direction(its, 5);
    const double expected = std::inner_product(its.begin(), its.end(), along.begin(), 0.0);
    const double measured = slope(
        [&](double h) {
          std::vector<double> moved = parameters;
          for (std::size_t i = 0; i < size; ++i) moved[offset + i] += h * along[i];
          return subject.loss(moved, plans);
        },
        1e-3);
    EXPECT_GT(norm(its), 1e-6) << slice.name << " has no gradient, so nothing was checked";
    EXPECT_NEAR(measured / expected, 1, 1e-6) << slice.name << ": " << measured << " " << expected;
  }
}

TEST_P(ReferenceGradient, FloatNetworkWithThePluginAgrees) {
  const Architecture architecture(small_model(GetParam()), registry());
  const std::vector<float> start = lively_parameters(architecture);
  const auto plans = architecture.plans(start, k_n, true, Seed{9});
  const ReferenceMixer mixer;
  Subject<double> exact{architecture, {&mixer, &mixer}};
  const std::vector<double> parameters(start.begin(), start.end());
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  EXPECT_NEAR(subject.loss(start, plans), exact.loss(parameters, plans), 2e-6);
  const std::vector<double> truth = exact.gradient(parameters, plans).flat;
  const std::vector<float> gradient = subject.gradient(start, plans).flat;
  for (const ParameterSlice& slice : architecture.slices()) {
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    std::vector<double> error(size);
    for (std::size_t i = 0; i < size; ++i)
      error[i] = static_cast<double>(gradient[offset + i]) - truth[offset + i];
    EXPECT_LE(norm(error) / norm(std::span(truth).subspan(offset, size)), 2e-5) << slice.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Positions, ReferenceGradient,
                         testing::Values(ReferenceCase{"none", FeedForward::gelu},
                                         ReferenceCase{"rope", FeedForward::gated},
                                         ReferenceCase{"alibi", FeedForward::gelu},
                                         ReferenceCase{"rerope{window=6}", FeedForward::gated},
                                         ReferenceCase{"none", FeedForward::gelu, 3}),
                         [](const auto& tested) {
                           return test_name(tested.param.position) +
                                  (tested.param.short_convolution > 0 ? "_with_convolution" : "");
                         });

// Mechanisms with gates, decays, write strengths, and encodings with learnable numbers.
class PluginGradient : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(PluginGradient, AgreesWithDifferencesOfItsOwnLoss) {
  const auto [attention, position] = GetParam();
  TrainingConfig config;
  config.model = small_model(attention, position, FeedForward::gelu);
  const Architecture architecture(config.model, registry());
  const std::vector<float> start = lively_parameters(architecture);
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  const auto plans = architecture.plans(start, k_n, true, Seed{9});
  NetworkGradients<float> gradients = subject.gradient(start, plans);
  for (std::size_t l = 0; l < plans.size(); ++l) {
    const Layer& layer = architecture.layers()[l];
    if (!layer.learns_positions) continue;
    std::vector<std::span<float>> d_values;
    for (index_t s : layer.position_parameters)
      d_values.push_back(std::span(gradients.flat)
                             .subspan(static_cast<std::size_t>(architecture.slice(s).offset),
                                      static_cast<std::size_t>(architecture.slice(s).size)));
    layer.position->backward(architecture.position_context(static_cast<index_t>(l), k_n, true, Seed{9}),
                             architecture.values(layer.position_parameters, start), gradients.plans[l].view(),
                             d_values);
  }
  for (const ParameterSlice& slice : architecture.slices()) {
    if (!slice.trainable) continue;
    const auto offset = static_cast<std::size_t>(slice.offset), size = static_cast<std::size_t>(slice.size);
    const std::vector<double> its(gradients.flat.begin() + slice.offset,
                                  gradients.flat.begin() + slice.offset + slice.size);
    const std::vector<double> along = direction(its, 6);
    const double expected = std::inner_product(its.begin(), its.end(), along.begin(), 0.0);
    const double measured = slope(
        [&](double h) {
          std::vector<float> moved = start;
          for (std::size_t i = 0; i < size; ++i)
            moved[offset + i] = static_cast<float>(static_cast<double>(start[offset + i]) + h * along[i]);
          return subject.loss(moved, architecture.plans(moved, k_n, true, Seed{9}));
        },
        // Steep losses (retention's norm) need smaller steps for the same h^4 term.
        0.02 / (1 + norm(its)));
    // The rest is rounding of the loss, about 1e-7, over h.
    EXPECT_NEAR(measured, expected, 1e-3 * std::abs(expected) + 3e-5) << slice.name;
    EXPECT_GT(norm(its), 1e-8) << slice.name << " has no gradient";
  }
}

INSTANTIATE_TEST_SUITE_P(Pairs, PluginGradient,
                         testing::Values(std::pair{"softmax", "t5"}, std::pair{"softmax", "kerple"},
                                         std::pair{"softmax", "learned"}, std::pair{"gated_delta", "none"},
                                         std::pair{"gla", "none"}, std::pair{"forgetting", "rope"},
                                         std::pair{"retention", "rope"}),
                         [](const auto& tested) {
                           return test_name(std::string(tested.param.first) + "_" + tested.param.second);
                         });

}  // namespace
