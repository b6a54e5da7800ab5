// attention.cost: what a mechanism costs as the context grows: seconds of a forward pass, bytes of state, multiply-adds.
//
// The quality phase runs the shortest context and counts; the timing phase measures one pass for every length, alone on the
// machine, interleaved over the mechanisms. Keys of the dataset stand for q, k and v: time depends on sizes, not on values,
// except for sparse mechanisms, whose support the values decide.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "borel/error.hpp"
#include "protocols/attention_call.hpp"
#include "protocols/options.hpp"
#include "protocols/protocol_list.hpp"
#include "protocols/visible_pairs.hpp"

namespace borel {
namespace {

struct Options {
  std::vector<double> contexts{256, 1024, 4096};
  std::int64_t n_heads = 4;
  std::int64_t train_length = 1024;
  bool causal = true;

  void declare(ParamBinder& p) {
    p.reals("contexts", contexts, Range::closed(1, 1 << 20), "tokens",
            "Context lengths, ascending whole numbers; queries and keys are as many.");
    p.integer("n_heads", n_heads, Range::closed(1, 128), "1", "Heads, for queries and keys alike.");
    p.integer("train_length", train_length, Range::at_least(1), "tokens",
              "Training length told to position encodings.");
    p.flag("causal", causal, "Each query sees the keys up to its own; else all keys.");
  }
  void check() const {
    if (contexts.empty()) throw ParamError("parameter 'contexts' must name at least one length; got []");
    for (std::size_t i = 0; i < contexts.size(); ++i)
      if (contexts[i] != std::floor(contexts[i]) || (i > 0 && contexts[i] <= contexts[i - 1]))
        throw ParamError("parameter 'contexts' must be ascending whole numbers; element " +
                         std::to_string(i + 1) + " is " + param_text(contexts[i]));
  }
};

/// Tensors [n_heads, n, d] of one length. All cells of a comparison read the same ones.
struct Inputs {
  std::vector<float> q, k, v;
  std::shared_ptr<const Dataset> dataset;  ///< so that its address stays its own
};

std::shared_ptr<const Inputs> inputs_for(const std::shared_ptr<const Dataset>& dataset, index_t n_heads,
                                         index_t n) {
  static std::mutex mutex;
  static std::map<std::tuple<const Dataset*, index_t, index_t>, std::weak_ptr<const Inputs>> known;
  const std::scoped_lock lock(mutex);
  std::weak_ptr<const Inputs>& place = known[{dataset.get(), n_heads, n}];
  if (auto shared = place.lock()) return shared;
  const std::vector<std::int64_t> shape = dataset->shape("k");
  const std::span<const float> rows = dataset->floats("k");
  const auto n_rows = static_cast<std::size_t>(shape[0] * shape[1]), d = static_cast<std::size_t>(shape[2]);
  auto made = std::make_shared<Inputs>();
  made->dataset = dataset;
  std::size_t next = 0;
  for (std::vector<float>* tensor : {&made->q, &made->k, &made->v})
    for (index_t row = 0; row < n_heads * n; ++row, next = (next + 1) % n_rows)
      tensor->insert(tensor->end(), rows.begin() + static_cast<std::ptrdiff_t>(next * d),
                     rows.begin() + static_cast<std::ptrdiff_t>((next + 1) * d));
  place = made;
  return made;
}

/// One forward pass of a length, ready to be run again and again.
class Pass {
 public:
  Pass(const CellInput& input, const Options& options, index_t n)
      : pair_(make_attention_pair(input)),
        inputs_(inputs_for(input.dataset, options.n_heads, n)),
        shape_{options.n_heads, n, input.dataset->shape("k")[2]},
        o_(inputs_->q.size(), std::nanf("")) {
    AttentionSetting setting;
    setting.causal = options.causal;
    setting.train_length = options.train_length;
    prepared_ = std::make_unique<PreparedCall>(pair_, TensorView<const float, 3>(inputs_->q.data(), shape_),
                                               TensorView<const float, 3>(inputs_->k.data(), shape_),
                                               TensorView<const float, 3>(inputs_->v.data(), shape_), setting,
                                               input.seed, input.stop);
  }
  void run() { prepared_->forward(TensorView<float, 3>(o_.data(), shape_)); }
  bool is_finite() const {
    return std::ranges::all_of(o_, [](float x) { return std::isfinite(x); });
  }
  double state_bytes() const {
    const index_t n = shape_[1];
    return pair_.attention->state_bytes(prepared_->call().context, keys_kept(*prepared_->call().position, n));
  }
  /// Work of pairwise mechanisms, the only ones that take masks and averages, follows the pairs that are seen.
  double flops() const {
    const AttentionCall& call = prepared_->call();
    return pair_.attention->flops(call.context, shape_[1], shape_[1]) * visible_pairs(call) / all_pairs(call);
  }

 private:
  AttentionPair pair_;
  std::shared_ptr<const Inputs> inputs_;
  TensorView<float, 3>::Shape shape_;
  std::vector<float> o_;
  std::unique_ptr<PreparedCall> prepared_;
};

class AttentionCost final : public ProtocolWithOptions<Options> {
 public:
  std::string_view id() const override { return "attention.cost"; }
  int version() const override { return 2; }
  std::string_view summary() const override {
    return "Time of a forward pass, bytes of state and multiply-adds as the context grows";
  }
  std::vector<Role> roles() const override { return {{"attention", ""}, {"position", "none"}}; }
  DatasetKind dataset_kind() const override { return DatasetKind::qkv; }

  std::vector<MetricInfo> metrics() const override {
    return {
        {"state_bytes", "B", Direction::lower_is_better,
         "what must be kept per layer to go on after the longest context", true},
        {"state_exponent", "", Direction::lower_is_better,
         "slope of log state against log n over the two longest contexts; 0 = constant, 1 = a cache", false},
        {"gflop", "Gflop", Direction::none,
         "multiply-adds x 2 of the longest context, as declared, for the pairs that the encoding keeps; 0 = "
         "not known",
         false},
    };
  }

  std::string refuses(const CellInput& input) const override {
    const Options options = read(input.options);
    AttentionSetting setting;
    setting.causal = options.causal;
    setting.train_length = options.train_length;
    const auto n = static_cast<index_t>(options.contexts.back());
    const index_t d = input.dataset->shape("k")[2];
    return refuses_setting(make_attention_pair(input), options.n_heads, n, n, d, d, setting);
  }

  double memory_bytes(const CellInput& input) const override {
    const Options options = read(input.options);
    return 8.0 * 4.0 * options.contexts.back() * static_cast<double>(options.n_heads) *
           static_cast<double>(input.dataset->shape("k")[2]);
  }

  CellResult run(const CellInput& input) const override {
    const Options options = read(input.options);
    CellResult result;
    Curve state{"state", "context n [tokens]", "state [bytes]", true, true, {}, {}};
    Curve work{"multiply-adds", "context n [tokens]", "flop", true, true, {}, {}};
    for (std::size_t i = 0; i < options.contexts.size(); ++i) {
      input.stop.throw_if_stopped();
      Pass pass(input, options, static_cast<index_t>(options.contexts[i]));
      if (i == 0) {
        pass.run();
        if (!pass.is_finite())
          throw MethodError("attention.cost: the output of the shortest context is not finite");
      }
      state.x.push_back(options.contexts[i]);
      state.y.push_back(pass.state_bytes());
      const double flops = pass.flops();
      if (flops <= 0) continue;
      work.x.push_back(options.contexts[i]);
      work.y.push_back(flops);
    }
    result.metrics.push_back({"state_bytes", "B", state.y.back(), Direction::lower_is_better});
    const std::size_t last = state.y.size() - 1;
    if (last > 0 && state.y[last - 1] > 0)
      result.metrics.push_back(
          {"state_exponent", "",
           std::log(state.y[last] / state.y[last - 1]) / std::log(state.x[last] / state.x[last - 1]),
           Direction::lower_is_better});
    result.metrics.push_back({"gflop", "Gflop", work.y.empty() ? 0 : work.y.back() * 1e-9, Direction::none});
    result.curves.push_back(std::move(state));
    if (!work.y.empty()) result.curves.push_back(std::move(work));
    return result;
  }

  std::vector<TimedTask> timed_tasks(const CellInput& input) const override {
    const Options options = read(input.options);
    std::vector<TimedTask> tasks;
    for (const double n : options.contexts) {
      auto pass = std::make_shared<Pass>(input, options, static_cast<index_t>(n));
      tasks.push_back({fmt::format("forward_n{}_s", static_cast<index_t>(n)), [pass] { pass->run(); }});
    }
    return tasks;
  }
};

}  // namespace

const Protocol& attention_cost() {
  static const AttentionCost protocol;
  return protocol;
}

}  // namespace borel
