// Forgetting attention (FoX): softmax with a decay that the data sets. Lin et al. 2025, arXiv:2503.02130, equation 5.
//
//   w_ij = softmax_j(q_i . k_j / sqrt(d_k) + bias_ij + sum_{t = j+1 .. i} ln f_t),   f_t in (0, 1] per query head
//
// The sum is F_i - F_j with F the running sum of ln f. F grows with the length, so it is summed in double and kept as a
// pair of floats: the difference of the large parts is exact where it matters, between near tokens.
// Causal only. A query beyond the last key has no gate of its own; its F cancels in the softmax.
#include <algorithm>
#include <cmath>

#include "borel/draft/tile_engine.hpp"
#include "borel/plugin.hpp"

namespace {

using borel::AttentionCall;
using borel::AttentionContext;
using borel::index_t;
using borel::Scratch;
using borel::TensorView;

class Forgetting final : public borel::TileAttention {
 public:
  struct Params {
    void declare(borel::ParamBinder&) {}
  };
  explicit Forgetting(const Params&) {}

  borel::AttentionTraits traits() const override {
    return {.bidirectional = false, .row_normalised = true, .non_negative = true, .max_error = 5e-5};
  }
  borel::RowStatistic statistic() const override { return borel::RowStatistic::online_max; }
  double scale(const AttentionCall& call) const override {
    return 1 / std::sqrt(static_cast<double>(call.d_k()));
  }
  std::vector<borel::ExtraInput> extra_inputs(const AttentionContext&) const override {
    return {{.name = "log_forget",
             .heads = borel::ExtraInput::Heads::query,
             .tokens = borel::ExtraInput::Tokens::key,
             .values = borel::ExtraInput::Values::non_positive,
             .default_value = -0.01,
             .doc = "ln of the forget gate of each token; 0 forgets nothing (plain softmax)."}};
  }

  /// Replaces the gates [h_q, n_k, 1] by their running sums, [h_q, n_k, 2]: rounded to float, and what that left.
  void prepare(const AttentionCall& call, borel::FunctionRef<void(const AttentionCall&)> use) const override {
    const TensorView<const float, 3>& gates = call.extra[0];
    const Scratch<float> storage(2 * gates.size());
    const TensorView<float, 3> sums(storage.data(), {gates.shape(0), gates.shape(1), 2});
    for (index_t h = 0; h < sums.shape(0); ++h) {
      double sum = 0;
      for (index_t t = 0; t < sums.shape(1); ++t) {
        sum += static_cast<double>(gates(h, t, 0));
        sums(h, t, 0) = static_cast<float>(sum);
        sums(h, t, 1) = static_cast<float>(sum - static_cast<double>(sums(h, t, 0)));
      }
    }
    const TensorView<const float, 3> as_extra[] = {sums};
    AttentionCall summed = call;
    summed.extra = as_extra;
    use(summed);
  }

  void transform(const AttentionCall& call, borel::ScoreTile& tile) const override {
    const TensorView<const float, 2> sums = call.extra[0][tile.head];
    const float* const keys = sums.data() + tile.first_key * sums.stride(0);
    for (index_t r = 0; r < tile.n_rows; ++r) {
      const index_t i = std::min(tile.first_query + r + call.query_offset, call.n_k() - 1);
      const float large = sums(i, 0), small = sums(i, 1);
      float* const row = tile.scores + r * tile.ld;
      for (index_t c = 0; c < tile.n_cols; ++c) row[c] += (large - keys[2 * c]) + (small - keys[2 * c + 1]);
    }
  }

  bool differentiable() const override { return true; }
  using borel::TileAttention::backward;
  void backward(const AttentionCall& call, TensorView<const float, 3> o, TensorView<const float, 3> saved,
                TensorView<const float, 3> d_o, const Gradients& gradients) const override {
    prepare(call, [&](const AttentionCall& summed) {
      const index_t n = call.n_k();
      const Scratch<float> storage(call.h_q() * n);
      std::ranges::fill(storage.span(), 0.0f);
      const TensorView<float, 2> by_key(storage.data(), {call.h_q(), n});
      borel::tile_backward(*this, summed, o, saved, d_o, gradients, {.by_key = by_key});
      if (gradients.d_extra.empty() || gradients.d_extra[0].empty()) return;
      // d / d ln f_t counts the pairs j < t <= i: all of rows i >= t, which sum to 0 under a softmax, less keys j >= t.
      for (index_t h = 0; h < call.h_q(); ++h) {
        double after = 0;
        for (index_t t = n - 1; t >= 0; --t) {
          after += static_cast<double>(by_key(h, t));
          gradients.d_extra[0](h, t, 0) -= static_cast<float>(after);
        }
      }
    });
  }
};

}  // namespace

BOREL_PLUGIN(registry) {
  registry.add<borel::Attention, Forgetting>(
      "forgetting", {.summary = "Softmax with forget gates as a bias (FoX)",
                     .formula = "o_i = sum_j softmax_j(q_i . k_j / sqrt(d_k) + sum_{j < t <= i} ln f_t) v_j",
                     .source = "Lin et al. 2025, arXiv:2503.02130, equation 5",
                     .complexity = "O(n_q n_k (d_k + d_v)) time, O(n d) memory",
                     .notes = "causal only; the paper uses no position encoding with it, any may be added"});
}
