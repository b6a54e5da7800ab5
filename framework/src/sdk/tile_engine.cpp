#include "borel/draft/tile_engine.hpp"

#include <algorithm>
#include <cmath>

#include "borel/error.hpp"
#include "softmax_kernels.hpp"
#include "tile_pass.hpp"

namespace borel {

TileMethod::~TileMethod() = default;
bool TileMethod::rounds_to_bf16() const { return false; }
double TileMethod::row_scale(const AttentionCall&, index_t, index_t) const { return 1; }
bool TileMethod::transforms() const { return true; }
void TileMethod::transform(const AttentionCall&, ScoreTile&) const {}
float TileMethod::sink(const AttentionCall&, index_t, index_t) const {
  return -std::numeric_limits<float>::infinity();
}

void TileMethod::weigh(const AttentionCall&, ScoreTile&) const {
  throw MethodError("this tile method has a statistic that needs weigh(), but does not implement it");
}
void TileMethod::weigh_row(const AttentionCall&, ScoreTile&) const {
  throw MethodError("this tile method asks for whole rows, but does not implement weigh_row()");
}

void TileMethod::weigh_with_slope(const AttentionCall&, ScoreTile&, float*) const {
  throw MethodError("this tile method is not differentiable: it does not implement weigh_with_slope()");
}
void TileMethod::weigh_row_backward(const AttentionCall&, const ScoreTile&, float*) const {
  throw MethodError("this tile method is not differentiable: it does not implement weigh_row_backward()");
}
void TileMethod::transform_backward(const AttentionCall&, const ScoreTile&, float*) const {}
void TileMethod::sink_backward(const AttentionCall&, index_t, index_t, double,
                               const AttentionBackward::Gradients&) const {}
void TileMethod::row_scale_backward(const AttentionCall&, index_t, index_t, double,
                                    const AttentionBackward::Gradients&) const {}

namespace tile {

void whole_row_scores(const TilePass& pass, QueryBlock& block, float* rows, index_t ld) {
  const auto [first, last] = pass.tiles(block.r0, block.r1);
  for (index_t t = first; t < last; ++t) {
    float* const scores = rows + (t - first) * k_keys;
    const ActiveColumns active = pass.scores(block, t, scores, ld);
    for (index_t r = 0; r < block.n_rows(); ++r) {
      std::fill(scores + r * ld, scores + r * ld + active.all.lo, k_masked);
      std::fill(scores + r * ld + active.all.hi, scores + r * ld + k_keys, k_masked);
    }
  }
}

void whole_row_weights(const TileMethod& method, const TilePass& pass, const QueryBlock& block, index_t r,
                       index_t first_key, float* row, index_t n) {
  const index_t n_cols = std::min(pass.call().n_k() - first_key, n);
  ScoreTile view{row, 1, n_cols, n, block.head, block.r0 + r, first_key, true};
  // A row without keys keeps its zeros: no method has to define a projection of nothing.
  if (std::all_of(row, row + n_cols, [](float s) { return s == k_masked; }))
    std::fill_n(row, n_cols, 0.0f);
  else
    method.weigh_row(pass.call(), view);
  std::fill(row + n_cols, row + n, 0.0f);
}

}  // namespace tile

namespace {

using tile::ActiveColumns;
using tile::k_keys;
using tile::k_masked;
using tile::k_rows;
using tile::k_whole_rows;
using tile::Packing;
using tile::QueryBlock;
using tile::TilePass;

/// Output of one block of query rows: accumulators, and how they end.
class BlockOutput {
 public:
  BlockOutput(const TileMethod& method, const AttentionCall& call, const TilePass& pass)
      : method_(method),
        call_(call),
        pass_(pass),
        tile_(k_rows * k_keys),
        o_(k_rows * pass.d_o()),
        shift_(k_rows),
        sum_(k_rows) {}

  /// @param saved  empty, or [h_q, n_q, 2] for the row's shift and 1 / denominator
  void run(QueryBlock& block, TensorView<float, 3> o, TensorView<float, 3> saved) {
    const index_t n = block.n_rows();
    std::fill_n(o_.data(), n * pass_.d_o(), 0.0f);
    std::fill_n(shift_.data(), n, k_masked);
    std::fill_n(sum_.data(), n, 0.0);
    const RowStatistic statistic = method_.statistic();
    if (statistic == RowStatistic::whole_row)
      whole_rows(block);
    else
      tile_by_tile(block, statistic);
    for (index_t r = 0; r < n; ++r) {
      const double factor = 1 / denominator(block, r, statistic);  // 0 for a row without keys
      const std::span<float> out = o.row(block.head, block.r0 + r);
      const float* sums = o_.data() + r * pass_.d_o();
      if (factor > 0x1p-100 && factor < 0x1p100)
        kernels::scale_row(sums, static_cast<float>(factor), static_cast<index_t>(out.size()), out.data());
      else  // nothing seen, or a sum whose inverse float32 does not hold
        for (std::size_t c = 0; c < out.size(); ++c)
          out[c] = factor == 0 ? 0.0f : static_cast<float>(static_cast<double>(sums[c]) * factor);
      if (saved.empty()) continue;
      saved(block.head, block.r0 + r, 0) = shift_[r];
      saved(block.head, block.r0 + r, 1) = static_cast<float>(factor);
    }
  }

 private:
  /// The last tile first: in causal rows it holds masked pairs, and the rows' shifts are made with it; biases that fall
  /// with the distance are the largest there. Keys that are read where they lie come in the order of memory.
  void tile_by_tile(QueryBlock& block, RowStatistic statistic) {
    const auto [first, last] = pass_.tiles(block.r0, block.r1);
    for (index_t i = 0; i < last - first; ++i) {
      const index_t t = pass_.keys_are_packed() ? last - 1 - i : first + i;
      const ActiveColumns active = weights(block, t, statistic);
      if (active.all.size() > 0) pass_.add_values(block, t, active, tile_.data(), k_keys, o_.data());
    }
  }

  /// Unnormalised weights of a tile, in tile_; which of its columns those are.
  ActiveColumns weights(QueryBlock& block, index_t t, RowStatistic statistic) {
    if (statistic == RowStatistic::online_max &&
        pass_.softmax_weights(block, t, shift_.data(), sum_.data(), tile_.data(), k_keys))
      return ActiveColumns::whole(pass_.n_keys(t));
    const ActiveColumns active = pass_.scores(block, t, tile_.data(), k_keys);
    if (active.all.size() > 0) weigh(block, t, active, statistic);
    return active;
  }

  void weigh(const QueryBlock& block, index_t t, const ActiveColumns& active, RowStatistic statistic) {
    const index_t n = block.n_rows();
    float* const first = tile_.data() + active.all.lo;
    if (statistic == RowStatistic::online_max) {
      const index_t height = active.n_groups == 1 ? n : tile::k_group_rows;
      for (index_t g = 0, r = 0; r < n; ++g, r += height) {
        const tile::ColumnRange& columns = active.groups[static_cast<std::size_t>(g)];
        if (columns.size() > 0)
          kernels::online_softmax(tile_.data() + r * k_keys + columns.lo, k_keys, std::min(height, n - r),
                                  columns.size(), shift_.data() + r, sum_.data() + r,
                                  o_.data() + r * pass_.d_o(), pass_.d_o(), pass_.d_o());
      }
      return;
    }
    ScoreTile view = pass_.view(block, t, active, tile_.data(), k_keys);
    method_.weigh(call_, view);
    for (index_t r = 0; r < n; ++r) {
      std::fill(first + r * k_keys + view.n_cols, first + r * k_keys + active.all.size(), 0.0f);
      if (statistic == RowStatistic::sum) sum_[r] += kernels::row_sum(first + r * k_keys, active.all.size());
    }
  }

  void whole_rows(QueryBlock& block) {
    const auto [first, last] = pass_.tiles(block.r0, block.r1);
    const index_t n = block.n_rows(), ld = (last - first) * k_keys;
    if (ld == 0) return;
    const Scratch<float> rows(n * ld);
    tile::whole_row_scores(pass_, block, rows.data(), ld);
    for (index_t r = 0; r < n; ++r)
      tile::whole_row_weights(method_, pass_, block, r, first * k_keys, rows.data() + r * ld, ld);
    const ActiveColumns all = ActiveColumns::whole(k_keys);
    for (index_t t = first; t < last; ++t) {
      const float* weights = rows.data() + (t - first) * k_keys;
      bool seen = false;  // sparse rows leave whole tiles without a weight
      for (index_t r = 0; r < n && !seen; ++r)
        seen = !std::all_of(weights + r * ld, weights + r * ld + k_keys, [](float w) { return w == 0; });
      if (seen) pass_.add_values(block, t, all, weights, ld, o_.data());
    }
    std::fill_n(sum_.data(), n, 1.0);
  }

  /// What o and the weights are divided by; infinity when there is nothing to divide.
  double denominator(const QueryBlock& block, index_t r, RowStatistic statistic) const {
    constexpr double k_nothing = std::numeric_limits<double>::infinity();
    if (statistic == RowStatistic::sum) {
      const double sum = sum_[r] + method_.epsilon();
      if (std::isinf(sum)) return std::numeric_limits<double>::quiet_NaN();  // infinity over infinity
      return sum == 0 ? k_nothing : sum;
    }
    if (statistic != RowStatistic::online_max) return 1;
    if (sum_[r] == 0) return k_nothing;
    // In powers of two and with the shift that the kernel rounded: the sink is one more weight.
    const auto sink = static_cast<double>(method_.sink(call_, block.head, block.r0 + r));
    if (sink == -std::numeric_limits<double>::infinity()) return sum_[r];
    const auto shift = static_cast<double>(shift_[r] * kernels::k_log2_e);
    return sum_[r] + std::exp2(sink * static_cast<double>(kernels::k_log2_e) - shift);
  }

  const TileMethod& method_;
  const AttentionCall& call_;
  const TilePass& pass_;
  Scratch<float> tile_, o_, shift_;
  Scratch<double> sum_;
};

/// All heads of a few blocks before the next ones: what they read is still in the cache, or was foreseen.
void forward_packing_by_task(const TileMethod& method, const AttentionCall& call, const TilePass& pass,
                             index_t height, TensorView<float, 3> o, TensorView<float, 3> saved) {
  const auto parts = [](index_t n, index_t size) { return (n + size - 1) / size; };
  constexpr index_t together = tile::k_rows_together;
  // Long tasks pack few tiles twice. Several threads need a multiple of their number of tasks.
  const index_t n_threads = max_threads(), least = parts(call.n_q(), pass.rows_per_task()),
                wanted = n_threads == 1 ? least : parts(least, 2 * n_threads) * 2 * n_threads,
                per_task = parts(parts(call.n_q(), wanted), together) * together,
                n_tasks = parts(call.n_q(), per_task);
  parallel_for(n_tasks, 1, [&](index_t begin, index_t) {
    const index_t first = (n_tasks - 1 - begin) * per_task, last = std::min(call.n_q(), first + per_task);
    QueryBlock block = pass.block();
    BlockOutput output(method, call, pass);
    for (index_t r0 = first + (last - first - 1) / together * together; r0 >= first; r0 -= together) {
      const index_t r1 = std::min(last, r0 + together);
      if (r0 > first) pass.foresee(block, r0 - together, r0, r1, o);
      for (index_t head = 0; head < call.h_q(); ++head)
        for (index_t b = r0 + (r1 - r0 - 1) / height * height; b >= r0; b -= height) {
          call.stop.throw_if_stopped();
          pass.load(block, head, b, std::min(r1, b + height));
          output.run(block, o, saved);
        }
    }
  });
}

void forward_one_plan(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o,
                      TensorView<float, 3> saved) {
  if (call.n_q() == 0) return;
  const TilePass pass(method, call, method.rounds_to_bf16() ? Packing::forward_bf16 : Packing::forward, -1);
  const index_t height = method.statistic() == RowStatistic::whole_row ? k_whole_rows : k_rows;
  if (pass.packs_by_task()) return forward_packing_by_task(method, call, pass, height, o, saved);
  const index_t n_blocks = (call.n_q() + height - 1) / height;
  parallel_for(call.h_q() * n_blocks, 1, [&](index_t begin, index_t) {
    call.stop.throw_if_stopped();
    // The last blocks of a causal call are the longest: start with them, so that no thread is left with one
    // at the end. All blocks of a head before the next head, so that its keys stay in the cache.
    const index_t b = n_blocks - 1 - begin % n_blocks, head = begin / n_blocks, r0 = b * height;
    QueryBlock block = pass.block();
    pass.load(block, head, r0, std::min(call.n_q(), r0 + height));
    if (b > 0) pass.foresee(block, r0 - height, r0, o);  // by this thread, or by one that shares a cache
    BlockOutput(method, call, pass).run(block, o, saved);
  });
}

/// Transformed scores -> final weights of one row, in place.
void finish_weights(const TileMethod& method, const AttentionCall& call, index_t head, index_t row,
                    std::span<float> w) {
  const float top = std::ranges::max(w);
  if (std::ranges::all_of(w, [](float x) { return x == k_masked; })) {
    std::ranges::fill(w, 0.0f);
    return;
  }
  const auto n = static_cast<index_t>(w.size());
  ScoreTile view{w.data(), 1, n, n, head, row, 0, true};
  const RowStatistic statistic = method.statistic();
  if (statistic == RowStatistic::whole_row) return method.weigh_row(call, view);
  double denominator = 1;
  if (statistic == RowStatistic::online_max) {
    const float shift = std::max(top, method.sink(call, head, row));
    denominator = std::exp(static_cast<double>(method.sink(call, head, row)) - static_cast<double>(shift));
    for (float& x : w) x = std::exp(x - shift);
  } else {
    method.weigh(call, view);
    if (statistic == RowStatistic::none) return;
    denominator = method.epsilon();
  }
  for (float x : w) denominator += static_cast<double>(x);
  for (float& x : w) x = denominator == 0 ? 0.0f : static_cast<float>(static_cast<double>(x) / denominator);
}

void weights_one_plan(const TileMethod& method, const AttentionCall& call, index_t head, index_t begin,
                      index_t end, TensorView<float, 2> weights) {
  if (begin == end || call.n_k() == 0) return;
  const TilePass pass(method, call, Packing::scores, head);
  parallel_for(end - begin, k_rows, [&](index_t first, index_t last) {
    call.stop.throw_if_stopped();
    QueryBlock block = pass.block();
    pass.load(block, head, begin + first, begin + last);
    const Scratch<float> tile_scores(k_rows * k_keys);
    for (index_t j0 = 0; j0 < call.n_k(); j0 += k_keys) {
      const index_t n_cols = std::min(k_keys, call.n_k() - j0);
      const ActiveColumns active = pass.scores(block, j0 / k_keys, tile_scores.data(), k_keys);
      const index_t lo = active.all.lo, n = std::min(active.all.hi, n_cols) - lo;
      for (index_t r = first; r < last; ++r) {
        float* out = weights.row(r).data() + j0;
        std::fill_n(out, n_cols, k_masked);
        if (n > 0) std::copy_n(tile_scores.data() + (r - first) * k_keys + lo, n, out + lo);
      }
    }
    for (index_t r = first; r < last; ++r) finish_weights(method, call, head, begin + r, weights.row(r));
  });
}

/// The mean over the members of an ensemble. evaluate(call, out) fills out.
template <class Evaluate>
void average(const AttentionCall& call, std::span<float> out, Evaluate&& evaluate) {
  const Scratch<float> member(static_cast<index_t>(out.size()));
  std::ranges::fill(out, 0.0f);
  const auto share = 1 / static_cast<float>(call.position->ensemble.size());
  for (const PositionPlan& plan : call.position->ensemble) {
    AttentionCall part = call;
    part.position = &plan;
    evaluate(part, member.data());
    for (std::size_t x = 0; x < out.size(); ++x) out[x] += share * member[static_cast<index_t>(x)];
  }
}

}  // namespace

void tile_forward(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o) {
  tile_forward_saving(method, call, o, {});
}

void tile_forward_saving(const TileMethod& method, const AttentionCall& call, TensorView<float, 3> o,
                         TensorView<float, 3> saved) {
  if (!call.position || call.position->ensemble.empty()) return forward_one_plan(method, call, o, saved);
  const Scratch<float> mean(o.size());
  average(call, mean.span(), [&](const AttentionCall& part, float* out) {
    forward_one_plan(method, part, TensorView<float, 3>(out, o.shape()), {});
  });
  for (index_t h = 0; h < o.shape(0); ++h)
    for (index_t r = 0; r < o.shape(1); ++r)
      std::copy_n(mean.data() + (h * o.shape(1) + r) * o.shape(2), o.shape(2), o.row(h, r).data());
}

void tile_weights(const TileMethod& method, const AttentionCall& call, index_t head, index_t begin,
                  index_t end, TensorView<float, 2> weights) {
  if (!call.position || call.position->ensemble.empty())
    return weights_one_plan(method, call, head, begin, end, weights);
  const Scratch<float> mean(weights.size());
  average(call, mean.span(), [&](const AttentionCall& part, float* out) {
    weights_one_plan(method, part, head, begin, end, TensorView<float, 2>(out, weights.shape()));
  });
  for (index_t r = 0; r < weights.shape(0); ++r)
    std::copy_n(mean.data() + r * weights.shape(1), weights.shape(1), weights.row(r).data());
}

}  // namespace borel
