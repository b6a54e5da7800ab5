// Dynamic scaling by length: PI, NTK, YaRN or another encoding with a parameter `scale`, with a factor that grows with the
// text. Su 2024, kexue.fm/archives/9948; emozilla 2023 (dynamic NTK).
//
//   s(n) = max(1, alpha n / L - (alpha - 1))
//   per_position   query i sees all keys with s(i + 1), as if the text ended with it: the true form
//   local_static   all queries of a call have s(length of the call): what programs do. Decoding token by token then differs
//                  from one pass over the text, and keys that were rotated with an older factor are wrong
//                  (Hugging Face transformers issue 25104; vLLM computes one factor for all lengths)
//
// The true form needs one band per query row beyond L, so the engine rotates keys anew for every row: for study, not for
// speed. In bidirectional contexts every query sees the whole text, and both forms agree.
#include <algorithm>

#include "borel/draft/rotary.hpp"
#include "borel/error.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::index_t;
using borel::PositionContext;
using borel::PositionPlan;

class Dynamic final : public borel::PositionEncoding {
 public:
  enum class Form { per_position, local_static };
  struct Params {
    borel::MethodSpec of{.family = "position", .id = "ntk"};
    Form form = Form::per_position;
    double alpha = 1;
    borel::TrainLengthParam train;
    void declare(borel::ParamBinder& p) {
      p.method("of", of, "position",
               "The encoding that is scaled: one with a parameter 'scale' (pi, ntk, yarn, longrope).");
      p.choice("form", form, {{"per_position", Form::per_position}, {"local_static", Form::local_static}},
               "One factor per query, or one for all queries of a call.");
      p.real("alpha", alpha, borel::Range::at_least(1), "1",
             "Steepness: s = alpha n / L - (alpha - 1); 1 is the ratio of lengths.");
      train.declare(p);
    }
  };

  Dynamic(const Params& params, const borel::Registry& registry) : params_(params), registry_(registry) {
    const auto& declared = registry.entry("position", params.of.id).params;
    if (std::ranges::none_of(declared, [](const borel::ParamInfo& info) { return info.name == "scale"; }))
      throw borel::ParamError(
          "position dynamic: parameter 'of' must be an encoding with a parameter 'scale', such as "
          "pi, ntk, yarn or longrope, got '" +
          params.of.text() + "'");
    traits_ = scaled(1)->traits();
  }

  borel::PositionTraits traits() const override {
    borel::PositionTraits traits = traits_;
    traits.shift_invariant = false;
    traits.length_dependent = params_.form == Form::local_static;
    traits.needs_train_length = params_.train.from_context();
    return traits;
  }

  PositionPlan plan(const PositionContext& context, borel::ParameterValues parameters) const override {
    PositionContext inner = context;
    inner.train_length = params_.train.in(context);
    const index_t length = inner.train_length;
    // The text that the factor stands for is also the longest one that `of` knows: LongRoPE's factors depend on it.
    inner.test_length = std::max(context.n_tokens(), length);
    if (params_.form == Form::local_static || !context.causal)
      return scaled(factor(inner.test_length, length))->plan(inner, parameters);
    // The angles come from plans without rows; all bands share the tables of positions.
    inner.n_q = inner.n_k = 0;
    const borel::Band positions = borel::plain_band(context, nullptr);
    PositionPlan plan;
    const auto add = [&](index_t first, index_t last, index_t n) {
      inner.test_length = n;
      PositionPlan part = scaled(factor(n, length))->plan(inner, parameters);
      if (part.bands.size() != 1 || part.bands.front().n_axes != 1 || part.bias || part.query_scale ||
          !part.visible.empty() || !part.ensemble.empty())
        throw borel::MethodError("position dynamic: 'of' must be one rotation of all pairs");
      borel::Band& band = part.bands.front();
      band.region.query = {first, last};
      band.query_position = positions.query_position;
      band.key_position = positions.key_position;
      if (plan.bands.empty()) plan.pairing = part.pairing, plan.n_rot_dims = part.n_rot_dims;
      plan.bands.push_back(std::move(band));
    };
    const index_t begin = context.query_offset, end = begin + context.n_q;
    const index_t inside = std::clamp(length, begin, end);  // queries i < L have s = 1
    if (inside > begin) add(begin, inside, length);
    for (index_t i = inside; i < end; ++i) add(i, i + 1, i + 1);
    return plan;
  }

 private:
  double factor(index_t n, index_t length) const {
    return std::max(
        1.0, params_.alpha * static_cast<double>(n) / static_cast<double>(length) - (params_.alpha - 1));
  }

  std::unique_ptr<borel::PositionEncoding> scaled(double s) const {
    borel::MethodSpec spec = params_.of;
    spec.params["scale"] = borel::param_text(s);
    return registry_.make<borel::PositionEncoding>(spec);
  }

  Params params_;
  const borel::Registry& registry_;
  borel::PositionTraits traits_;
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::PositionEncoding, Dynamic>(
      "dynamic",
      {.summary = "Scaling that grows with the text, per position or per call, of pi, ntk, yarn, longrope",
       .formula = "s(n) = max(1, alpha n / L - (alpha - 1)); query i sees its keys with s(i + 1)",
       .source = "Su 2024, kexue.fm/archives/9948; emozilla 2023",
       .complexity = "O(n d) tables for each query beyond L (per_position), else O(n d)",
       .notes = "local_static, the usual form, gives decoding other scores than one pass over the text"});
}
