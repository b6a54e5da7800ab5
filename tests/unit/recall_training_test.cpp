// Multi-query associative recall: the sequences against an answerer of their own, the short convolution and the mask on
// the loss against hand-made numbers, and the protocol attention.mqar on a task that tiny networks solve.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include "built_plugins.hpp"
#include "cell_metric.hpp"
#include "dataset/dataset_writer.hpp"
#include "dataset/multi_query_recall.hpp"
#include "probe/short_convolution.hpp"
#include "probe/training.hpp"
#include "protocols/protocol.hpp"

namespace {

using namespace borel;
using testing::HasSubstr;

using test::metric;
using test::registry;

struct Drawn {
  std::vector<std::uint8_t> inputs, targets;
};

Drawn draw(const RecallTask& task, index_t n_sequences, std::uint64_t seed) {
  Drawn out;
  const auto length = static_cast<std::size_t>(task.length);
  out.inputs.resize(static_cast<std::size_t>(n_sequences) * length);
  out.targets.resize(out.inputs.size());
  Rng rng(Seed{seed});
  for (std::size_t first = 0; first < out.inputs.size(); first += length)
    draw_recall_sequence(task, rng, std::span(out.inputs).subspan(first, length),
                         std::span(out.targets).subspan(first, length));
  return out;
}

// Reads the inputs as a person would: remembers pairs, answers keys.
TEST(RecallSequences, AskEachPairOnceAndTheAnswerIsItsValue) {
  const RecallTask task{.length = 40, .n_pairs = 7, .vocabulary = 64};
  const Drawn drawn = draw(task, 200, 1);
  for (std::size_t first = 0; first < drawn.inputs.size(); first += 40) {
    std::map<int, int> memory;
    std::set<int> values;
    for (std::size_t t = 0; t < 14; t += 2) {
      const int key = drawn.inputs[first + t], value = drawn.inputs[first + t + 1];
      EXPECT_TRUE(key >= 1 && key < 32 && value >= 32 && value < 64) << key << " " << value;
      EXPECT_TRUE(memory.emplace(key, value).second) << "key " << key << " twice";
      EXPECT_TRUE(values.insert(value).second) << "value " << value << " twice";
      EXPECT_EQ(drawn.targets[first + t] + drawn.targets[first + t + 1], 0);
    }
    for (std::size_t t = 14; t < 40; ++t) {
      const int asked = drawn.inputs[first + t], target = drawn.targets[first + t];
      if (asked == 0) {
        EXPECT_EQ(target, 0);
        continue;
      }
      EXPECT_EQ(t % 2, 0U) << "a query opens its slot of two";
      const auto found = memory.find(asked);
      ASSERT_NE(found, memory.end()) << asked << " is asked twice or has no value";
      EXPECT_EQ(target, found->second);
      memory.erase(found);
    }
    EXPECT_TRUE(memory.empty()) << memory.size() << " keys are never asked";
  }
}

// First key: slot g with p_g = g^(a - 1) / sum. Second key: sum over the first one's slots of p_h p_g / (1 - p_h).
TEST(RecallSequences, GapsFollowThePowerLaw) {
  const RecallTask task{.length = 16, .n_pairs = 2, .vocabulary = 32, .power = 0.3};
  constexpr std::size_t k_slots = 6;
  constexpr index_t k_n = 40000;
  std::array<double, k_slots> p{}, second{};
  double total = 0;
  for (std::size_t g = 0; g < k_slots; ++g) total += p[g] = std::pow(static_cast<double>(g + 1), 0.3 - 1);
  for (double& value : p) value /= total;
  for (std::size_t g = 0; g < k_slots; ++g)
    for (std::size_t h = 0; h < k_slots; ++h)
      if (h != g) second[g] += p[h] * p[g] / (1 - p[h]);
  const Drawn drawn = draw(task, k_n, 2);
  std::array<std::array<double, k_slots>, 2> seen{};
  for (std::size_t first = 0; first < drawn.inputs.size(); first += 16)
    for (std::size_t pair : {0, 1})
      for (std::size_t g = 0; g < k_slots; ++g)
        seen[pair][g] += drawn.inputs[first + 4 + 2 * g] == drawn.inputs[first + 2 * pair] ? 1.0 / k_n : 0.0;
  for (std::size_t g = 0; g < k_slots; ++g) {
    // Five standard errors of a share.
    EXPECT_NEAR(seen[0][g], p[g], 5 * std::sqrt(p[g] * (1 - p[g]) / k_n)) << "slot " << g + 1;
    EXPECT_NEAR(seen[1][g], second[g], 5 * std::sqrt(second[g] * (1 - second[g]) / k_n)) << "slot " << g + 1;
  }
}

// As many slots of one token as pairs: every place after the pairs is a query.
TEST(RecallSequences, QueriesStandSideBySideInSlotsOfOne) {
  const Drawn drawn = draw({.length = 15, .n_pairs = 5, .vocabulary = 32, .slot = 1}, 50, 6);
  for (std::size_t first = 0; first < drawn.inputs.size(); first += 15)
    for (std::size_t t = 10; t < 15; ++t) {
      const auto keys = std::span(drawn.inputs).subspan(first, 10);
      const auto found = std::ranges::find(keys, drawn.inputs[first + t]);
      ASSERT_NE(found, keys.end()) << "token " << t;
      EXPECT_EQ((found - keys.begin()) % 2, 0);
      EXPECT_EQ(drawn.targets[first + t], *(found + 1));
    }
}

TEST(RecallSequences, RefuseWhatDoesNotFit) {
  EXPECT_THROW((RecallTask{.length = 31, .n_pairs = 2}.check()), ParamError);
  EXPECT_THROW((RecallTask{.length = 30, .n_pairs = 8}.check()), ParamError);
  EXPECT_THROW((RecallTask{.length = 64, .n_pairs = 16, .vocabulary = 32}.check()), ParamError);
  EXPECT_THROW((RecallTask{.length = 64, .n_pairs = 4, .vocabulary = 512}.check()), ParamError);
  EXPECT_THROW((RecallTask{.power = 0}.check()), ParamError);
  EXPECT_THROW((RecallTask{.length = 23, .n_pairs = 8, .slot = 1}.check()), ParamError);
  EXPECT_THROW((RecallTask{.length = 26, .n_pairs = 4, .slot = 4}.check()), ParamError);
  EXPECT_NO_THROW((RecallTask{.length = 24, .n_pairs = 8, .slot = 1}.check()));
  EXPECT_NO_THROW((RecallTask{.length = 64, .n_pairs = 16, .vocabulary = 34}.check()));
}

TEST(ShortConvolution, MixesEachChannelWithItsPastAndStopsAtTheSequence) {
  // Two sequences of three tokens, two channels, two taps: out_t = w_0 x_t + w_1 x_{t-1}.
  const std::vector<double> x{1, 10, 2, 20, 3, 30, 4, 40, 5, 50, 6, 60}, w{1, 0.5, 2, -1};
  std::vector<double> out(12);
  probe::short_convolution<double>({x.data(), 6, 2}, 3, w.data(), 2, {out.data(), 6, 2});
  EXPECT_EQ(out, (std::vector<double>{1, 5, 4, 0, 7, -5, 4, 20, 13, -15, 16, -20}));
}

probe::ModelConfig tiny_model(const char* attention, index_t n) {
  probe::ModelConfig model;
  model.n_layers = 2;
  model.d_model = 16;
  model.n_heads = 1;
  model.d_feed_forward = 16;
  model.train_length = n;
  model.short_convolution = 2;
  model.attention = {parse_method_spec(attention, "attention")};
  model.position = {parse_method_spec("none", "position")};
  return model;
}

TEST(MaskedLoss, CountsScoredTargetsAlone) {
  const RecallTask task{.length = 16, .n_pairs = 2, .vocabulary = 32};
  Drawn drawn = draw(task, 2, 3);
  const probe::Architecture architecture(tiny_model("softmax", 16), registry());
  const auto parameters = architecture.initial_parameters(Seed{1});
  const auto plans = architecture.plans(parameters, 16, false, {});
  const auto owned = probe::plugin_mixers(architecture);
  probe::Pass<float> pass(
      architecture, std::array<const probe::Mixer<float>*, 2>{owned[0].get(), owned[1].get()}, 2, 16, true);
  std::vector<std::uint8_t> scored(32);
  for (std::size_t t = 0; t < 32; ++t) scored[t] = drawn.targets[t] != 0;
  pass.forward(parameters, plans, drawn.inputs);
  const std::vector<float> all(pass.logits().begin(), pass.logits().end());
  pass.forward(parameters, plans, drawn.inputs, {}, scored);
  ASSERT_EQ(pass.logits().size(), 4U * 256);  // two queries in each of two sequences
  double expected = 0;                        // from the logits of all tokens, in double
  std::size_t row_asked = 0;
  for (std::size_t t = 0; t < 32; ++t) {
    if (scored[t] == 0) continue;
    const auto row = std::span(all).subspan(t * 256, 256);
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit));
    expected += std::log(sum) - static_cast<double>(row[drawn.targets[t]]);
    for (std::size_t c = 0; c < 256; ++c)
      EXPECT_NEAR(pass.logits()[row_asked * 256 + c], row[c], 1e-6) << "token " << t;
    ++row_asked;
  }
  EXPECT_NEAR(pass.cross_entropies(drawn.targets, 0.25F), expected, 1e-5 * expected);
  for (std::size_t row = 0; row < row_asked; ++row) {
    const auto gradient = pass.logits().subspan(row * 256, 256);
    EXPECT_GT(*std::ranges::max_element(gradient, {}, [](float g) { return std::abs(g); }) * -1, 0.2)
        << row;  // scale (1 - p of the target), p near 1 / 256
  }
}

// Logits of some tokens alone give the gradient that a loss on all logits with zeros elsewhere gives.
TEST(MaskedLoss, HasTheGradientOfTheWholeLossWithZeros) {
  const RecallTask task{.length = 16, .n_pairs = 2, .vocabulary = 32};
  const Drawn drawn = draw(task, 2, 3);
  const probe::Architecture architecture(tiny_model("softmax", 16), registry());
  const auto start = architecture.initial_parameters(Seed{1});
  const auto plans = architecture.plans(start, 16, false, {});
  const auto owned = probe::plugin_mixers(architecture);
  probe::Pass<float> pass(
      architecture, std::array<const probe::Mixer<float>*, 2>{owned[0].get(), owned[1].get()}, 2, 16, true);
  const auto gradient_of = [&](std::span<const std::uint8_t> asked) {
    probe::NetworkGradients<float> out;
    out.flat.resize(start.size());
    out.plans.resize(2);
    pass.forward(start, plans, drawn.inputs, {}, asked);
    pass.cross_entropies(drawn.targets, 1);
    pass.backward(start, plans, drawn.inputs, out);
    return out.flat;
  };
  // The loss of all tokens is that of the odd ones and that of the even ones.
  std::vector<std::uint8_t> odd(32), even(32);
  for (std::size_t t = 0; t < 32; ++t) (t % 2 == 1 ? odd : even)[t] = 1;
  const auto whole = gradient_of({}), first = gradient_of(odd), second = gradient_of(even);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    error += std::pow(
        static_cast<double>(whole[i]) - static_cast<double>(first[i]) - static_cast<double>(second[i]), 2);
    size += std::pow(static_cast<double>(first[i]), 2);
  }
  EXPECT_GT(size, 1e-3);
  EXPECT_LE(std::sqrt(error / size), 1e-5);
}

TEST(RecallData, RefusesSequencesThatAskForNothing) {
  const std::vector<std::uint8_t> inputs{1, 2, 3, 4, 5, 6, 7, 8}, asking{0, 9, 9, 0, 9, 0, 0, 0},
      half_silent{0, 9, 9, 0, 0, 0, 0, 0};
  EXPECT_NO_THROW(probe::RecallData({inputs, asking, 4}).check(4));
  EXPECT_THROW(probe::RecallData({inputs, asking, 4}).check(8), ParamError);
  EXPECT_THROW(probe::RecallData({inputs, half_silent, 4}), ParamError);
  EXPECT_THROW(probe::RecallData({inputs, asking, 3}), ParamError);
  EXPECT_THROW(probe::RecallData({{}, {}, 4}), ParamError);
}

// A network that knows nothing is wrong by ln 256 for every token that is asked for, however many a sequence asks for.
TEST(RecallData, TheLossIsAMeanOverScoredTokens) {
  Drawn few = draw({.length = 16, .n_pairs = 1, .vocabulary = 32}, 20, 4);
  const Drawn many = draw({.length = 16, .n_pairs = 4, .vocabulary = 32}, 20, 5);
  few.inputs.insert(few.inputs.end(), many.inputs.begin(), many.inputs.end());
  few.targets.insert(few.targets.end(), many.targets.begin(), many.targets.end());
  probe::TrainingConfig config;
  config.model = tiny_model("softmax", 16);
  config.n_batch = 16;
  config.n_chunk = 4;
  probe::Trainer trainer(
      config, registry(),
      std::make_unique<probe::RecallData>(probe::RecallSequences{few.inputs, few.targets, 16}));
  EXPECT_NEAR(trainer.step().loss, std::log(256.0), 0.05);
}

class AttentionMqarTest : public testing::Test {
 protected:
  static std::shared_ptr<const Dataset> dataset(bool with_targets) {
    const RecallTask task{.length = 16, .n_pairs = 2, .vocabulary = 16};
    DatasetWriter writer(DatasetKind::tokens, "small_recall", "Small recall", "made by the test", "none");
    writer.attribute("", "sequence_length", std::int64_t{16});
    for (const auto& [split, n] :
         {std::pair{"train", 1000}, std::pair{"validation", 200}, std::pair{"test", 201}}) {
      Drawn drawn = draw(task, n, static_cast<std::uint64_t>(n));
      writer.array(split, std::move(drawn.inputs), {16 * n});
      if (with_targets) writer.array(std::string("target/") + split, std::move(drawn.targets), {16 * n});
    }
    writer.seal();
    return Dataset::from(writer);
  }

  static CellInput input(const char* attention, bool with_targets = true) {
    CellInput out;
    out.dataset = dataset(with_targets);
    out.registry = &registry();
    out.methods = {parse_method_spec(attention, "attention"), parse_method_spec("none", "position")};
    out.options.id = "attention.mqar";
    out.options.params = {{"widths", "[16, 24]"},
                          {"feed_forward_width", "16"},
                          {"learning_rates", "[0.003, 0.02]"},
                          {"starts", "1"},
                          {"steps", "250"},
                          {"batch", "32"},
                          {"check_every", "25"}};
    out.seed = Seed{7};
    return out;
  }

  static const Curve& curve(const CellResult& result, std::string_view name) {
    return *std::ranges::find(result.curves, name, &Curve::name);
  }

  const Protocol& protocol = find_protocol("attention.mqar");
};

TEST_F(AttentionMqarTest, SoftmaxSolvesTwoPairsAndReportsItsCache) {
  const CellInput cell = input("softmax");
  ASSERT_EQ(protocol.refuses(cell), "");
  const CellResult result = protocol.run(cell);
  EXPECT_GE(metric(result, "accuracy"), 0.97);  // chance: 1 in 8 values
  EXPECT_LT(metric(result, "steps"), 250);      // it stopped when it was solved
  EXPECT_EQ(metric(result, "state_bytes"), 2 * 16 * 24 * 4);
  const Curve& by_state = result.curves.at(0);
  EXPECT_EQ(by_state.name, "accuracy against state");
  EXPECT_EQ(by_state.x, (std::vector<double>{2 * 16 * 16 * 4, 2 * 16 * 24 * 4}));
  EXPECT_EQ(by_state.y.back(), metric(result, "accuracy"));
  EXPECT_EQ(curve(result, "accuracy by learning rate").x, (std::vector<double>{0.003, 0.02}));
}

// Too few steps to solve it: the starts differ, and the mean lies between them.
TEST_F(AttentionMqarTest, TellsTheMeanOverStartsAndTheirSpread) {
  CellInput cell = input("softmax");
  for (const auto& [name, value] : {std::pair{"widths", "[16]"},
                                    {"learning_rates", "[0.01]"},
                                    {"steps", "60"},
                                    {"check_every", "25"},
                                    {"starts", "2"}})
    cell.options.params[name] = value;
  const CellResult two = protocol.run(cell);
  const double lowest = metric(two, "accuracy_lowest"), highest = metric(two, "accuracy_highest");
  EXPECT_LT(lowest, highest);
  EXPECT_NEAR(metric(two, "accuracy"), (lowest + highest) / 2, 1e-12);
  EXPECT_EQ(curve(two, "lowest accuracy of a start against state").y, std::vector<double>{lowest});
  EXPECT_EQ(curve(two, "highest accuracy of a start against state").y, std::vector<double>{highest});
  EXPECT_EQ(curve(two, "accuracy by step").x, (std::vector<double>{25, 50, 60}));
  // A start is the same network however many there are.
  cell.options.params["starts"] = "1";
  const double first = metric(protocol.run(cell), "accuracy");
  EXPECT_TRUE(first == lowest || first == highest) << first;
}

TEST_F(AttentionMqarTest, NetworksOfOneWidthHaveEquallyManyParameters) {
  const CellResult plain = protocol.run(input("linear")), gated = protocol.run(input("gla"));
  // GLA brings 2 (24^2 + 24) numbers for its gates; a hidden unit of both layers has 4 * 24 = 96.
  EXPECT_NEAR(metric(gated, "parameters"), metric(plain, "parameters"), 96 / 2);
  EXPECT_EQ(metric(plain, "state_bytes"), 4 * (24 * 24 + 24));  // S and the normaliser
  EXPECT_EQ(metric(gated, "state_bytes"), 4 * 24 * 24);
}

TEST_F(AttentionMqarTest, SameBitsForOneAndTwoThreads) {
  CellResult results[2];
  for (std::size_t threads : {1, 2}) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    CellInput cell = input("gated_delta");
    cell.options.params["starts"] = "2";
    cell.options.params["widths"] = "[16]";
    results[threads - 1] = protocol.run(cell);
  }
  ASSERT_EQ(results[0].metrics.size(), protocol.metrics().size());
  for (std::size_t i = 0; i < results[0].metrics.size(); ++i)
    EXPECT_EQ(results[0].metrics[i].value, results[1].metrics[i].value) << results[0].metrics[i].name;
  ASSERT_EQ(results[0].curves.size(), 5U);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(results[0].curves[i].y, results[1].curves[i].y);
}

TEST_F(AttentionMqarTest, ALearningRateThatDivergesIsAnAnswer) {
  CellInput cell = input("identity");
  cell.options.params["learning_rates"] = "[0.003, 1]";
  cell.options.params["weight_decay"] = "10";  // with rate 1: weights times -9 in each step
  const CellResult result = protocol.run(cell);
  EXPECT_EQ(metric(result, "learning_rate"), 0.003);
  EXPECT_LT(curve(result, "accuracy by learning rate").y.at(1), 0.2);
}

TEST_F(AttentionMqarTest, SaysWhyItCannotBeMeasured) {
  EXPECT_THAT(protocol.refuses(input("softmax", false)), HasSubstr("no targets"));
  EXPECT_THAT(protocol.refuses(input("nystrom")), HasSubstr("not causal"));
  CellInput cell = input("gla");
  cell.options.params["feed_forward_width"] = "10";
  EXPECT_THAT(protocol.refuses(cell), HasSubstr("feed_forward_width"));
}

TEST_F(AttentionMqarTest, RefusesOptionsThatDoNotFitTogether) {
  for (const auto& [name, value] : {std::pair{"widths", "[24, 16]"}, std::pair{"widths", "[16.5]"},
                                    std::pair{"batch", "12"}, std::pair{"learning_rates", "[]"}}) {
    MethodSpec options = input("softmax").options;
    options.params[name] = value;
    EXPECT_THROW(protocol.canonical_options(options), ParamError) << name << " " << value;
  }
}

}  // namespace
