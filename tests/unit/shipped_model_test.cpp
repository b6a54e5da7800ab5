// The network that comes with the program: what its file says, and what it has learned.
#include <cmath>
#include <numbers>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "built_plugins.hpp"
#include "dataset/recipes.hpp"
#include "loader/program_folders.hpp"
#include "probe/checkpoint.hpp"
#include "probe/training_file.hpp"

namespace {

using namespace borel;

using test::registry;

std::shared_ptr<const Dataset> shipped() {
  DatasetWriter writer = run_recipe(*find_recipe("model_rope_128"));
  writer.seal();
  return Dataset::from(writer);
}

TEST(ShippedModel, WasTrainedByTheCommittedConfigurationAndNamesNoMachine) {
  const auto model = shipped();
  EXPECT_EQ(
      probe::training_text(probe::checkpoint_config(*model)),
      probe::training_text(probe::read_training(share_folder() / "studies" / "train" / "shipped.toml")));
  EXPECT_FALSE(model->has("optimizer/first_moment"));
  EXPECT_FALSE(model->has_attribute("", "plugins"));
  EXPECT_FALSE(model->has_attribute("", "machine_cpu"));
  const probe::TrainingConfig config = probe::checkpoint_config(*model);
  EXPECT_EQ(static_cast<index_t>(model->number("", "step")), config.n_steps);
  EXPECT_EQ(std::ssize(model->doubles("losses")), config.n_steps);
  // xz -9e and zstd --ultra -22 of the held-out text after the training text, in bits per byte (2.47 and 2.50 alone).
  EXPECT_LT(model->number("", "held_out_bits"), 2.1415);
  EXPECT_LT(model->number("", "held_out_bits"), 2.1527);
}

// The first sentences of the held-out novel, and one of them again.
TEST(ShippedModel, ReadsAndCopiesEnglish) {
  constexpr std::string_view k_text =
      "Sir Walter Elliot, of Kellynch Hall, in Somersetshire, was a man who, for his own amusement, never "
      "took up any "
      "book but the Baronetage; there he found occupation for an idle hour, and consolation in a distressed "
      "one;";
  constexpr std::string_view k_copied =
      "never took up any book but the Baronetage; never took up any book but the Baronetage; never took up "
      "any book but "
      "the Baronetage; ";
  const auto model = shipped();
  const probe::TrainingConfig config = probe::checkpoint_config(*model);
  const probe::Architecture architecture(config.model, registry());
  const std::vector<float> parameters = probe::parameters_for(*model, architecture);
  const auto bits = [&](std::string_view text, index_t n) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
    return probe::held_out_loss(architecture, parameters, {bytes, text.size()}, n) * std::numbers::log2e;
  };
  EXPECT_LT(bits(k_text, config.model.train_length), 3);
  // The first third is new to it; the others stand in the context.
  EXPECT_LT(bits(k_copied, std::ssize(k_copied) - 1),
            0.6 * bits(k_copied.substr(0, k_copied.size() / 3), 40));
}

}  // namespace
