// Training of a probe network: AdamW on batches of a text, the same bits for any number of threads and after a restart.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "probe/pass.hpp"
#include "probe/training_data.hpp"

namespace borel::probe {

struct TrainingConfig {
  ModelConfig model;
  std::string dataset = "text_austen";  ///< kind tokens
  index_t n_steps = 1000;
  index_t n_batch = 16;  ///< sequences in a step
  /// Sequences in a chunk: one task, one partial gradient. Part of the result's bits, so it is never derived from the
  /// number of threads.
  index_t n_chunk = 4;
  double learning_rate = 2e-3;       ///< peak
  double final_rate = 0.1;           ///< share of the peak at the last step (cosine)
  index_t n_warmup = 100;            ///< steps
  double beta1 = 0.9, beta2 = 0.95;  ///< Loshchilov and Hutter 2019
  double epsilon = 1e-8, weight_decay = 0.1;
  double clip_norm = 1;
  double repeated_share =
      0.25;  ///< of the sequences: a piece of text, again and again, so that copying is learnt
  std::uint64_t seed = 1;

  /// @throws ParamError
  void check() const;
};

/// Linear warm-up, then a cosine from the peak to final_rate times the peak; step counts from 0.
double learning_rate_at(const TrainingConfig& config, index_t step);

struct StepReport {
  double loss = 0;  ///< mean over what the batch scores: nats per token, or the squared error of a denoiser
  double gradient_norm = 0, learning_rate = 0;
};

/// Everything that a later step depends on; what a checkpoint holds.
struct TrainingState {
  index_t step = 0;  ///< steps done
  std::vector<float> parameters, first_moment, second_moment;
  std::vector<double> losses;  ///< one per step done
};

/// Mean loss of a network on a text, nats per byte: windows of `n` tokens, side by side, from the start.
/// Threads: windows run in parallel; same bits for any number.
double mean_loss(const Architecture& architecture, std::span<const float> parameters,
                 std::span<const std::uint8_t> text, index_t n, index_t n_windows, StopToken stop = {});

/// The same for every byte of the text but the first, each scored once with at least n / 2 bytes before it where the text has
/// them: windows of n tokens overlap by half. O(2 text.size()) tokens. @throws MethodError when the text is shorter than n + 1
double held_out_loss(const Architecture& architecture, std::span<const float> parameters,
                     std::span<const std::uint8_t> text, index_t n, StopToken stop = {});

/// Mixers of the plugins of all layers.
std::vector<std::unique_ptr<PluginMixer>> plugin_mixers(const Architecture& architecture);

/// How often the largest logit is the target, where one is asked for. Threads: as mean_loss.
double recall_accuracy(const Architecture& architecture, std::span<const float> parameters,
                       const RecallSequences& sequences, StopToken stop = {});

/// @throws MethodError when the mechanism of a layer has no gradients
void check_trainable(const Architecture& architecture);

class Trainer {
 public:
  /// Learns a text. @throws ParamError, MethodError as check_trainable, or when an encoding cannot serve the training length
  Trainer(const TrainingConfig& config, const Registry& registry, std::span<const std::uint8_t> text);
  Trainer(const TrainingConfig& config, const Registry& registry, std::unique_ptr<const TrainingData> data);

  const Architecture& architecture() const { return architecture_; }
  const TrainingConfig& config() const { return config_; }
  const TrainingState& state() const { return state_; }
  /// Goes on from there. @throws ParamError when sizes do not fit the model
  void restore(TrainingState state);

  /// One step of AdamW. @throws MethodError when the loss is not finite (says at which step), Stopped: then the state is
  /// that before the step
  StepReport step(StopToken stop = {});

 private:
  struct Chunk {
    std::unique_ptr<TrainingChunk> work;
    NetworkGradients<float> gradients;
    double loss = 0;
  };
  void run_chunk(Chunk& chunk, index_t n_scored, std::span<const PositionPlan> plans, StopToken stop);
  void reduce_gradients(std::span<const PositionPlan> plans, Seed position_seed);
  double clipped_scale(double& norm) const;
  void update(double rate, double gradient_scale);

  TrainingConfig config_;
  Architecture architecture_;
  std::unique_ptr<const TrainingData> data_;
  std::vector<std::unique_ptr<PluginMixer>> owned_mixers_;
  std::vector<const Mixer<float>*> mixers_;
  std::vector<Chunk> chunks_;
  std::vector<float> gradient_;
  TrainingState state_;
};

}  // namespace borel::probe
