#include "chunk_of_head.hpp"

#include "borel/draft/feature_maps.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace borel {

using kernels::padded;

HeadState::HeadState(index_t f, index_t d_o, bool exact) : s(f * d_o), rest(exact ? f * d_o : 0), z(f) {
  std::ranges::fill(s.span(), 0.0f);
  std::ranges::fill(rest.span(), 0.0f);
  std::ranges::fill(z.span(), 0.0);
}

ChunkOfHead::ChunkOfHead(const ChunkPass& call_pass, index_t head_of_keys, index_t n_tokens)
    : pass(call_pass),
      head(head_of_keys),
      capacity(n_tokens),
      f(pass.f()),
      f_pad(pass.f_pad()),
      d_v(pass.call().d_v()),
      d_o(padded(d_v)),
      c_pad(padded(capacity)),
      width(pass.decay_width()),
      exponent_width(width > 1 ? f_pad : width),
      rotates(pass.rotates()),
      q(capacity, f_pad, rotates),
      k(capacity, f_pad, rotates),
      q_scaled(width > 0 ? capacity * f_pad : 0),
      k_scaled(width > 0 ? capacity * f_pad : 0),
      k_read(width > 0 && pass.form().delta_rule ? capacity * f_pad : 0),
      q_scaled_plain(width > 0 && rotates && pass.form().normalised ? capacity * f_pad : 0),
      k_scaled_plain(width > 0 && rotates && pass.form().normalised ? capacity * f_pad : 0),
      k_scaled_t(f_pad * c_pad),
      v(capacity * d_o),
      u(pass.form().delta_rule ? capacity * d_o : 0),
      scores(capacity * c_pad),
      solver(pass.form().delta_rule ? capacity * c_pad : 0),
      plain_scores(rotates && pass.form().normalised ? capacity * c_pad : 0),
      row_sums(capacity),
      out(capacity * d_o),
      added(pass.form().normalised ? f * d_o : 0),
      exponent((capacity + 1) * exponent_width),
      growth(exponent_width > 1 ? (capacity + 1) * f_pad : 0),
      log_decay(capacity * exponent_width),
      border(exponent_width),
      strength(capacity),
      bonus(f_pad),
      normaliser_row(f_pad),
      denominator(capacity),
      largest_log(-std::numeric_limits<double>::infinity()) {
  std::ranges::fill(k_scaled_t.span(), 0.0f);
  std::ranges::fill(v.span(), 0.0f);
  std::ranges::fill(log_decay.span(), 0.0f);
  std::ranges::fill(exponent.span(), 0.0);
  std::ranges::fill(bonus.span(), 0.0f);
  std::ranges::fill(normaliser_row.span(), 0.0f);
  if (pass.form().read_before_write) {
    std::fill_n(bonus.data(), f, 1.0f);
    pass.bonus(head, bonus.span().first(static_cast<std::size_t>(f)));
  }
}

void ChunkOfHead::scale(const double* exponents, double sign, const float* from, float* to) const {
  if (exponent_width <= 1)  // padding too: it must stay 0
    return kernels::scale_by_exp(exponents, 1, sign, from, n, f_pad, f_pad, to);
  // By channel an exponential costs as much as a few multiply-adds: one for queries and keys, keys divide.
  const float* factor = growth.data() + (exponents - exponent.data());
  const index_t size = n * f_pad;
  if (sign > 0)
    for (index_t x = 0; x < size; ++x) to[x] = from[x] * factor[x];
  else
    for (index_t x = 0; x < size; ++x) to[x] = from[x] / factor[x];
}

/// Cumulative logs of the tokens; shortens the chunk so that none falls below -k_longest_log_decay.
void ChunkOfHead::load_decay() {
  n = std::min(n, 2 * last_n);
  if (!pass.form().log_keys)
    pass.log_decay(head, p0, p0 + n, {log_decay.data(), {n, width}, {exponent_width, 1}});
  for (index_t t = 0; t < n; ++t) {
    const double* before = exponent.data() + t * exponent_width;
    double* after = exponent.data() + (t + 1) * exponent_width;
    double largest = 0;
    for (index_t c = 0; c < exponent_width; ++c) {
      after[c] =
          before[c] + std::max(static_cast<double>(log_decay[t * exponent_width + c]), -k_longest_log_decay);
      largest = std::max(largest, std::abs(after[c]));
    }
    if (t > 0 && largest > k_longest_log_decay) {
      n = t;
      break;
    }
  }
  last_n = n;
  for (index_t c = 0; c < exponent_width; ++c)
    border[c] = static_cast<float>(std::exp(exponent[n * exponent_width + c]));
}

/// From logarithms of features to features and to the decay that keeps the largest one at 1.
void ChunkOfHead::load_log_keys() {
  const index_t n_read = std::min(n, 2 * last_n);
  const Scratch<float> shift(n_read);
  const TensorView<float, 2> rows(k.plain(), {n_read, f}, {f_pad, 1});
  pass.keys(head, p0, p0 + n_read, k);
  double largest = largest_log;
  for (index_t t = 0; t < n_read; ++t) {
    const auto top = static_cast<double>(std::ranges::max(rows.row(t)));
    const double before = largest;
    if (top > largest) largest = top;
    // The state is empty before the first finite key, so that its decay does not matter.
    log_decay[t] = before == largest || std::isinf(before) ? 0.0f : static_cast<float>(before - largest);
    shift[t] = std::isinf(largest) ? 0.0f : static_cast<float>(largest);
  }
  exp_rows(rows, 1, shift.span(), rows);
  load_decay();
  // The chunk may have become shorter; c is that of its last token. Only tokens that are kept enter the state.
  for (index_t t = 0; t < n; ++t)
    if (!std::isinf(static_cast<double>(shift[t])))
      largest_log = std::max(largest_log, static_cast<double>(shift[t]));
  pass.rotate_keys(p0, p0 + n, k);
}

index_t ChunkOfHead::load(index_t position, index_t p_end) {
  const AttentionCall& call = pass.call();
  p0 = position;
  has_keys = p0 < call.n_k();
  n = std::min(capacity, (has_keys ? std::min(call.n_k(), p_end) : p_end) - p0);
  if (has_keys && pass.form().log_keys) {
    load_log_keys();
  } else if (width > 0) {
    std::ranges::fill(log_decay.span(), 0.0f);
    load_decay();
  }
  if (has_keys) {
    if (!pass.form().log_keys) pass.keys(head, p0, p0 + n, k);
    for (index_t t = 0; t < n; ++t)
      std::ranges::copy(call.v.row(call.kv_head(head), p0 + t), v.data() + t * d_o);
    if (pass.form().delta_rule) {
      std::fill_n(strength.data(), n, 1.0f);
      pass.write_strength(head, p0, p0 + n, strength.span().first(static_cast<std::size_t>(n)));
    }
  } else {
    std::fill_n(k.plain(), n * f_pad, 0.0f);
    std::fill_n(k.rotated(), n * f_pad, 0.0f);
    std::fill_n(v.data(), n * d_o, 0.0f);
    std::fill_n(strength.data(), n, 0.0f);
  }
  if (exponent_width > 1) {
    std::fill_n(growth.data(), (n + 1) * f_pad, 1.0f);
    kernels::scale_by_exp(key_exponent(), f, 1, growth.data() + f_pad, n, f, f_pad, growth.data() + f_pad);
  }
  if (width > 0) {
    scale(key_exponent(), -1, k.rotated(), k_scaled.data());
    if (pass.form().delta_rule) scale(key_exponent(), 1, k.rotated(), k_read.data());
    if (rotates && pass.form().normalised) scale(key_exponent(), -1, k.plain(), k_scaled_plain.data());
  }
  return n;
}

bool ChunkOfHead::load_queries(index_t query_head) {
  const AttentionCall& call = pass.call();
  row_begin = std::clamp<index_t>(p0 - call.query_offset, 0, call.n_q());
  row_end = std::clamp<index_t>(p0 + n - call.query_offset, row_begin, call.n_q());
  if (row_end == row_begin) return false;
  first_row = row_begin + call.query_offset - p0;
  const index_t n_rows = row_end - row_begin;
  for (float* rows : {q.plain(), q.rotated()}) {
    std::fill_n(rows, first_row * f_pad, 0.0f);
    std::fill(rows + (first_row + n_rows) * f_pad, rows + n * f_pad, 0.0f);
  }
  pass.queries(query_head, row_begin, row_end, q, first_row);
  if (width > 0) {
    scale(query_exponent(), 1, q.rotated(), q_scaled.data());
    if (rotates && pass.form().normalised) scale(query_exponent(), 1, q.plain(), q_scaled_plain.data());
  }
  return true;
}

void ChunkOfHead::decay(const HeadState& state) const {
  if (width == 0) return;
  kernels::scale_state(state.s.data(), state.rest.span().empty() ? nullptr : state.rest.data(), d_o, f, d_o,
                       border.data(), exponent_width == 1 ? 1 : f);
  const double* last = exponent.data() + n * exponent_width;
  for (index_t c = 0; c < f && pass.form().normalised; ++c)
    state.z[c] *= std::exp(last[exponent_width == 1 ? 0 : c]);
}

void ChunkOfHead::write(const HeadState& state) const {
  if (!pass.form().delta_rule) return;
  const index_t n_pad = padded(n);
  kernels::product(kernels::as_is(k_hat(), f_pad), state.s.data(), d_o, u.data(), d_o, n, f, d_o, false);
  for (index_t t = 0; t < n; ++t)
    for (index_t c = 0; c < d_o; ++c) u[t * d_o + c] = strength[t] * (v[t * d_o + c] - u[t * d_o + c]);
  kernels::transpose(k_tilde(), f_pad, n, f, k_scaled_t.data(), c_pad);
  kernels::product(kernels::as_is(k_hat(), f_pad), k_scaled_t.data(), c_pad, solver.data(), c_pad, n, f,
                   n_pad, false, kernels::Shape::lower_out);
  kernels::keep_lower(solver.data(), c_pad, n, n_pad, true, nullptr);
  for (index_t t = 0; t < n; ++t)
    for (index_t j = 0; j < t; ++j) solver[t * c_pad + j] *= -strength[t];
  kernels::solve_unit_lower(solver.data(), c_pad, u.data(), d_o, n, d_o);
}

void ChunkOfHead::score() const {
  const index_t n_pad = padded(n);
  const bool strict = pass.form().read_before_write, normalised = pass.form().normalised;
  if (normalised && rotates) {
    kernels::transpose(k_plain_tilde(), f_pad, n, f, k_scaled_t.data(), c_pad);
    kernels::product(kernels::as_is(q_plain_tilde(), f_pad), k_scaled_t.data(), c_pad, plain_scores.data(),
                     c_pad, n, f, n_pad, false, kernels::Shape::lower_out);
    kernels::keep_lower(plain_scores.data(), c_pad, n, n_pad, false, row_sums.data());
  }
  if (!pass.form().delta_rule) kernels::transpose(k_tilde(), f_pad, n, f, k_scaled_t.data(), c_pad);
  kernels::product(kernels::as_is(q_tilde(), f_pad), k_scaled_t.data(), c_pad, scores.data(), c_pad, n, f,
                   n_pad, false, kernels::Shape::lower_out);
  kernels::keep_lower(scores.data(), c_pad, n, n_pad, strict,
                      normalised && !rotates ? row_sums.data() : nullptr);
  if (!strict) return;
  const Scratch<float> own_key(n * f_pad);
  for (index_t t = 0; t < n; ++t)
    for (index_t c = 0; c < f_pad; ++c) own_key[t * f_pad + c] = bonus[c] * k.rotated()[t * f_pad + c];
  kernels::paired_row_dots(q.rotated(), f_pad, own_key.data(), f_pad, n, f_pad, row_sums.data());
  for (index_t t = 0; t < n; ++t) scores[t * c_pad + t] = row_sums[t];
}

void ChunkOfHead::read(const HeadState& state) const {
  kernels::product(kernels::as_is(q_tilde(), f_pad), state.s.data(), d_o, out.data(), d_o, n, f, d_o, false);
  kernels::product(kernels::as_is(scores.data(), c_pad), written(), d_o, out.data(), d_o, n, n, d_o, true,
                   kernels::Shape::lower_in);
  if (!pass.form().normalised) return;
  std::transform(state.z.data(), state.z.data() + f, normaliser_row.data(),
                 [](double x) { return static_cast<float>(x); });
  kernels::row_dots(q_plain_tilde(), f_pad, normaliser_row.data(), n, f_pad, denominator.data());
  for (index_t t = 0; t < n; ++t)
    denominator[t] = static_cast<float>(static_cast<double>(denominator[t]) +
                                        static_cast<double>(row_sums[t]) + pass.form().epsilon);
}

void ChunkOfHead::leave(const HeadState& state) const {
  if (has_keys && !pass.form().normalised)
    kernels::product(kernels::transposed(k_tilde(), f_pad), written(), d_o, state.s.data(), d_o, f, n, d_o,
                     true);
  if (has_keys && pass.form().normalised) {
    kernels::product(kernels::transposed(k_tilde(), f_pad), written(), d_o, added.data(), d_o, f, n, d_o,
                     false);
    kernels::add_to_state(added.data(), f * d_o, state.s.data(), state.rest.data());
    kernels::column_sums(k_plain_tilde(), f_pad, n, f_pad, normaliser_row.data());
    for (index_t c = 0; c < f; ++c) state.z[c] += static_cast<double>(normaliser_row[c]);
  }
  decay(state);
}

void ChunkOfHead::store(index_t query_head, TensorView<float, 3> o) const {
  for (index_t r = row_begin; r < row_end; ++r) {
    const index_t t = r - row_begin + first_row;
    const float d = pass.form().normalised ? denominator[t] : 1;
    const float factor = d == 0 ? 0 : 1 / d;
    const float* from = out.data() + t * d_o;
    for (float& x : o.row(query_head, r)) x = factor * *from++;
  }
}

void ChunkOfHead::read_all(index_t query_head, index_t begin, index_t end, const HeadState& state) {
  row_begin = begin, row_end = end, first_row = 0, n = end - begin;
  pass.queries(query_head, begin, end, q);
  kernels::product(kernels::as_is(q.rotated(), f_pad), state.s.data(), d_o, out.data(), d_o, n, f, d_o,
                   false);
  if (!pass.form().normalised) return;
  for (index_t t = 0; t < n; ++t) {
    double sum = pass.form().epsilon;
    for (index_t c = 0; c < f; ++c) sum += static_cast<double>(q.plain()[t * f_pad + c]) * state.z[c];
    denominator[t] = static_cast<float>(sum);
  }
}

}  // namespace borel
