// The tokens of one chunk of one head, and the steps of the chunkwise form on them. With L_t the sum of log decays
// from the start of the chunk through token t, by channel:
//
//   q~ = q exp(L)   k~ = k exp(-L)   k^ = k exp(L)                 q~ takes L_{t-1} when it reads before it writes
//   U  = V,  or with the delta rule  (I + M)^-1 diag(beta) (V - k^ S),  M = strictly lower diag(beta) k^ k~^T    write
//   A  = lower triangle of q~ k~^T                                 score
//   O  = (q~ S + A U) / (epsilon + q~ z + row sums of A)           read
//   S <- exp(L_last) (S + k~^T U),  z <- exp(L_last) (z + sum of k~)   leave
//
// With log_keys, s_t the largest logarithm of key t and c_t = max(c_{t-1}, s_t): k = exp(logarithms - c_t) and
// l_t = c_{t-1} - c_t.
#pragma once

#include "chunk_pass.hpp"

namespace borel {

/// S and z of one head, or their gradients.
struct HeadState {
  /// @param exact  with a second float for what the first one of each number rounds away: outputs of normalised forms
  ///               stay as large as values, however many terms the sums have
  HeadState(index_t f, index_t d_o, bool exact);
  Scratch<float> s, rest;  ///< [f, d_o]; rest of size 0 unless exact
  Scratch<double> z;       ///< [f]
};

struct ChunkOfHead {
  /// @param head  the query head that keys are mapped for
  ChunkOfHead(const ChunkPass& pass, index_t head, index_t capacity);

  /// Loads tokens from position p0, at most up to p_end, and returns how many: fewer where the keys end or the decay
  /// grows too strong. Positions beyond the last key have zero keys and values. load_queries: those of the same tokens in a
  /// query head that reads these keys; false when there are none.
  index_t load(index_t p0, index_t p_end);
  bool load_queries(index_t query_head);

  void decay(const HeadState& state) const;  ///< times exp(L_last)
  void write(const HeadState& state) const;
  void score() const;
  void read(const HeadState& state) const;  ///< numerators into `out`, denominators
  void leave(const HeadState& state) const;
  void store(index_t query_head, TensorView<float, 3> o) const;
  /// Without causal order: all keys of the chunk into the state; rows [begin, end) read it.
  void read_all(index_t query_head, index_t begin, index_t end, const HeadState& state);

  const ChunkPass& pass;
  const index_t head, capacity, f, f_pad, d_v, d_o, c_pad, width, exponent_width;
  const bool rotates;
  index_t p0 = 0, n = 0;  ///< tokens p0 .. p0 + n - 1
  bool has_keys = false;  ///< the tokens lie before the end of the keys
  index_t row_begin = 0, row_end = 0,
          first_row = 0;  ///< query rows, the first one at row first_row of the chunk
  FeatureRows q, k;       ///< [n, f_pad]
  Scratch<float> q_scaled, k_scaled, k_read, q_scaled_plain, k_scaled_plain;  ///< with decay; else size 0
  Scratch<float> k_scaled_t;                                                  ///< [f_pad, c_pad]
  Scratch<float> v, u;  ///< [n, d_o]; u only with the delta rule
  Scratch<float> scores, solver, plain_scores, row_sums;
  Scratch<float> out;        ///< [n, d_o]
  Scratch<float> added;      ///< [f, d_o], k~^T U; only when normalised
  Scratch<double> exponent;  ///< [n + 1, exponent_width], row t + 1 is L_t
  Scratch<float> growth;     ///< [n + 1, f_pad], row t + 1 is exp(L_t), row 0 is 1; only by channel
  Scratch<float> log_decay, border, strength, bonus, normaliser_row, denominator;  ///< border = exp(L_last)

  float* q_tilde() const { return width > 0 ? q_scaled.data() : q.rotated(); }
  float* k_tilde() const { return width > 0 ? k_scaled.data() : k.rotated(); }
  float* k_hat() const { return width > 0 ? k_read.data() : k.rotated(); }
  float* q_plain_tilde() const {
    return !rotates ? q_tilde() : width > 0 ? q_scaled_plain.data() : q.plain();
  }
  float* k_plain_tilde() const {
    return !rotates ? k_tilde() : width > 0 ? k_scaled_plain.data() : k.plain();
  }
  float* written() const { return pass.form().delta_rule ? u.data() : v.data(); }
  const double* key_exponent() const { return exponent.data() + exponent_width; }
  const double* query_exponent() const {
    return pass.form().read_before_write ? exponent.data() : key_exponent();
  }

  double largest_log;  ///< c before the chunk; after load() that of its last token
  index_t last_n =
      capacity;  ///< tokens of the chunk before: where decays are strong, no more than twice that are tried

 private:
  void load_decay();
  void load_log_keys();
  void scale(const double* exponents, double sign, const float* from, float* to) const;
};

}  // namespace borel
