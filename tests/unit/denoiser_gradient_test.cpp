// Gradients of the denoiser, checked as those of the decoder: float64 against central differences, float against float64,
// and plugins without a float64 twin against differences of their own loss.
#include "network_gradient.hpp"

#include "built_plugins.hpp"
#include "probe/denoiser_pass.hpp"

namespace {

using namespace borel;
using namespace borel::probe;

using test::name_of;
using test::NamedModel;
using test::registry;

constexpr index_t k_images = 3, k_rows = 2, k_columns = 3, k_values = 5, k_n = k_rows * k_columns;

ModelConfig small_model(const std::string& attention, const std::string& position, FeedForward feed_forward) {
  ModelConfig config;
  config.n_layers = 2;
  config.d_model = 16;
  config.n_heads = 2;
  config.d_feed_forward = 24;
  config.train_length = k_n;
  config.patches = {k_rows, k_columns, k_values, 0.6};
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

template <class T>
std::vector<T> some_pixels(std::uint64_t seed) {
  std::vector<float> pixels(k_images * k_n * k_values);
  Rng(Seed{seed}).fill_normal(pixels);
  return {pixels.begin(), pixels.end()};
}

template <class T>
struct Subject {
  const Architecture& architecture;
  std::vector<const Mixer<T>*> mixers;
  std::vector<T> clean = some_pixels<T>(1), noisy = some_pixels<T>(2);
  std::vector<double> sigma{0.05, 0.7, 6};
  DenoiserPass<T> pass{architecture, mixers, k_images, true};

  double loss(std::span<const T> parameters, std::span<const PositionPlan> plans) {
    const auto n = static_cast<double>(clean.size());
    pass.forward(parameters, plans, near(), sigma);
    return pass.squared_errors(clean, static_cast<T>(1 / n)) / n;
  }
  NetworkGradients<T> gradient(std::span<const T> parameters, std::span<const PositionPlan> plans) {
    NetworkGradients<T> out = test::zero_gradients<T>(architecture, plans);
    loss(parameters, plans);
    pass.backward(parameters, plans, out);
    return out;
  }
  // As in training: the clean pixels and sigma times noise.
  std::vector<T> near() const {
    std::vector<T> out(clean);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] += static_cast<T>(sigma[i / (k_n * k_values)]) * noisy[i];
    return out;
  }
};

class ReferenceDenoiser : public testing::TestWithParam<NamedModel> {
 protected:
  Architecture architecture{GetParam().config, registry()};
  std::vector<float> start = test::lively_parameters(architecture);
  std::vector<PositionPlan> plans = architecture.plans(start, k_n, true, Seed{9});
  test::ReferenceMixer mixer{false};
  Subject<double> exact{architecture, {&mixer, &mixer}};
};

TEST_P(ReferenceDenoiser, AgreesWithCentralDifferencesForEveryTensor) {
  test::expect_exact_gradients(exact, architecture, start, plans);
}

TEST_P(ReferenceDenoiser, FloatNetworkWithThePluginAgrees) {
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  test::expect_float_agrees(subject, exact, architecture, start, plans);
}

INSTANTIATE_TEST_SUITE_P(
    Models, ReferenceDenoiser,
    testing::Values(NamedModel{"none", small_model("softmax", "none", FeedForward::gelu)},
                    NamedModel{"rope", small_model("softmax", "rope", FeedForward::gated)},
                    NamedModel{"sequence", small_model("softmax", "rope{axes=sequence}", FeedForward::gelu)},
                    NamedModel{"gau_rope", small_gau("softmax", "rope")}),
    name_of);

class PluginDenoiser : public testing::TestWithParam<NamedModel> {};

TEST_P(PluginDenoiser, AgreesWithDifferencesOfItsOwnLoss) {
  const Architecture architecture(GetParam().config, registry());
  const auto owned = plugin_mixers(architecture);
  Subject<float> subject{architecture, {owned[0].get(), owned[1].get()}};
  test::expect_own_slopes(subject, architecture, test::lively_parameters(architecture), k_n);
}

INSTANTIATE_TEST_SUITE_P(
    Pairs, PluginDenoiser,
    testing::Values(NamedModel{"relu2_rope", small_model("relu2", "rope", FeedForward::gelu)},
                    NamedModel{"linear_rope", small_model("linear", "rope", FeedForward::gelu)},
                    NamedModel{"softmax_t5", small_model("softmax", "t5", FeedForward::gelu)},
                    NamedModel{"linear_learned", small_model("linear", "learned", FeedForward::gelu)},
                    NamedModel{"gau_relu2_rope", small_gau("relu2{scaling=gau_n2}", "rope")}),
    name_of);

}  // namespace
