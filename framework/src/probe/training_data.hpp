// What a network learns from: texts whose next byte is asked for everywhere, or sequences that ask at some places.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "borel/rng.hpp"
#include "probe/layer_mixing.hpp"

namespace borel::probe {

struct TrainingConfig;

/// Sequences of a chunk that pass through the network together: at most some 512 tokens, so that what a layer leaves for
/// the next, and for the way back, is still in a cache. A divisor of n_chunk, and a function of the configuration alone:
/// the order of sums hangs on it.
index_t sequences_per_pass(const TrainingConfig& config);

/// A fixed part of every batch. The memory of a pass is lent to it while it runs. Used by one thread at a time.
class TrainingChunk {
 public:
  virtual ~TrainingChunk() = default;
  /// Draws its sequences of a step. Depends on the configuration's seed, the step and their place in the batch alone.
  virtual void fill(index_t step) = 0;
  /// How many values of them are scored.
  virtual index_t n_scored() const = 0;
  /// Sum of the losses; adds the gradient of their mean over the n_scored values of the whole batch.
  virtual double run(std::span<const float> parameters, std::span<const PositionPlan> plans, index_t n_scored,
                     NetworkGradients<float>& gradients, StopToken stop) = 0;
};

/// Immutable. Threads: any number of readers.
class TrainingData {
 public:
  virtual ~TrainingData() = default;
  /// @throws ParamError when there are no sequences of n tokens
  virtual void check(index_t n) const = 0;
  /// The whole batch, config.n_chunk sequences each. Configuration, architecture, mixers and data outlive them.
  virtual std::vector<std::unique_ptr<TrainingChunk>> chunks(
      const TrainingConfig& config, const Architecture& architecture,
      std::span<const Mixer<float>* const> mixers) const = 0;
};

/// One sequence of n tokens.
struct TrainingSequence {
  std::span<std::uint8_t> inputs, targets;
  std::span<std::uint8_t> scored;  ///< 1 where the target counts, else 0
};

/// Sequences of bytes for a decoder.
class TokenData : public TrainingData {
 public:
  std::vector<std::unique_ptr<TrainingChunk>> chunks(const TrainingConfig& config,
                                                     const Architecture& architecture,
                                                     std::span<const Mixer<float>* const> mixers) const final;
  /// Depends on config.seed, step and index alone.
  virtual void fill(const TrainingConfig& config, index_t step, index_t index,
                    TrainingSequence out) const = 0;
};

/// Pieces of a text, a share of them repeated; every byte is scored.
class TextData final : public TokenData {
 public:
  explicit TextData(std::span<const std::uint8_t> text) : text_(text) {}
  void check(index_t n) const override;
  void fill(const TrainingConfig& config, index_t step, index_t index, TrainingSequence out) const override;

 private:
  std::span<const std::uint8_t> text_;
};

/// Sequences of n tokens, one after the other, that ask for a target at some of them; 0: nothing is asked.
struct RecallSequences {
  std::span<const std::uint8_t> inputs, targets;  ///< [size(), n]
  index_t n = 0;

  index_t size() const { return static_cast<index_t>(inputs.size()) / n; }
  /// Sequences [begin, end).
  RecallSequences part(index_t begin, index_t end) const;
};

/// Drawn with replacement.
class RecallData final : public TokenData {
 public:
  /// @throws ParamError when these are no whole sequences, or one of them asks for nothing
  explicit RecallData(const RecallSequences& sequences);
  void check(index_t n) const override;
  void fill(const TrainingConfig& config, index_t step, index_t index, TrainingSequence out) const override;

 private:
  RecallSequences sequences_;
};

/// The stream of one sequence of a batch.
Rng sequence_stream(const TrainingConfig& config, index_t step, index_t index);

/// Bytes 0 .. n of one training sequence (n + 1: inputs and targets). Depends on seed, step and index alone.
void fill_sequence(const TrainingConfig& config, std::span<const std::uint8_t> text, index_t step,
                   index_t index, std::span<std::uint8_t> out);

}  // namespace borel::probe
