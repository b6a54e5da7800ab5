// Gradients of the decoder. In float64 with the reference attention: five-point central differences to 1e-6. In float with
// plugins: against the float64 network, and against differences of its own loss where no float64 twin exists.
#include "network_gradient.hpp"

#include "built_plugins.hpp"
#include "probe/pass.hpp"

namespace {

using namespace borel;
using namespace borel::probe;

constexpr index_t k_n = 20, k_sequences = 2;

using test::name_of;
using test::NamedModel;
using test::registry;

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

ModelConfig small_gau(const std::string& attention, const std::string& position) {
  ModelConfig config = small_model(attention, position, FeedForward::gelu);
  config.block = Block::gau;
  config.n_heads = 1;
  config.key_width = 12;
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

ModelConfig with_convolution(ModelConfig config) {
  config.short_convolution = 3;
  return config;
}

class ReferenceGradient : public testing::TestWithParam<NamedModel> {
 protected:
  Architecture architecture{GetParam().config, registry()};
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

INSTANTIATE_TEST_SUITE_P(
    Models, ReferenceGradient,
    testing::Values(NamedModel{"none", small_model("softmax", "none", FeedForward::gelu)},
                    NamedModel{"rope", small_model("softmax", "rope", FeedForward::gated)},
                    NamedModel{"alibi", small_model("softmax", "alibi", FeedForward::gelu)},
                    NamedModel{"rerope", small_model("softmax", "rerope{window=6}", FeedForward::gated)},
                    NamedModel{"convolution",
                               with_convolution(small_model("softmax", "none", FeedForward::gelu))},
                    NamedModel{"gau_rerope", small_gau("softmax", "rerope{window=6}")},
                    NamedModel{"gau_rope", small_gau("softmax", "rope")}),
    name_of);

// Mechanisms with gates, decays, write strengths, and encodings with learnable numbers.
class PluginGradient : public testing::TestWithParam<NamedModel> {};

TEST_P(PluginGradient, AgreesWithDifferencesOfItsOwnLoss) {
  const Architecture architecture(GetParam().config, registry());
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  test::expect_own_slopes(subject, architecture, test::lively_parameters(architecture), k_n);
}

INSTANTIATE_TEST_SUITE_P(
    Pairs, PluginGradient,
    testing::Values(NamedModel{"softmax_t5", small_model("softmax", "t5", FeedForward::gelu)},
                    NamedModel{"softmax_kerple", small_model("softmax", "kerple", FeedForward::gelu)},
                    NamedModel{"softmax_learned", small_model("softmax", "learned", FeedForward::gelu)},
                    NamedModel{"softmax_clex", small_model("softmax", "clex", FeedForward::gelu)},
                    NamedModel{"linear_clex", small_model("linear", "clex", FeedForward::gelu)},
                    NamedModel{"gated_delta", small_model("gated_delta", "none", FeedForward::gelu)},
                    NamedModel{"gla", small_model("gla", "none", FeedForward::gelu)},
                    NamedModel{"forgetting_rope", small_model("forgetting", "rope", FeedForward::gelu)},
                    NamedModel{"retention_rope", small_model("retention", "rope", FeedForward::gelu)},
                    NamedModel{"gau_relu2_t5", small_gau("relu2{scaling=gau_n2}", "t5")},
                    NamedModel{"gau_linear_rope", small_gau("linear", "rope")},
                    NamedModel{"gau_gla", small_gau("gla", "none")}),
    name_of);

}  // namespace
