// Checkpoints and training configurations: what is written is what is read.
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "built_plugins.hpp"
#include "probe/checkpoint.hpp"
#include "probe/generation.hpp"
#include "probe/training_file.hpp"

namespace {

using namespace borel;
using namespace borel::probe;
using testing::HasSubstr;

using test::registry;

std::vector<std::uint8_t> counting_text() {
  std::vector<std::uint8_t> text(3000);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>('a' + i % 7);
  return text;
}

TrainingConfig small_training() {
  return parse_training(R"(
layers = 2
width = 16
heads = 2
feed_forward_width = 24
length = 32
steps = 300
batch = 4
chunk = 2
warmup = 5
learning_rate = 0.02
attention = "softmax"
position = ["window{window=16}", "rope"]
)",
                        "small.toml");
}

TrainingConfig small_gau() {
  return parse_training(R"(
block = "gau"
layers = 2
width = 16
heads = 1
key_width = 8
expansion = 3
length = 32
steps = 300
batch = 4
chunk = 2
warmup = 5
learning_rate = 0.02
attention = "relu2{scaling=gau_n2}"
position = "rope"
)",
                        "gau.toml");
}

struct TemporaryFile {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("probe_" + std::to_string(::getpid()) + ".h5");
  ~TemporaryFile() { std::filesystem::remove(path); }
};

template <class F>
std::string message(F&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ProbeCheckpointOf : public testing::TestWithParam<TrainingConfig (*)()> {};

TEST_P(ProbeCheckpointOf, GoesOnFromTheFileWithTheSameBits) {
  const auto text = counting_text();
  const TemporaryFile file;
  Trainer whole(GetParam()(), registry(), text);
  for (int i = 0; i < 5; ++i) whole.step();
  save_checkpoint(file.path, whole.architecture(), whole.config(), whole.state(), {"sha256:0"}, true);
  for (int i = 0; i < 5; ++i) whole.step();

  const auto model = Dataset::open(file.path);
  Trainer second(checkpoint_config(*model), registry(), text);
  Checkpoint checkpoint = load_checkpoint(*model, second.architecture());
  EXPECT_EQ(checkpoint.text_digest, "sha256:0");
  second.restore(std::move(checkpoint.state));
  EXPECT_EQ(second.state().step, 5);
  for (int i = 0; i < 5; ++i) second.step();
  EXPECT_EQ(second.state().parameters, whole.state().parameters);
  EXPECT_EQ(second.state().losses, whole.state().losses);
}

TEST_P(ProbeCheckpointOf, ContinuesAPatternThatWasLearnt) {
  const auto text = counting_text();
  Trainer trainer(GetParam()(), registry(), text);
  for (int i = 0; i < 300; ++i) trainer.step();
  std::string written;
  generate(trainer.architecture(), trainer.state().parameters, "abcdefgabcdefg", {10, 0, 0, Seed{1}},
           [&](std::uint8_t byte) { written.push_back(static_cast<char>(byte)); });
  EXPECT_EQ(written, "abcdefgabc");
}

INSTANTIATE_TEST_SUITE_P(Blocks, ProbeCheckpointOf, testing::Values(&small_training, &small_gau),
                         [](const auto& tested) {
                           return std::string(tested.param == &small_gau ? "gau" : "transformer");
                         });

TEST(ProbeCheckpoint, OtherPositionsUseTheSameWeightsUnlessTheyNeedTheirOwn) {
  const auto text = counting_text();
  const TemporaryFile file;
  Trainer trainer(small_training(), registry(), text);
  trainer.step();
  save_checkpoint(file.path, trainer.architecture(), trainer.config(), trainer.state(), {"sha256:0"}, false);
  const auto model = Dataset::open(file.path);
  EXPECT_FALSE(model->has("optimizer/first_moment"));
  ModelConfig config = checkpoint_config(*model).model;
  config.position = {parse_method_spec("rerope{window=8}", "position")};
  EXPECT_EQ(parameters_for(*model, Architecture(config, registry())), trainer.state().parameters);
  config.position = {parse_method_spec("t5", "position")};
  EXPECT_THAT(message([&] { parameters_for(*model, Architecture(config, registry())); }),
              HasSubstr("position/"));
}

TEST(TrainingFile, TextGivesTheSameConfigurationBack) {
  TrainingConfig config = small_training();
  config.model.short_convolution = 3;
  const TrainingConfig again = training_from(training_text(config));
  EXPECT_EQ(training_text(again), training_text(config));
  EXPECT_EQ(again.model.position.size(), 2U);
  EXPECT_EQ(again.model.position[0].text(), "position/window{window=16}");
  EXPECT_EQ(again.model.train_length, 32);
  EXPECT_EQ(again.model.short_convolution, 3);
  const TrainingConfig gau = training_from(training_text(small_gau()));
  EXPECT_EQ(gau.model.block, Block::gau);
  EXPECT_EQ(gau.model.key_width * 10 + gau.model.expansion, 83);
}

TEST(TrainingFile, SaysWhatIsWrong) {
  EXPECT_THAT(message([] { parse_training("stepz = 3", "a.toml"); }), HasSubstr("steps"));
  EXPECT_THAT(message([] { parse_training("steps = 0", "a.toml"); }), HasSubstr("a.toml"));
  EXPECT_THAT(message([] { parse_training("steps = [1, 2]", "a.toml"); }), HasSubstr("a.toml:1"));
  EXPECT_THAT(message([] { parse_training("batch = 6\nchunk = 4", "a.toml"); }), HasSubstr("multiple"));
  EXPECT_THAT(message([] { read_training("/nowhere.toml"); }), HasSubstr("cannot be read"));
}

}  // namespace
