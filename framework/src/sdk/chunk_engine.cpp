#include "borel/draft/chunk_engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "borel/error.hpp"
#include "chunk_of_head.hpp"

namespace borel {
namespace {

[[noreturn]] void missing(const char* function, const char* why) {
  throw MethodError(fmt::format("this method {}, but does not implement {}()", why, function));
}

/// Runs query heads that read the same keys over all chunks.
class HeadStream {
 public:
  HeadStream(const ChunkPass& pass, index_t begin, index_t end, index_t chunk)
      : pass_(pass),
        begin_(begin),
        end_(end),
        chunk_(pass, begin, chunk),
        state_(pass.f(), chunk_.d_o, pass.form().normalised) {}

  void causal(TensorView<float, 3> o) {
    const index_t end = pass_.call().query_offset + pass_.call().n_q();
    for (index_t p0 = 0; p0 < end; p0 += chunk_.n) {
      pass_.call().stop.throw_if_stopped();
      chunk_.load(p0, end);
      chunk_.write(state_);
      for (index_t head = begin_; head < end_ && chunk_.load_queries(head); ++head) {
        chunk_.score();
        chunk_.read(state_);
        chunk_.store(head, o);
      }
      chunk_.leave(state_);
    }
  }

  void bidirectional(TensorView<float, 3> o) {
    for (index_t j0 = 0; j0 < pass_.call().n_k(); j0 += chunk_.n) {
      pass_.call().stop.throw_if_stopped();
      chunk_.load(j0, pass_.call().n_k());
      chunk_.leave(state_);
    }
    for (index_t head = begin_; head < end_; ++head)
      for (index_t r0 = 0; r0 < pass_.call().n_q(); r0 += chunk_.n) {
        pass_.call().stop.throw_if_stopped();
        chunk_.read_all(head, r0, std::min(pass_.call().n_q(), r0 + chunk_.capacity), state_);
        chunk_.store(head, o);
      }
  }

 private:
  const ChunkPass& pass_;
  index_t begin_, end_;  // query heads
  ChunkOfHead chunk_;
  HeadState state_;
};

/// Longest context whose sums one float serves in steps: 256 roundings of 2^-25 each, systematic at worst, are 7.6e-6.
constexpr index_t k_one_float_sums = 256;

/// Whether a state holds S and z as sums of two floats.
bool sums_in_pairs(const ChunkForm& form, const AttentionContext& context) {
  return form.normalised && (context.max_n == 0 || context.max_n > k_one_float_sums);
}

index_t n_states(const ChunkForm& form, const AttentionContext& context) {
  return context.h_q / heads_per_state(form, context.h_q, context.h_kv);
}

/// One token as a call of one query and one key, so that step and forward share the feature code.
AttentionCall one_token(const AttentionStep::Token& token, PositionPlan& plan,
                        std::vector<TensorView<const float, 3>>& extra) {
  const auto view = [](const TensorView<const float, 2>& rows) {
    return TensorView<const float, 3>(rows.data(), {rows.shape(0), 1, rows.shape(1)},
                                      {rows.stride(0), rows.shape(1), 1});
  };
  AttentionCall call;
  call.q = view(token.q), call.k = view(token.k), call.v = view(token.v);
  for (const TensorView<const float, 2>& input : token.extra) extra.push_back(view(input));
  call.extra = extra;
  call.query_offset = token.t;
  call.parameters = token.parameters;
  call.context = token.context;
  if (token.position) {
    plan = *token.position;
    plan.key_offset = token.t;
    for (Band& band : plan.bands)  // the last key is the token's own; a plan for that key alone costs O(1)
      band.key_position =
          make_table(std::vector<double>(band.key_position->end() - band.n_axes, band.key_position->end()));
    call.position = &plan;
  }
  return call;
}

/// Logarithms of one key -> features relative to the largest logarithm so far. @return the state's log decay
float to_features(std::span<float> logarithms, float& largest) {
  const float before = largest, top = std::ranges::max(logarithms);
  if (top > largest) largest = top;
  const float shift = std::isinf(largest) ? 0 : largest;
  for (float& x : logarithms) x = std::exp(x - shift);
  return before == largest || std::isinf(before) ? 0 : before - largest;
}

}  // namespace

void ChunkAttention::log_decay(const ChunkRows&, TensorView<float, 2>) const {
  missing("log_decay", "has a decay");
}
void ChunkAttention::write_strength(const ChunkRows&, std::span<float> out) const {
  std::ranges::fill(out, 1.0f);
}
void ChunkAttention::bonus(const ChunkRows&, std::span<float> out) const { std::ranges::fill(out, 1.0f); }
void ChunkAttention::query_features_backward(const ChunkRows&, TensorView<const float, 2>,
                                             TensorView<const float, 2>, TensorView<const float, 2>,
                                             const ChunkRowGradients&) const {
  missing("query_features_backward", "has gradients");
}
void ChunkAttention::key_features_backward(const ChunkRows&, TensorView<const float, 2>,
                                           TensorView<const float, 2>, TensorView<const float, 2>,
                                           const ChunkRowGradients&) const {
  missing("key_features_backward", "has gradients");
}
// Decays, strengths and bonuses that depend on no input and no parameter have nothing to do here.
void ChunkAttention::log_decay_backward(const ChunkRows&, TensorView<const float, 2>,
                                        const ChunkRowGradients&) const {}
void ChunkAttention::write_strength_backward(const ChunkRows&, std::span<const float>,
                                             const ChunkRowGradients&) const {}
void ChunkAttention::bonus_backward(const ChunkRows&, std::span<const float>,
                                    const ChunkRowGradients&) const {}

void ChunkAttention::forward(const AttentionCall& call, TensorView<float, 3> o) const {
  forward_in_chunks(call, o, k_default_chunk);
}

void ChunkAttention::forward_in_chunks(const AttentionCall& call, TensorView<float, 3> o,
                                       index_t chunk) const {
  check_call(*this, call, o);
  if (chunk < 1) throw MethodError(fmt::format("the chunk must be >= 1, is {}", chunk));
  if (call.n_k() == 0) {
    for (index_t h = 0; h < o.shape(0); ++h)
      for (index_t r = 0; r < o.shape(1); ++r) std::ranges::fill(o.row(h, r), 0.0f);
    return;
  }
  const ChunkPass pass(*this, call);
  // Query heads that share keys go together, but not so many of them that a thread would have nothing to do.
  const index_t group = heads_per_state(pass.form(), call.h_q(), call.h_kv()), n_threads = max_threads();
  const index_t n_parts = std::min(group, (n_threads * group + call.h_q() - 1) / call.h_q());
  parallel_for(call.h_q() / group * n_parts, 1, [&](index_t unit, index_t) {
    const index_t first = unit / n_parts * group, part = unit % n_parts;
    HeadStream stream(pass, first + part * group / n_parts, first + (part + 1) * group / n_parts,
                      std::min(chunk, std::max(call.query_offset + call.n_q(), call.n_k())));
    if (call.causal)
      stream.causal(o);
    else
      stream.bidirectional(o);
  });
}

index_t ChunkAttention::state_size(const AttentionContext& context) const {
  const index_t numbers = feature_size(context) * (context.d_v + (form().normalised ? 1 : 0));
  return n_states(form(), context) *
         (numbers * (sums_in_pairs(form(), context) ? 2 : 1) + (form().log_keys ? 1 : 0));
}

double ChunkAttention::state_bytes(const AttentionContext& context, index_t) const {
  return static_cast<double>(sizeof(float)) * static_cast<double>(state_size(context));
}

double ChunkAttention::flops(const AttentionContext& context, index_t n_q, index_t n_k) const {
  const auto f = static_cast<double>(feature_size(context)), d_v = static_cast<double>(context.d_v);
  const auto within = static_cast<double>(n_q * k_default_chunk);  // lower triangles of the chunks, 2 x half
  double per_query_head = 2 * f * d_v * static_cast<double>(n_q),
         per_state = 2 * f * d_v * static_cast<double>(n_k);
  if (context.causal) per_query_head += within * (f + d_v);
  if (form().delta_rule) per_state += 2 * f * d_v * static_cast<double>(n_k) + within * (f + d_v);
  return static_cast<double>(context.h_q) * per_query_head +
         static_cast<double>(n_states(form(), context)) * per_state;
}

const AttentionWeights* ChunkAttention::weights() const {
  const ChunkForm f = form();
  return f.delta_rule || f.read_before_write || f.log_keys || f.decay == ChunkForm::Decay::channel ? nullptr
                                                                                                   : this;
}

void ChunkAttention::start(const AttentionContext& context, ParameterValues, std::span<float> state) const {
  const std::size_t of_head = state.size() / static_cast<std::size_t>(n_states(form(), context));
  if (static_cast<index_t>(state.size()) != state_size(context))
    throw MethodError(
        fmt::format("the state must hold {} floats, holds {}", state_size(context), state.size()));
  std::ranges::fill(state, 0.0f);
  for (std::size_t x = of_head; x <= state.size() && form().log_keys;
       x += of_head)  // the largest logarithm so far
    state[x - 1] = -std::numeric_limits<float>::infinity();
}

void ChunkAttention::step(const AttentionStep::Token& token, std::span<float> state,
                          TensorView<float, 2> o) const {
  if (token.position)
    if (const std::string reason = refuses(*token.position); !reason.empty())
      throw MethodError("attention step: position refused: " + reason);
  PositionPlan plan;
  std::vector<TensorView<const float, 3>> extra;
  const AttentionCall call = one_token(token, plan, extra);
  const ChunkPass pass(*this, call, token.t);
  const ChunkForm& form = pass.form();
  const index_t f = pass.f(), d_v = call.d_v(), width = pass.decay_width();
  const FeatureRows q(1, pass.f_pad(), pass.rotates()), k(1, pass.f_pad(), pass.rotates());
  const Scratch<float> decay(width), written(d_v), bonus_now(f);
  // Of each state: S [f, d_v]; normalised z [f]; in pairs what both leave as in HeadState; with log_keys the largest logarithm.
  float* s = state.data();
  const bool pairs = sums_in_pairs(form, token.context);
  const index_t group = heads_per_state(form, call.h_q(), call.h_kv());
  const index_t of_head = static_cast<index_t>(state.size()) / (call.h_q() / group);
  for (index_t first = 0; first < call.h_q(); first += group, s += of_head) {
    pass.keys(first, 0, 1, k);
    if (form.log_keys) {
      float& largest = s[of_head - 1];
      decay[0] = to_features({k.plain(), static_cast<std::size_t>(f)}, largest);
      pass.rotate_keys(0, 1, k);
    } else if (width > 0) {
      pass.log_decay(first, 0, 1, {decay.data(), {1, width}});
    }
    for (float& x : decay.span()) x = std::exp(std::max(x, static_cast<float>(-k_longest_log_decay)));
    float strength = 1;
    if (form.delta_rule) pass.write_strength(first, 0, 1, {&strength, 1});
    float* const z = form.normalised ? s + f * d_v : nullptr;
    float *const s_rest = pairs ? z + f : nullptr, *const z_rest = pairs ? s_rest + f * d_v : nullptr;
    const auto z_at = [&](index_t c) {
      return static_cast<double>(z[c]) + (pairs ? static_cast<double>(z_rest[c]) : 0);
    };
    for (index_t c = 0; c < f && form.normalised; ++c) {
      const double before = z_at(c);
      const double now = (width == 0 ? 1 : static_cast<double>(decay[width == 1 ? 0 : c])) * before +
                         static_cast<double>(k.plain()[c]);
      z[c] = static_cast<float>(now);
      if (pairs) z_rest[c] = static_cast<float>(now - static_cast<double>(z[c]));
    }
    const std::span<const float> v = call.v.row(call.kv_head(first), 0);
    for (index_t head = first; head < first + group; ++head) {
      pass.queries(head, 0, 1, q);
      const std::span<float> out = o.row(head);
      const kernels::StateStep now{
          f, d_v, width, decay.data(), q.rotated(), k.rotated(), v.data(), form.read_before_write, s_rest};
      if (head == first)
        kernels::state_step(now, form.delta_rule, strength, s, written.data(), out.data());
      else
        kernels::state_read(now, s, out.data());
      if (form.read_before_write) {
        pass.bonus(head, bonus_now.span());
        double own = 0;
        for (index_t c = 0; c < f; ++c)
          own += static_cast<double>(q.rotated()[c] * bonus_now[c] * k.rotated()[c]);
        for (std::size_t c = 0; c < out.size(); ++c) out[c] += static_cast<float>(own) * v[c];
      }
      if (!form.normalised) continue;
      double denominator = form.epsilon;
      for (index_t c = 0; c < f; ++c) denominator += static_cast<double>(q.plain()[c]) * z_at(c);
      for (float& x : out)
        x = denominator == 0 ? 0.0f : static_cast<float>(static_cast<double>(x) / denominator);
    }
  }
}

void ChunkAttention::rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
                          TensorView<float, 2> weights) const {
  const index_t n_rows = end - begin, n_k = call.n_k();
  if (n_rows == 0 || n_k == 0) return;
  const ChunkPass pass(*this, call);
  const index_t f = pass.f(), f_pad = pass.f_pad(), chunk = k_default_chunk;
  const bool decays = form().decay != ChunkForm::Decay::none, normalised = form().normalised;
  const FeatureRows q(n_rows, f_pad, pass.rotates()), k(chunk, f_pad, pass.rotates());
  const Scratch<float> k_t(f * chunk), k_plain_t(f * chunk), scores(n_rows * chunk),
      plain_scores(n_rows * chunk), decay(chunk);
  const index_t n_positions = call.causal ? std::max(n_k, end + call.query_offset) : n_k;
  const Scratch<double> cumulative(n_positions), denominator(n_rows);
  pass.queries(head, begin, end, q);
  std::ranges::fill(denominator.span(), 0.0);
  std::ranges::fill(k_t.span(), 0.0f);
  std::ranges::fill(k_plain_t.span(), 0.0f);
  double sum = 0;
  for (index_t j0 = 0; j0 < n_k; j0 += chunk) {
    call.stop.throw_if_stopped();
    const index_t j1 = std::min(n_k, j0 + chunk), n = j1 - j0;
    pass.keys(head, j0, j1, k);
    std::ranges::fill(decay.span(), 0.0f);
    if (decays) pass.log_decay(head, j0, j1, {decay.data(), {n, 1}});
    for (index_t t = 0; t < n; ++t) {
      cumulative[j0 + t] = sum += static_cast<double>(decay[t]);
      for (index_t c = 0; c < f; ++c)
        k_t[c * chunk + t] = k.rotated()[t * f_pad + c], k_plain_t[c * chunk + t] = k.plain()[t * f_pad + c];
    }
    kernels::multiply(q.rotated(), f_pad, k_t.data(), chunk, scores.data(), chunk, n_rows, f, chunk, false);
    kernels::multiply(q.plain(), f_pad, k_plain_t.data(), chunk, plain_scores.data(), chunk, n_rows, f, chunk,
                      false);
    for (index_t r = 0; r < n_rows; ++r)
      for (index_t t = 0; t < n; ++t) {
        const bool seen = !call.causal || j0 + t <= begin + r + call.query_offset;
        weights(r, j0 + t) = seen ? scores[r * chunk + t] : 0;
      }
    for (index_t r = 0; r < n_rows && normalised; ++r)
      for (index_t t = 0; t < n; ++t) {
        const index_t i = begin + r + call.query_offset;
        if (call.causal && j0 + t > i) break;
        // Earlier terms shrink with every token; the last decay is that of token i itself.
        if (decays) denominator[r] *= std::exp(static_cast<double>(decay[t]));
        denominator[r] += static_cast<double>(plain_scores[r * chunk + t]);
      }
  }
  for (index_t p0 = n_k; p0 < n_positions; p0 += chunk) {  // positions beyond the last key only decay
    const index_t n = std::min(n_positions - p0, chunk);
    std::ranges::fill(decay.span(), 0.0f);
    if (decays) pass.log_decay(head, p0, p0 + n, {decay.data(), {n, 1}});
    for (index_t t = 0; t < n; ++t) cumulative[p0 + t] = sum += static_cast<double>(decay[t]);
  }
  for (index_t r = 0; r < n_rows; ++r) {
    const index_t i = begin + r + call.query_offset;
    if (decays && i >= n_k) denominator[r] *= std::exp(cumulative[i] - cumulative[n_k - 1]);
    denominator[r] += form().epsilon;
    for (index_t j = 0; j < n_k; ++j) {
      double w = static_cast<double>(weights(r, j));
      if (decays && j <= i) w *= std::exp(cumulative[i] - cumulative[j]);
      if (normalised) w = denominator[r] == 0 ? 0 : w / denominator[r];
      weights(r, j) = static_cast<float>(w);
    }
  }
}

}  // namespace borel
