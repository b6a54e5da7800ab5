#include "probe/training.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <fmt/format.h>

#include "probe/activation.hpp"

namespace borel::probe {
namespace {

constexpr index_t k_block = 1 << 14;  // parameters in one task of the update
constexpr index_t k_sequences = 8;    // of one task of an evaluation

std::vector<const Mixer<float>*> borrowed(std::span<const std::unique_ptr<PluginMixer>> mixers) {
  std::vector<const Mixer<float>*> out;
  for (const auto& mixer : mixers) out.push_back(mixer.get());
  return out;
}

}  // namespace

void TrainingConfig::check() const {
  const auto at_least = [](std::string_view name, index_t value, index_t least) {
    if (value < least)
      throw ParamError(fmt::format("training: {} must be at least {}; got {}", name, least, value));
  };
  at_least("n_steps", n_steps, 1);
  at_least("n_batch", n_batch, 1);
  at_least("n_chunk", n_chunk, 1);
  at_least("n_warmup", n_warmup, 0);
  if (n_batch % n_chunk != 0)
    throw ParamError(
        fmt::format("training: n_batch must be a multiple of n_chunk; got {} and {}", n_batch, n_chunk));
  const auto within = [](std::string_view name, double value, double low, double high) {
    if (!(value >= low && value <= high))
      throw ParamError(fmt::format("training: {} must be in [{}, {}]; got {}", name, low, high, value));
  };
  within("learning_rate", learning_rate, 1e-9, 10);
  within("final_rate", final_rate, 0, 1);
  within("beta1", beta1, 0, 0.9999);
  within("beta2", beta2, 0, 0.999999);
  within("epsilon", epsilon, 1e-30, 1);
  within("weight_decay", weight_decay, 0, 10);
  within("clip_norm", clip_norm, 1e-6, 1e6);
  within("repeated_share", repeated_share, 0, 1);
}

double learning_rate_at(const TrainingConfig& config, index_t step) {
  if (step < config.n_warmup)
    return config.learning_rate * static_cast<double>(step + 1) / static_cast<double>(config.n_warmup);
  const index_t n_cosine = std::max<index_t>(config.n_steps - config.n_warmup, 1);
  const double share =
      std::min(1.0, static_cast<double>(step - config.n_warmup) / static_cast<double>(n_cosine));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * share));
  return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine);
}

std::vector<std::unique_ptr<PluginMixer>> plugin_mixers(const Architecture& architecture) {
  std::vector<std::unique_ptr<PluginMixer>> out;
  for (const Layer& layer : architecture.layers())
    out.push_back(std::make_unique<PluginMixer>(*layer.attention, layer.context));
  return out;
}

double mean_loss(const Architecture& architecture, std::span<const float> parameters,
                 std::span<const std::uint8_t> text, index_t n, index_t n_windows, StopToken stop) {
  if (static_cast<index_t>(text.size()) < n + 1)
    throw MethodError(fmt::format("the text has {} bytes, and a window needs {}", text.size(), n + 1));
  n_windows = std::min(n_windows, (static_cast<index_t>(text.size()) - 1) / n);
  const auto plans = architecture.plans(parameters, n, false, {});
  const auto owned = plugin_mixers(architecture);
  const auto mixers = borrowed(owned);
  const double total = deterministic_reduce(
      n_windows, k_sequences, 0.0,
      [&](index_t begin, index_t end) {
        const auto first = static_cast<std::size_t>(begin * n),
                   size = static_cast<std::size_t>((end - begin) * n);
        Pass<float> pass(architecture, mixers, end - begin, n, false);
        pass.forward(parameters, plans, text.subspan(first, size), stop);
        return pass.cross_entropies(text.subspan(first + 1, size), 1.0F);
      },
      [](double a, double b) { return a + b; });
  return total / static_cast<double>(n_windows * n);
}

double held_out_loss(const Architecture& architecture, std::span<const float> parameters,
                     std::span<const std::uint8_t> text, index_t n, StopToken stop) {
  const auto n_targets = static_cast<index_t>(text.size()) - 1;
  if (n_targets < n)
    throw MethodError(fmt::format("the text has {} bytes, and a window needs {}", text.size(), n + 1));
  const index_t stride = std::max<index_t>(n / 2, 1), n_windows = 1 + (n_targets - n + stride - 1) / stride;
  const auto plans = architecture.plans(parameters, n, false, {});
  const auto owned = plugin_mixers(architecture);
  const auto mixers = borrowed(owned);
  const double total = deterministic_reduce(
      n_windows, k_sequences, 0.0,
      [&](index_t first, index_t last) {
        std::vector<std::uint8_t> tokens(static_cast<std::size_t>((last - first) * n));
        // The last window ends with the text, and scores what the one before it has not.
        const auto begin_of = [&](index_t w) { return std::min(w * stride, n_targets - n); };
        for (index_t w = first; w < last; ++w)
          std::copy_n(text.begin() + begin_of(w), n, tokens.begin() + (w - first) * n);
        Pass<float> pass(architecture, mixers, last - first, n, false);
        pass.forward(parameters, plans, tokens, stop);
        double sum = 0;
        for (index_t w = first; w < last; ++w)
          for (index_t r = w == 0 ? 0 : begin_of(w - 1) + n - begin_of(w); r < n; ++r) {
            const auto logits = pass.logits().subspan(
                static_cast<std::size_t>(((w - first) * n + r) * k_vocabulary), k_vocabulary);
            std::array<float, k_vocabulary> row;
            std::ranges::copy(logits, row.begin());
            sum += cross_entropy(row.data(), k_vocabulary,
                                 text[static_cast<std::size_t>(begin_of(w) + r + 1)], 1.0F);
          }
        return sum;
      },
      [](double a, double b) { return a + b; });
  return total / static_cast<double>(n_targets);
}

double recall_accuracy(const Architecture& architecture, std::span<const float> parameters,
                       const RecallSequences& sequences, StopToken stop) {
  const auto plans = architecture.plans(parameters, sequences.n, false, {});
  const auto owned = plugin_mixers(architecture);
  const auto mixers = borrowed(owned);
  struct Count {
    index_t n_right = 0, n = 0;
  };
  const Count total = deterministic_reduce(
      sequences.size(), k_sequences, Count(),
      [&](index_t begin, index_t end) {
        const RecallSequences its = sequences.part(begin, end);
        Pass<float> pass(architecture, mixers, end - begin, its.n, false);
        pass.forward(parameters, plans, its.inputs, stop, its.targets);  // 0: nothing is asked
        const std::span<const float> logits = pass.logits();
        Count count;
        for (const std::uint8_t target : its.targets) {
          if (target == 0) continue;
          const auto row = logits.subspan(static_cast<std::size_t>(count.n * k_vocabulary), k_vocabulary);
          count.n_right += std::ranges::max_element(row) - row.begin() == target;
          ++count.n;
        }
        return count;
      },
      [](Count a, Count b) {
        return Count{a.n_right + b.n_right, a.n + b.n};
      });
  return static_cast<double>(total.n_right) / static_cast<double>(total.n);
}

void check_trainable(const Architecture& architecture) {
  for (std::size_t l = 0; l < architecture.layers().size(); ++l)
    if (!architecture.layers()[l].attention->backward())
      throw MethodError(
          fmt::format("layer {}: the mechanism offers no gradients (ability 'backward'), so a network "
                      "with it cannot be trained",
                      l));
}

Trainer::Trainer(const TrainingConfig& config, const Registry& registry, std::span<const std::uint8_t> text)
    : Trainer(config, registry, std::make_unique<TextData>(text)) {}

Trainer::Trainer(const TrainingConfig& config, const Registry& registry,
                 std::unique_ptr<const TrainingData> data)
    : config_(config),
      architecture_(config.model, registry),
      data_(std::move(data)),
      owned_mixers_(plugin_mixers(architecture_)) {
  config.check();
  const index_t n = config.model.train_length;
  data_->check(n);
  check_trainable(architecture_);
  state_.parameters = architecture_.initial_parameters(Seed{config.seed}.derive("init"));
  state_.first_moment = state_.second_moment = gradient_ = std::vector<float>(state_.parameters.size());
  const auto plans = architecture_.plans(state_.parameters, n, true, {});
  mixers_ = borrowed(owned_mixers_);
  for (auto& work : data_->chunks(config_, architecture_, mixers_)) {
    Chunk& chunk = chunks_.emplace_back();
    chunk.work = std::move(work);
    chunk.gradients.flat.resize(state_.parameters.size());
    chunk.gradients.plans.resize(plans.size());
  }
}

void Trainer::restore(TrainingState state) {
  const std::size_t n = state_.parameters.size();
  if (state.parameters.size() != n || state.first_moment.size() != n || state.second_moment.size() != n)
    throw ParamError(fmt::format("training: the checkpoint has {} parameters and the configured model {}",
                                 state.parameters.size(), n));
  state_ = std::move(state);
}

void Trainer::run_chunk(Chunk& chunk, index_t n_scored, std::span<const PositionPlan> plans, StopToken stop) {
  std::fill(chunk.gradients.flat.begin(), chunk.gradients.flat.end(), 0.0F);
  for (std::size_t l = 0; l < plans.size(); ++l)
    if (const Layer& layer = architecture_.layers()[l]; layer.learns_positions)
      chunk.gradients.plans[l] = PlanGradients(plans[l], layer.position->traits().learns_angles);
  chunk.loss = chunk.work->run(state_.parameters, plans, n_scored, chunk.gradients, stop);
}

// Chunks are added in their order, whatever thread ran them.
void Trainer::reduce_gradients(std::span<const PositionPlan> plans, Seed position_seed) {
  parallel_for(architecture_.n_parameters(), k_block, [&](index_t begin, index_t end) {
    std::copy(chunks_[0].gradients.flat.begin() + begin, chunks_[0].gradients.flat.begin() + end,
              gradient_.begin() + begin);
    for (std::size_t c = 1; c < chunks_.size(); ++c) {
      const float* from = chunks_[c].gradients.flat.data();
      for (index_t i = begin; i < end; ++i) gradient_[static_cast<std::size_t>(i)] += from[i];
    }
  });
  for (std::size_t l = 0; l < plans.size(); ++l) {
    const Layer& layer = architecture_.layers()[l];
    if (!layer.learns_positions) continue;
    PlanGradients total = chunks_[0].gradients.plans[l];
    for (std::size_t c = 1; c < chunks_.size(); ++c) total.add(chunks_[c].gradients.plans[l]);
    std::vector<std::span<float>> d_values;
    for (index_t s : layer.position_parameters) {
      const ParameterSlice& slice = architecture_.slice(s);
      d_values.push_back(slice.trainable
                             ? std::span(gradient_).subspan(static_cast<std::size_t>(slice.offset),
                                                            static_cast<std::size_t>(slice.size))
                             : std::span<float>());
    }
    layer.position->backward(architecture_.position_context(static_cast<index_t>(l),
                                                            config_.model.train_length, true, position_seed),
                             architecture_.values(layer.position_parameters, state_.parameters), total.view(),
                             d_values);
  }
}

// Clipping by the global norm (Pascanu et al. 2013).
double Trainer::clipped_scale(double& norm) const {
  const double square = deterministic_reduce(
      architecture_.n_parameters(), k_block, 0.0,
      [&](index_t begin, index_t end) {
        double sum = 0;
        for (index_t i = begin; i < end; ++i) {
          const double g = gradient_[static_cast<std::size_t>(i)];
          sum += g * g;
        }
        return sum;
      },
      [](double a, double b) { return a + b; });
  norm = std::sqrt(square);
  return norm > config_.clip_norm ? config_.clip_norm / norm : 1;
}

// AdamW, algorithm 2 of Loshchilov and Hutter 2019: decay is not part of the gradient.
void Trainer::update(double rate, double gradient_scale) {
  const double t = static_cast<double>(state_.step + 1);
  const auto beta1 = static_cast<float>(config_.beta1), beta2 = static_cast<float>(config_.beta2);
  const auto step = static_cast<float>(rate / (1 - std::pow(config_.beta1, t)));
  const auto second = static_cast<float>(1 / (1 - std::pow(config_.beta2, t)));
  const auto scale = static_cast<float>(gradient_scale), epsilon = static_cast<float>(config_.epsilon);
  const auto slices = architecture_.slices();
  for (const ParameterSlice& slice : slices) {
    if (!slice.trainable) continue;
    const auto keep = static_cast<float>(slice.decays ? 1 - rate * config_.weight_decay : 1.0);
    parallel_for(slice.size, k_block, [&](index_t begin, index_t end) {
      float* p = state_.parameters.data() + slice.offset;
      float* m = state_.first_moment.data() + slice.offset;
      float* v = state_.second_moment.data() + slice.offset;
      const float* gradient = gradient_.data() + slice.offset;
      for (index_t i = begin; i < end; ++i) {
        const float g = gradient[i] * scale;
        m[i] = beta1 * m[i] + (1 - beta1) * g;
        v[i] = beta2 * v[i] + (1 - beta2) * g * g;
        p[i] = keep * p[i] - step * m[i] / (std::sqrt(v[i] * second) + epsilon);
      }
    });
  }
}

StepReport Trainer::step(StopToken stop) {
  const Seed position_seed =
      Seed{config_.seed}.derive("positions").derive(static_cast<std::uint64_t>(state_.step));
  const auto plans = architecture_.plans(state_.parameters, config_.model.train_length, true, position_seed);
  const auto n_chunks = static_cast<index_t>(chunks_.size());
  const auto chunk = [&](index_t i) -> Chunk& { return chunks_[static_cast<std::size_t>(i)]; };
  parallel_for(n_chunks, 1, [&](index_t i, index_t) { chunk(i).work->fill(state_.step); });
  index_t n_scored = 0;
  for (const Chunk& part : chunks_) n_scored += part.work->n_scored();
  parallel_for(n_chunks, 1, [&](index_t i, index_t) { run_chunk(chunk(i), n_scored, plans, stop); });
  StepReport report;
  for (const Chunk& part : chunks_) report.loss += part.loss;
  report.loss /= static_cast<double>(n_scored);
  reduce_gradients(plans, position_seed);
  const double scale = clipped_scale(report.gradient_norm);
  if (!std::isfinite(report.loss) || !std::isfinite(report.gradient_norm))
    throw MethodError(
        fmt::format("training diverged at step {}: the loss is {} and the norm of its gradient {}; try a "
                    "smaller learning_rate than {}",
                    state_.step, report.loss, report.gradient_norm, config_.learning_rate));
  report.learning_rate = learning_rate_at(config_, state_.step);
  update(report.learning_rate, scale);
  state_.losses.push_back(report.loss);
  ++state_.step;
  return report;
}

}  // namespace borel::probe
