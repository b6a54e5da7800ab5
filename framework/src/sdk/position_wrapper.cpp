#include "borel/draft/position_wrapper.hpp"

#include <utility>

#include "borel/error.hpp"

namespace borel {

PositionWrapper::PositionWrapper(const MethodSpec& of, const Registry& registry)
    : of_(of.empty() ? nullptr : registry.make<PositionEncoding>(of)) {}
PositionWrapper::~PositionWrapper() = default;

std::vector<ParameterTensor> PositionWrapper::parameters(index_t n_heads, index_t d_head,
                                                         index_t d_model) const {
  return of_ ? of_->parameters(n_heads, d_head, d_model) : std::vector<ParameterTensor>();
}

void PositionWrapper::backward(const PositionContext& context, ParameterValues parameters,
                               const PositionGradients& d_plan, ParameterGradients d_parameters) const {
  if (of_) of_->backward(context, parameters, d_plan, d_parameters);
}

const TokenEmbedding* PositionWrapper::embedding() const { return of_ ? of_->embedding() : nullptr; }

PositionTraits PositionWrapper::inner_traits() const {
  return of_ ? of_->traits() : PositionTraits{.shift_invariant = true};
}

PositionPlan PositionWrapper::inner_plan(const PositionContext& context, ParameterValues parameters) const {
  return of_ ? of_->plan(context, parameters) : PositionPlan();
}

void for_each_member(PositionPlan& plan, FunctionRef<void(PositionPlan&)> change) {
  if (plan.ensemble.empty()) return change(plan);
  for (PositionPlan& member : plan.ensemble) change(member);
}

PositionPlan plan_at_positions(const PositionEncoding& encoding, const PositionContext& context,
                               ParameterValues parameters, std::span<const index_t> positions) {
  if (!context.coordinates.empty())
    throw MethodError("positions drawn in training: they count tokens of text, not coordinates of images");
  PositionContext all = context;
  all.query_offset = all.key_offset = 0;
  all.n_q = all.n_k = positions.empty() ? 0 : positions.back() + 1;
  PositionPlan plan = encoding.plan(all, parameters);
  for_each_member(plan, [&](PositionPlan& member) {
    if (!is_plain_rotation(member))
      throw MethodError(
          "positions drawn in training: the encoding 'of' must be a plain rotation; windows, biases and "
          "scales "
          "count tokens, and the tokens keep their places");
    for (Band& band : member.bands) {
      const auto rows_at = [&](const PositionTable& table, index_t first, index_t n) {
        std::vector<double> rows;
        for (index_t token = first; token < first + n; ++token)
          for (index_t axis = 0; axis < band.n_axes; ++axis)
            rows.push_back((*table)[static_cast<std::size_t>(
                positions[static_cast<std::size_t>(token)] * band.n_axes + axis)]);
        return make_table(std::move(rows));
      };
      band.query_position = rows_at(band.query_position, context.query_offset, context.n_q);
      band.key_position = rows_at(band.key_position, context.key_offset, context.n_k);
    }
  });
  return plan;
}

}  // namespace borel
