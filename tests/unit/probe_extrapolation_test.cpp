// position.extrapolation on a network whose right answers are known: it learned to count letters.
#include <cmath>
#include <filesystem>
#include <map>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "built_plugins.hpp"
#include "dataset/dataset_writer.hpp"
#include "probe/checkpoint.hpp"
#include "protocols/protocol.hpp"

namespace {

using namespace borel;
using testing::HasSubstr;

using test::registry;

class PositionExtrapolationTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder() = std::filesystem::temp_directory_path() / ("extrapolation_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder());
    DatasetWriter writer(DatasetKind::tokens, "letters", "letters", "a test", "CC0");
    for (const char* split : {"train", "test"}) {
      std::vector<std::uint8_t> text(4000);
      for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>('a' + i % 5);
      writer.array(split, text, {4000});
    }
    const std::string digest = writer.save(folder() / "letters.h5");
    probe::TrainingConfig config;
    config.dataset = (folder() / "letters.h5").string();
    config.model.n_layers = 1;
    config.model.d_model = 32;
    config.model.n_heads = 2;
    config.model.d_feed_forward = 32;
    config.model.train_length = 64;
    config.n_steps = 150;
    config.n_batch = 4;
    config.n_chunk = 2;
    config.n_warmup = 5;
    config.learning_rate = 1e-2;
    const auto text = find_dataset(config.dataset);
    probe::Trainer trainer(config, registry(), text->bytes("train"));
    while (trainer.state().step < config.n_steps) trainer.step();
    probe::save_checkpoint(folder() / "model.h5", trainer.architecture(), config, trainer.state(), {digest},
                           false);
    probe::save_checkpoint(folder() / "stranger.h5", trainer.architecture(), config, trainer.state(),
                           {"sha256:0"}, false);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder()); }
  static std::filesystem::path& folder() {
    static std::filesystem::path path;
    return path;
  }

  static CellInput input(const char* model, const char* position) {
    CellInput out;
    out.dataset = find_dataset((folder() / model).string());
    out.registry = &registry();
    out.methods = {parse_method_spec(position, "position")};
    out.options.id = "position.extrapolation";
    out.options.params = {{"factors", "[1, 4]"}, {"n_windows", "3"}, {"n_scored", "20"}, {"n_keys", "2"}};
    out.seed = Seed{5};
    return out;
  }
  const Protocol& protocol = find_protocol("position.extrapolation");
};

TEST_F(PositionExtrapolationTest, ItsOwnEncodingHasNoTaxAndReadsWhatItLearned) {
  const CellInput cell = input("model.h5", "rope");
  ASSERT_EQ(protocol.refuses(cell), "");
  const CellResult result = protocol.run(cell);
  std::map<std::string, Curve> curves;
  for (const Curve& curve : result.curves) curves[curve.name] = curve;
  EXPECT_EQ(curves.at("accuracy").x, (std::vector<double>{64, 256}));
  EXPECT_EQ(curves.at("accuracy").y.front(), 1);
  EXPECT_LT(curves.at("loss").y.front(), 0.1);
  for (const Metric& metric : result.metrics) {
    EXPECT_TRUE(std::isfinite(metric.value)) << metric.name;
    if (metric.name == "tax") {
      EXPECT_EQ(metric.value, 0);
    }
  }
  // Sixteen blocks of a quarter of the training length; the last of them hold the scored bytes.
  EXPECT_EQ(curves.at("loss by position").x.size(), 16U);
}

TEST_F(PositionExtrapolationTest, RectifiedRopeIsExactWithinItsWindowAndBeyondTrainingBoundsDistances) {
  // A window as long as the training length changes nothing within it.
  const CellResult same = protocol.run(input("model.h5", "rerope{window=64}"));
  for (const Metric& metric : same.metrics)
    if (metric.name == "tax") {
      EXPECT_NEAR(metric.value, 0, 1e-4);
    }
  EXPECT_EQ(same.pictures.at(0).values.size(), 6U);  // 3 depths, 2 lengths
}

TEST_F(PositionExtrapolationTest, GivesTheSameNumbersTwice) {
  const CellResult first = protocol.run(input("model.h5", "pi")),
                   second = protocol.run(input("model.h5", "pi"));
  ASSERT_EQ(first.metrics.size(), second.metrics.size());
  for (std::size_t i = 0; i < first.metrics.size(); ++i)
    EXPECT_EQ(first.metrics[i].value, second.metrics[i].value) << first.metrics[i].name;
}

TEST_F(PositionExtrapolationTest, SaysWhyItCannotBeMeasured) {
  EXPECT_THAT(protocol.refuses(input("model.h5", "t5")), HasSubstr("trained without"));
  EXPECT_THAT(protocol.refuses(input("stranger.h5", "rope")), HasSubstr("another text"));
  CellInput too_long = input("model.h5", "rope");
  too_long.options.params["factors"] = "[1, 64]";
  EXPECT_THAT(protocol.refuses(too_long), HasSubstr("4000 bytes"));
}

}  // namespace
