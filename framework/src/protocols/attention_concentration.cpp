// attention.concentration: can the mechanism concentrate? kexue.fm 9889 (research: sources, section 1).
//
// Rows of the effective attention matrix on given q and k, every query seeing every key: S = E|a| / sqrt(E a^2), entropy,
// effective support, largest weight, numerical rank; beside S its closed form where the dataset holds one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "protocols/attention_call.hpp"
#include "protocols/concentration.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr index_t k_map_rows = 48, k_map_cols = 96;
constexpr index_t k_block_floats = 1 << 22;  // weights held at once

struct Options {
  std::int64_t n_keys = 0;
  std::int64_t n_rank = 256;

  void declare(ParamBinder& p) {
    p.integer("n_keys", n_keys, Range::at_least(0), "1",
              "Keys per head, a random subset by the cell's seed; 0 or more than there are = all.");
    p.integer("n_rank", n_rank, Range::closed(1, 2048), "1",
              "Keys and queries of the block whose numerical rank is taken.");
  }
};

struct Keys {
  std::vector<float> values;
  TensorView<const float, 3> view;
};

TensorView<const float, 3> tensor(const Dataset& data, std::string_view name) {
  const std::vector<std::int64_t> shape = data.shape(name);
  return {data.floats(name).data(), {shape[0], shape[1], shape[2]}};
}

// n random keys of every head, in their original order, so that causal methods see the same sequence.
Keys choose_keys(TensorView<const float, 3> k, index_t n, Seed seed) {
  Keys chosen;
  if (n == k.shape(1)) {
    chosen.view = k;
    return chosen;
  }
  std::vector<index_t> order(static_cast<std::size_t>(k.shape(1)));
  std::iota(order.begin(), order.end(), index_t{0});
  Rng rng(seed.derive("keys"));
  for (index_t i = 0; i < n; ++i)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(i) + rng.below(order.size() - static_cast<std::size_t>(i))]);
  std::sort(order.begin(), order.begin() + n);
  chosen.values.reserve(static_cast<std::size_t>(k.shape(0) * n * k.shape(2)));
  for (index_t h = 0; h < k.shape(0); ++h)
    for (index_t i = 0; i < n; ++i) {
      const std::span<const float> row = k.row(h, order[static_cast<std::size_t>(i)]);
      chosen.values.insert(chosen.values.end(), row.begin(), row.end());
    }
  chosen.view = {chosen.values.data(), {k.shape(0), n, k.shape(2)}};
  return chosen;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

class AttentionConcentration final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.concentration"; }
  int version() const override { return 2; }
  std::string_view summary() const override { return "How far a mechanism concentrates its weights on few keys"; }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::qkv; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"sparsity_median", "", Direction::lower_is_better, "S = E|a| / sqrt(E a^2), median over queries; 1 = uniform", false},
        {"sparsity_min", "", Direction::lower_is_better, "S of the most concentrated query", true},
        {"sparsity_error", "", Direction::lower_is_better,
         "largest |S - closed form| / closed form; S is averaged over queries with the same closed form", false},
        {"entropy", "nats", Direction::lower_is_better, "entropy of |a| / sum |a|, mean over queries", false},
        {"effective_support", "keys", Direction::lower_is_better, "exp(entropy), mean over queries", false},
        {"max_weight", "", Direction::higher_is_better, "largest share of one key, mean over queries", false},
        {"rank", "", Direction::none, "numerical rank of a block of the weight matrix", false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Sizes s = sizes(input);
    const AttentionPair pair = make_attention_pair(input);
    if (!pair.attention->traits().linear_in_v && !pair.attention->weights())
      return "the mechanism has no weight matrix (not linear in v, and no weights of its own)";
    return refuses_setting(pair, s.h_q, s.n_q, s.n_k, s.d_k, s.d_k, setting(pair, s));
  }

  double memory_bytes(const CellInput& input) const override {
    const Sizes s = sizes(input);
    return 4.0 * static_cast<double>(k_block_floats + s.h_q * s.n_k * s.d_k * 2 + 2 * s.n_k * 64);
  }

  CellResult run(const CellInput& input) const override {
    const Sizes s = sizes(input);
    const AttentionPair pair = make_attention_pair(input);
    const TensorView<const float, 3> q = tensor(*input.dataset, "q");
    const Keys keys = choose_keys(tensor(*input.dataset, "k"), s.n_k, input.seed);
    const PreparedCall prepared(pair, q, keys.view, keys.view, setting(pair, s), input.seed, input.stop);

    std::vector<double> sparsity, entropy, support, largest;
    Picture map{"attention map", "key", "query", std::min(s.n_q, k_map_rows), std::min(s.n_k, k_map_cols), {}};
    index_t rank = 0;
    const index_t rows_at_once = std::clamp<index_t>(k_block_floats / s.n_k, 1, s.n_q);
    std::vector<float> storage(static_cast<std::size_t>(rows_at_once * s.n_k));
    std::vector<float> rank_block;
    const index_t n_rank_keys = std::min<index_t>(read(input.options).n_rank, s.n_k);
    const index_t n_rank_rows = std::min<index_t>(read(input.options).n_rank, s.n_q);
    for (index_t h = 0; h < s.h_q; ++h)
      for (index_t begin = 0; begin < s.n_q; begin += rows_at_once) {
        input.stop.throw_if_stopped();
        const index_t end = std::min(begin + rows_at_once, s.n_q);
        TensorView<float, 2> weights(storage.data(), {end - begin, s.n_k});
        effective_weights(*pair.attention, prepared.call(), h, begin, end, weights);
        for (index_t i = 0; i < end - begin; ++i) {
          const std::span<float> row = weights.row(i);
          const Concentration c = concentration_of(row);
          sparsity.push_back(c.sparsity);
          entropy.push_back(c.entropy_nats);
          support.push_back(c.effective_support);
          largest.push_back(c.max_weight);
          if (h == 0 && begin + i < map.n_rows)
            map.values.insert(map.values.end(), row.begin(), row.begin() + map.n_cols);
          if (h == 0 && begin + i < n_rank_rows)
            rank_block.insert(rank_block.end(), row.begin(), row.begin() + n_rank_keys);
        }
      }
    rank = numerical_rank({rank_block.data(), {n_rank_rows, n_rank_keys}});

    CellResult result;
    std::vector<double> sorted = sparsity;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2), sorted.end());
    result.metrics.push_back({"sparsity_median", "", sorted[sorted.size() / 2], Direction::lower_is_better});
    result.metrics.push_back(
        {"sparsity_min", "", *std::min_element(sparsity.begin(), sparsity.end()), Direction::lower_is_better});
    result.metrics.push_back({"entropy", "nats", mean(entropy), Direction::lower_is_better});
    result.metrics.push_back({"effective_support", "keys", mean(support), Direction::lower_is_better});
    result.metrics.push_back({"max_weight", "", mean(largest), Direction::higher_is_better});
    result.metrics.push_back({"rank", "", static_cast<double>(rank), Direction::none});
    add_curves(input, q, sparsity, result);
    result.pictures.push_back(std::move(map));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput&) const override { return {}; }

 private:
  struct Sizes {
    index_t h_q, n_q, n_k, d_k;
  };

  Sizes sizes(const CellInput& input) const {
    const std::vector<std::int64_t> q = input.dataset->shape("q");
    const std::vector<std::int64_t> k = input.dataset->shape("k");
    const std::int64_t wanted = read(input.options).n_keys;
    return {q[0], q[1], wanted == 0 ? k[1] : std::min(wanted, k[1]), q[2]};
  }

  // Every query sees every key; causal-only mechanisms read the queries after all keys.
  static AttentionSetting setting(const AttentionPair& pair, const Sizes& s) {
    AttentionSetting setting;
    setting.causal = !pair.attention->traits().bidirectional;
    setting.query_offset = setting.causal ? s.n_k - 1 : 0;
    return setting;
  }

  // S against gamma = sigma |q| (or |q| when the dataset does not know gamma), measured and in closed form.
  static void add_curves(const CellInput& input, TensorView<const float, 3> q, const std::vector<double>& sparsity,
                         CellResult& result) {
    const bool knows_gamma = input.dataset->has("truth/gamma");
    std::vector<double> x;
    for (index_t h = 0; h < q.shape(0); ++h)
      for (index_t i = 0; i < q.shape(1); ++i) {
        double square = 0;
        for (float value : q.row(h, i)) square += static_cast<double>(value) * static_cast<double>(value);
        x.push_back(std::sqrt(square));
      }
    if (knows_gamma) {
      const std::span<const double> gamma = input.dataset->doubles("truth/gamma");
      x.assign(gamma.begin(), gamma.end());
    }
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&x](std::size_t a, std::size_t b) { return x[a] < x[b]; });
    const std::string x_label = knows_gamma ? "gamma = sigma |q|" : "|q|";
    const auto curve = [&](std::string name, auto value) {
      Curve c{std::move(name), x_label, "sparsity S", false, false, {}, {}};
      for (std::size_t i : order) {
        c.x.push_back(x[i]);
        c.y.push_back(value(i));
      }
      result.curves.push_back(std::move(c));
    };
    curve("sparsity", [&](std::size_t i) { return sparsity[i]; });
    // The closed forms hold for the plain mechanism without positions.
    const std::string truth = "truth/s_" + input.methods.at(0).id;
    const bool is_plain = input.methods.at(0).params.empty() && input.methods.at(1).id == "none";
    if (!is_plain || !input.dataset->has(truth)) return;
    const std::span<const double> exact = input.dataset->doubles(truth);
    curve("sparsity, closed form", [&](std::size_t i) { return exact[i]; });
    // One query is one draw of heavy-tailed sums; queries that share their closed form differ in direction only.
    std::map<double, std::pair<double, double>> groups;  // closed form -> sum of S, count
    for (std::size_t i = 0; i < sparsity.size(); ++i) {
      auto& [sum, count] = groups[exact[i]];
      sum += sparsity[i];
      ++count;
    }
    double error = 0;
    for (const auto& [closed_form, total] : groups)
      error = std::max(error, std::abs(total.first / total.second - closed_form) / closed_form);
    result.metrics.push_back({"sparsity_error", "", error, Direction::lower_is_better});
  }
};

}  // namespace

const Protocol& attention_concentration() {
  static const AttentionConcentration protocol;
  return protocol;
}

}  // namespace borel
