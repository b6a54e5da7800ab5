// Gradients of the decoder. In float64 with the reference attention: five-point central differences to 1e-6. In float with
// plugins: against the float64 network, and against differences of its own loss where no float64 twin exists.
#include "network_gradient.hpp"

#include "built_plugins.hpp"
#include "probe/pass.hpp"

namespace {

using namespace borel;
using namespace borel::probe;

constexpr index_t k_n = 20, k_sequences = 2;

using test::registry;
using test::test_name;

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
    NetworkGradients<T> out = test::zero_gradients<T>(architecture, plans);
    loss(parameters, plans);
    pass.backward(parameters, plans, inputs, out);
    return out;
  }
};

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

class ReferenceGradient : public testing::TestWithParam<ReferenceCase> {
 protected:
  Architecture architecture{small_model(GetParam()), registry()};
  std::vector<float> start = test::lively_parameters(architecture);
  std::vector<PositionPlan> plans = architecture.plans(start, k_n, true, Seed{9});
  test::ReferenceMixer mixer{true};
  Subject<double> exact{architecture, {&mixer, &mixer}};
};

TEST_P(ReferenceGradient, AgreesWithCentralDifferencesForEveryTensor) {
  test::expect_exact_gradients(exact, architecture, start, plans);
}

TEST_P(ReferenceGradient, FloatNetworkWithThePluginAgrees) {
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  test::expect_float_agrees(subject, exact, architecture, start, plans);
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
  const Architecture architecture(small_model(attention, position, FeedForward::gelu), registry());
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  test::expect_own_slopes(subject, architecture, test::lively_parameters(architecture), k_n);
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
