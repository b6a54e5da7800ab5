// position.extrapolation: a network that was trained on short texts reads long ones, with another position encoding put in
// place of its own, without further training (kexue.fm 9708: loss and accuracy on one last segment as its context grows).
//
//   text      the bytes before the segment are the text's own
//   repeated  the bytes before the segment are the last `period` bytes, again and again: what comes next stands in the context
//   passkey   four digits stand somewhere in the text and are asked for at its end
// The scored bytes are the same for every context length and every encoding. Published tables (9706, 9708) have the mean over
// all bytes of long texts instead, the first of which have short contexts: accuracy_whole.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "probe/checkpoint.hpp"
#include "protocols/attention_call.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr std::string_view k_key_sentence = " The pass key is ";
constexpr index_t k_digits = 4;

struct Options {
  std::vector<double> factors{1, 2, 4, 8};
  std::int64_t n_windows = 8;
  std::int64_t n_scored = 64;
  double period_share = 1;
  std::vector<double> depths{0.1, 0.5, 0.9};
  std::int64_t n_keys = 4;

  void declare(ParamBinder& p) {
    p.reals("factors", factors, Range::closed(1, 256), "1",
            "Context lengths over the training length, ascending.");
    p.integer("n_windows", n_windows, Range::closed(1, 1000), "1",
              "Places of the text that are tried, drawn from the text and the repetition, not from the "
              "study's seed.");
    p.integer("n_scored", n_scored, Range::closed(1, 4096), "bytes",
              "Last bytes of a context that are scored.");
    p.real("period_share", period_share, Range::closed(0.01, 1), "1",
           "Period of repeated text over the training length.");
    p.reals("depths", depths, Range::closed(0, 1), "1",
            "Where the pass key stands: 0 at the start, 1 at the end.");
    p.integer("n_keys", n_keys, Range::closed(1, 1000), "1", "Pass keys for each depth and length.");
  }
  void check() const {
    if (factors.empty() || !std::is_sorted(factors.begin(), factors.end()) || factors.front() != 1)
      throw ParamError("parameter 'factors' must ascend from 1, the training length itself");
    if (depths.empty()) throw ParamError("parameter 'depths' must name at least one depth; got []");
  }
};

struct Score {
  double nats = 0;
  index_t n_right = 0, n = 0;
  void add(const Score& other) {
    nats += other.nats;
    n_right += other.n_right;
    n += other.n;
  }
  double bits() const { return nats / static_cast<double>(n) * std::numbers::log2e; }
  double accuracy() const { return static_cast<double>(n_right) / static_cast<double>(n); }
};

/// The last segment, and all bytes of the context.
struct Reading {
  Score last, whole;
  void add(const Reading& other) {
    last.add(other.last);
    whole.add(other.whole);
  }
};

// @param first, last  candidates: all bytes, or the digits
Score score_row(std::span<const float> logits, std::uint8_t target, index_t first = 0, index_t last = 256) {
  const auto begin = logits.begin() + first, end = logits.begin() + last;
  const auto largest = std::max_element(begin, end);
  double sum = 0;
  for (auto logit = begin; logit != end; ++logit)
    sum += std::exp(static_cast<double>(*logit) - static_cast<double>(*largest));
  const double at_target = static_cast<double>(logits[target]) - static_cast<double>(*largest);
  return {std::log(sum) - at_target, largest - logits.begin() == target, 1};
}

/// A trained network with one encoding in all its layers.
struct Reader {
  probe::Architecture architecture;
  std::vector<float> parameters;
  std::vector<std::unique_ptr<probe::PluginMixer>> owned;
  std::vector<const probe::Mixer<float>*> mixers;

  Reader(const Dataset& model, const probe::ModelConfig& config, const Registry& registry)
      : architecture(config, registry),
        parameters(probe::parameters_for(model, architecture)),
        owned(probe::plugin_mixers(architecture)) {
    for (const auto& mixer : owned) mixers.push_back(mixer.get());
  }

  /// `bytes` has one more than the context; n_scored: of the last segment.
  /// @param by_position  receives all losses; empty: nothing but the last segment is scored, among digits alone
  Reading read(std::span<const std::uint8_t> bytes, std::span<const PositionPlan> plans, index_t n_scored,
               StopToken stop, std::span<double> by_position) const {
    const bool digits = by_position.empty();
    const auto n = static_cast<index_t>(bytes.size()) - 1;
    probe::Pass<float> pass(architecture, mixers, 1, n, false);
    pass.forward(parameters, plans, bytes.first(static_cast<std::size_t>(n)), stop);
    const TensorView<const float, 2> logits(pass.logits().data(), {n, probe::k_vocabulary});
    Reading total;
    for (index_t r = digits ? n - n_scored : 0; r < n; ++r) {
      expect_finite("logits", r, logits.row(r));
      const Score row = score_row(logits.row(r), bytes[static_cast<std::size_t>(r + 1)], digits ? '0' : 0,
                                  digits ? '9' + 1 : 256);
      if (!digits) by_position[static_cast<std::size_t>(r)] = row.nats;
      total.whole.add(row);
      if (r >= n - n_scored) total.last.add(row);
    }
    return total;
  }
};

class PositionExtrapolation final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "position.extrapolation"; }
  int version() const override { return 2; }
  std::string_view summary() const override {
    return "Train short, read long: a trained network with another position encoding and growing contexts";
  }
  std::vector<Role> roles() const override { return {{"position", ""}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::model; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"accuracy_repeated", "", Direction::higher_is_better,
         "next byte right among the last bytes of the longest context, repeated text", true},
        {"accuracy", "", Direction::higher_is_better,
         "next byte right among the last bytes of the longest context, plain text", true},
        {"accuracy_whole_repeated", "", Direction::higher_is_better,
         "next byte right, mean over all bytes of the longest context, repeated text", false},
        {"accuracy_whole", "", Direction::higher_is_better,
         "next byte right, mean over all bytes of the longest context, plain text", false},
        {"loss_repeated", "bits", Direction::lower_is_better, "bits per byte, repeated text, longest context",
         false},
        {"loss", "bits", Direction::lower_is_better, "bits per byte, plain text, longest context", false},
        {"tax", "bits", Direction::lower_is_better,
         "bits per byte lost within the training length against the encoding it was trained with", false},
        {"passkey_accuracy", "", Direction::higher_is_better,
         "digits found, over depths, longest context; chance is 0.1", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    try {
      const probe::TrainingConfig trained = probe::checkpoint_config(*input.dataset);
      const auto text = find_dataset(trained.dataset);
      if (text->info().content_digest != input.dataset->attribute("", "text_digest"))
        return fmt::format("the network learned another text than today's '{}'", trained.dataset);
      const index_t n = longest(options, trained.model.train_length);
      if (static_cast<index_t>(text->bytes("test").size()) < n + 2)
        return fmt::format("the test text has {} bytes, and the longest context is {}",
                           text->bytes("test").size(), n);
      const index_t n_key = static_cast<index_t>(2 * k_key_sentence.size()) + 2 * k_digits + 1;
      if (trained.model.train_length < std::max<index_t>(options.n_scored, n_key))
        return fmt::format("the training length is {} bytes, and {} are scored", trained.model.train_length,
                           std::max<index_t>(options.n_scored, n_key));
      const Reader reader(*input.dataset, with_position(input, trained), *input.registry);
      reader.architecture.plans(reader.parameters, n, false, input.seed);
    } catch (const MethodError& error) {
      return error.what();
    }
    return {};
  }

  double memory_bytes(const CellInput& input) const override {
    const probe::TrainingConfig trained = probe::checkpoint_config(*input.dataset);
    const double n = static_cast<double>(longest(read(input.options), trained.model.train_length));
    const probe::ModelConfig& model = trained.model;
    return 4.0 * max_threads() * n *
           static_cast<double>(12 * model.d_model + 3 * model.d_feed_forward + probe::k_vocabulary);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const probe::TrainingConfig trained = probe::checkpoint_config(*input.dataset);
    const auto dataset = find_dataset(trained.dataset);
    // Of the text, not of the network: networks that learned the same text are asked for the same bytes.
    const Seed places = Seed{0}
                            .derive("position.extrapolation")
                            .derive(dataset->info().content_digest)
                            .derive(static_cast<std::uint64_t>(input.repetition));
    const Task task{options, dataset->bytes("test"), trained.model.train_length, places, input.stop};
    const Reader own(*input.dataset, trained.model, *input.registry);
    const Reader reader(*input.dataset, with_position(input, trained), *input.registry);

    CellResult result;
    Curve loss{"loss", "context [bytes]", "bits per byte, plain text", true, false, {}, {}};
    Curve loss_repeated{"loss, repeated text", "context [bytes]", "bits per byte", true, false, {}, {}};
    Curve accuracy{"accuracy", "context [bytes]", "next-byte accuracy, plain text", true, false, {}, {}};
    Curve accuracy_repeated{
        "accuracy, repeated text", "context [bytes]", "next-byte accuracy", true, false, {}, {}};
    Curve whole{
        "accuracy, whole context", "context [bytes]", "next-byte accuracy, plain text", true, false, {}, {}};
    Curve whole_repeated{"accuracy, whole context, repeated text",
                         "context [bytes]",
                         "next-byte accuracy",
                         true,
                         false,
                         {},
                         {}};
    Picture keys{"pass key: digits found",
                 "context",
                 "depth",
                 static_cast<std::int64_t>(options.depths.size()),
                 static_cast<std::int64_t>(options.factors.size()),
                 {}};
    keys.values.resize(options.depths.size() * options.factors.size());
    double found = 0;
    for (std::size_t f = 0; f < options.factors.size(); ++f) {
      const index_t n = task.length(options.factors[f]);
      const auto plans = reader.architecture.plans(reader.parameters, n, false, input.seed);
      std::vector<double> by_position, repeated_by_position;
      const Reading plain = task.windows(reader, plans, n, false, by_position);
      const Reading repeated = task.windows(reader, plans, n, true, repeated_by_position);
      for (Curve* curve : {&loss, &loss_repeated, &accuracy, &accuracy_repeated, &whole, &whole_repeated})
        curve->x.push_back(static_cast<double>(n));
      loss.y.push_back(plain.last.bits());
      loss_repeated.y.push_back(repeated.last.bits());
      accuracy.y.push_back(plain.last.accuracy());
      accuracy_repeated.y.push_back(repeated.last.accuracy());
      whole.y.push_back(plain.whole.accuracy());
      whole_repeated.y.push_back(repeated.whole.accuracy());
      found = 0;
      for (std::size_t d = 0; d < options.depths.size(); ++d) {
        const double share = task.pass_keys(reader, plans, n, options.depths[d]).accuracy();
        keys.values[d * options.factors.size() + f] = share;
        found += share / static_cast<double>(options.depths.size());
      }
      if (f + 1 == options.factors.size()) result.curves.push_back(task.position_curve(by_position));
    }
    const index_t n = trained.model.train_length;
    std::vector<double> by_position;
    const Reading untouched = task.windows(own, own.architecture.plans(own.parameters, n, false, input.seed),
                                           n, false, by_position);
    result.metrics = {
        {"accuracy_repeated", "", accuracy_repeated.y.back(), Direction::higher_is_better},
        {"accuracy", "", accuracy.y.back(), Direction::higher_is_better},
        {"accuracy_whole_repeated", "", whole_repeated.y.back(), Direction::higher_is_better},
        {"accuracy_whole", "", whole.y.back(), Direction::higher_is_better},
        {"loss_repeated", "bits", loss_repeated.y.back(), Direction::lower_is_better},
        {"loss", "bits", loss.y.back(), Direction::lower_is_better},
        {"tax", "bits", loss.y.front() - untouched.last.bits(), Direction::lower_is_better},
        {"passkey_accuracy", "", found, Direction::higher_is_better},
    };
    for (Curve* curve : {&loss, &loss_repeated, &accuracy, &accuracy_repeated, &whole, &whole_repeated})
      result.curves.push_back(std::move(*curve));
    result.pictures.push_back(std::move(keys));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput&) const override { return {}; }

 private:
  static index_t longest(const Options& options, index_t train_length) {
    return static_cast<index_t>(std::llround(options.factors.back() * static_cast<double>(train_length)));
  }

  static probe::ModelConfig with_position(const CellInput& input, const probe::TrainingConfig& trained) {
    probe::ModelConfig config = trained.model;
    config.position = {input.methods.at(0)};
    return config;
  }

  struct Task {
    const Options& options;
    std::span<const std::uint8_t> text;
    index_t train_length;
    Seed seed;
    StopToken stop;

    index_t length(double factor) const {
      return static_cast<index_t>(std::llround(factor * static_cast<double>(train_length)));
    }

    /// One past the last scored byte; the same for all lengths.
    index_t end_of(std::string_view what, index_t i) const {
      Rng place(seed.derive(what).derive(static_cast<std::uint64_t>(i)));
      const index_t least = length(options.factors.back()) + 1;
      return least + static_cast<index_t>(place.below(
                         static_cast<std::uint64_t>(static_cast<index_t>(text.size()) - least + 1)));
    }

    std::vector<std::uint8_t> window(index_t i, index_t n, bool repeated) const {
      const index_t end = end_of("window", i);
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n + 1));
      const index_t period =
          repeated
              ? std::max<index_t>(1, std::llround(options.period_share * static_cast<double>(train_length)))
              : n + 1;
      for (index_t back = 0; back <= n; ++back)
        bytes[static_cast<std::size_t>(n - back)] = text[static_cast<std::size_t>(end - 1 - back % period)];
      return bytes;
    }

    /// @param by_position  receives the mean losses [n]
    Reading windows(const Reader& reader, std::span<const PositionPlan> plans, index_t n, bool repeated,
                    std::vector<double>& by_position) const {
      const auto count = static_cast<std::size_t>(options.n_windows);
      std::vector<Reading> readings(count);
      std::vector<std::vector<double>> losses(count, std::vector<double>(static_cast<std::size_t>(n)));
      parallel_for(options.n_windows, 1, [&](index_t i, index_t) {
        const auto at = static_cast<std::size_t>(i);
        readings[at] = reader.read(window(i, n, repeated), plans, options.n_scored, stop, losses[at]);
      });
      Reading total;
      for (const Reading& reading : readings) total.add(reading);
      by_position.assign(static_cast<std::size_t>(n), 0.0);
      for (const auto& its : losses)
        for (std::size_t r = 0; r < its.size(); ++r) by_position[r] += its[r] / static_cast<double>(count);
      return total;
    }

    Score pass_keys(const Reader& reader, std::span<const PositionPlan> plans, index_t n,
                    double depth) const {
      std::vector<Score> scores(static_cast<std::size_t>(options.n_keys));
      parallel_for(options.n_keys, 1, [&](index_t i, index_t) {
        Rng rng(seed.derive("key").derive(static_cast<std::uint64_t>(i)));
        std::string key;
        for (index_t d = 0; d < k_digits; ++d) key.push_back(static_cast<char>('0' + rng.below(10)));
        const std::string told = std::string(k_key_sentence) + key + ".",
                          asked = std::string(k_key_sentence) + key;
        const index_t end = end_of("haystack", i);
        std::vector<std::uint8_t> bytes(text.begin() + end - n - 1, text.begin() + end);
        const double room = static_cast<double>(bytes.size() - told.size() - asked.size());
        std::copy(told.begin(), told.end(), bytes.begin() + std::llround(depth * room));
        std::copy(asked.begin(), asked.end(), bytes.end() - static_cast<std::ptrdiff_t>(asked.size()));
        scores[static_cast<std::size_t>(i)] = reader.read(bytes, plans, k_digits, stop, {}).last;
      });
      Score total;
      for (const Score& score : scores) total.add(score);
      return total;
    }

    /// Mean over blocks of a quarter of the training length: single bytes are noise.
    Curve position_curve(std::span<const double> nats) const {
      Curve curve{"loss by position", "position [bytes]", "bits per byte", false, false, {}, {}};
      const auto block = static_cast<std::size_t>(std::max<index_t>(1, train_length / 4));
      for (std::size_t begin = 0; begin + block <= nats.size(); begin += block) {
        double sum = 0;
        for (std::size_t r = begin; r < begin + block; ++r) sum += nats[r];
        curve.x.push_back(static_cast<double>(begin) + 0.5 * static_cast<double>(block));
        curve.y.push_back(sum / static_cast<double>(block) * std::numbers::log2e);
      }
      return curve;
    }
  };
};

}  // namespace

const Protocol& position_extrapolation() {
  static const PositionExtrapolation protocol;
  return protocol;
}

}  // namespace borel
