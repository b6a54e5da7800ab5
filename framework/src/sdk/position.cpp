#include "borel/position.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "borel/rng.hpp"

namespace borel {
namespace {

constexpr index_t k_exhaustive = 256;  // longest side of a pair matrix that is checked pair by pair
constexpr index_t k_samples = 65536;

template <class Values>
bool all_finite(const Values& values) {
  return std::ranges::all_of(values, [](double x) { return std::isfinite(x); });
}

std::string check_table(std::string_view name, const PositionTable& table, index_t size) {
  if (!table) return fmt::format("{} is missing; it needs {} values", name, size);
  if (static_cast<index_t>(table->size()) != size)
    return fmt::format("{} must hold {} values, holds {}", name, size, table->size());
  if (!all_finite(*table)) return fmt::format("{} holds a value that is not finite", name);
  return {};
}

std::string check_region(std::string_view name, const PairRegion& region) {
  if (region.distance_stride < 1)
    return fmt::format("{}: distance_stride must be >= 1, is {}", name, region.distance_stride);
  return {};
}

std::string check_band(const PositionPlan& plan, const Band& band, index_t number,
                       const PositionContext& context) {
  const auto named = [&](std::string_view field) { return fmt::format("band {}: {}", number, field); };
  if (band.n_axes < 1) return named("n_axes must be >= 1");
  const index_t n_pairs = plan.n_rot_dims / 2;
  std::string fault = check_region(named("region"), band.region);
  if (fault.empty())
    fault = check_table(named("query_position"), band.query_position, context.n_q * band.n_axes);
  if (fault.empty()) fault = check_table(named("key_position"), band.key_position, context.n_k * band.n_axes);
  if (fault.empty() && band.angle) fault = check_table(named("angle"), band.angle, n_pairs * band.n_axes);
  if (fault.empty() && band.log_amplitude)
    fault = check_table(named("log_amplitude"), band.log_amplitude, n_pairs);
  if (fault.empty() && !std::isfinite(band.logit_scale)) fault = named("logit_scale is not finite");
  return fault;
}

/// Rules on a single pair that the mask keeps.
std::string check_pair(const PositionPlan& plan, const PositionContext& context, index_t i, index_t j) {
  if ((context.causal && j > i) || !plan.sees(i, j)) return {};
  const auto holding =
      std::ranges::count_if(plan.bands, [&](const Band& band) { return band.region.contains(i, j); });
  if (holding > 1)
    return fmt::format("{} bands hold for query {} and key {}; at most one may", holding, i, j);
  if (plan.bias) {
    const index_t column = j - i + plan.bias_zero;
    if (column < 0 || column >= plan.bias_width)
      return fmt::format("bias has no column for query {} and key {} ({} of {})", i, j, column,
                         plan.bias_width);
  }
  return {};
}

}  // namespace

PositionEncoding::~PositionEncoding() = default;

std::vector<ParameterTensor> PositionEncoding::parameters(index_t, index_t, index_t) const { return {}; }

void PositionEncoding::backward(const PositionContext&, ParameterValues, const PositionGradients&,
                                ParameterGradients) const {
  throw MethodError("this position encoding declares no trainable parameter, so it has no gradient to give");
}

TraitList PositionEncoding::describe() const {
  const PositionTraits t = traits();
  const auto yes = [](bool value) { return std::string(value ? "yes" : "no"); };
  return {{"shift_invariant", yes(t.shift_invariant)}, {"bounded_length", yes(t.bounded_length)},
          {"layer_dependent", yes(t.layer_dependent)}, {"needs_train_length", yes(t.needs_train_length)},
          {"causal_only", yes(t.causal_only)},         {"length_dependent", yes(t.length_dependent)},
          {"n_axes", std::to_string(t.n_axes)},        {"learns_angles", yes(t.learns_angles)},
          {"embedding", yes(embedding() != nullptr)},  {"learnable", yes(!parameters(1, 64, 64).empty())}};
}

std::string check_plan(const PositionPlan& plan, const PositionContext& context) {
  for (std::size_t part = 0; part < plan.ensemble.size(); ++part) {
    if (!plan.ensemble[part].ensemble.empty())
      return fmt::format("ensemble {}: an ensemble inside an ensemble", part);
    if (std::string fault = check_plan(plan.ensemble[part], context); !fault.empty())
      return fmt::format("ensemble {}: {}", part, fault);
  }
  if (!plan.ensemble.empty()) return {};
  if (plan.n_rot_dims < 0 || plan.n_rot_dims % 2 != 0 || plan.n_rot_dims > context.d_head)
    return fmt::format("n_rot_dims must be even and in [0, {}], is {}", context.d_head, plan.n_rot_dims);
  for (std::size_t b = 0; b < plan.bands.size(); ++b)
    if (std::string fault = check_band(plan, plan.bands[b], static_cast<index_t>(b), context); !fault.empty())
      return fault;
  for (const PairRegion& region : plan.visible)
    if (std::string fault = check_region("visible", region); !fault.empty()) return fault;
  if (plan.bias) {
    if (static_cast<index_t>(plan.bias->size()) != context.n_heads * plan.bias_width)
      return fmt::format("bias must hold {} heads x {} values, holds {}", context.n_heads, plan.bias_width,
                         plan.bias->size());
    if (!all_finite(*plan.bias)) return "bias holds a value that is not finite";
  }
  if (plan.query_scale) {
    if (static_cast<index_t>(plan.query_scale->size()) != context.n_q)
      return fmt::format("query_scale must hold {} values, holds {}", context.n_q, plan.query_scale->size());
    if (!all_finite(*plan.query_scale)) return "query_scale holds a value that is not finite";
  }
  if (plan.documents) {
    if (static_cast<index_t>(plan.documents->size()) != context.n_tokens())
      return fmt::format("documents must hold {} values, holds {}", context.n_tokens(),
                         plan.documents->size());
    if (!std::ranges::is_sorted(*plan.documents)) return "documents must not decrease";
    if (context.query_offset + context.n_q > context.n_tokens())
      return fmt::format("documents: the last query stands at {}, beyond the last token {}",
                         context.query_offset + context.n_q - 1, context.n_tokens() - 1);
  }
  if (context.n_q <= k_exhaustive && context.n_k <= k_exhaustive) {
    for (index_t row = 0; row < context.n_q; ++row)
      for (index_t j = context.key_offset; j < context.n_tokens(); ++j)
        if (std::string fault = check_pair(plan, context, row + context.query_offset, j); !fault.empty())
          return fault;
    return {};
  }
  Rng rng(Seed{0}.derive("check_plan"));
  for (index_t sample = 0; sample < k_samples && context.n_q > 0 && context.n_k > 0; ++sample) {
    const auto row = static_cast<index_t>(rng.below(static_cast<std::uint64_t>(context.n_q)));
    const index_t j =
        context.key_offset + static_cast<index_t>(rng.below(static_cast<std::uint64_t>(context.n_k)));
    if (std::string fault = check_pair(plan, context, row + context.query_offset, j); !fault.empty())
      return fault;
  }
  return {};
}

}  // namespace borel
