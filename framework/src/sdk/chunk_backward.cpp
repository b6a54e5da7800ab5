// Gradients of the chunk engine. The forward states at the chunk borders are computed again, then the chunks are walked
// in reverse with D = d loss / d S at their right border. In the names of chunk_of_head.hpp, N the numerators and
// d the denominators of the rows:
//
//   dN = dO / d                     dd = -dO . O / d
//   dA = lower(dN U^T + dd)         dU = A^T dN + k~ D'',  D'' = exp(L_last) D
//   dq~ = dN S^T + dA k~ + dd z     dk~ = dA^T q~ + U D''^T + dz''        dS = q~^T dN + D''
//   delta rule, with dR = (I + M)^-T dU and W = v - what was read:
//     dV = diag(beta) dR   dbeta = dR . W   G = -strictly lower(dV U^T)
//     dk^ = G k~ - dV S^T   dk~ += G^T k^   dS -= k^^T dV
//   dL_t = dq~ . q~ - dk~ . k~ + dk^ . k^ by channel, dL_last += (S + k~^T U) . D'';  dl_s = sum_{t >= s} dL_t
#include <algorithm>
#include <cmath>

#include "borel/draft/chunk_engine.hpp"
#include "chunk_of_head.hpp"

namespace borel {
namespace {

using kernels::as_is;
using kernels::padded;
using kernels::product;
using kernels::transposed;
using Shape = kernels::Shape;
using Tokens = ExtraInput::Tokens;

/// Where one key head's share of the gradients goes; parameters and angles have their own buffers until all heads are done.
struct Sink {
  const AttentionBackward::Gradients& gradients;
  ParameterGradients parameters;
  std::span<double> angle;
};

/// Query heads [begin, end) that read one state. head_ is the one that is looked at, begin_ the one that keys are mapped for.
class HeadBackward {
 public:
  HeadBackward(const ChunkPass& pass, index_t begin, index_t end, index_t capacity,
               TensorView<const float, 3> o, TensorView<const float, 3> d_o, const Sink& sink)
      : pass_(pass),
        call_(pass.call()),
        o_(o),
        d_o_(d_o),
        sink_(sink),
        declared_(pass.method().extra_inputs(call_.context)),
        begin_(begin),
        end_(end),
        head_(begin),
        c_(pass, begin, capacity),
        state_size_(c_.f * c_.d_o),
        state_(c_.f, c_.d_o, pass.form().normalised),
        d_state_(c_.f, c_.d_o, false),
        state_t_(c_.d_o * c_.f_pad),
        d_state_t_(c_.d_o * c_.f_pad),
        u_t_(c_.d_o * c_.c_pad),
        d_n_(capacity * c_.d_o),
        d_u_(capacity * c_.d_o),
        d_scores_(capacity * c_.c_pad),
        d_q_(capacity * c_.f_pad),
        d_k_(capacity * c_.f_pad),
        d_k_read_(capacity * c_.f_pad),
        d_q_plain_(capacity * c_.f_pad),
        d_k_plain_(capacity * c_.f_pad),
        d_denominator_(capacity),
        d_log_(c_.width > 0 ? (capacity + 1) * c_.exponent_width : 0),
        d_log_float_(capacity * std::max<index_t>(1, c_.exponent_width)),
        d_bonus_(c_.f) {
    for (const Scratch<float>* s : {&u_t_, &state_t_, &d_state_t_, &d_bonus_})
      std::ranges::fill(s->span(), 0.0f);
  }

  void causal() {
    struct Border {
      index_t p0, n;
      double largest_log;
    };
    std::vector<Border> borders;
    std::vector<float> states;
    std::vector<double> normalisers;
    const index_t end = call_.query_offset + call_.n_q();
    for (index_t p0 = 0; p0 < end; p0 += c_.n) {
      call_.stop.throw_if_stopped();
      const double before = c_.largest_log;
      c_.load(p0, end);
      borders.push_back({p0, c_.n, before});
      states.insert(states.end(), state_.s.data(), state_.s.data() + state_size_);
      normalisers.insert(normalisers.end(), state_.z.data(), state_.z.data() + c_.f);
      c_.write(state_);
      c_.leave(state_);
    }
    for (std::size_t b = borders.size(); b-- > 0;) {
      call_.stop.throw_if_stopped();
      c_.last_n = c_.capacity, c_.largest_log = borders[b].largest_log;
      c_.load(borders[b].p0, borders[b].p0 + borders[b].n);
      std::copy_n(states.begin() + static_cast<index_t>(b) * state_size_, state_size_, state_.s.data());
      std::copy_n(normalisers.begin() + static_cast<index_t>(b) * c_.f, c_.f, state_.z.data());
      chunk();
    }
    if (pass_.form().read_before_write) {
      std::vector<TensorView<const float, 2>> extra, none(declared_.size());
      pass_.method().bonus_backward(
          pass_.rows(Tokens::key, begin_, 0, 0, extra), d_bonus_.span(),
          {{}, std::vector<TensorView<float, 2>>(declared_.size()), sink_.parameters});
    }
  }

  void bidirectional() {
    const index_t n_k = call_.n_k(), n_q = call_.n_q();
    for (index_t j0 = 0; j0 < n_k; j0 += c_.n) c_.load(j0, n_k), c_.leave(state_);
    kernels::transpose(state_.s.data(), c_.d_o, c_.f, c_.d_o, state_t_.data(), c_.f_pad);
    for (head_ = begin_; head_ < end_; ++head_)
      for (index_t r0 = 0; r0 < n_q; r0 += c_.n) {
        call_.stop.throw_if_stopped();
        c_.read_all(head_, r0, std::min(n_q, r0 + c_.capacity), state_);
        load_output_gradients();
        product(as_is(d_n_.data(), c_.d_o), state_t_.data(), c_.f_pad, d_q_.data(), c_.f_pad, c_.n, c_.d_v,
                c_.f_pad, false);
        product(transposed(c_.q.rotated(), c_.f_pad), d_n_.data(), c_.d_o, d_state_.s.data(), c_.d_o, c_.f,
                c_.n, c_.d_o, true);
        clear(d_q_plain_);
        if (pass_.form().normalised) through_denominators(c_.q.plain(), d_q_plain_.data());
        query_side();
      }
    kernels::transpose(d_state_.s.data(), c_.d_o, c_.f, c_.d_o, d_state_t_.data(), c_.f_pad);
    // With log_keys all keys are now taken relative to the largest of all, as the final state is: no decay is left.
    for (index_t j0 = 0; j0 < n_k; j0 += c_.n) {
      call_.stop.throw_if_stopped();
      c_.load(j0, n_k);
      product(as_is(c_.v.data(), c_.d_o), d_state_t_.data(), c_.f_pad, d_k_.data(), c_.f_pad, c_.n, c_.d_v,
              c_.f_pad, false);
      product(as_is(c_.k.rotated(), c_.f_pad), d_state_.s.data(), c_.d_o, d_u_.data(), c_.d_o, c_.n, c_.f,
              c_.d_o, false);
      clear(d_k_plain_);
      if (pass_.form().normalised) add_to_rows(d_k_plain_.data());
      key_side();
    }
  }

 private:
  static void clear(const Scratch<float>& rows) { std::ranges::fill(rows.span(), 0.0f); }

  /// dN and dd of the rows of the chunk; rows without a query are zero.
  void load_output_gradients() {
    std::fill_n(d_n_.data(), c_.n * c_.d_o, 0.0f);
    std::fill_n(d_denominator_.data(), c_.n, 0.0f);
    for (index_t r = c_.row_begin; r < c_.row_end; ++r) {
      const index_t t = r - c_.row_begin + c_.first_row;
      const float d = pass_.form().normalised ? c_.denominator[t] : 1;
      const float factor = d == 0 ? 0 : 1 / d;
      double inner = 0;
      for (index_t c = 0; c < c_.d_v; ++c) {
        d_n_[t * c_.d_o + c] = factor * d_o_(head_, r, c);
        inner += static_cast<double>(d_o_(head_, r, c) * o_(head_, r, c));
      }
      d_denominator_[t] = static_cast<float>(-inner) * factor;
    }
  }

  /// rows += dd z, and dz += rows' features^T dd.
  void through_denominators(const float* features, float* d_rows) {
    for (index_t t = 0; t < c_.n; ++t) {
      const float d = d_denominator_[t];
      if (d == 0) continue;
      for (index_t c = 0; c < c_.f; ++c) {
        d_rows[t * c_.f_pad + c] += d * static_cast<float>(state_.z[c]);
        d_state_.z[c] += static_cast<double>(d * features[t * c_.f_pad + c]);
      }
    }
  }
  void add_to_rows(float* d_rows) const {
    for (index_t t = 0; t < c_.n; ++t)
      for (index_t c = 0; c < c_.f; ++c) d_rows[t * c_.f_pad + c] += static_cast<float>(d_state_.z[c]);
  }

  void chunk() {
    const ChunkForm& form = pass_.form();
    c_.write(state_);
    if (c_.width > 0) std::ranges::fill(d_log_.span(), 0.0);
    c_.decay(d_state_);  // D'' and dz''
    kernels::transpose(state_.s.data(), c_.d_o, c_.f, c_.d_o, state_t_.data(), c_.f_pad);
    kernels::transpose(d_state_.s.data(), c_.d_o, c_.f, c_.d_o, d_state_t_.data(), c_.f_pad);
    // through S + k~^T U and z + sum of k~
    product(as_is(c_.written(), c_.d_o), d_state_t_.data(), c_.f_pad, d_k_.data(), c_.f_pad, c_.n, c_.d_v,
            c_.f_pad, false);
    product(as_is(c_.k_tilde(), c_.f_pad), d_state_.s.data(), c_.d_o, d_u_.data(), c_.d_o, c_.n, c_.f, c_.d_o,
            false);
    clear(d_k_plain_), clear(d_k_read_);
    if (form.normalised) add_to_rows(c_.rotates ? d_k_plain_.data() : d_k_.data());
    if (c_.width > 0) through_border();
    kernels::transpose(c_.written(), c_.d_o, c_.n, c_.d_v, u_t_.data(), c_.c_pad);
    for (head_ = begin_; head_ < end_ && c_.load_queries(head_); ++head_) {
      clear(d_q_plain_), clear(d_q_);
      through_rows();
      if (c_.width > 0) queries_through_decay();
      query_side();
    }
    if (form.delta_rule) through_delta_rule();
    if (c_.width > 0) keys_through_decay();
    if (c_.has_keys) key_side();
  }

  /// dL_last from the factor exp(L_last) of the state: (S + k~^T U) . D'' by channel.
  void through_border() {
    double* last = d_log_.data() + c_.n * c_.exponent_width;
    const Scratch<float> inner(c_.f);
    kernels::paired_row_dots(state_.s.data(), c_.d_o, d_state_.s.data(), c_.d_o, c_.f, c_.d_o, inner.data());
    for (index_t c = 0; c < c_.f; ++c) {
      double sum = static_cast<double>(inner[c]);
      for (index_t t = 0; t < c_.n; ++t)
        sum += static_cast<double>(c_.k_tilde()[t * c_.f_pad + c] * d_k_[t * c_.f_pad + c]);
      if (pass_.form().normalised) {
        sum += state_.z[c] * d_state_.z[c];
        if (c_.rotates)  // without rotation it is part of d_k_ already
          for (index_t t = 0; t < c_.n; ++t)
            sum += static_cast<double>(c_.k_plain_tilde()[t * c_.f_pad + c]) * d_state_.z[c];
      }
      last[c_.exponent_width == 1 ? 0 : c] += sum;
    }
  }

  void through_rows() {
    const ChunkForm& form = pass_.form();
    const index_t n = c_.n, n_pad = padded(n), ld = c_.f_pad;
    c_.score();
    if (form.normalised) c_.read(state_);
    load_output_gradients();
    product(as_is(d_n_.data(), c_.d_o), u_t_.data(), c_.c_pad, d_scores_.data(), c_.c_pad, n, c_.d_v, n_pad,
            false, Shape::lower_out);
    if (form.normalised && !c_.rotates)
      for (index_t t = 0; t < n; ++t)
        for (index_t j = 0; j <= t; ++j) d_scores_[t * c_.c_pad + j] += d_denominator_[t];
    if (form.read_before_write) through_own_key();
    kernels::keep_lower(d_scores_.data(), c_.c_pad, n, n_pad, form.read_before_write, nullptr);
    product(transposed(c_.scores.data(), c_.c_pad), d_n_.data(), c_.d_o, d_u_.data(), c_.d_o, n, n, c_.d_o,
            true, Shape::upper_in);
    product(as_is(d_n_.data(), c_.d_o), state_t_.data(), ld, d_q_.data(), ld, n, c_.d_v, ld, true);
    product(as_is(d_scores_.data(), c_.c_pad), c_.k_tilde(), ld, d_q_.data(), ld, n, n, ld, true,
            Shape::lower_in);
    product(transposed(d_scores_.data(), c_.c_pad), c_.q_tilde(), ld, d_k_.data(), ld, n, n, ld, true,
            Shape::upper_in);
    product(transposed(c_.q_tilde(), ld), d_n_.data(), c_.d_o, d_state_.s.data(), c_.d_o, c_.f, n, c_.d_o,
            true);
    if (!form.normalised) return;
    through_denominators(c_.q_plain_tilde(), c_.rotates ? d_q_plain_.data() : d_q_.data());
    if (!c_.rotates) return;
    for (index_t t = 0; t < n; ++t)  // the plain scores only enter the denominators
      std::fill_n(d_scores_.data() + t * c_.c_pad, t + 1, d_denominator_[t]);
    product(as_is(d_scores_.data(), c_.c_pad), c_.k_plain_tilde(), ld, d_q_plain_.data(), ld, n, n, ld, true,
            Shape::lower_in);
    product(transposed(d_scores_.data(), c_.c_pad), c_.q_plain_tilde(), ld, d_k_plain_.data(), ld, n, n, ld,
            true, Shape::upper_in);
  }

  /// The diagonal of A with read_before_write: q . diag(bonus) k of the token itself, without decay. Its gradients
  /// go to the plain rows, which join behind the decay.
  void through_own_key() {
    for (index_t t = 0; t < c_.n; ++t) {
      const float d = d_scores_[t * c_.c_pad + t];
      const float *q = c_.q.rotated() + t * c_.f_pad, *k = c_.k.rotated() + t * c_.f_pad;
      for (index_t c = 0; c < c_.f; ++c) {
        own_q_or_k(d_q_plain_, t, c) += d * c_.bonus[c] * k[c];
        own_q_or_k(d_k_plain_, t, c) += d * c_.bonus[c] * q[c];
        d_bonus_[c] += d * q[c] * k[c];
      }
    }
  }
  float& own_q_or_k(const Scratch<float>& rows, index_t t, index_t c) const { return rows[t * c_.f_pad + c]; }

  void through_delta_rule() {
    const index_t n = c_.n, n_pad = padded(n), ld = c_.f_pad, d_o = c_.d_o;
    kernels::solve_unit_lower_transposed(c_.solver.data(), c_.c_pad, d_u_.data(), d_o, n, d_o);  // dR
    // W = v - k^ S - strictly lower(k^ k~^T) U, for the strengths.
    const Scratch<float> read(n * d_o), d_strength(n);
    product(as_is(c_.k_hat(), ld), state_.s.data(), d_o, read.data(), d_o, n, c_.f, d_o, false);
    kernels::transpose(c_.k_tilde(), ld, n, c_.f, c_.k_scaled_t.data(), c_.c_pad);
    product(as_is(c_.k_hat(), ld), c_.k_scaled_t.data(), c_.c_pad, c_.solver.data(), c_.c_pad, n, c_.f, n_pad,
            false, Shape::lower_out);
    kernels::keep_lower(c_.solver.data(), c_.c_pad, n, n_pad, true, nullptr);
    product(as_is(c_.solver.data(), c_.c_pad), c_.u.data(), d_o, read.data(), d_o, n, n, d_o, true,
            Shape::lower_in);
    for (index_t t = 0; t < n; ++t) {
      double sum = 0;
      for (index_t c = 0; c < c_.d_v; ++c)
        sum += static_cast<double>(d_u_[t * d_o + c] * (c_.v[t * d_o + c] - read[t * d_o + c]));
      d_strength[t] = static_cast<float>(sum);
      for (index_t c = 0; c < d_o; ++c) read[t * d_o + c] = -(d_u_[t * d_o + c] *= c_.strength[t]);  // -dV
    }
    product(as_is(read.data(), d_o), u_t_.data(), c_.c_pad, d_scores_.data(), c_.c_pad, n, c_.d_v, n_pad,
            false, Shape::lower_out);
    kernels::keep_lower(d_scores_.data(), c_.c_pad, n, n_pad, true, nullptr);  // G
    product(as_is(d_scores_.data(), c_.c_pad), c_.k_tilde(), ld, d_k_read_.data(), ld, n, n, ld, true,
            Shape::lower_in);
    product(as_is(read.data(), d_o), state_t_.data(), ld, d_k_read_.data(), ld, n, c_.d_v, ld, true);
    product(transposed(d_scores_.data(), c_.c_pad), c_.k_hat(), ld, d_k_.data(), ld, n, n, ld, true,
            Shape::upper_in);
    product(transposed(c_.k_hat(), ld), read.data(), d_o, d_state_.s.data(), d_o, c_.f, n, d_o, true);
    if (!c_.has_keys) return;
    std::vector<TensorView<const float, 2>> extra;
    std::vector<TensorView<float, 2>> d_extra;
    const ChunkRows rows = pass_.rows(Tokens::key, begin_, c_.p0, c_.p0 + n, extra);
    pass_.method().write_strength_backward(rows, d_strength.span(),
                                           into(Tokens::key, c_.p0, c_.p0 + n, {}, d_extra));
  }

  bool normalised_apart() const { return pass_.form().normalised && c_.rotates; }

  /// dL += sign rows . d_rows by channel, for the tokens' L from row `first` on.
  void add_to_log(const float* rows, const float* d_rows, double sign, index_t first) {
    const index_t w = c_.exponent_width, ld = c_.f_pad;
    for (index_t t = 0; t < c_.n; ++t)
      for (index_t c = 0; c < c_.f; ++c)
        d_log_[(t + first) * w + (w == 1 ? 0 : c)] +=
            sign * static_cast<double>(rows[t * ld + c]) * static_cast<double>(d_rows[t * ld + c]);
  }
  void scale(const double* exponent, double sign, float* rows) const {
    kernels::scale_by_exp(exponent, c_.exponent_width == 1 ? 1 : c_.f, sign, rows, c_.n, c_.f, c_.f_pad,
                          rows);
  }

  /// The share of scaled queries in dL, and their gradients before scaling.
  void queries_through_decay() {
    const index_t first = pass_.form().read_before_write ? 0 : 1;
    add_to_log(c_.q_tilde(), d_q_.data(), 1, first);
    if (normalised_apart()) add_to_log(c_.q_plain_tilde(), d_q_plain_.data(), 1, first);
    scale(c_.query_exponent(), 1, d_q_.data());
    if (normalised_apart()) scale(c_.query_exponent(), 1, d_q_plain_.data());
  }

  /// The same of keys, then dl.
  void keys_through_decay() {
    const index_t n = c_.n, w = c_.exponent_width;
    add_to_log(c_.k_tilde(), d_k_.data(), -1, 1);
    if (pass_.form().delta_rule) add_to_log(c_.k_hat(), d_k_read_.data(), 1, 1);
    if (normalised_apart()) add_to_log(c_.k_plain_tilde(), d_k_plain_.data(), -1, 1);
    scale(c_.key_exponent(), -1, d_k_.data());
    if (pass_.form().delta_rule) scale(c_.key_exponent(), 1, d_k_read_.data());
    if (normalised_apart()) scale(c_.key_exponent(), -1, d_k_plain_.data());
    if (pass_.form().log_keys) return;  // that decay is bookkeeping and cancels
    for (index_t t = n - 1; t > 0; --t)
      for (index_t c = 0; c < w; ++c) d_log_[t * w + c] += d_log_[(t + 1) * w + c];
    for (index_t t = 0; t < n; ++t)
      for (index_t c = 0; c < w; ++c) {
        const bool clamped = static_cast<double>(c_.log_decay[t * w + c]) < -k_longest_log_decay;
        d_log_float_[t * w + c] = clamped ? 0.0f : static_cast<float>(d_log_[(t + 1) * w + c]);
      }
    std::vector<TensorView<const float, 2>> extra;
    std::vector<TensorView<float, 2>> d_extra;
    const ChunkRows rows = pass_.rows(Tokens::key, begin_, c_.p0, c_.p0 + n, extra);
    pass_.method().log_decay_backward(rows, {d_log_float_.data(), {n, c_.width}, {w, 1}},
                                      into(Tokens::key, c_.p0, c_.p0 + n, {}, d_extra));
  }

  ChunkRowGradients into(Tokens side, index_t begin, index_t end, TensorView<float, 2> d_in,
                         std::vector<TensorView<float, 2>>& d_extra) const {
    d_extra.assign(declared_.size(), {});
    for (std::size_t e = 0; e < declared_.size() && e < sink_.gradients.d_extra.size(); ++e) {
      if (declared_[e].tokens != side || sink_.gradients.d_extra[e].empty()) continue;
      const index_t head = side == Tokens::query ? head_ : begin_;
      const index_t source = declared_[e].heads == ExtraInput::Heads::query ? head : call_.kv_head(head);
      d_extra[e] = sink_.gradients.d_extra[e][source].slice(0, begin, end);
    }
    return {d_in, d_extra, sink_.parameters};
  }

  TensorView<float, 2> rows_of(const Scratch<float>& rows, index_t first, index_t n) const {
    return {rows.data() + first * c_.f_pad, {n, c_.f}, {c_.f_pad, 1}};
  }

  /// Turned back, the two parts joined, and through the feature map into d_q.
  void query_side() {
    if (sink_.gradients.d_q.empty()) return;
    const index_t n = c_.row_end - c_.row_begin;
    join(Tokens::query, c_.row_begin, c_.row_end, c_.q.rotated() + c_.first_row * c_.f_pad,
         rows_of(d_q_, c_.first_row, n), rows_of(d_q_plain_, c_.first_row, n));
    std::vector<TensorView<const float, 2>> extra;
    std::vector<TensorView<float, 2>> d_extra;
    const ChunkRows rows = pass_.rows(Tokens::query, head_, c_.row_begin, c_.row_end, extra);
    const TensorView<const float, 2> out(c_.q.plain() + c_.first_row * c_.f_pad, {n, c_.f}, {c_.f_pad, 1});
    with_inputs(Tokens::query, c_.row_begin, c_.row_end,
                sink_.gradients.d_q[head_].slice(0, c_.row_begin, c_.row_end),
                [&](TensorView<const float, 2> in, TensorView<float, 2> d_in) {
                  pass_.method().query_features_backward(
                      rows, in, out, rows_of(d_q_, c_.first_row, n),
                      into(Tokens::query, c_.row_begin, c_.row_end, d_in, d_extra));
                });
  }

  void key_side() {
    const index_t n = c_.n, j0 = c_.p0, j1 = c_.p0 + n, source = call_.kv_head(begin_);
    if (!sink_.gradients.d_v.empty())
      for (index_t t = 0; t < n; ++t) {
        const std::span<float> d_v = sink_.gradients.d_v.row(source, j0 + t);
        for (std::size_t c = 0; c < d_v.size(); ++c) d_v[c] += d_u_[t * c_.d_o + static_cast<index_t>(c)];
      }
    if (sink_.gradients.d_k.empty()) return;
    if (pass_.form().delta_rule)
      for (index_t x = 0; x < n * c_.f_pad; ++x) d_k_[x] += d_k_read_[x];
    join(Tokens::key, j0, j1, c_.k.rotated(), rows_of(d_k_, 0, n), rows_of(d_k_plain_, 0, n));
    std::vector<TensorView<const float, 2>> extra;
    std::vector<TensorView<float, 2>> d_extra;
    const ChunkRows rows = pass_.rows(Tokens::key, begin_, j0, j1, extra);
    const TensorView<const float, 2> out(c_.k.plain(), {n, c_.f}, {c_.f_pad, 1});
    with_inputs(Tokens::key, j0, j1, sink_.gradients.d_k[source].slice(0, j0, j1),
                [&](TensorView<const float, 2> in, TensorView<float, 2> d_in) {
                  pass_.method().key_features_backward(rows, in, out, rows_of(d_k_, 0, n),
                                                       into(Tokens::key, j0, j1, d_in, d_extra));
                });
  }

  /// visit(what the map read, where its gradient goes); a rotation before the map is undone on the way to d_given.
  template <class Visit>
  void with_inputs(Tokens side, index_t begin, index_t end, TensorView<float, 2> d_given, Visit&& visit) {
    const Scratch<float> turned(pass_.n_turned(end - begin));
    const TensorView<const float, 2> in =
        pass_.inputs(side, side == Tokens::query ? head_ : begin_, begin, end, turned);
    if (!pass_.rotates_inputs()) return visit(in, d_given);
    const Scratch<float> d_turned(pass_.n_turned(end - begin));
    std::ranges::fill(d_turned.span(), 0.0f);
    const TensorView<float, 2> d_in(d_turned.data(), {end - begin, call_.d_k()});
    visit(in, d_in);
    pass_.rotate_back(side, begin, end, in, d_in, sink_.angle);
    for (index_t t = 0; t < d_given.shape(0); ++t)
      for (index_t c = 0; c < d_given.shape(1); ++c) d_given(t, c) += d_in(t, c);
  }

  /// The own key of read_before_write is a product of rotated rows, the denominators take plain ones.
  void join(Tokens side, index_t begin, index_t end, const float* rotated, TensorView<float, 2> turned,
            TensorView<float, 2> plain) {
    const auto add = [&] {
      for (index_t t = 0; t < turned.shape(0); ++t)
        for (index_t c = 0; c < c_.f; ++c) turned(t, c) += plain(t, c);
    };
    if (pass_.form().read_before_write) add();
    if (pass_.rotates())
      pass_.rotate_back(side, begin, end, {rotated, {end - begin, c_.f}, {c_.f_pad, 1}}, turned, sink_.angle);
    if (!pass_.form().read_before_write) add();
  }

  const ChunkPass& pass_;
  const AttentionCall& call_;
  TensorView<const float, 3> o_, d_o_;
  const Sink& sink_;
  std::vector<ExtraInput> declared_;
  index_t begin_, end_, head_;
  ChunkOfHead c_;
  index_t state_size_;
  HeadState state_, d_state_;
  Scratch<float> state_t_, d_state_t_;
  Scratch<float> u_t_, d_n_, d_u_, d_scores_, d_q_, d_k_, d_k_read_, d_q_plain_, d_k_plain_, d_denominator_;
  Scratch<double> d_log_;
  Scratch<float> d_log_float_, d_bonus_;
};

}  // namespace

void ChunkAttention::backward(const AttentionCall& call, TensorView<const float, 3> o,
                              TensorView<const float, 3>, TensorView<const float, 3> d_o,
                              const Gradients& gradients) const {
  check_call(*this, call, o);
  if (call.n_k() == 0 || call.n_q() == 0) return;
  const ChunkPass pass(*this, call);
  // Query heads that read one key head add to the same rows, together or one after the other; parameters are summed at the end.
  const ParameterGradients& shared = gradients.d_parameters;
  std::size_t n_values = 0;
  for (const std::span<float>& values : shared) n_values += values.size();
  std::vector<float> storage(n_values * static_cast<std::size_t>(call.h_kv()), 0.0f);
  const std::span<double> d_angle = pass.angle_gradient(gradients);
  std::vector<double> angles(d_angle.size() * static_cast<std::size_t>(call.h_kv()), 0);
  const index_t group = call.h_q() / call.h_kv();
  const index_t capacity = std::min(k_default_chunk, std::max(call.query_offset + call.n_q(), call.n_k()));
  parallel_for(call.h_kv(), 1, [&](index_t key_head, index_t) {
    std::vector<std::span<float>> parameters;
    float* at = storage.data() + static_cast<std::size_t>(key_head) * n_values;
    for (const std::span<float>& values : shared)
      parameters.emplace_back(at, values.size()), at += values.size();
    const Sink sink{
        gradients, parameters,
        std::span(angles).subspan(static_cast<std::size_t>(key_head) * d_angle.size(), d_angle.size())};
    const index_t together = heads_per_state(pass.form(), call.h_q(), call.h_kv());
    for (index_t head = key_head * group; head < (key_head + 1) * group; head += together) {
      HeadBackward head_backward(pass, head, head + together, capacity, o, d_o, sink);
      if (call.causal)
        head_backward.causal();
      else
        head_backward.bidirectional();
    }
  });
  const float* from = storage.data();
  for (index_t key_head = 0; key_head < call.h_kv(); ++key_head)
    for (const std::span<float>& values : shared)
      for (float& x : values) x += *from++;
  for (std::size_t x = 0; x < angles.size(); ++x) d_angle[x % d_angle.size()] += angles[x];
}

}  // namespace borel
