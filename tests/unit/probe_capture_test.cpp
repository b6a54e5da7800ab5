// Queries and keys of a network as data: what is stored is what the layer computes, and rows of a text see what came before.
#include "probe/capture.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "built_plugins.hpp"
#include "probe/checkpoint.hpp"
#include "protocols/protocol.hpp"

namespace {

using namespace borel;
using testing::HasSubstr;

using test::registry;

constexpr std::size_t k_d = 32, k_heads = 2, k_n = 24;

class CaptureTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(folder_);
    DatasetWriter writer(DatasetKind::tokens, "letters", "letters", "a test", "CC0");
    Rng rng(Seed{3});
    for (const char* split : {"train", "test"}) {
      std::vector<std::uint8_t> text(300);
      for (std::uint8_t& byte : text) byte = static_cast<std::uint8_t>('a' + rng.below(5));
      if (std::string_view(split) == "test") text_ = text;
      writer.array(split, text, {300});
    }
    const std::string digest = writer.save(folder_ / "letters.h5");
    probe::TrainingConfig config;
    config.dataset = (folder_ / "letters.h5").string();
    config.model.n_layers = 2;
    config.model.d_model = k_d;
    config.model.n_heads = k_heads;
    config.model.d_feed_forward = 32;
    config.model.train_length = k_n;
    config.n_steps = 3;
    config.n_batch = config.n_chunk = 2;
    const auto letters = find_dataset(config.dataset);
    probe::Trainer trainer(config, registry(), letters->bytes("train"));
    while (trainer.state().step < config.n_steps) trainer.step();
    probe::save_checkpoint(folder_ / "model.h5", trainer.architecture(), config, trainer.state(), {digest},
                           false);
    model_ = Dataset::open(folder_ / "model.h5");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::shared_ptr<const Dataset> captured(const probe::CaptureOptions& options) const {
    DatasetWriter writer = probe::capture(*model_, options, "captured", registry());
    writer.seal();
    return Dataset::from(writer);
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("capture_" + std::to_string(::getpid()));
  std::vector<std::uint8_t> text_;
  std::shared_ptr<const Dataset> model_;
};

// q | k | v = RMSNorm(E[byte]) W_qkv, in double and token by token.
TEST_F(CaptureTest, TheFirstLayerIsTheNormedEmbeddingTimesItsMatrix) {
  constexpr std::size_t k_first = 17;
  const auto data = captured({.model = {}, .layer = 0, .n = 0, .first = k_first});
  const auto embedding = model_->floats("parameters/embedding"),
             gain = model_->floats("parameters/layer_0/attention_norm"),
             matrix = model_->floats("parameters/layer_0/qkv");
  const char* names[] = {"q", "k", "v"};
  for (std::size_t i = 0; i < k_n; ++i) {
    const auto x = embedding.subspan(text_[k_first + i] * k_d, k_d);
    double square = 1e-6 * k_d;
    for (const float value : x) square += static_cast<double>(value) * static_cast<double>(value);
    const double rms = std::sqrt(square / k_d);
    for (std::size_t column = 0; column < 3 * k_d; ++column) {
      double expected = 0;
      for (std::size_t c = 0; c < k_d; ++c)
        expected += static_cast<double>(x[c]) / rms * static_cast<double>(gain[c]) *
                    static_cast<double>(matrix[c * 3 * k_d + column]);
      const std::size_t d_head = k_d / k_heads, head = column % k_d / d_head, component = column % d_head;
      EXPECT_NEAR(data->floats(names[column / k_d])[(head * k_n + i) * d_head + component], expected, 1e-5);
    }
  }
  EXPECT_EQ(data->attribute("", "position"), "position/rope");
  EXPECT_EQ(data->number("", "train_length"), k_n);
}

TEST_F(CaptureTest, LayersDifferAndTheSamePieceGivesTheSameDigest) {
  const auto first = captured({.model = {}, .layer = 0, .n = 40}),
             again = captured({.model = {}, .layer = 0, .n = 40}),
             second = captured({.model = {}, .layer = 1, .n = 40});
  EXPECT_EQ(first->shape("q"), (std::vector<std::int64_t>{k_heads, 40, k_d / k_heads}));
  EXPECT_EQ(first->info().content_digest, again->info().content_digest);
  EXPECT_NE(first->info().content_digest, second->info().content_digest);
}

TEST_F(CaptureTest, RefusesWhatIsNotThere) {
  EXPECT_THROW(captured({.model = {}, .layer = 2}), ParamError);
  EXPECT_THROW(captured({.model = {}, .layer = 0, .n = 0, .first = 290}), ParamError);
  EXPECT_THROW(captured({.model = {}, .layer = 0, .n = 301}), ParamError);
  EXPECT_THROW(captured({.model = {}, .layer = -1}), ParamError);
  EXPECT_THROW(captured({.model = {}, .layer = 0, .n = -3}), ParamError);
  EXPECT_THROW(captured({.model = {}, .layer = 0, .n = 0, .first = -5}), ParamError);
  EXPECT_TRUE(probe::is_capture("qkv{model=x}"));
  EXPECT_FALSE(probe::is_capture("qkv_x"));
  EXPECT_EQ(probe::parse_capture("qkv{model=./a/b.h5, layer=3}").model, "./a/b.h5");
  EXPECT_EQ(probe::parse_capture("qkv{model=model/alibi, layer=3}").layer, 3);
  EXPECT_THROW(probe::parse_capture("qkv{model=x, layr=1}"), ParamError);
  EXPECT_THROW(probe::parse_capture("qkv{layer=1}"), ParamError);
}

// A text of one head whose queries are zeros: they weigh all keys that they see alike.
CellInput zeros(std::int64_t n_rows) {
  DatasetWriter writer(DatasetKind::qkv, "zeros", "zeros", "a test", "CC0");
  std::vector<float> keys(static_cast<std::size_t>(n_rows) * 8);
  Rng rng(Seed{9});
  rng.fill_normal(keys);
  writer.array("q", std::vector<float>(keys.size(), 0.0F), {1, n_rows, 8});
  writer.array("k", keys, {1, n_rows, 8});
  writer.array("v", keys, {1, n_rows, 8});
  writer.attribute("", "causal", std::int64_t{1});
  writer.seal();
  CellInput input;
  input.dataset = Dataset::from(writer);
  input.registry = &registry();
  input.methods = {parse_method_spec("softmax", "attention"), parse_method_spec("rope", "position")};
  input.options.id = "attention.concentration";
  return input;
}

// What is known of row i is known in closed form.
TEST_F(CaptureTest, ConcentrationOfATextCountsTheKeysBefore) {
  constexpr std::int64_t k_rows = 20;
  CellInput input = zeros(k_rows);
  const Protocol& protocol = find_protocol("attention.concentration");
  ASSERT_EQ(protocol.refuses(input), "");
  std::map<std::string, double> metrics;
  for (const Metric& metric : protocol.run(input).metrics) metrics[metric.name] = metric.value;
  double entropy = 0, largest = 0;
  for (std::int64_t i = k_rows / 2; i < k_rows; ++i) {
    entropy += std::log(static_cast<double>(i + 1)) / (k_rows - k_rows / 2);
    largest += 1 / static_cast<double>(i + 1) / (k_rows - k_rows / 2);
  }
  EXPECT_NEAR(metrics.at("sparsity_median"), 1, 1e-6);
  EXPECT_NEAR(metrics.at("entropy"), entropy, 1e-6);
  EXPECT_NEAR(metrics.at("max_weight"), largest, 1e-6);
  // Rows of equal weights differ by a factor alone; with masked keys in the block they would be independent.
  EXPECT_EQ(metrics.at("rank"), 1);
  input.methods[0] = parse_method_spec("nystrom", "attention");
  EXPECT_THAT(protocol.refuses(input), HasSubstr("not causal"));
}

// Closed forms are those of queries that see all keys.
TEST_F(CaptureTest, ConcentrationOfATextHasNoClosedForm) {
  CellInput input = zeros(20);
  DatasetWriter writer(DatasetKind::qkv, "zeros", "zeros", "a test", "CC0");
  for (const char* name : {"q", "k", "v"}) {
    const auto values = input.dataset->floats(name);
    writer.array(name, std::vector<float>(values.begin(), values.end()), {1, 20, 8});
  }
  for (const char* name : {"truth/beta", "truth/gamma"})
    writer.array(name, std::vector<double>(20, 1.0), {1, 20});
  writer.attribute("", "causal", std::int64_t{1});
  writer.seal();
  input.dataset = Dataset::from(writer);
  const CellResult result = find_protocol("attention.concentration").run(input);
  ASSERT_EQ(result.curves.size(), 1U);
  EXPECT_EQ(result.curves.front().x.size(), 10U);  // the measured half
}

TEST_F(CaptureTest, RankAndMapOfALongTextAreOfKeysThatAreSeen) {
  constexpr std::int64_t k_rows = 300;
  CellInput input = zeros(k_rows);
  input.options.params = {{"n_rank", "16"}};
  const CellResult result = find_protocol("attention.concentration").run(input);
  const auto rank = std::ranges::find(result.metrics, "rank", &Metric::name);
  ASSERT_NE(rank, result.metrics.end());
  EXPECT_EQ(rank->value, 1);  // 0 if all keys of the block were masked
  // The map's last row sees its last key, the row before it all but that one, and so on.
  ASSERT_EQ(result.pictures.size(), 1U);
  const Picture& map = result.pictures.front();
  ASSERT_EQ(map.n_rows, 48);
  ASSERT_EQ(map.n_cols, 96);
  for (std::int64_t row = 0; row < map.n_rows; ++row)
    for (std::int64_t column = 0; column < map.n_cols; ++column)
      EXPECT_NEAR(map.values[static_cast<std::size_t>(row * map.n_cols + column)],
                  column <= map.n_cols - map.n_rows + row ? 1 : 0, 1e-6);
}

}  // namespace
