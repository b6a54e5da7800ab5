// Training: the schedule, the data, and the promise of equal bits.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>

#include <gtest/gtest.h>
#include <tbb/global_control.h>

#include "built_plugins.hpp"
#include "probe/training.hpp"

namespace {

using namespace borel;
using namespace borel::probe;

using test::registry;

// Words of a small language: enough structure to learn in a few steps.
std::vector<std::uint8_t> small_text() {
  std::vector<std::uint8_t> text;
  Rng rng(Seed{11});
  while (text.size() < 6000)
    for (char c : std::string_view(std::array{"the ", "cat ", "sat ", "on ", "a mat. "}[rng.below(5)]))
      text.push_back(static_cast<std::uint8_t>(c));
  return text;
}

TrainingConfig small_training(const char* attention, const char* position) {
  TrainingConfig config;
  config.model.n_layers = 2;
  config.model.d_model = 32;
  config.model.n_heads = 2;
  config.model.d_feed_forward = 64;
  config.model.train_length = 48;
  config.model.attention = {parse_method_spec(attention, "attention")};
  config.model.position = {parse_method_spec(position, "position")};
  config.n_steps = 80;
  config.n_batch = 8;
  config.n_chunk = 2;
  config.n_warmup = 5;
  config.learning_rate = 1e-2;
  return config;
}

TrainingConfig small_gau(const char* attention, const char* position) {
  TrainingConfig config = small_training(attention, position);
  config.model.block = Block::gau;
  config.model.n_layers = 4;  // as many numbers as two transformer blocks
  config.model.n_heads = 1;
  config.model.key_width = 16;
  return config;
}

TEST(ProbeTraining, LearnsASmallLanguage) {
  const auto text = small_text();
  Trainer trainer(small_training("softmax", "rope"), registry(), text);
  const double first = trainer.step().loss;
  EXPECT_NEAR(first, std::log(256.0), 0.2);  // knows nothing
  while (trainer.state().step < 80) trainer.step();
  EXPECT_LT(trainer.state().losses.back(), 1.6);
  const double held = mean_loss(trainer.architecture(), trainer.state().parameters, text, 48, 20);
  EXPECT_LT(held, 1.8);
  EXPECT_GT(held, 0.1);
}

// With the paper's kernel and bias, and with softmax as in GAU-alpha.
TEST(ProbeTraining, GatedAttentionUnitsLearnASmallLanguage) {
  const auto text = small_text();
  for (const auto& [attention, position] :
       {std::pair{"relu2{scaling=gau_n2}", "t5"}, std::pair{"softmax", "rope"}}) {
    Trainer trainer(small_gau(attention, position), registry(), text);
    while (trainer.state().step < 80) trainer.step();
    const double held = mean_loss(trainer.architecture(), trainer.state().parameters, text, 48, 20);
    EXPECT_LT(held, 1.8) << attention;
    EXPECT_GT(held, 0.1) << attention;
  }
}

TEST(ProbeTraining, SameBitsForOneAndTwoThreads) {
  const auto text = small_text();
  for (const TrainingConfig& config :
       {small_training("softmax", "t5"), small_training("gated_delta", "none"),
        small_training("softmax", "learned"), small_gau("relu2{scaling=gau_n2}", "t5")}) {
    std::vector<float> results[2];
    for (std::size_t threads : {1, 2}) {
      const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      Trainer trainer(config, registry(), text);
      for (int i = 0; i < 4; ++i) trainer.step();
      results[threads - 1] = trainer.state().parameters;
    }
    EXPECT_EQ(results[0], results[1]) << config.model.attention.front().text();
  }
}

TrainingConfig long_training(index_t n_chunk) {
  TrainingConfig config = small_training("softmax", "t5");
  config.model.train_length = 200;
  config.n_batch = 4;
  config.n_chunk = n_chunk;
  return config;
}

TEST(ProbeTraining, APassTakesSome512Tokens) {
  EXPECT_EQ(sequences_per_pass(long_training(1)), 1);
  EXPECT_EQ(sequences_per_pass(long_training(2)), 2);
  EXPECT_EQ(sequences_per_pass(long_training(4)), 2);
  TrainingConfig config = long_training(4);
  config.model.train_length = 600;
  EXPECT_EQ(sequences_per_pass(config), 1);
  config.model.train_length = 100;
  config.n_chunk = 7;  // no divisor but 1 fits
  EXPECT_EQ(sequences_per_pass(config), 1);
  config.n_chunk = 12;
  EXPECT_EQ(sequences_per_pass(config), 4);
}

// Several passes in a chunk see what one chunk for each sequence sees.
TEST(ProbeTraining, PassesOfAChunkAddUp) {
  const auto text = small_text();
  const StepReport expected = Trainer(long_training(1), registry(), text).step();
  const StepReport measured = Trainer(long_training(4), registry(), text).step();
  EXPECT_NEAR(measured.loss / expected.loss, 1, 1e-6);
  EXPECT_NEAR(measured.gradient_norm / expected.gradient_norm, 1, 1e-5);
  std::vector<float> results[2];
  for (std::size_t threads : {1, 2}) {
    const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    TrainingConfig config = long_training(4);
    config.n_batch = 12;
    Trainer trainer(config, registry(), text);
    for (int i = 0; i < 3; ++i) trainer.step();
    results[threads - 1] = trainer.state().parameters;
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(ProbeTraining, GoesOnFromAStateWithTheSameBits) {
  const auto text = small_text();
  Trainer whole(small_training("softmax", "rope"), registry(), text);
  for (int i = 0; i < 3; ++i) whole.step();
  const TrainingState middle = whole.state();
  for (int i = 0; i < 3; ++i) whole.step();
  Trainer second(small_training("softmax", "rope"), registry(), text);
  second.restore(middle);
  for (int i = 0; i < 3; ++i) second.step();
  EXPECT_EQ(whole.state().parameters, second.state().parameters);
  EXPECT_EQ(whole.state().second_moment, second.state().second_moment);
}

TEST(ProbeTraining, AStoppedStepChangesNothing) {
  const auto text = small_text();
  Trainer trainer(small_training("softmax", "rope"), registry(), text);
  trainer.step();
  const std::vector<float> before = trainer.state().parameters;
  const std::atomic<bool> stop = true;
  EXPECT_THROW(trainer.step(StopToken(&stop, StopToken::Clock::time_point::max())), Stopped);
  EXPECT_EQ(trainer.state().parameters, before);
  EXPECT_EQ(trainer.state().step, 1);
}

TEST(ProbeTraining, RateRisesThenFollowsACosine) {
  TrainingConfig config;
  config.n_warmup = 10;
  config.n_steps = 110;
  config.learning_rate = 1;
  config.final_rate = 0.1;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 10), 1);
  EXPECT_NEAR(learning_rate_at(config, 60), 0.55, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 110), 0.1, 1e-12);
}

TEST(ProbeTraining, RepeatedSequencesRepeatAndOthersAreText) {
  const auto text = small_text();
  TrainingConfig config = small_training("softmax", "rope");
  config.repeated_share = 1;
  std::vector<std::uint8_t> out(65);
  fill_sequence(config, text, 3, 2, out);
  bool repeats = false;
  for (std::size_t period = 8; period <= 32; ++period)
    repeats |= std::equal(out.begin() + static_cast<std::ptrdiff_t>(period), out.end(), out.begin());
  EXPECT_TRUE(repeats);
  config.repeated_share = 0;
  fill_sequence(config, text, 3, 2, out);
  EXPECT_NE(std::search(text.begin(), text.end(), out.begin(), out.end()), text.end());
}

TEST(ProbeTraining, RefusesWhatCannotBeTrained) {
  const auto text = small_text();
  TrainingConfig config = small_training("softmax", "rope");
  config.n_chunk = 3;
  EXPECT_THROW(Trainer(config, registry(), text), ParamError);
  config = small_training("softmax", "rope");
  config.model.d_model = 33;
  EXPECT_THROW(Trainer(config, registry(), text), ParamError);
  config = small_gau("softmax", "rope");
  config.model.n_heads = 2;
  EXPECT_THROW(Trainer(config, registry(), text), ParamError);
  config = small_gau("softmax", "rope");
  config.model.short_convolution = 2;
  EXPECT_THROW(Trainer(config, registry(), text), ParamError);
}

// Byte by byte, each in the first window that holds it: the windows' losses by the definition of the logits.
TEST(ProbeTraining, HeldOutLossScoresEveryByteOnceWithHalfAWindowBefore) {
  const auto text = small_text();
  constexpr std::size_t k_n = 48;
  Trainer trainer(small_training("softmax", "rope"), registry(), text);
  for (int i = 0; i < 5; ++i) trainer.step();
  const Architecture& architecture = trainer.architecture();
  const std::vector<float>& parameters = trainer.state().parameters;
  const auto owned = plugin_mixers(architecture);
  std::vector<const Mixer<float>*> mixers;
  for (const auto& mixer : owned) mixers.push_back(mixer.get());
  const auto plans = architecture.plans(parameters, k_n, false, {});
  for (const std::size_t n_bytes : {k_n + 1, k_n + 2, 2 * k_n, std::size_t{205}}) {
    const std::span<const std::uint8_t> piece(text.data(), n_bytes);
    double total = 0;
    for (std::size_t target = 1; target < n_bytes; ++target) {
      std::size_t begin = 0;
      while (begin + k_n < target) begin += k_n / 2;
      begin = std::min(begin, n_bytes - 1 - k_n);
      Pass<float> pass(architecture, mixers, 1, k_n, false);
      pass.forward(parameters, plans, piece.subspan(begin, k_n));
      const auto row = pass.logits().subspan((target - 1 - begin) * 256, 256);
      double sum = 0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      total += std::log(sum) - static_cast<double>(row[piece[target]]);
    }
    EXPECT_NEAR(held_out_loss(architecture, parameters, piece, k_n), total / static_cast<double>(n_bytes - 1),
                1e-5)
        << n_bytes;
  }
  EXPECT_THROW(held_out_loss(architecture, parameters, std::span(text).first(k_n), k_n), MethodError);
}

}  // namespace
