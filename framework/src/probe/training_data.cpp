#include "probe/training_data.hpp"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

#include "probe/pool.hpp"
#include "probe/training.hpp"

namespace borel::probe {

namespace {

class TokenChunk final : public TrainingChunk {
 public:
  TokenChunk(const TokenData& data, const TrainingConfig& config, std::shared_ptr<Pool<Pass<float>>> passes,
             index_t first)
      : data_(data),
        config_(config),
        passes_(std::move(passes)),
        first_(first),
        inputs_(static_cast<std::size_t>(config.n_chunk * config.model.train_length)),
        targets_(inputs_),
        scored_(inputs_) {}

  void fill(index_t step) override {
    const auto n = static_cast<std::size_t>(config_.model.train_length);
    for (index_t s = 0; s < config_.n_chunk; ++s) {
      const auto its = [&](std::vector<std::uint8_t>& all) {
        return std::span(all).subspan(static_cast<std::size_t>(s) * n, n);
      };
      data_.fill(config_, step, first_ + s, {its(inputs_), its(targets_), its(scored_)});
    }
  }
  index_t n_scored() const override { return std::ranges::count(scored_, 1); }
  double run(std::span<const float> parameters, std::span<const PositionPlan> plans, index_t n_scored,
             NetworkGradients<float>& gradients, StopToken stop) override {
    const auto pass = passes_->lend();
    const auto size = static_cast<std::size_t>(sequences_per_pass(config_) * config_.model.train_length);
    double loss = 0;
    for (std::size_t first = 0; first < inputs_.size(); first += size) {
      const auto its = [&](const std::vector<std::uint8_t>& all) {
        return std::span(all).subspan(first, size);
      };
      pass->forward(parameters, plans, its(inputs_), stop, its(scored_));
      loss += pass->cross_entropies(its(targets_), 1.0F / static_cast<float>(n_scored));
      pass->backward(parameters, plans, its(inputs_), gradients, stop);
    }
    return loss;
  }

 private:
  const TokenData& data_;
  const TrainingConfig& config_;
  std::shared_ptr<Pool<Pass<float>>> passes_;
  index_t first_;
  std::vector<std::uint8_t> inputs_, targets_, scored_;
};

}  // namespace

index_t sequences_per_pass(const TrainingConfig& config) {
  constexpr index_t k_tokens = 512;
  index_t count = std::clamp<index_t>(k_tokens / config.model.train_length, 1, config.n_chunk);
  while (config.n_chunk % count != 0) --count;
  return count;
}

std::vector<std::unique_ptr<TrainingChunk>> TokenData::chunks(
    const TrainingConfig& config, const Architecture& architecture,
    std::span<const Mixer<float>* const> mixers) const {
  const auto passes = std::make_shared<Pool<Pass<float>>>([&config, &architecture, mixers] {
    return std::make_unique<Pass<float>>(architecture, mixers, sequences_per_pass(config),
                                         config.model.train_length, true);
  });
  std::vector<std::unique_ptr<TrainingChunk>> out;
  for (index_t first = 0; first < config.n_batch; first += config.n_chunk)
    out.push_back(std::make_unique<TokenChunk>(*this, config, passes, first));
  return out;
}

Rng sequence_stream(const TrainingConfig& config, index_t step, index_t index) {
  return Rng(Seed{config.seed}
                 .derive("batch")
                 .derive(static_cast<std::uint64_t>(step))
                 .derive(static_cast<std::uint64_t>(index)));
}

void fill_sequence(const TrainingConfig& config, std::span<const std::uint8_t> text, index_t step,
                   index_t index, std::span<std::uint8_t> out) {
  Rng rng = sequence_stream(config, step, index);
  const std::size_t n = out.size();
  const std::size_t begin = rng.below(text.size() - n + 1);
  std::size_t period = n;
  if (rng.uniform() < config.repeated_share)
    period = std::max<std::size_t>(1, n / 8 + rng.below(n / 2 - n / 8 + 1));
  for (std::size_t i = 0; i < n; ++i) out[i] = text[begin + i % period];
}

void TextData::check(index_t n) const {
  if (static_cast<index_t>(text_.size()) < n + 1)
    throw ParamError(
        fmt::format("training: the text has {} bytes, and a sequence needs {}", text_.size(), n + 1));
}

void TextData::fill(const TrainingConfig& config, index_t step, index_t index, TrainingSequence out) const {
  std::vector<std::uint8_t> sequence(out.inputs.size() + 1);
  fill_sequence(config, text_, step, index, sequence);
  std::copy(sequence.begin(), sequence.end() - 1, out.inputs.begin());
  std::copy(sequence.begin() + 1, sequence.end(), out.targets.begin());
  std::ranges::fill(out.scored, std::uint8_t{1});
}

RecallSequences RecallSequences::part(index_t begin, index_t end) const {
  const auto first = static_cast<std::size_t>(begin * n), count = static_cast<std::size_t>((end - begin) * n);
  return {inputs.subspan(first, count), targets.subspan(first, count), n};
}

RecallData::RecallData(const RecallSequences& sequences) : sequences_(sequences) {
  const index_t n = sequences.n;
  const std::size_t n_tokens = sequences.inputs.size();
  if (n < 1 || n_tokens == 0 || n_tokens != sequences.targets.size() ||
      n_tokens % static_cast<std::size_t>(n) != 0)
    throw ParamError(fmt::format("training: {} tokens and {} targets are not sequences of {} tokens",
                                 n_tokens, sequences.targets.size(), n));
  for (index_t s = 0; s < sequences.size(); ++s)
    if (std::ranges::count(sequences.part(s, s + 1).targets, 0) == n)
      throw ParamError(fmt::format("training: sequence {} asks for nothing", s));
}

void RecallData::check(index_t n) const {
  if (n != sequences_.n)
    throw ParamError(
        fmt::format("training: the sequences have {} tokens, and the model wants {}", sequences_.n, n));
}

void RecallData::fill(const TrainingConfig& config, index_t step, index_t index, TrainingSequence out) const {
  Rng rng = sequence_stream(config, step, index);
  const auto chosen = static_cast<index_t>(rng.below(static_cast<std::uint64_t>(sequences_.size())));
  const RecallSequences its = sequences_.part(chosen, chosen + 1);
  std::ranges::copy(its.inputs, out.inputs.begin());
  std::ranges::copy(its.targets, out.targets.begin());
  std::ranges::transform(its.targets, out.scored.begin(),
                         [](std::uint8_t target) { return static_cast<std::uint8_t>(target != 0); });
}

}  // namespace borel::probe
