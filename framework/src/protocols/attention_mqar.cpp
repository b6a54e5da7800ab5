// attention.mqar: multi-query associative recall (Arora et al. 2023, "Zoology", arXiv:2312.04927). Networks of a few layers
// are trained from scratch on sequences of key-value pairs followed by queries; what share of the queries of sequences
// that were never seen is answered right, and how much state does that take?
//
//   The mechanism and the encoding stand in every layer, behind a short convolution on q, k and v (the paper has one
//   convolution as the first of two layers; here all layers are alike). Width after width, each with a sweep over the
//   learning rate, each rate from several starts: when a network leaves the plateau before it binds the first pairs hangs
//   on the start, down to the last bits of a sum. The rate is the one with the largest mean over the starts on the
//   validation sequences, not on the test sequences; what is told is that rate's mean on the test sequences, its lowest
//   and its highest start. (The paper tells the best network of the sweep, which is a maximum over luck.)
//   An embedding starts with a standard deviation of 1 / sqrt(width), as the matrices that read it. With the 0.02 of language
//   models, the first layer's output is many times as large as the token it is added to: after 700 steps on
//   mqar_n64_kv16 (width 22, batches of 16) gated_delta answers 0.20, 0.35 and 0.02 from three starts, with 0.1 in its
//   place 0.11, 0.90 and 0.85, with 0.5 0.77, 0.53 and 0.91.
//   Networks of one width have equally many parameters: what a mechanism brings along (gates, decays, tables) is taken
//   from the hidden units of the feed-forward part.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "probe/training.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

using probe::RecallSequences;

struct Options {
  std::vector<double> widths{8, 16, 32};
  std::int64_t heads = 1;
  std::int64_t layers = 2;
  std::int64_t feed_forward_width = 64;
  std::int64_t short_convolution = 3;
  std::vector<double> learning_rates{0.01, 0.03, 0.1};
  std::int64_t starts = 3;
  std::int64_t steps = 1000;
  std::int64_t batch = 32;
  double weight_decay = 0.1;
  std::int64_t check_every = 50;
  double solved = 0.999;

  void declare(ParamBinder& p) {
    p.reals("widths", widths, Range::closed(2, 1024), "1",
            "Sizes of a token's vector, ascending whole numbers; the metrics are those of the last.");
    p.integer("heads", heads, Range::closed(1, 256), "1", "Heads of each layer.");
    p.integer("layers", layers, Range::closed(1, 16), "1", "Blocks.");
    p.integer("feed_forward_width", feed_forward_width, Range::closed(1, 4096), "1",
              "Hidden units of a block, before a mechanism's own parameters are taken from them.");
    p.integer("short_convolution", short_convolution, Range::closed(0, 16), "tokens",
              "Taps of the causal convolution on q, k and v; 0 switches it off.");
    p.reals("learning_rates", learning_rates, Range::closed(1e-6, 1), "1",
            "Peak rates of AdamW that are tried, ascending.");
    p.integer(
        "starts", starts, Range::closed(1, 100), "1",
        "Networks for each rate, with initial values and batches of their own; metrics are means over them.");
    p.integer("steps", steps, Range::closed(1, 1000000), "1",
              "Updates; the rate rises over a tenth of them, then falls to zero as a cosine.");
    p.integer("batch", batch, Range::closed(k_chunk, 4096), "sequences",
              "Sequences in an update, a multiple of 8.");
    p.real("weight_decay", weight_decay, Range::closed(0, 10), "1", "Decay of matrices, times the rate.");
    p.integer("check_every", check_every, Range::closed(1, 1000000), "steps",
              "Steps between looks at the validation sequences.");
    p.real("solved", solved, Range::left_open(0, 1), "1",
           "Training ends early at this accuracy on the validation sequences.");
  }
  void check() const {
    const auto ascending = [](std::string_view name, const std::vector<double>& values) {
      if (values.empty() || std::ranges::adjacent_find(values, std::greater_equal{}) != values.end())
        throw ParamError(fmt::format("parameter '{}' must name at least one number, ascending", name));
    };
    ascending("widths", widths);
    ascending("learning_rates", learning_rates);
    for (const double width : widths)
      if (width != std::floor(width) || static_cast<index_t>(width) % heads != 0)
        throw ParamError(
            fmt::format("parameter 'widths' must hold whole multiples of heads = {}, got {}", heads, width));
    if (batch % k_chunk != 0)
      throw ParamError(fmt::format("parameter 'batch' must be a multiple of {}, got {}", k_chunk, batch));
  }

  static constexpr index_t k_chunk = 8;  // sequences of one parallel task; part of the result's bits
};

/// The sequences of a dataset; empty inputs when it has none.
RecallSequences sequences_of(const Dataset& dataset, std::string_view split) {
  const std::string targets = fmt::format("target/{}", split);
  if (!dataset.has(split) || !dataset.has(targets) || !dataset.has_attribute("", "sequence_length"))
    return {};
  return {dataset.bytes(split), dataset.bytes(targets), dataset.integer("", "sequence_length", 1, 1 << 16)};
}

probe::TrainingConfig configuration(const CellInput& input, const Options& options, index_t width) {
  probe::TrainingConfig config;
  config.model.n_layers = options.layers;
  config.model.d_model = width;
  config.model.n_heads = options.heads;
  config.model.d_feed_forward = options.feed_forward_width;
  config.model.train_length = sequences_of(*input.dataset, "train").n;
  config.model.short_convolution = options.short_convolution;
  config.model.embedding_sd = 1 / std::sqrt(static_cast<double>(width));
  config.model.attention = {input.methods.at(0)};
  config.model.position = {input.methods.at(1)};
  config.n_steps = options.steps;
  config.n_batch = options.batch;
  config.n_chunk = Options::k_chunk;
  config.n_warmup = options.steps / 10;
  config.final_rate = 0;
  config.weight_decay = options.weight_decay;
  return config;
}

/// Takes what the methods bring along from the hidden units. @throws MethodError when there are too few of them
void match_parameters(probe::ModelConfig& model, const Registry& registry) {
  const probe::Architecture architecture(model, registry);
  std::vector<bool> is_own(architecture.slices().size());
  for (const probe::Layer& layer : architecture.layers())
    for (const auto* slices :
         {&layer.extra_weight, &layer.extra_bias, &layer.attention_parameters, &layer.position_parameters})
      for (const index_t slice : *slices) is_own[static_cast<std::size_t>(slice)] = true;
  index_t own = 0;
  for (std::size_t i = 0; i < is_own.size(); ++i)
    if (const auto& slice = architecture.slices()[i]; is_own[i] && slice.trainable) own += slice.size;
  const auto per_unit = static_cast<double>(2 * model.d_model * model.n_layers);
  const auto taken = static_cast<index_t>(std::llround(static_cast<double>(own) / per_unit));
  if (taken >= model.d_feed_forward)
    throw MethodError(fmt::format(
        "{} with {} brings {} parameters at width {}, more than the {} hidden units of a layer can make room "
        "for; raise feed_forward_width",
        model.attention.front().text(), model.position.front().text(), own, model.d_model,
        model.d_feed_forward));
  model.d_feed_forward -= taken;
}

/// Bytes per layer that must be kept after all tokens of a sequence, summed over the layers and divided by their number.
double state_bytes(const probe::Architecture& architecture, std::span<const float> parameters) {
  const index_t n = architecture.config().train_length;
  const auto plans = architecture.plans(parameters, n, false, {});
  double total = 0;
  for (std::size_t l = 0; l < plans.size(); ++l) {
    const probe::Layer& layer = architecture.layers()[l];
    total += layer.attention->state_bytes(layer.context, keys_kept(plans[l], n));
  }
  return total / static_cast<double>(plans.size());
}

/// One network, trained.
struct Outcome {
  double validation = 0, test = 0;  ///< accuracy; 0 when training diverged
  index_t n_steps = 0;
  std::vector<double> checked;  ///< validation accuracy at check after check, until it was solved
};

/// The networks of one rate, one for each start.
struct Sweep {
  double rate = 0;
  std::vector<Outcome> starts;

  double mean(auto member) const {
    double sum = 0;
    for (const Outcome& start : starts) sum += static_cast<double>(start.*member);
    return sum / static_cast<double>(starts.size());
  }
  double lowest() const { return std::ranges::min(starts, {}, &Outcome::test).test; }
  double highest() const { return std::ranges::max(starts, {}, &Outcome::test).test; }
};

/// Mean over the starts; one that was solved, or diverged, stays where it was.
Curve by_step(const Sweep& sweep, const Options& options) {
  Curve curve{
      "accuracy by step", "step", "accuracy, validation sequences, mean over starts", false, false, {}, {}};
  std::size_t n_checks = 0;
  for (const Outcome& start : sweep.starts) n_checks = std::max(n_checks, start.checked.size());
  for (std::size_t check = 0; check < n_checks; ++check) {
    double sum = 0;
    for (const Outcome& start : sweep.starts)
      if (!start.checked.empty()) sum += start.checked[std::min(check, start.checked.size() - 1)];
    const auto step = static_cast<std::int64_t>(check + 1) * options.check_every;
    curve.x.push_back(static_cast<double>(std::min(step, options.steps)));
    curve.y.push_back(sum / static_cast<double>(sweep.starts.size()));
  }
  return curve;
}

class AttentionMqar final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.mqar"; }
  int version() const override { return 3; }
  std::string_view summary() const override {
    return "Associative recall by networks trained from scratch: accuracy against the size of the state";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::tokens; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"accuracy", "", Direction::higher_is_better,
         "queries answered right in unseen sequences, largest width, learning rate chosen on validation "
         "sequences, mean over starts",
         true},
        {"accuracy_lowest", "", Direction::higher_is_better, "the same, of the start that answers least",
         false},
        {"accuracy_highest", "", Direction::higher_is_better, "the same, of the start that answers most",
         false},
        {"state_bytes", "B", Direction::lower_is_better,
         "what a layer must keep after the last token, largest width", false},
        {"parameters", "", Direction::none, "numbers that were trained, largest width", false},
        {"steps", "", Direction::lower_is_better, "updates until it was solved, or all; mean over starts",
         false},
        {"learning_rate", "", Direction::none, "the rate that was chosen", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    try {
      for (const char* split : {"train", "validation", "test"}) {
        const RecallSequences sequences = sequences_of(*input.dataset, split);
        if (sequences.inputs.empty())
          return fmt::format("the dataset has no targets for '{}': it is a text, or incomplete", split);
        const probe::RecallData complete(sequences);
      }
      for (const double width : options.widths) {
        probe::TrainingConfig config = configuration(input, options, static_cast<index_t>(width));
        match_parameters(config.model, *input.registry);
        const probe::Architecture architecture(config.model, *input.registry);
        probe::check_trainable(architecture);
        architecture.plans(architecture.initial_parameters(input.seed), config.model.train_length, true,
                           input.seed);
      }
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    const double n_rows =
        static_cast<double>(options.batch * options.layers * sequences_of(*input.dataset, "train").n);
    return 4.0 * n_rows *
           (20 * options.widths.back() + 4 * static_cast<double>(options.feed_forward_width) +
            static_cast<double>(probe::k_vocabulary));
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const auto against_state = [](std::string name) {
      return Curve{
          std::move(name), "state of a layer [bytes]", "accuracy, unseen sequences", true, false, {}, {}};
    };
    Curve mean = against_state("accuracy against state"),
          lowest = against_state("lowest accuracy of a start against state"),
          highest = against_state("highest accuracy of a start against state");
    Curve by_rate{"accuracy by learning rate",
                  "peak learning rate",
                  "accuracy, validation sequences, mean over starts",
                  true,
                  false,
                  {},
                  {}};
    CellResult result;
    for (const double width : options.widths) {
      probe::TrainingConfig config = configuration(input, options, static_cast<index_t>(width));
      match_parameters(config.model, *input.registry);
      const probe::Architecture architecture(config.model, *input.registry);
      const double bytes = state_bytes(architecture, architecture.initial_parameters(input.seed));
      Sweep best;
      for (const double rate : options.learning_rates) {
        Sweep sweep = train_all(input, options, config, rate);
        const double validation = sweep.mean(&Outcome::validation);
        if (width == options.widths.back()) {
          by_rate.x.push_back(rate);
          by_rate.y.push_back(validation);
        }
        if (best.starts.empty() || validation > best.mean(&Outcome::validation)) best = std::move(sweep);
      }
      for (Curve* curve : {&mean, &lowest, &highest}) curve->x.push_back(bytes);
      mean.y.push_back(best.mean(&Outcome::test));
      lowest.y.push_back(best.lowest());
      highest.y.push_back(best.highest());
      if (width != options.widths.back()) continue;
      result.metrics = {
          {"accuracy", "", mean.y.back(), Direction::higher_is_better},
          {"accuracy_lowest", "", lowest.y.back(), Direction::higher_is_better},
          {"accuracy_highest", "", highest.y.back(), Direction::higher_is_better},
          {"state_bytes", "B", bytes, Direction::lower_is_better},
          {"parameters", "", static_cast<double>(architecture.n_trainable()), Direction::none},
          {"steps", "", best.mean(&Outcome::n_steps), Direction::lower_is_better},
          {"learning_rate", "", best.rate, Direction::none},
      };
      result.curves.push_back(by_step(best, options));
    }
    result.curves.insert(result.curves.begin(),
                         {std::move(mean), std::move(lowest), std::move(highest), std::move(by_rate)});
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    probe::TrainingConfig config = configuration(input, options, static_cast<index_t>(options.widths.back()));
    match_parameters(config.model, *input.registry);
    config.learning_rate = options.learning_rates.front();
    config.seed = input.seed.value;
    auto trainer = std::make_shared<probe::Trainer>(
        config, *input.registry, std::make_unique<probe::RecallData>(sequences_of(*input.dataset, "train")));
    return {{"training_step_s", [trainer, dataset = input.dataset] { trainer->step(); }}};
  }

 private:
  // The same starts and batches for all methods, widths and rates.
  static Sweep train_all(const CellInput& input, const Options& options, probe::TrainingConfig config,
                         double rate) {
    Sweep sweep{rate, {}};
    config.learning_rate = rate;
    for (std::int64_t start = 0; start < options.starts; ++start) {
      config.seed = input.seed.derive("start").derive(static_cast<std::uint64_t>(start)).value;
      sweep.starts.push_back(train(input, options, config));
    }
    return sweep;
  }

  static Outcome train(const CellInput& input, const Options& options, const probe::TrainingConfig& config) {
    probe::Trainer trainer(config, *input.registry,
                           std::make_unique<probe::RecallData>(sequences_of(*input.dataset, "train")));
    Outcome outcome;
    while (trainer.state().step < options.steps && outcome.validation < options.solved) {
      try {
        trainer.step(input.stop);
      } catch (const MethodError&) {  // diverged: this rate is too large, which is an answer
        outcome.validation = 0;
        outcome.checked.push_back(0);
        outcome.n_steps = options.steps;  // it was not solved
        return outcome;
      }
      outcome.n_steps = trainer.state().step;
      if (outcome.n_steps % options.check_every != 0 && outcome.n_steps != options.steps) continue;
      outcome.validation = recall_accuracy(trainer.architecture(), trainer.state().parameters,
                                           sequences_of(*input.dataset, "validation"), input.stop);
      outcome.checked.push_back(outcome.validation);
    }
    outcome.test = recall_accuracy(trainer.architecture(), trainer.state().parameters,
                                   sequences_of(*input.dataset, "test"), input.stop);
    return outcome;
  }
};

}  // namespace

const Protocol& attention_mqar() {
  static const AttentionMqar protocol;
  return protocol;
}

}  // namespace borel
