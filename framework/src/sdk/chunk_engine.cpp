#include "borel/draft/chunk_engine.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "attention_kernels.hpp"
#include "borel/error.hpp"
#include "rotation.hpp"

namespace borel {

void ChunkAttention::log_decay(const ChunkRows&, std::span<float>) const {
  throw MethodError("this method says that it has a decay, but does not implement log_decay()");
}

namespace {

using kernels::padded;

/// Feature rows of tokens, with and without rotation.
struct FeatureRows {
  FeatureRows(index_t n, index_t f) : plain(n * f), rotated(n * f) {}
  Scratch<float> plain, rotated;
};

/// What is read by all heads of one call.
class ChunkPass {
 public:
  /// @param first_key  absolute position of key row 0
  ChunkPass(const ChunkAttention& method, const AttentionCall& call, index_t first_key = 0)
      : method_(method),
        call_(call),
        first_key_(first_key),
        declared_(method.extra_inputs(call.context)),
        f_(method.feature_size(call.context)),
        band_(band_of(call.position)),
        n_pairs_(band_ ? call.position->n_rot_dims / 2 : 0),
        tables_(2 * n_pairs_ * (call.n_q() + call.n_k())) {
    if (!band_) return;
    if (2 * n_pairs_ > f_)
      throw MethodError(
          fmt::format("the rotation turns {} components, but this method has {} features", 2 * n_pairs_, f_));
    cosine_q_ = tables_.data(), sine_q_ = cosine_q_ + call.n_q() * n_pairs_;
    cosine_k_ = sine_q_ + call.n_q() * n_pairs_, sine_k_ = cosine_k_ + call.n_k() * n_pairs_;
    make_table(band_->query_position, call.n_q(), cosine_q_, sine_q_);
    make_table(band_->key_position, call.n_k(), cosine_k_, sine_k_);
  }

  index_t f() const { return f_; }
  bool rotates() const { return band_ != nullptr; }

  void queries(index_t head, index_t r0, index_t r1, FeatureRows& out) const {
    features(ExtraInput::Tokens::query, head, r0, r1, out);
  }
  void keys(index_t head, index_t j0, index_t j1, FeatureRows& out) const {
    features(ExtraInput::Tokens::key, head, j0, j1, out);
  }
  void log_decay(index_t head, index_t j0, index_t j1, std::span<float> out) const {
    std::vector<TensorView<const float, 2>> extra;
    method_.log_decay(rows(ExtraInput::Tokens::key, head, j0, j1, extra), out);
  }

 private:
  static const Band* band_of(const PositionPlan* plan) {
    return plan && !plan->bands.empty() && plan->bands.front().angle && plan->n_rot_dims > 0
               ? &plan->bands.front()
               : nullptr;
  }

  void make_table(const PositionTable& positions, index_t n, float* cosine, float* sine) const {
    parallel_for(n, 256, [&](index_t begin, index_t end) {
      rotation_table(*call_.position, *band_, rows_of(positions, begin, end), cosine + begin * n_pairs_,
                     sine + begin * n_pairs_);
    });
  }

  std::span<const double> rows_of(const PositionTable& positions, index_t begin, index_t end) const {
    return std::span(*positions)
        .subspan(static_cast<std::size_t>(begin * band_->n_axes),
                 static_cast<std::size_t>((end - begin) * band_->n_axes));
  }

  ChunkRows rows(ExtraInput::Tokens side, index_t head, index_t begin, index_t end,
                 std::vector<TensorView<const float, 2>>& extra) const {
    for (std::size_t e = 0; e < declared_.size(); ++e) {
      const index_t source = declared_[e].heads == ExtraInput::Heads::query ? head : call_.kv_head(head);
      if (declared_[e].tokens != side) {
        extra.emplace_back();
        continue;
      }
      if (end > call_.extra[e].shape(1))
        throw MethodError(fmt::format("the last query stands at {}, but '{}' is given for {} keys only",
                                      end - 1, declared_[e].name, call_.extra[e].shape(1)));
      extra.push_back(call_.extra[e][source].slice(0, begin, end));
    }
    const index_t first = begin + (side == ExtraInput::Tokens::query ? call_.query_offset : first_key_);
    return {call_.context, call_.parameters, head, first, end - begin, extra};
  }

  void features(ExtraInput::Tokens side, index_t head, index_t begin, index_t end, FeatureRows& out) const {
    const bool query = side == ExtraInput::Tokens::query;
    std::vector<TensorView<const float, 2>> extra;
    const ChunkRows about = rows(side, head, begin, end, extra);
    const TensorView<float, 2> plain(out.plain.data(), {end - begin, f_}),
        rotated(out.rotated.data(), {end - begin, f_});
    if (query)
      method_.query_features(about, call_.q[head].slice(0, begin, end), plain);
    else
      method_.key_features(about, call_.k[call_.kv_head(head)].slice(0, begin, end), plain);
    if (!band_) {
      std::copy_n(plain.data(), plain.size(), rotated.data());
      return;
    }
    const PositionTable& table = query ? band_->query_position : band_->key_position;
    apply_rotation(*call_.position, *band_, rows_of(table, begin, end),
                   (query ? cosine_q_ : cosine_k_) + begin * n_pairs_,
                   (query ? sine_q_ : sine_k_) + begin * n_pairs_, query ? 1 : -1, 0, plain, rotated);
  }

  const ChunkAttention& method_;
  const AttentionCall& call_;
  index_t first_key_;
  std::vector<ExtraInput> declared_;
  index_t f_;
  const Band* band_;
  index_t n_pairs_;
  Scratch<float> tables_;
  float *cosine_q_ = nullptr, *sine_q_ = nullptr, *cosine_k_ = nullptr, *sine_k_ = nullptr;
};

/// One head, streamed over chunks.
class HeadStream {
 public:
  HeadStream(const ChunkAttention& method, const AttentionCall& call, const ChunkPass& pass, index_t head,
             index_t chunk)
      : method_(method),
        call_(call),
        pass_(pass),
        head_(head),
        chunk_(chunk),
        f_(pass.f()),
        d_o_(padded(call.d_v())),
        c_pad_(padded(chunk)),
        q_(chunk, f_),
        k_(chunk, f_),
        k_t_(f_ * c_pad_),
        v_(chunk * d_o_),
        scores_(chunk * c_pad_),
        o_(chunk * d_o_),
        s_(f_ * d_o_),
        z_(f_),
        decay_(chunk),
        cumulative_(chunk),
        denominator_(chunk) {
    std::ranges::fill(s_.span(), 0.0f);
    std::ranges::fill(z_.span(), 0.0);
  }

  void causal(TensorView<float, 3> o) {
    const index_t offset = call_.query_offset;
    for (index_t j0 = 0; j0 < std::min(call_.n_k(), offset + call_.n_q()); j0 += chunk_) {
      call_.stop.throw_if_stopped();
      const index_t j1 = std::min(call_.n_k(), j0 + chunk_);
      load_keys(j0, j1);
      const index_t r0 = std::max<index_t>(0, j0 - offset), r1 = std::clamp(j1 - offset, r0, call_.n_q());
      pass_.queries(head_, r0, r1, q_);
      advance_normaliser(j0, j1, r0, r1);
      if (r1 > r0) rows_of_chunk(j0, j1, r0, r1, o);
      advance_state(j1 - j0);
    }
  }

  /// Rows beyond the last key: the state only decays.
  void causal_after_keys(TensorView<float, 3> o) {
    const index_t offset = call_.query_offset;
    for (index_t p0 = call_.n_k(); p0 < offset + call_.n_q(); p0 += chunk_) {
      call_.stop.throw_if_stopped();
      const index_t p1 = std::min(offset + call_.n_q(), p0 + chunk_), n = p1 - p0;
      load_decay(p0, p1);
      const index_t r0 = std::max<index_t>(0, p0 - offset), r1 = p1 - offset;
      if (r1 > r0) {
        pass_.queries(head_, r0, r1, q_);
        kernels::multiply(q_.rotated.data(), f_, s_.data(), d_o_, o_.data(), d_o_, r1 - r0, f_, d_o_, false);
        for (index_t r = 0; r < r1 - r0; ++r) {
          const double decayed = std::exp(cumulative_[r0 + offset - p0 + r]);
          for (index_t c = 0; c < d_o_; ++c) o_[r * d_o_ + c] *= static_cast<float>(decayed);
          denominator_[r] = method_.epsilon() + decayed * (against_normaliser(r) - method_.epsilon());
        }
        store(r0, r1, o);
      }
      const double all = std::exp(cumulative_[n - 1]);
      for (float& x : s_.span()) x *= static_cast<float>(all);
      for (double& x : z_.span()) x *= all;
    }
  }

  void bidirectional(TensorView<float, 3> o) {
    for (index_t j0 = 0; j0 < call_.n_k(); j0 += chunk_) {
      call_.stop.throw_if_stopped();
      const index_t j1 = std::min(call_.n_k(), j0 + chunk_);
      load_keys(j0, j1);
      advance_normaliser(j0, j1, 0, 0);
      advance_state(j1 - j0);
    }
    for (index_t r0 = 0; r0 < call_.n_q(); r0 += chunk_) {
      call_.stop.throw_if_stopped();
      const index_t r1 = std::min(call_.n_q(), r0 + chunk_);
      pass_.queries(head_, r0, r1, q_);
      kernels::multiply(q_.rotated.data(), f_, s_.data(), d_o_, o_.data(), d_o_, r1 - r0, f_, d_o_, false);
      for (index_t r = 0; r < r1 - r0; ++r) denominator_[r] = against_normaliser(r);
      store(r0, r1, o);
    }
  }

 private:
  void load_keys(index_t j0, index_t j1) {
    const index_t n = j1 - j0;
    pass_.keys(head_, j0, j1, k_);
    for (index_t c = 0; c < f_; ++c) {
      for (index_t t = 0; t < n; ++t) k_t_[c * c_pad_ + t] = k_.rotated[t * f_ + c];
      std::fill(k_t_.data() + c * c_pad_ + n, k_t_.data() + (c + 1) * c_pad_, 0.0f);
    }
    for (index_t t = 0; t < n; ++t) {
      float* end = std::ranges::copy(call_.v.row(call_.kv_head(head_), j0 + t), v_.data() + t * d_o_).out;
      std::fill(end, v_.data() + (t + 1) * d_o_, 0.0f);
    }
    load_decay(j0, j1);
  }

  void load_decay(index_t p0, index_t p1) {
    const index_t n = p1 - p0;
    std::fill_n(decay_.data(), n, 0.0f);
    if (method_.has_decay()) pass_.log_decay(head_, p0, p1, decay_.span().first(static_cast<std::size_t>(n)));
    double sum = 0;
    for (index_t t = 0; t < n; ++t) cumulative_[t] = sum += static_cast<double>(decay_[t]);
  }

  /// z through the tokens of the chunk, in double: it sums up to n positive terms. Fills denominator_ of rows
  /// [r0, r1).
  void advance_normaliser(index_t j0, index_t j1, index_t r0, index_t r1) {
    if (!method_.normalised()) return;
    for (index_t j = j0; j < j1; ++j) {
      const float* key = k_.plain.data() + (j - j0) * f_;
      const double factor = std::exp(static_cast<double>(decay_[j - j0]));
      for (index_t c = 0; c < f_; ++c) z_[c] = factor * z_[c] + static_cast<double>(key[c]);
      const index_t row = j - call_.query_offset;
      if (row >= r0 && row < r1) denominator_[row - r0] = against_normaliser(row - r0);
    }
  }

  double against_normaliser(index_t r) const {
    double sum = method_.epsilon();
    for (index_t c = 0; c < f_; ++c) sum += static_cast<double>(q_.plain[r * f_ + c]) * z_[c];
    return sum;
  }

  void rows_of_chunk(index_t j0, index_t j1, index_t r0, index_t r1, TensorView<float, 3> o) {
    const index_t n = r1 - r0, first = r0 + call_.query_offset - j0;  // place of row r0 in the chunk
    kernels::multiply(q_.rotated.data(), f_, k_t_.data(), c_pad_, scores_.data(), c_pad_, n, f_, c_pad_,
                      false);
    for (index_t r = 0; r < n; ++r) {
      float* row = scores_.data() + r * c_pad_;
      const index_t p = first + r;
      if (method_.has_decay())
        for (index_t t = 0; t <= p; ++t)
          row[t] *= static_cast<float>(std::exp(cumulative_[p] - cumulative_[t]));
      std::fill(row + p + 1, row + c_pad_, 0.0f);
    }
    kernels::multiply(scores_.data(), c_pad_, v_.data(), d_o_, o_.data(), d_o_, n, j1 - j0, d_o_, false);
    if (method_.has_decay())
      for (index_t r = 0; r < n; ++r) {
        const auto factor = static_cast<float>(std::exp(cumulative_[first + r]));
        for (index_t c = 0; c < f_; ++c) q_.rotated[r * f_ + c] *= factor;
      }
    kernels::multiply(q_.rotated.data(), f_, s_.data(), d_o_, o_.data(), d_o_, n, f_, d_o_, true);
    store(r0, r1, o);
  }

  void advance_state(index_t n) {
    if (method_.has_decay()) {
      const double all = cumulative_[n - 1];
      for (index_t t = 0; t < n; ++t) {
        const auto factor = static_cast<float>(std::exp(all - cumulative_[t]));
        for (index_t c = 0; c < f_; ++c) k_t_[c * c_pad_ + t] *= factor;
      }
      const auto factor = static_cast<float>(std::exp(all));
      for (float& x : s_.span()) x *= factor;
    }
    kernels::multiply(k_t_.data(), c_pad_, v_.data(), d_o_, s_.data(), d_o_, f_, n, d_o_, true);
  }

  void store(index_t r0, index_t r1, TensorView<float, 3> o) const {
    for (index_t r = r0; r < r1; ++r) {
      const double denominator = method_.normalised() ? denominator_[r - r0] : 1;
      const auto factor = static_cast<float>(denominator == 0 ? 0 : 1 / denominator);
      const float* from = o_.data() + (r - r0) * d_o_;
      for (float& x : o.row(head_, r)) x = factor * *from++;
    }
  }

  const ChunkAttention& method_;
  const AttentionCall& call_;
  const ChunkPass& pass_;
  index_t head_, chunk_, f_, d_o_, c_pad_;
  FeatureRows q_, k_;
  Scratch<float> k_t_, v_, scores_, o_, s_;
  Scratch<double> z_;
  Scratch<float> decay_;
  Scratch<double> cumulative_, denominator_;
};

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
  call.parameters = token.parameters;
  call.context = token.context;
  if (token.position) {
    plan = *token.position;
    for (Band& band : plan.bands)  // the last key is the token's own
      band.key_position =
          make_table(std::vector<double>(band.key_position->end() - band.n_axes, band.key_position->end()));
    call.position = &plan;
  }
  return call;
}

}  // namespace

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
  parallel_for(call.h_q(), 1, [&](index_t head, index_t) {
    HeadStream stream(*this, call, pass, head,
                      std::min(chunk, std::max(call.query_offset + call.n_q(), call.n_k())));
    if (!call.causal) return stream.bidirectional(o);
    stream.causal(o);
    stream.causal_after_keys(o);
  });
}

index_t ChunkAttention::state_size(const AttentionContext& context) const {
  return context.h_q * feature_size(context) * (context.d_v + (normalised() ? 1 : 0));
}

double ChunkAttention::state_bytes(const AttentionContext& context, index_t) const {
  return static_cast<double>(sizeof(float)) * static_cast<double>(state_size(context));
}

double ChunkAttention::flops(const AttentionContext& context, index_t n_q, index_t n_k) const {
  const auto f = static_cast<double>(feature_size(context)), d_v = static_cast<double>(context.d_v);
  double per_head = 2 * f * d_v * static_cast<double>(n_q + n_k);
  if (context.causal)
    per_head += static_cast<double>(n_q * k_default_chunk) * (f + d_v);  // lower triangle of the chunks
  return static_cast<double>(context.h_q) * per_head;
}

void ChunkAttention::start(const AttentionContext& context, ParameterValues, std::span<float> state) const {
  if (static_cast<index_t>(state.size()) != state_size(context))
    throw MethodError(
        fmt::format("the state must hold {} floats, holds {}", state_size(context), state.size()));
  std::ranges::fill(state, 0.0f);
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
  const index_t f = pass.f(), d_v = call.d_v();
  FeatureRows q(1, f), k(1, f);
  const Scratch<double> sum(d_v);
  float* s = state.data();
  for (index_t head = 0; head < call.h_q(); ++head) {
    pass.queries(head, 0, 1, q);
    pass.keys(head, 0, 1, k);
    float log_decay_now = 0;
    if (has_decay()) pass.log_decay(head, 0, 1, {&log_decay_now, 1});
    const float decay = std::exp(log_decay_now);
    const std::span<const float> v = call.v.row(call.kv_head(head), 0);
    std::ranges::fill(sum.span(), 0.0);
    for (index_t a = 0; a < f; ++a)
      for (index_t c = 0; c < d_v; ++c, ++s) {
        *s = decay * *s + k.rotated[a] * v[static_cast<std::size_t>(c)];
        sum[c] += static_cast<double>(q.rotated[a] * *s);
      }
    double denominator = normalised() ? epsilon() : 1;
    for (index_t a = 0; normalised() && a < f; ++a, ++s) {
      *s = decay * *s + k.plain[a];
      denominator += static_cast<double>(q.plain[a] * *s);
    }
    for (index_t c = 0; c < d_v; ++c)
      o(head, c) = denominator == 0 ? 0.0f : static_cast<float>(sum[c] / denominator);
  }
}

void ChunkAttention::rows(const AttentionCall& call, index_t head, index_t begin, index_t end,
                          TensorView<float, 2> weights) const {
  const index_t n_rows = end - begin, n_k = call.n_k();
  if (n_rows == 0 || n_k == 0) return;
  const ChunkPass pass(*this, call);
  const index_t f = pass.f(), chunk = k_default_chunk;
  FeatureRows q(n_rows, f), k(chunk, f);
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
    if (has_decay()) pass.log_decay(head, j0, j1, decay.span().first(static_cast<std::size_t>(n)));
    for (index_t t = 0; t < n; ++t) {
      cumulative[j0 + t] = sum += static_cast<double>(decay[t]);
      for (index_t c = 0; c < f; ++c)
        k_t[c * chunk + t] = k.rotated[t * f + c], k_plain_t[c * chunk + t] = k.plain[t * f + c];
    }
    kernels::multiply(q.rotated.data(), f, k_t.data(), chunk, scores.data(), chunk, n_rows, f, chunk, false);
    kernels::multiply(q.plain.data(), f, k_plain_t.data(), chunk, plain_scores.data(), chunk, n_rows, f,
                      chunk, false);
    for (index_t r = 0; r < n_rows; ++r)
      for (index_t t = 0; t < n; ++t) {
        const bool seen = !call.causal || j0 + t <= begin + r + call.query_offset;
        weights(r, j0 + t) = seen ? scores[r * chunk + t] : 0;
      }
    for (index_t r = 0; r < n_rows && normalised(); ++r)
      for (index_t t = 0; t < n; ++t) {
        const index_t i = begin + r + call.query_offset;
        if (call.causal && j0 + t > i) break;
        // Earlier terms shrink with every token; the last decay is that of token i itself.
        if (has_decay()) denominator[r] *= std::exp(static_cast<double>(decay[t]));
        denominator[r] += static_cast<double>(plain_scores[r * chunk + t]);
      }
  }
  for (index_t p0 = n_k; p0 < n_positions; p0 += chunk) {  // positions beyond the last key only decay
    const index_t n = std::min(n_positions - p0, chunk);
    std::ranges::fill(decay.span(), 0.0f);
    if (has_decay()) pass.log_decay(head, p0, p0 + n, decay.span().first(static_cast<std::size_t>(n)));
    for (index_t t = 0; t < n; ++t) cumulative[p0 + t] = sum += static_cast<double>(decay[t]);
  }
  for (index_t r = 0; r < n_rows; ++r) {
    const index_t i = begin + r + call.query_offset;
    if (has_decay() && i >= n_k) denominator[r] *= std::exp(cumulative[i] - cumulative[n_k - 1]);
    denominator[r] += epsilon();
    for (index_t j = 0; j < n_k; ++j) {
      double w = static_cast<double>(weights(r, j));
      if (has_decay() && j <= i) w *= std::exp(cumulative[i] - cumulative[j]);
      if (normalised()) w = denominator[r] == 0 ? 0 : w / denominator[r];
      weights(r, j) = static_cast<float>(w);
    }
  }
}

}  // namespace borel
