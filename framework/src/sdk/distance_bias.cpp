#include "borel/draft/distance_bias.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace borel {

BiasColumns bias_columns(const PositionContext& context) {
  if (context.n_q == 0 || context.n_k == 0) return {};
  const index_t farthest = context.query_offset + context.n_q - 1 - context.key_offset;
  const index_t ahead =
      context.n_tokens() - 1 - context.query_offset;  // the last key seen from the first query
  const index_t width = farthest + 1 + (context.causal ? std::min<index_t>(ahead, 0) : ahead);
  return {farthest, std::max<index_t>(width, 0)};
}

PositionPlan bias_plan(const PositionContext& context, FunctionRef<double(index_t, index_t)> bias) {
  PositionPlan plan;
  const BiasColumns columns = bias_columns(context);
  if (columns.width == 0) return plan;
  plan.bias_zero = columns.zero;
  plan.bias_width = columns.width;
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(context.n_heads * columns.width));
  for (index_t h = 0; h < context.n_heads; ++h)
    for (index_t c = 0; c < columns.width; ++c)
      values.push_back(static_cast<float>(bias(h, columns.distance(c))));
  plan.bias = std::make_shared<const std::vector<float>>(std::move(values));
  return plan;
}

void for_each_bias_gradient(const PositionContext& context, std::span<const float> d_bias,
                            FunctionRef<void(index_t, index_t, double)> visit) {
  const BiasColumns columns = bias_columns(context);
  if (d_bias.empty()) return;
  for (index_t h = 0; h < context.n_heads; ++h)
    for (index_t c = 0; c < columns.width; ++c)
      visit(h, columns.distance(c),
            static_cast<double>(d_bias[static_cast<std::size_t>(h * columns.width + c)]));
}

}  // namespace borel
