// Every pair of a mechanism and an encoding, from the registry: used and right, or refused with a reason. A new method of
// either family is covered without a line here.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "borel/error.hpp"
#include "borel/rng.hpp"
#include "contract/attention_subject.hpp"
#include "contract/variants.hpp"

namespace borel::contract {
namespace {

using reference::Matrix;

struct Mechanism {
  MethodSpec spec;
  std::unique_ptr<Attention> method;
  std::optional<reference::AttentionWeightsOf> truth;
  std::optional<reference::AttentionOutputOf> output;
};

Mechanism mechanism(const Registry& registry, const MethodSpec& spec) {
  const MethodSpec canonical = parse_method_spec(registry.canonical(spec), "attention");
  return {spec, registry.make<Attention>(spec), reference::attention_weights(canonical),
          reference::attention_output_of(canonical)};
}

/// "" or how far the output is from the float64 reference.
std::string against_reference(const Mechanism& mechanism, const AttentionCall& call) {
  const std::vector<float> o = forward(*mechanism.method, call);
  if (!mechanism.truth)
    return std::ranges::all_of(o, [](float x) { return std::isfinite(x); }) ? "" : "the output is not finite";
  const double bound = mechanism.method->traits().max_error;
  for (index_t h = 0; h < call.h_q(); ++h) {
    const Matrix weights = (*mechanism.truth)(call, h), expected = (*mechanism.output)(call, h);
    const double unit = error_unit(call, &weights);
    for (index_t r = 0; r < call.n_q(); ++r)
      for (index_t c = 0; c < call.d_v(); ++c) {
        const auto found =
            static_cast<double>(o[static_cast<std::size_t>((h * call.n_q() + r) * call.d_v() + c)]);
        if (!(std::abs(found - expected(r, c)) <= bound * unit))
          return fmt::format("head {} row {} column {}: {:.9g}, float64 reference {:.9g}, allowed {:.3g}", h,
                             r, c, found, expected(r, c), bound * unit);
      }
  }
  return {};
}

/// One pair in every mode that both have; sizes cross the tiles of the engines.
std::string pair_fault(const Mechanism& mechanism, const PositionEncoding& encoding, Seed seed) {
  const Attention& method = *mechanism.method;
  for (const bool causal : modes(method)) {
    if (!causal && encoding.traits().causal_only) continue;
    const bool fixed = method.traits().fixed_length_only;
    AttentionInputs inputs(
        method, {.h_q = 2, .h_kv = 1, .n_q = fixed ? 131 : 51, .n_k = 131, .causal = causal}, seed);
    PositionContext context = position_context(method, inputs.call);
    context.seed = seed;
    std::vector<double> coordinates;
    for (index_t t = 0; encoding.traits().n_axes > 1 && t < context.n_k; ++t)
      for (index_t axis = 0; axis < encoding.traits().n_axes; ++axis)
        coordinates.push_back(static_cast<double>(axis == 0 ? t / 8 : t % 8));
    if (!coordinates.empty())
      context.coordinates = {coordinates.data(), {context.n_k, encoding.traits().n_axes}};
    const ParameterSet parameters(
        encoding.parameters(context.n_heads, context.d_head, context.n_heads * context.d_head), seed);
    const PositionPlan plan = position_plan(encoding, context, parameters.values());
    inputs.call.position = &plan;
    const std::string reason = method.refuses(plan);
    if (reason.empty()) {
      if (const std::string fault = against_reference(mechanism, inputs.call); !fault.empty())
        return fmt::format("causal {}: {}", causal, fault);
      continue;
    }
    if (reason.size() < 10)
      return fmt::format("causal {}: refused with too little of a reason: '{}'", causal, reason);
    try {
      forward(method, inputs.call);
      return fmt::format("causal {}: refuses() says '{}', but forward accepts the plan", causal, reason);
    } catch (const MethodError&) {
    }
  }
  return {};
}

std::vector<MethodSpec> position_variants(const Registry& registry, const std::string& id) {
  return choice_variants(registry, registry.entry("position", id), {"position", id, {}});
}

/// The mechanism as it is with every choice of every encoding, and its own choices with the encodings' defaults.
Verdict composes_with_every_position(const Subject& subject) {
  for (const MethodSpec& spec : choice_variants(subject.registry, subject.method, subject.spec)) {
    const Mechanism one = mechanism(subject.registry, spec);
    const bool as_given = spec == subject.spec;
    for (const std::string& id : subject.registry.ids<PositionEncoding>())
      for (const MethodSpec& position : as_given ? position_variants(subject.registry, id)
                                                 : std::vector<MethodSpec>{{"position", id, {}}}) {
        const auto encoding = subject.registry.make<PositionEncoding>(position);
        if (const std::string fault = pair_fault(one, *encoding, subject.seed); !fault.empty())
          return broken(fmt::format("{} with {}: {}", spec.text(), position.text(), fault));
      }
  }
  return kept();
}

/// Masks that no encoding here has, but one from elsewhere may: a region limited in keys and in distance at once leaves rows,
/// and the last rows of groups of rows, without a key.
Verdict masks_by_any_region(const Subject& subject) {
  const Mechanism one = mechanism(subject.registry, subject.spec);
  if (!one.truth) return not_applicable("no float64 reference knows this id");
  if (one.method->traits().fixed_length_only) return not_applicable("its projections belong to places");
  constexpr int k_regions = 40;
  Rng rng(subject.seed.derive("regions"));
  const auto interval = [&](index_t limit) {
    const auto begin = static_cast<index_t>(rng.uniform() * static_cast<double>(limit));
    return Interval{begin, begin + 1 + static_cast<index_t>(rng.uniform() * 60)};
  };
  for (const bool causal : modes(*one.method)) {
    AttentionInputs inputs(*one.method, {.h_q = 2, .h_kv = 1, .n_q = 99, .n_k = 150, .causal = causal},
                           subject.seed);
    for (int n = 0; n < k_regions; ++n) {
      PairRegion region{.key = interval(150), .distance = interval(100)};
      if (n % 4 == 3) region.query = {interval(99).begin + inputs.call.query_offset, Interval().end};
      if (n % 8 == 7) region.distance_stride = 3, region.distance_phase = n % 3;
      PositionPlan plan;
      plan.visible = {region};
      if (!one.method->refuses(plan).empty()) return not_applicable("refuses masks");
      inputs.call.position = &plan;
      if (const std::string fault = against_reference(one, inputs.call); !fault.empty())
        return broken(fmt::format("causal {}, keys [{}, {}), distances [{}, {}) step {}, queries from {}: {}",
                                  causal, region.key.begin, region.key.end, region.distance.begin,
                                  region.distance.end, region.distance_stride,
                                  std::max<index_t>(0, region.query.begin), fault));
    }
  }
  return kept();
}

/// For encodings from elsewhere: `borel check` of an encoding runs it under every mechanism.
Verdict composes_with_every_attention(const Subject& subject) {
  for (const std::string& id : subject.registry.ids<Attention>()) {
    const Mechanism one = mechanism(subject.registry, {"attention", id, {}});
    if (const std::string fault = pair_fault(one, *subject.make<PositionEncoding>(), subject.seed);
        !fault.empty())
      return broken(fmt::format("with attention {}: {}", id, fault));
  }
  return kept();
}

constexpr Rule k_attention_rules[] = {
    {"ComposesWithEveryPosition", "position plans are used, and right, or refused with a reason",
     composes_with_every_position},
    {"MasksByAnyRegion", "a region of keys and distances hides what it says, also whole rows",
     masks_by_any_region},
};
constexpr Rule k_position_rules[] = {
    {"ComposesWithEveryAttention", "every mechanism uses its plans, rightly, or refuses them with a reason",
     composes_with_every_attention},
};

}  // namespace

std::span<const Rule> attention_pair_rules() { return k_attention_rules; }
std::span<const Rule> position_pair_rules() { return k_position_rules; }

}  // namespace borel::contract
