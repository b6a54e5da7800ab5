// What all heads of one chunk-engine call read: rotation tables, and the method's feature maps of any block of rows.
#pragma once

#include <vector>

#include "borel/draft/chunk_engine.hpp"
#include "chunk_kernels.hpp"

namespace borel {

/// Feature rows of up to n tokens, leading dimension ld (padded, padding 0), before and after rotation. Without
/// rotation both are the same memory.
struct FeatureRows {
  FeatureRows(index_t n, index_t row_length, bool rotates);
  float* plain() const { return plain_.data(); }
  float* rotated() const { return rotated_.span().empty() ? plain_.data() : rotated_.data(); }

 private:
  Scratch<float> plain_, rotated_;
};

/// Query heads that read one state.
inline index_t heads_per_state(const ChunkForm& form, index_t h_q, index_t h_kv) {
  return form.shared_keys ? h_q / h_kv : 1;
}

class ChunkPass {
 public:
  /// @param first_key  absolute position of key row 0
  ChunkPass(const ChunkAttention& method, const AttentionCall& call, index_t first_key = 0);

  const ChunkAttention& method() const { return method_; }
  const AttentionCall& call() const { return call_; }
  const ChunkForm& form() const { return form_; }
  index_t f() const { return f_; }
  index_t f_pad() const { return kernels::padded(f_); }
  /// Numbers per token of the log decay: 0, 1 or f; log_keys makes a decay of its own, 1.
  index_t decay_width() const;
  bool rotates() const { return band_ && !form_.rotate_inputs; }

  /// Features of rows [begin, end) into rows 0 .. of `out`.
  void queries(index_t head, index_t begin, index_t end, const FeatureRows& out, index_t first_row = 0) const;
  void keys(index_t head, index_t begin, index_t end, const FeatureRows& out) const;
  /// What keys() leaves to the caller with log_keys: rotation, after the exponential.
  void rotate_keys(index_t begin, index_t end, const FeatureRows& out) const;
  void log_decay(index_t head, index_t begin, index_t end, TensorView<float, 2> out) const;
  void write_strength(index_t head, index_t begin, index_t end, std::span<float> out) const;
  void bonus(index_t head, std::span<float> out) const;

  /// What the method may know about these rows; `extra` holds the views.
  ChunkRows rows(ExtraInput::Tokens side, index_t head, index_t begin, index_t end,
                 std::vector<TensorView<const float, 2>>& extra) const;
  /// Turns gradients of rotated rows back, in place, and adds that of the angles unless d_angle is empty.
  void rotate_back(ExtraInput::Tokens side, index_t begin, index_t end, TensorView<const float, 2> rotated,
                   TensorView<float, 2> d_rows, std::span<double> d_angle) const;
  /// Where the gradient of the angles of the rotation goes; empty when there is none or it is not asked for.
  std::span<double> angle_gradient(const AttentionBackward::Gradients& gradients) const;
  bool rotates_inputs() const { return band_ && form_.rotate_inputs; }
  /// What the feature maps read of rows [begin, end): q or k, or, when rotates_inputs(), `turned` [n_turned(n)], which
  /// is written.
  TensorView<const float, 2> inputs(ExtraInput::Tokens side, index_t head, index_t begin, index_t end,
                                    const Scratch<float>& turned) const;
  index_t n_turned(index_t n) const { return rotates_inputs() ? n * call_.d_k() : 0; }

 private:
  std::span<const double> positions(ExtraInput::Tokens side, index_t begin, index_t end) const;
  void make_table(ExtraInput::Tokens side, index_t n, float* cosine, float* sine) const;
  void turn(ExtraInput::Tokens side, index_t begin, index_t end, TensorView<const float, 2> in,
            TensorView<float, 2> out) const;

  const ChunkAttention& method_;
  const AttentionCall& call_;
  ChunkForm form_;
  index_t first_key_;
  std::vector<ExtraInput> declared_;
  index_t f_;
  const Band* band_;
  index_t n_pairs_;
  Scratch<float> tables_;
  float *cosine_q_ = nullptr, *sine_q_ = nullptr, *cosine_k_ = nullptr, *sine_k_ = nullptr;
};

}  // namespace borel
