// TileAttention: an attention mechanism made of a TileMethod. Its recurrent state is a cache:
//   keys [h_kv, max_n, d_k], values [h_kv, max_n, d_v], then every key-side extra input [heads, max_n,
//   width].
#include <algorithm>

#include <fmt/format.h>

#include "borel/draft/tile_engine.hpp"
#include "borel/error.hpp"

namespace borel {
namespace {

index_t heads_of(const ExtraInput& input, const AttentionContext& context) {
  return input.heads == ExtraInput::Heads::query ? context.h_q : context.h_kv;
}

/// Floats of the cache per token.
index_t cached_width(const Attention& method, const AttentionContext& context) {
  index_t width = context.h_kv * (context.d_k + context.d_v);
  for (const ExtraInput& input : method.extra_inputs(context))
    if (input.tokens == ExtraInput::Tokens::key) width += heads_of(input, context) * input.width;
  return width;
}

/// Writes one token into a cache [heads, max_n, width] and returns the view of its first t + 1 tokens.
TensorView<const float, 3> append(float* cache, index_t max_n, index_t t,
                                  const TensorView<const float, 2>& token) {
  const index_t heads = token.shape(0), width = token.shape(1);
  for (index_t h = 0; h < heads; ++h) std::ranges::copy(token.row(h), cache + (h * max_n + t) * width);
  return {cache, {heads, t + 1, width}, {max_n * width, width, 1}};
}

TensorView<const float, 3> as_one_token(const TensorView<const float, 2>& rows) {
  return {rows.data(), {rows.shape(0), 1, rows.shape(1)}, {rows.stride(0), rows.shape(1), 1}};
}

}  // namespace

double tile_flops(const AttentionContext& context, index_t n_q, index_t n_k) {
  const auto q = static_cast<double>(n_q), k = static_cast<double>(n_k);
  double pairs = q * k;
  if (context.causal) {  // row i sees max(0, n_k - n_q + i + 1) keys
    const double rows = std::min(q, k);
    pairs = rows * (k - rows) + rows * (rows + 1) / 2;
  }
  return 2 * static_cast<double>(context.h_q) * pairs * static_cast<double>(context.d_k + context.d_v);
}

std::string TileAttention::refuses(const PositionPlan&) const { return {}; }

void TileAttention::prepare(const AttentionCall& call, FunctionRef<void(const AttentionCall&)> use) const {
  use(call);
}

void TileAttention::forward(const AttentionCall& call, TensorView<float, 3> o) const {
  check_call(*this, call, o);
  prepare(call, [&](const AttentionCall& prepared) { tile_forward(*this, prepared, o); });
}

void TileAttention::forward_saving(const AttentionCall& call, TensorView<float, 3> o,
                                   TensorView<float, 3> saved) const {
  check_call(*this, call, o);
  prepare(call, [&](const AttentionCall& prepared) { tile_forward_saving(*this, prepared, o, saved); });
}

void TileAttention::backward(const AttentionCall& call, TensorView<const float, 3> o,
                             TensorView<const float, 3> saved, TensorView<const float, 3> d_o,
                             const AttentionBackward::Gradients& gradients) const {
  tile_backward(*this, call, o, saved, d_o, gradients);
}

double TileAttention::state_bytes(const AttentionContext& context, index_t n) const {
  return static_cast<double>(sizeof(float)) * static_cast<double>(n * cached_width(*this, context));
}

double TileAttention::flops(const AttentionContext& context, index_t n_q, index_t n_k) const {
  return tile_flops(context, n_q, n_k);
}

index_t TileAttention::state_size(const AttentionContext& context) const {
  return context.max_n * cached_width(*this, context);
}

void TileAttention::start(const AttentionContext& context, ParameterValues, std::span<float> state) const {
  if (static_cast<index_t>(state.size()) != state_size(context))
    throw MethodError(fmt::format("the state must hold {} floats for {} tokens, holds {}",
                                  state_size(context), context.max_n, state.size()));
  std::ranges::fill(state, 0.0f);
}

void TileAttention::step(const AttentionStep::Token& token, std::span<float> state,
                         TensorView<float, 2> o) const {
  const AttentionContext& context = token.context;
  if (token.t < 0 || token.t >= context.max_n)
    throw MethodError(
        fmt::format("token {} does not fit a cache of {} tokens; make the context with a larger max_n",
                    token.t, context.max_n));
  float* cache = state.data();
  const auto take = [&](const TensorView<const float, 2>& rows) {
    const TensorView<const float, 3> view = append(cache, context.max_n, token.t, rows);
    cache += rows.shape(0) * context.max_n * rows.shape(1);
    return view;
  };
  AttentionCall call;
  call.q = as_one_token(token.q);
  call.k = take(token.k);
  call.v = take(token.v);
  std::vector<TensorView<const float, 3>> extra;
  const std::vector<ExtraInput> declared = extra_inputs(context);
  for (std::size_t e = 0; e < declared.size(); ++e)
    extra.push_back(declared[e].tokens == ExtraInput::Tokens::key ? take(token.extra[e])
                                                                  : as_one_token(token.extra[e]));
  call.extra = extra;
  call.causal = true;
  call.query_offset = token.t;
  call.position = token.position;
  call.parameters = token.parameters;
  call.context = context;
  forward(call, TensorView<float, 3>(o.data(), {o.shape(0), 1, o.shape(1)}, {o.stride(0), o.shape(1), 1}));
}

void TileAttention::rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
                         TensorView<float, 2> weights) const {
  prepare(call,
          [&](const AttentionCall& prepared) { tile_weights(*this, prepared, head, begin, end, weights); });
}

}  // namespace borel
