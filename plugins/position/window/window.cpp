// Window of the last keys, with any encoding inside: sliding-window attention (Longformer, Beltagy et al. 2020,
// arXiv:2004.05150; Mistral), first tokens as anchors (Su 2024, kexue.fm/archives/9948), dilation.
//
//   query i sees key j   <=>   0 <= i - j < w g  and  (i - j) % g == 0,   or   j < n_sinks
//
// w = `window` keys, the query's own among them, at distances 0, g, 2 g, ...; |i - j| without a causal mask. Libraries
// disagree here by one key: some count the query's own token, some do not. Positions stay absolute; see streaming for
// positions in the cache. The engine skips tiles outside: cost O(n (w + n_sinks)).
#include "borel/draft/position_wrapper.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class Window final : public borel::PositionWrapper {
 public:
  struct Params {
    std::int64_t window = 0, n_sinks = 0, dilation = 1, train_length = 0;
    borel::MethodSpec of;
    void declare(borel::ParamBinder& p) {
      p.integer("window", window, borel::Range::closed(0, 1 << 30), "keys",
                "Keys that a query sees, its own included; 0 stands for train_length.");
      p.integer("n_sinks", n_sinks, borel::Range::closed(0, 1 << 30), "keys",
                "First keys that every query sees besides.");
      p.integer("dilation", dilation, borel::Range::closed(1, 1 << 20), "tokens",
                "Step between the keys of the window.");
      p.integer("train_length", train_length, borel::Range::closed(0, 1 << 30), "tokens",
                "Length of training; 0 takes the one of the context.");
      p.method("of", of, "position", "The encoding inside the window; empty for none.");
    }
  };

  Window(const Params& params, const borel::Registry& registry)
      : PositionWrapper(params.of, registry), params_(params) {}

  borel::PositionTraits traits() const override {
    borel::PositionTraits traits = inner_traits();
    traits.shift_invariant = traits.shift_invariant && params_.n_sinks == 0;
    traits.needs_train_length |= params_.window == 0 && params_.train_length == 0;
    return traits;
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    PositionPlan plan = inner_plan(context, parameters);
    const index_t length = params_.train_length != 0 ? params_.train_length : context.train_length;
    const index_t reach = (params_.window != 0 ? params_.window : length) * params_.dilation;
    borel::for_each_member(plan, [&](PositionPlan& member) {
      if (!member.visible.empty())
        throw borel::MethodError("position window: the encoding 'of' has a mask of its own");
      borel::PairRegion near;
      near.distance = {context.causal ? 0 : 1 - reach, reach};
      near.distance_stride = params_.dilation;
      member.visible.push_back(near);
      if (params_.n_sinks > 0) member.visible.push_back({.key = {.end = params_.n_sinks}});
    });
    return plan;
  }

 private:
  Params params_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Window>(
      "window", {.summary = "Sliding window of the last keys, with sinks and dilation, around any encoding",
                 .formula = "query i sees key j when 0 <= i - j < window, or j < n_sinks",
                 .source = "Beltagy et al. 2020, arXiv:2004.05150; Su 2024, kexue.fm/archives/9948",
                 .complexity = "the engine's cost becomes O(n window)",
                 .notes = "window counts the query's own key; positions stay absolute"});
}
