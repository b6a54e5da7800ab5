#include "protocols/attention_call.hpp"

#include <cmath>

#include <fmt/format.h>

namespace borel {
namespace {

AttentionContext attention_context(index_t h_q, index_t h_kv, index_t n_k, index_t d_k, index_t d_v,
                                   bool causal) {
  AttentionContext context;
  context.h_q = h_q;
  context.h_kv = h_kv;
  context.d_k = d_k;
  context.d_v = d_v;
  context.max_n = n_k;
  context.causal = causal;
  return context;
}

PositionPlan make_plan(const AttentionPair& pair, const AttentionContext& attention, index_t n_q,
                       const AttentionSetting& setting, Seed seed) {
  PositionContext context;
  context.n_q = n_q;
  context.n_k = attention.max_n;
  context.query_offset = setting.query_offset;
  context.n_heads = attention.h_q;
  context.d_head = pair.attention->plan_d_head(attention);
  context.train_length = setting.train_length;
  context.test_length = attention.max_n;
  context.causal = setting.causal;
  context.scaled_scores = !pair.attention->traits().own_scale;
  context.coordinates = setting.coordinates;
  context.layer_index = setting.layer_index;
  context.n_layers = setting.n_layers;
  context.seed = seed;
  const ParameterSet parameters(
      pair.position->parameters(context.n_heads, context.d_head, context.n_heads * context.d_head),
      seed.derive("position parameters"));
  return position_plan(*pair.position, context, parameters.values());
}

}  // namespace

AttentionPair make_attention_pair(const CellInput& input) {
  return {input.registry->make<Attention>(input.methods.at(0)),
          input.registry->make<PositionEncoding>(input.methods.at(1))};
}

std::string refuses_setting(const AttentionPair& pair, index_t n_heads, index_t n_q, index_t n_k, index_t d_k,
                            index_t d_v, const AttentionSetting& setting) {
  const AttentionTraits traits = pair.attention->traits();
  if (setting.causal && !traits.causal) return "the mechanism is not causal, and this protocol is";
  if (!setting.causal && !traits.bidirectional)
    return "the mechanism is causal only, and here every query sees every key";
  if (!setting.has_embeddings && pair.position->embedding())
    return "the encoding is added to token embeddings, and this protocol gives queries and keys themselves";
  try {
    const AttentionContext context = attention_context(n_heads, n_heads, n_k, d_k, d_v, setting.causal);
    const std::string reason = pair.attention->refuses(make_plan(pair, context, n_q, setting, Seed{}));
    if (!reason.empty()) return "the mechanism does not accept this position plan: " + reason;
  } catch (const MethodError& error) {
    return error.what();
  }
  return {};
}

PreparedCall::PreparedCall(const AttentionPair& pair, TensorView<const float, 3> q,
                           TensorView<const float, 3> k, TensorView<const float, 3> v,
                           const AttentionSetting& setting, Seed seed, StopToken stop)
    : attention_(*pair.attention),
      context_(attention_context(q.shape(0), k.shape(0), k.shape(1), q.shape(2), v.shape(2), setting.causal)),
      defaults_(*pair.attention, context_, q.shape(1), k.shape(1), seed.derive("attention parameters")),
      plan_(make_plan(pair, context_, q.shape(1), setting, seed)) {
  call_.q = q;
  call_.k = k;
  call_.v = v;
  call_.causal = setting.causal;
  call_.query_offset = setting.query_offset;
  call_.position = &plan_;
  call_.stop = stop;
  defaults_.attach(call_);
}

void PreparedCall::forward(TensorView<float, 3> o) const {
  check_call(attention_, call_, o);
  attention_.forward(call_, o);
}

void expect_finite(std::string_view what, index_t row, std::span<const float> values) {
  for (std::size_t c = 0; c < values.size(); ++c)
    if (!std::isfinite(values[c]))
      throw MethodError(fmt::format("{} row {} is not finite: component {} is {}", what, row, c, values[c]));
}

}  // namespace borel
