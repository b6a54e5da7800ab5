// attention.concentration: can the mechanism concentrate? kexue.fm 9889 (research: sources, section 1).
//
// Rows of the effective attention matrix on given q and k, every query seeing every key: S = E|a| / sqrt(E a^2), entropy,
// effective support, largest weight, numerical rank; beside S its closed form for Gaussian keys, where one is known.
// Queries and keys of a trained network (attribute `causal`) are rows of one text: a query sees the keys up to its own, as in
// the network; the second half of the queries is measured, so that rows are of like length.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "protocols/attention_call.hpp"
#include "protocols/concentration.hpp"
#include "protocols/concentration_truth.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"

namespace borel {
namespace {

constexpr index_t k_map_rows = 48, k_map_cols = 96;
constexpr double k_judged_spread =
    0.01;  // relative standard deviation of S, averaged over directions of a query
constexpr index_t k_block_floats = 1 << 22;  // weights held at once

struct Options {
  std::int64_t n_keys = 0;
  std::int64_t n_rank = 256;

  void declare(ParamBinder& p) {
    p.integer("n_keys", n_keys, Range::at_least(0), "1",
              "Keys per head, a random subset by the cell's seed, or the first of a text; 0 or more than "
              "there are = all.");
    p.integer("n_rank", n_rank, Range::closed(1, 2048), "1",
              "Keys and queries of the block whose numerical rank is taken; of a text the last queries and "
              "the last keys that all of them see.");
  }
};

struct Rows {
  std::vector<float> values;
  TensorView<const float, 3> view;
};

TensorView<const float, 3> tensor(const Dataset& data, std::string_view name) {
  const std::vector<std::int64_t> shape = data.shape(name);
  return {data.floats(name).data(), {shape[0], shape[1], shape[2]}};
}

void copy_rows(TensorView<const float, 3> x, std::span<const index_t> rows, Rows& out) {
  out.values.reserve(static_cast<std::size_t>(x.shape(0) * x.shape(2)) * rows.size());
  for (index_t h = 0; h < x.shape(0); ++h)
    for (const index_t i : rows) {
      const std::span<const float> row = x.row(h, i);
      out.values.insert(out.values.end(), row.begin(), row.end());
    }
  out.view = {out.values.data(), {x.shape(0), static_cast<index_t>(rows.size()), x.shape(2)}};
}

// n random keys of every head, in their original order, so that causal methods see the same sequence.
Rows choose_keys(TensorView<const float, 3> k, index_t n, Seed seed) {
  Rows chosen;
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
  copy_rows(k, std::span(order).first(static_cast<std::size_t>(n)), chosen);
  return chosen;
}

Rows rows_of(TensorView<const float, 3> x, index_t first, index_t n) {
  Rows chosen;
  if (n == x.shape(1)) {
    chosen.view = x;
    return chosen;
  }
  std::vector<index_t> rows(static_cast<std::size_t>(n));
  std::iota(rows.begin(), rows.end(), first);
  copy_rows(x, rows, chosen);
  return chosen;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

class AttentionConcentration final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.concentration"; }
  int version() const override { return 6; }
  std::string_view summary() const override {
    return "How far a mechanism concentrates its weights on few keys";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::qkv; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"sparsity_median", "", Direction::lower_is_better,
         "S = E|a| / sqrt(E a^2), median over queries; 1 = uniform", false},
        {"sparsity_min", "", Direction::lower_is_better, "S of the most concentrated query", true},
        {"sparsity_error", "", Direction::lower_is_better,
         "largest |S - closed form| / closed form, S averaged over directions of q, where the keys of a row "
         "determine it to 3 %",
         false},
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
    return refuses_setting(pair, s.h_q, queries_of_a_call(pair, s), s.n_k, s.d_k, s.d_k, setting(pair, s));
  }

  double memory_bytes(const CellInput& input) const override {
    const Sizes s = sizes(input);
    return 4.0 * static_cast<double>(k_block_floats + s.h_q * s.n_k * s.d_k * 2 + 2 * s.n_k * 64);
  }

  CellResult run(const CellInput& input) const override {
    const Sizes s = sizes(input);
    const AttentionPair pair = make_attention_pair(input);
    const Rows given = rows_of(tensor(*input.dataset, "q"), 0, s.n_q);
    const TensorView<const float, 3> q = given.view, k = tensor(*input.dataset, "k");
    const Rows keys = s.is_text ? rows_of(k, 0, s.n_k) : choose_keys(k, s.n_k, input.seed);

    std::vector<double> sparsity(static_cast<std::size_t>(s.h_q * s.n_measured()));
    std::vector<double> entropy(sparsity.size()), support(sparsity.size()), largest(sparsity.size());
    Picture map{"attention map, each row relative to its largest weight",
                "key",
                "query",
                std::min(s.n_measured(), k_map_rows),
                0,
                {}};
    const index_t map_end = s.n_seen(s.first_measured() + map.n_rows - 1);  // what its last row sees
    map.n_cols = std::min(map_end, k_map_cols);
    // No masked key in the block: a triangle of weights has full rank, whatever the mechanism.
    const index_t n_rank_rows = std::min<index_t>(read(input.options).n_rank, s.n_measured());
    const index_t first_rank_row = s.is_text ? s.n_q - n_rank_rows : 0;
    const index_t rank_end = s.n_seen(first_rank_row);
    const index_t n_rank_keys = std::min<index_t>(read(input.options).n_rank, rank_end);
    std::vector<float> rank_block;
    const auto before = [](std::span<float> row, index_t end, index_t n) {
      return row.subspan(static_cast<std::size_t>(end - n), static_cast<std::size_t>(n));
    };
    const auto take = [&](index_t h, index_t query, std::span<float> row) {
      expect_finite("weights", query, row);
      const index_t i = query - s.first_measured();
      if (i < 0) return;
      const Concentration c = concentration_of(row.first(static_cast<std::size_t>(s.n_seen(query))));
      const auto at = static_cast<std::size_t>(h * s.n_measured() + i);
      sparsity[at] = c.sparsity;
      entropy[at] = c.entropy_nats;
      support[at] = c.effective_support;
      largest[at] = c.max_weight;
      if (h == 0 && i < map.n_rows) add_map_row(before(row, map_end, map.n_cols), map);
      if (h == 0 && query >= first_rank_row && query < first_rank_row + n_rank_rows) {
        const std::span<float> part = before(row, rank_end, n_rank_keys);
        rank_block.insert(rank_block.end(), part.begin(), part.end());
      }
    };

    const index_t at_once = queries_of_a_call(pair, s);
    for (index_t first = 0; first < s.n_q; first += at_once) {
      const Rows queries = rows_of(q, first, at_once);
      const PreparedCall prepared(pair, queries.view, keys.view, keys.view, setting(pair, s), input.seed,
                                  input.stop);
      const index_t rows_at_once = std::clamp<index_t>(k_block_floats / s.n_k, 1, at_once);
      std::vector<float> storage(static_cast<std::size_t>(rows_at_once * s.n_k));
      for (index_t h = 0; h < s.h_q; ++h)
        for (index_t begin = 0; begin < at_once; begin += rows_at_once) {
          input.stop.throw_if_stopped();
          const index_t end = std::min(begin + rows_at_once, at_once);
          TensorView<float, 2> weights(storage.data(), {end - begin, s.n_k});
          effective_weights(*pair.attention, prepared.call(), h, begin, end, weights);
          for (index_t i = begin; i < end; ++i) take(h, first + i, weights.row(i - begin));
        }
    }
    const index_t rank = numerical_rank({rank_block.data(), {n_rank_rows, n_rank_keys}});

    CellResult result;
    std::vector<double> sorted = sparsity;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2),
                     sorted.end());
    result.metrics.push_back({"sparsity_median", "", sorted[sorted.size() / 2], Direction::lower_is_better});
    result.metrics.push_back({"sparsity_min", "", *std::min_element(sparsity.begin(), sparsity.end()),
                              Direction::lower_is_better});
    result.metrics.push_back({"entropy", "nats", mean(entropy), Direction::lower_is_better});
    result.metrics.push_back({"effective_support", "keys", mean(support), Direction::lower_is_better});
    result.metrics.push_back({"max_weight", "", mean(largest), Direction::higher_is_better});
    result.metrics.push_back({"rank", "", static_cast<double>(rank), Direction::none});
    const Rows measured = rows_of(q, s.first_measured(), s.n_measured());
    if (s.is_text || !input.dataset->has("truth/gamma") || !input.dataset->has("truth/beta"))
      add_plain_curve(measured.view, sparsity, result);
    else
      add_curves(input, measured.view, s.n_k, sparsity, result);
    result.pictures.push_back(std::move(map));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput&) const override { return {}; }

 private:
  struct Sizes {
    index_t h_q, n_q, n_k, d_k;
    bool is_text;
    index_t train_length = 0;
    index_t first_measured() const { return is_text ? n_q / 2 : 0; }
    index_t n_measured() const { return n_q - first_measured(); }
    index_t n_seen(index_t query) const { return is_text ? query + 1 : n_k; }
  };

  Sizes sizes(const CellInput& input) const {
    const Dataset& data = *input.dataset;
    const std::vector<std::int64_t> q = data.shape("q"), k = data.shape("k");
    const std::int64_t wanted = read(input.options).n_keys;
    Sizes s{q[0], q[1], wanted == 0 ? k[1] : std::min(wanted, k[1]), q[2],
            data.has_attribute("", "causal") && data.number("", "causal") != 0};
    if (!s.is_text) return s;
    s.n_q = s.n_k = std::min<index_t>(s.n_q, s.n_k);
    if (data.has_attribute("", "train_length"))
      s.train_length = data.integer("", "train_length", 0, 1LL << 40);
    return s;
  }

  /// Every query sees every key. Causal-only mechanisms read each query by itself, at the last key: standing one after
  /// another they would see ever older keys.
  static index_t queries_of_a_call(const AttentionPair& pair, const Sizes& s) {
    return s.is_text || pair.attention->traits().bidirectional ? s.n_q : 1;
  }
  static AttentionSetting setting(const AttentionPair& pair, const Sizes& s) {
    AttentionSetting setting;
    setting.causal = s.is_text || !pair.attention->traits().bidirectional;
    setting.query_offset = setting.causal && !s.is_text ? s.n_k - 1 : 0;
    setting.train_length = s.train_length;
    return setting;
  }

  /// The last keys that are seen: mechanisms that decay have forgotten the first ones. Weights of different mechanisms differ by orders of
  /// magnitude, so that on one colour scale only ratios within a row can be seen.
  static void add_map_row(std::span<const float> row, Picture& map) {
    double largest = 0;
    for (float a : row) largest = std::max(largest, std::abs(static_cast<double>(a)));
    for (float a : row) map.values.push_back(largest > 0 ? static_cast<double>(a) / largest : 0);
  }

  /// Queries with the same beta and gamma (to 1e-4): the closed form is the expectation over their
  /// directions, and one direction among a finite number of keys scatters by more than a per cent.
  struct Group {
    double beta = 0, gamma = 0;
    std::vector<std::size_t> queries;
  };

  static std::vector<Group> groups(std::span<const double> beta, std::span<const double> gamma) {
    std::map<std::pair<double, double>, Group> found;
    for (std::size_t i = 0; i < gamma.size(); ++i) {
      const double ratio = std::round(beta[i] / gamma[i] * 1e4) / 1e4,
                   near = std::round(gamma[i] * 1e4) / 1e4;
      Group& group = found[{ratio, near}];
      group.beta = ratio * near, group.gamma = near;
      group.queries.push_back(i);
    }
    std::vector<Group> list;
    for (auto& [key, group] : found) list.push_back(std::move(group));
    return list;
  }

  static double mean_of(std::span<const double> values, const std::vector<std::size_t>& at) {
    double sum = 0;
    for (std::size_t i : at) sum += values[i];
    return sum / static_cast<double>(at.size());
  }

  /// One truth per query; empty where no closed form is known. With positions there is none.
  static std::vector<ConcentrationTruth> closed_form(const CellInput& input, TensorView<const float, 3> q,
                                                     index_t n_keys) {
    if (input.methods.at(1).id != "none" || !input.dataset->has_attribute("truth", "sigma")) return {};
    const MethodSpec given{std::string(Attention::family), input.methods.at(0).id,
                           input.methods.at(0).params};
    const MethodSpec canonical = parse_method_spec(input.registry->canonical(given), Attention::family);
    // mu along the first axis, as the recipe says.
    std::vector<double> mean(static_cast<std::size_t>(q.shape(2)), 0.0);
    mean[0] = input.dataset->number("truth", "mu_norm");
    const GaussianKeys keys{input.dataset->number("truth", "sigma"), mean, n_keys};
    std::vector<ConcentrationTruth> truths;
    for (index_t h = 0; h < q.shape(0); ++h)
      for (index_t i = 0; i < q.shape(1); ++i) {
        const auto truth = concentration_truth(canonical, keys, q.row(h, i), h);
        if (!truth) return {};
        truths.push_back(*truth);
      }
    return truths;
  }

  /// For Gaussian keys S against gamma = sigma |q| with one line per beta / gamma, beside its closed form.
  static void add_curves(const CellInput& input, TensorView<const float, 3> q, index_t n_keys,
                         const std::vector<double>& sparsity, CellResult& result) {
    const std::vector<ConcentrationTruth> truths = closed_form(input, q, n_keys);
    std::vector<double> exact, spread;
    for (const ConcentrationTruth& truth : truths)
      exact.push_back(truth.sparsity), spread.push_back(truth.relative_sd);
    double error = 0;
    bool is_judged = false;
    std::map<double, std::pair<Curve, Curve>> lines;  // by beta / gamma: measured, closed form
    for (const Group& group :
         groups(input.dataset->doubles("truth/beta"), input.dataset->doubles("truth/gamma"))) {
      const double ratio = group.beta / group.gamma, measured = mean_of(sparsity, group.queries);
      auto& [measured_line, exact_line] = lines[ratio];
      measured_line.name = fmt::format("S, beta / gamma = {:g}", ratio);
      exact_line.name = fmt::format("closed form, beta / gamma = {:g}", ratio);
      exact_line.reference_of = measured_line.name;
      measured_line.x.push_back(group.gamma), measured_line.y.push_back(measured);
      if (exact.empty()) continue;
      const double expected = mean_of(exact, group.queries);
      exact_line.x.push_back(group.gamma), exact_line.y.push_back(expected);
      if (!(mean_of(spread, group.queries) <= k_judged_spread)) continue;
      is_judged = true;
      error = std::max(error, std::abs(measured - expected) / expected);
    }
    for (auto& [ratio, pair] : lines)
      for (Curve* line : {&pair.first, &pair.second}) {
        if (line->x.empty()) continue;
        line->x_label = "gamma = sigma |q|", line->y_label = "sparsity S";
        result.curves.push_back(std::move(*line));
      }
    if (is_judged) result.metrics.push_back({"sparsity_error", "", error, Direction::lower_is_better});
  }

  /// S against |q|.
  static void add_plain_curve(TensorView<const float, 3> q, const std::vector<double>& sparsity,
                              CellResult& result) {
    std::vector<std::pair<double, double>> points;
    for (index_t h = 0; h < q.shape(0); ++h)
      for (index_t i = 0; i < q.shape(1); ++i) {
        double square = 0;
        for (float value : q.row(h, i)) square += static_cast<double>(value) * static_cast<double>(value);
        points.emplace_back(std::sqrt(square), sparsity[points.size()]);
      }
    std::ranges::sort(points);
    Curve line{"sparsity", "|q|", "sparsity S", false, false, {}, {}};
    for (const auto& [x, y] : points) line.x.push_back(x), line.y.push_back(y);
    result.curves.push_back(std::move(line));
  }
};

}  // namespace

const Protocol& attention_concentration() {
  static const AttentionConcentration protocol;
  return protocol;
}

}  // namespace borel
