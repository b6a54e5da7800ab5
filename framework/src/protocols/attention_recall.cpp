// attention.recall: training-free induction on real text. Does the mechanism find the one key that matters?
//
// Key j is a fixed random embedding of the bytes before position j, its value is byte j (one-hot). The query for position
// t embeds the bytes before t, so the key whose preceding bytes agree longest with those before t is the one to find; the
// largest output is the predicted next byte. The same targets are predicted with ever longer context.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "protocols/attention_call.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr index_t k_bytes = 256;

struct Options {
  std::vector<double> contexts{256, 1024, 4096};
  std::int64_t n_windows = 4;
  std::int64_t n_targets = 32;
  std::int64_t order = 8;
  std::int64_t d = 128;
  double decay = 0.8;
  double gain = 32;
  std::int64_t train_length = 256;
  std::int64_t rank_context = 1024;

  void declare(ParamBinder& p) {
    p.reals("contexts", contexts, Range::closed(16, 1 << 20), "tokens",
            "Context lengths, ascending whole numbers.");
    p.integer("n_windows", n_windows, Range::closed(1, 1000), "1", "Places of the text that are tried.");
    p.integer("n_targets", n_targets, Range::closed(1, 4096), "1", "Bytes predicted at each place.");
    p.integer("order", order, Range::closed(1, 64), "bytes", "Preceding bytes in an embedding.");
    p.integer("d", d, Range::closed(8, 1024), "1", "Size of keys and queries.");
    p.real("decay", decay, Range::left_open(0, 1), "1", "Weight of a byte relative to the one after it.");
    p.real("gain", gain, Range::greater_than(0), "nats", "Score of a perfect match under softmax.");
    p.integer("train_length", train_length, Range::at_least(1), "tokens",
              "Training length told to position encodings.");
    p.integer("rank_context", rank_context, Range::at_least(16), "tokens",
              "Rank of the true source is measured for contexts up to this length.");
  }
  void check() const {
    for (std::size_t i = 0; i < contexts.size(); ++i) {
      if (contexts[i] != std::floor(contexts[i]) || (i > 0 && contexts[i] <= contexts[i - 1]))
        throw ParamError("parameter 'contexts' must be ascending whole numbers; element " +
                         std::to_string(i + 1) + " is " + param_text(contexts[i]));
      if (contexts[i] < static_cast<double>(n_targets))
        throw ParamError(
            "parameter 'contexts' must not be shorter than n_targets = " + std::to_string(n_targets) +
            "; element " + std::to_string(i + 1) + " is " + param_text(contexts[i]));
    }
    if (contexts.empty()) throw ParamError("parameter 'contexts' must name at least one length; got []");
  }
};

// Random unit vector for each (distance back, byte); an embedding is their weighted sum, of expected square norm 1.
class ContextEmbedding {
 public:
  ContextEmbedding(const Options& options, Seed seed)
      : d_(options.d), order_(options.order), table_(static_cast<std::size_t>(order_ * k_bytes * d_)) {
    double total = 0, weight = 1;
    for (index_t c = 0; c < order_; ++c, weight *= options.decay) total += weight * weight;
    weight = 1 / std::sqrt(total * static_cast<double>(d_));
    Rng rng(seed);
    for (index_t c = 0; c < order_; ++c, weight *= options.decay)
      for (index_t i = 0; i < k_bytes * d_; ++i)
        table_[static_cast<std::size_t>(c * k_bytes * d_ + i)] =
            static_cast<float>(rng() >> 63 ? weight : -weight);
  }

  /// Embeds the bytes before `position`; bytes before the text count as zero vectors.
  void embed(std::span<const std::uint8_t> text, index_t position, double scale, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0F);
    for (index_t c = 0; c < std::min(order_, position); ++c) {
      const index_t byte = text[static_cast<std::size_t>(position - 1 - c)];
      const float* vector = table_.data() + (c * k_bytes + byte) * d_;
      for (index_t i = 0; i < d_; ++i) out[static_cast<std::size_t>(i)] += vector[i];
    }
    for (float& value : out) value *= static_cast<float>(scale);
  }

 private:
  index_t d_, order_;
  std::vector<float> table_;
};

/// Position j in [begin, t) whose preceding bytes agree longest with those before t; the latest of equals. -1 when not
/// even one byte agrees.
index_t true_source(std::span<const std::uint8_t> text, index_t begin, index_t t, index_t order) {
  index_t best = -1, best_length = 0;
  for (index_t j = t - 1; j >= begin; --j) {
    index_t length = 0;
    while (length < order && j - 1 - length >= 0 &&
           text[static_cast<std::size_t>(j - 1 - length)] == text[static_cast<std::size_t>(t - 1 - length)])
      ++length;
    if (length > best_length) {
      best_length = length;
      best = j;
    }
  }
  return best;
}

struct Found {
  index_t n = 0, n_right = 0, n_ranked = 0;
  double rank_sum = 0, weight_sum = 0;
};

class AttentionRecall final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.recall"; }
  int version() const override { return 1; }
  std::string_view summary() const override {
    return "Training-free induction on real text: is the one key that matters found?";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::tokens; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"accuracy", "", Direction::higher_is_better, "next byte predicted right, longest context", true},
        {"accuracy_shortest", "", Direction::higher_is_better, "the same with the shortest context", false},
        {"source_rank", "", Direction::lower_is_better,
         "mean rank of the true source among all keys (1 = found), longest context that is ranked", false},
        {"source_weight", "", Direction::higher_is_better, "mean share of the true source in sum |a|", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    const index_t n = static_cast<index_t>(options.contexts.back());
    const index_t n_text = static_cast<index_t>(input.dataset->bytes("test").size());
    if (n_text < n + options.n_windows)
      return fmt::format("the test text has {} bytes, and the longest context is {}", n_text, n);
    return refuses_setting(make_attention_pair(input), 1, options.n_targets, n, options.d, k_bytes,
                           setting(options, n));
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    return 4.0 * options.contexts.back() * (static_cast<double>(2 * options.d) + 3.0 * k_bytes) +
           4.0 * static_cast<double>(options.order * k_bytes * options.d);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    const AttentionPair pair = make_attention_pair(input);
    const bool has_weights = pair.attention->traits().linear_in_v || pair.attention->weights();
    std::vector<Found> found(options.contexts.size());
    for (index_t window = 0; window < options.n_windows; ++window)
      for (std::size_t c = 0; c < options.contexts.size(); ++c) {
        input.stop.throw_if_stopped();
        const Task task(input, options, window, static_cast<index_t>(options.contexts[c]), pair);
        task.predict(found[c]);
        if (has_weights && options.contexts[c] <= static_cast<double>(options.rank_context))
          task.rank(*pair.attention, found[c]);
      }

    CellResult result;
    Curve accuracy{"accuracy", "context [tokens]", "next-byte accuracy", true, false, {}, {}};
    Curve rank{"rank of the true source", "context [tokens]", "mean rank (1 = found)", true, true, {}, {}};
    for (std::size_t c = 0; c < found.size(); ++c) {
      accuracy.x.push_back(options.contexts[c]);
      accuracy.y.push_back(static_cast<double>(found[c].n_right) / static_cast<double>(found[c].n));
      if (found[c].n_ranked == 0) continue;
      rank.x.push_back(options.contexts[c]);
      rank.y.push_back(found[c].rank_sum / static_cast<double>(found[c].n_ranked));
    }
    result.metrics.push_back({"accuracy", "", accuracy.y.back(), Direction::higher_is_better});
    result.metrics.push_back({"accuracy_shortest", "", accuracy.y.front(), Direction::higher_is_better});
    if (!rank.y.empty()) {
      const Found& last = found[rank.y.size() - 1];
      result.metrics.push_back({"source_rank", "", rank.y.back(), Direction::lower_is_better});
      result.metrics.push_back({"source_weight", "", last.weight_sum / static_cast<double>(last.n_ranked),
                                Direction::higher_is_better});
      result.curves.push_back(std::move(rank));
    }
    result.curves.push_back(std::move(accuracy));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    auto pair = std::make_shared<AttentionPair>(make_attention_pair(input));
    auto task =
        std::make_shared<Task>(input, options, 0, static_cast<index_t>(options.contexts.back()), *pair);
    return {{"forward_s", [pair, task] {
               Found ignored;
               task->predict(ignored);
             }}};
  }

 private:
  static AttentionSetting setting(const Options& options, index_t n) {
    AttentionSetting setting;
    setting.query_offset = n - options.n_targets;
    setting.train_length = options.train_length;
    return setting;
  }

  /// The last n_targets positions of one context of n bytes: target t is predicted from position t - 1.
  class Task {
   public:
    Task(const CellInput& input, const Options& options, index_t window, index_t n, const AttentionPair& pair)
        : dataset_(input.dataset),
          text_(dataset_->bytes("test")),
          n_(n),
          n_targets_(options.n_targets),
          order_(options.order) {
      // The end of a window does not depend on n, so every context length predicts the same bytes.
      const index_t longest = static_cast<index_t>(options.contexts.back());
      Rng place(input.seed.derive("window").derive(static_cast<std::uint64_t>(window)));
      const index_t room = static_cast<index_t>(text_.size()) - longest - 1;
      end_ =
          longest + static_cast<index_t>(place.below(static_cast<std::uint64_t>(std::max<index_t>(room, 1))));
      begin_ = end_ - n;
      // Mechanisms that divide by sqrt(d) get their scale back, so that a perfect match scores `gain` for all.
      const double own = pair.attention->traits().own_scale ? 1 : std::sqrt(static_cast<double>(options.d));
      const ContextEmbedding embedding(options, input.seed.derive("embedding"));
      q_.resize(static_cast<std::size_t>(n_targets_ * options.d));
      k_.resize(static_cast<std::size_t>(n * options.d));
      v_.assign(static_cast<std::size_t>(n * k_bytes), 0.0F);
      o_.resize(static_cast<std::size_t>(n_targets_ * k_bytes));
      const TensorView<float, 2> q(q_.data(), {n_targets_, options.d});
      const TensorView<float, 2> k(k_.data(), {n, options.d});
      for (index_t j = 0; j < n; ++j) {
        embedding.embed(text_, begin_ + j, 1, k.row(j));
        v_[static_cast<std::size_t>(j * k_bytes + text_[static_cast<std::size_t>(begin_ + j)])] = 1;
      }
      for (index_t i = 0; i < n_targets_; ++i)
        embedding.embed(text_, target(i), options.gain * own, q.row(i));
      prepared_ = std::make_unique<PreparedCall>(
          pair, TensorView<const float, 3>(q_.data(), {1, n_targets_, options.d}),
          TensorView<const float, 3>(k_.data(), {1, n, options.d}),
          TensorView<const float, 3>(v_.data(), {1, n, k_bytes}), setting(options, n), input.seed,
          input.stop);
    }

    void predict(Found& found) const {
      const TensorView<float, 3> o(o_.data(), {1, n_targets_, k_bytes});
      prepared_->forward(o);
      for (index_t i = 0; i < n_targets_; ++i) {
        const std::span<const float> row = o.row(0, i);
        expect_finite("output", i, row);
        const auto predicted = std::max_element(row.begin(), row.end()) - row.begin();
        found.n_right += predicted == text_[static_cast<std::size_t>(target(i))];
        ++found.n;
      }
    }

    void rank(const Attention& attention, Found& found) const {
      std::vector<float> storage(static_cast<std::size_t>(n_targets_ * n_));
      const TensorView<float, 2> weights(storage.data(), {n_targets_, n_});
      effective_weights(attention, prepared_->call(), 0, 0, n_targets_, weights);
      for (index_t i = 0; i < n_targets_; ++i) {
        const index_t source = true_source(text_, begin_, target(i), order_);
        if (source < 0) continue;
        const std::span<const float> row = weights.row(i);
        expect_finite("weights", i, row);
        const float its = row[static_cast<std::size_t>(source - begin_)];
        double total = 0;
        index_t above = 0, equal = 0;
        for (index_t j = 0; j < n_; ++j) {
          const float a = row[static_cast<std::size_t>(j)];
          total += std::abs(static_cast<double>(a));
          above += a > its;
          equal += a == its;
        }
        // Keys with equal weight share their ranks.
        found.rank_sum += 1 + static_cast<double>(above) + 0.5 * static_cast<double>(equal - 1);
        found.weight_sum += total > 0 ? std::abs(static_cast<double>(its)) / total : 0;
        ++found.n_ranked;
      }
    }

   private:
    index_t target(index_t i) const { return end_ - n_targets_ + 1 + i; }

    std::shared_ptr<const Dataset> dataset_;  // owns the text: timed tasks outlive their input
    std::span<const std::uint8_t> text_;
    index_t n_, n_targets_, order_;
    index_t begin_ = 0, end_ = 0;  // the context is text[begin, end)
    std::vector<float> q_, k_, v_;
    mutable std::vector<float> o_;
    std::unique_ptr<PreparedCall> prepared_;
  };
};

}  // namespace

const Protocol& attention_recall() {
  static const AttentionRecall protocol;
  return protocol;
}

}  // namespace borel
