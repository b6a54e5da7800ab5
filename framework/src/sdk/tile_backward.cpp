// Gradients of the tile engine (Dao et al. 2022, arXiv:2205.14135, algorithm 4, with one pass over the tiles and for any
// normaliser). Per tile, with W the weights, T the transformed scores, S the products with all their factors:
//
//   dW = dO V^T      dT = d(normaliser)(dW)      dS = d(transform)(dT)
//   dV += W^T dO     dK~ += dS^T Q~              dQ~ += dS K~           Q~, K~ mapped and rotated rows of a variant
//
// The normalisers need one number per row besides the scores: D_i = dO_i . o_i.  softmax: dT = W (dW - D);
// f / sum: dT = f' (dW - D) / sum;  f alone: dT = f' dW;  whole rows: the method's own.
// A unit of work owns a key-value head and a range of keys, so dK and dV have one writer; dQ~ is kept per key range and
// summed in order. Hence the same bits for any number of threads.
#include <algorithm>
#include <cmath>
#include <vector>

#include "borel/error.hpp"
#include "rotation.hpp"
#include "tile_pass.hpp"

namespace borel {
namespace {

using namespace tile;

constexpr index_t k_range_tiles = 8, k_max_ranges = 8;  // 1024 keys, longer where that gives too many

class Backward {
 public:
  Backward(const TileMethod& method, const AttentionCall& call, TensorView<const float, 3> o,
           TensorView<const float, 3> saved, TensorView<const float, 3> d_o,
           const AttentionBackward::Gradients& gradients, const TileScoreSums& sums)
      : method_(method),
        call_(call),
        o_(o),
        saved_(saved),
        d_out_(d_o),
        gradients_(gradients),
        sums_(sums),
        statistic_(method.statistic()),
        pass_(method, call, Packing::backward, -1),
        n_variants_(static_cast<index_t>(pass_.variants().size())),
        n_ranges_(statistic_ == RowStatistic::whole_row
                      ? 1
                      : std::clamp<index_t>(pass_.n_tiles() / k_range_tiles, 1, k_max_ranges)),
        height_(statistic_ == RowStatistic::whole_row ? k_whole_rows : k_rows),
        n_padded_(pass_.n_tiles() * k_keys),
        d_queries_(n_ranges_ * call.h_q() * n_variants_ * call.n_q() * pass_.d_pad()),
        d_keys_(call.h_kv() * n_variants_ * n_padded_ * pass_.d_pad()),
        d_values_(call.h_kv() * n_padded_ * pass_.d_o()),
        row_mean_(call.h_q() * call.n_q()) {
    if (!pass_.keys_are_packed())
      throw MethodError(
          "gradients: the position plan has more than 8 bands at work; split the call into query ranges");
    if (wants_bias())
      d_bias_.assign(static_cast<std::size_t>(n_ranges_ * call.h_q() * call.position->bias_width), 0);
    if (!sums_.by_query.empty())
      query_sums_.assign(static_cast<std::size_t>(n_ranges_ * call.h_q() * call.n_q()), 0);
  }

  void run() {
    std::ranges::fill(d_queries_.span(), 0.0f);
    std::ranges::fill(d_keys_.span(), 0.0f);
    std::ranges::fill(d_values_.span(), 0.0f);
    row_means();
    parallel_for(call_.h_kv() * n_ranges_, 1, [&](index_t begin, index_t) {
      // Ranges of a head side by side: early keys are seen by most queries of a causal call, so both halves of the
      // units are the same work.
      run_unit(begin / n_ranges_, begin % n_ranges_);
    });
    finish_queries();
    finish_keys();
    finish_bias_and_sums();
  }

 private:
  index_t n_rot_pairs() const { return call_.position ? call_.position->n_rot_dims / 2 : 0; }
  bool wants_bias() const {
    return gradients_.d_position && !gradients_.d_position->bias.empty() && call_.position &&
           call_.position->bias;
  }
  bool wants_angle(const Variant& variant) const {
    return gradients_.d_position && variant.band && variant.band->angle &&
           static_cast<std::size_t>(variant.band_number) < gradients_.d_position->angle.size() &&
           !gradients_.d_position->angle[static_cast<std::size_t>(variant.band_number)].empty();
  }
  float* d_queries(index_t range, index_t head, index_t v, index_t row) {
    return d_queries_.data() +
           (((range * call_.h_q() + head) * n_variants_ + v) * call_.n_q() + row) * pass_.d_pad();
  }
  float* d_keys(index_t kv, index_t v, index_t row) {
    return d_keys_.data() + ((kv * n_variants_ + v) * n_padded_ + row) * pass_.d_pad();
  }

  /// D_i, and the gradient of the sinks, whose weight is what the others leave.
  void row_means() {
    std::vector<double> d_sink(static_cast<std::size_t>(call_.h_q() * call_.n_q()), 0);
    parallel_for(call_.h_q() * call_.n_q(), 256, [&](index_t begin, index_t end) {
      for (index_t x = begin; x < end; ++x) {
        const index_t h = x / call_.n_q(), r = x % call_.n_q();
        const double mean = kernels::dot(d_out_.row(h, r).data(), o_.row(h, r).data(), call_.d_v());
        row_mean_[x] = statistic_ == RowStatistic::none ? 0.0f : static_cast<float>(mean);
        if (statistic_ != RowStatistic::online_max) continue;
        const float sink = method_.sink(call_, h, r);
        if (sink == k_masked || saved_(h, r, 1) == 0) continue;
        const double shift = static_cast<double>(saved_(h, r, 0) * kernels::k_log2_e);
        const double weight =
            std::exp2(static_cast<double>(sink) * static_cast<double>(kernels::k_log2_e) - shift) *
            static_cast<double>(saved_(h, r, 1));
        d_sink[static_cast<std::size_t>(x)] = -weight * mean;
      }
    });
    for (index_t x = 0; x < call_.h_q() * call_.n_q(); ++x)
      if (d_sink[static_cast<std::size_t>(x)] != 0)
        method_.sink_backward(call_, x / call_.n_q(), x % call_.n_q(), d_sink[static_cast<std::size_t>(x)],
                              gradients_);
  }

  /// What a unit needs for one block of rows.
  struct Work {
    explicit Work(const Backward& b)
        : scores(k_rows * k_keys),
          weights(k_rows * k_keys),
          d_scores(k_rows * k_keys),
          slope(k_rows * k_keys),
          part(k_rows * k_keys),
          d_o(k_rows * b.pass_.d_o()),
          d_q(b.n_variants_ * k_rows * b.pass_.d_pad()),
          d_q_part(k_rows * b.pass_.d_pad()) {}
    Scratch<float> scores, weights, d_scores, slope, part, d_o, d_q, d_q_part;
    std::vector<TilePass::Part> parts;
  };

  void run_unit(index_t kv, index_t range) {
    const index_t first_tile = range * pass_.n_tiles() / n_ranges_,
                  last_tile = (range + 1) * pass_.n_tiles() / n_ranges_;
    const index_t group = call_.h_q() / call_.h_kv();
    QueryBlock block = pass_.block();
    Work work(*this);
    for (index_t head = kv * group; head < (kv + 1) * group; ++head)
      for (index_t r0 = 0; r0 < call_.n_q(); r0 += height_) {
        call_.stop.throw_if_stopped();
        pass_.load(block, head, r0, std::min(call_.n_q(), r0 + height_));
        const auto [first, last] = pass_.tiles(r0, block.r1);
        if (std::max(first, first_tile) >= std::min(last, last_tile)) continue;
        load_output_gradient(block, work);
        std::fill_n(work.d_q.data(), n_variants_ * k_rows * pass_.d_pad(), 0.0f);
        if (statistic_ == RowStatistic::whole_row)
          whole_rows(block, work);
        else
          for (index_t t = std::max(first, first_tile); t < std::min(last, last_tile); ++t) {
            const ActiveColumns active = pass_.scores(block, t, work.scores.data(), k_keys);
            if (active.all.size() == 0) continue;
            pass_.multiply_values(block, t, active, work.d_o.data(), work.d_scores.data(), k_keys);
            normaliser_backward(block, t, active, work);
            take(block, range, t, active, work, work.weights.data(), work.d_scores.data(), work.scores.data(),
                 k_keys);
          }
        for (index_t v = 0; v < n_variants_; ++v)
          std::copy_n(work.d_q.data() + v * k_rows * pass_.d_pad(), block.n_rows() * pass_.d_pad(),
                      d_queries(range, head, v, r0));
      }
  }

  void load_output_gradient(const QueryBlock& block, Work& work) const {
    for (index_t r = 0; r < block.n_rows(); ++r) {
      float* const out = work.d_o.data() + r * pass_.d_o();
      std::fill(std::ranges::copy(d_out_.row(block.head, block.r0 + r), out).out, out + pass_.d_o(), 0.0f);
    }
  }

  /// Scores and dW to weights and dT, in the active columns.
  void normaliser_backward(const QueryBlock& block, index_t t, const ActiveColumns& active,
                           Work& work) const {
    const index_t n = block.n_rows(), lo = active.all.lo, size = active.all.size();
    float shift[k_rows], inverse[k_rows];
    for (index_t r = 0; r < n; ++r)
      shift[r] = saved_(block.head, block.r0 + r, 0), inverse[r] = saved_(block.head, block.r0 + r, 1);
    const float* mean = row_mean_.data() + block.head * call_.n_q() + block.r0;
    if (statistic_ == RowStatistic::online_max)
      return kernels::softmax_backward(work.scores.data() + lo, work.weights.data() + lo,
                                       work.d_scores.data() + lo, k_keys, n, size, shift, inverse, mean);
    for (index_t r = 0; r < n; ++r)
      std::copy_n(work.scores.data() + r * k_keys + lo, size, work.weights.data() + r * k_keys + lo);
    ScoreTile view = pass_.view(block, t, active, work.weights.data(), k_keys);
    method_.weigh_with_slope(call_, view, work.slope.data() + lo);
    for (index_t r = 0; r < n; ++r) {
      const index_t begin = r * k_keys + lo + view.n_cols, end = r * k_keys + lo + size;
      std::fill(work.weights.data() + begin, work.weights.data() + end, 0.0f);
      std::fill(work.slope.data() + begin, work.slope.data() + end, 0.0f);
    }
    kernels::weigh_backward(work.slope.data() + lo, work.weights.data() + lo, work.d_scores.data() + lo,
                            k_keys, n, size, inverse, mean);
  }

  void whole_rows(QueryBlock& block, Work& work) {
    const auto [first, last] = pass_.tiles(block.r0, block.r1);
    const index_t n = block.n_rows(), ld = (last - first) * k_keys, first_key = first * k_keys;
    const Scratch<float> scores(n * ld), weights(n * ld), d_scores(n * ld);
    whole_row_scores(pass_, block, scores.data(), ld);
    std::copy_n(scores.data(), n * ld, weights.data());
    const ActiveColumns all = ActiveColumns::whole(k_keys);
    for (index_t t = first; t < last; ++t)
      pass_.multiply_values(block, t, all, work.d_o.data(), d_scores.data() + (t - first) * k_keys, ld);
    for (index_t r = 0; r < n; ++r) {
      whole_row_weights(method_, pass_, block, r, first_key, weights.data() + r * ld, ld);
      const index_t n_cols = std::min(call_.n_k() - first_key, ld);
      const ScoreTile row{weights.data() + r * ld, 1, n_cols, ld, block.head, block.r0 + r, first_key, true};
      method_.weigh_row_backward(call_, row, d_scores.data() + r * ld);
      std::fill(d_scores.data() + r * ld + n_cols, d_scores.data() + (r + 1) * ld, 0.0f);
    }
    for (index_t t = first; t < last; ++t) {
      const index_t at = (t - first) * k_keys;
      take(block, 0, t, all, work, weights.data() + at, d_scores.data() + at, scores.data() + at, ld);
    }
  }

  /// Weights and dT of one tile to everything that depends on them.
  void take(QueryBlock& block, index_t range, index_t t, const ActiveColumns& active, Work& work,
            const float* weights, float* d_scores, float* scores, index_t ld) {
    const index_t n = block.n_rows(), lo = active.all.lo, size = active.all.size(), d_o = pass_.d_o();
    const index_t kv = call_.kv_head(block.head), row = t * k_keys + lo;
    kernels::multiply({weights + lo, 1, ld}, {work.d_o.data(), d_o, kernels::k_row_pad},
                      d_values_.data() + (kv * n_padded_ + row) * d_o, d_o, size, n, d_o, true);
    add_sums(block, range, t, active, d_scores, ld);
    method_.transform_backward(call_, pass_.view(block, t, active, scores, ld), d_scores + lo);
    if (wants_bias()) add_bias(block, range, t, active, d_scores, ld);
    const TileBox area = pass_.box(block.r0, block.r1, t);
    pass_.parts(area, work.parts);
    for (const TilePass::Part& part : work.parts) {
      const float* d_part = d_scores;
      index_t ld_part = ld;
      if (part.held == Cover::part) {
        d_part = work.part.data(), ld_part = k_keys;
        for (index_t r = 0; r < n; ++r)
          for (index_t c = lo; c < active.all.hi; ++c)
            work.part[r * k_keys + c] =
                pass_.holds(part, area.i0 + r, area.j0 + c) ? d_scores[r * ld + c] : 0.0f;
      }
      take_part(block, part.variant, t, active, work, d_part, ld_part);
    }
  }

  void take_part(QueryBlock& block, std::size_t v, index_t t, const ActiveColumns& active, Work& work,
                 const float* d_scores, index_t ld) {
    const index_t n = block.n_rows(), d = pass_.d_pad(), lo = active.all.lo;
    const auto number = static_cast<index_t>(v);
    const Variant& variant = pass_.variants()[v];
    const float* q = pass_.queries(block, v, t);
    kernels::multiply({d_scores + lo, 1, ld}, {q, d, kernels::k_row_pad},
                      d_keys(call_.kv_head(block.head), number, t * k_keys + lo), d, active.all.size(), n, d,
                      true);
    float* const d_q = work.d_q.data() + number * k_rows * d;
    if (!variant.band || !variant.band->log_amplitude)
      return pass_.multiply_keys(block, v, t, d_scores, ld, active.all, d_q);
    std::fill_n(work.d_q_part.data(), n * d, 0.0f);
    pass_.multiply_keys(block, v, t, d_scores, ld, active.all, work.d_q_part.data());
    pass_.amplify(*variant.band, block.r0, n, t, work.d_q_part.data(), work.d_q_part.data());
    for (index_t x = 0; x < n * d; ++x) d_q[x] += work.d_q_part[x];
  }

  void add_sums(const QueryBlock& block, index_t range, index_t t, const ActiveColumns& active,
                const float* d_scores, index_t ld) {
    const index_t n = block.n_rows(), n_cols = std::min(active.all.hi, pass_.n_keys(t));
    if (!sums_.by_query.empty())
      for (index_t r = 0; r < n; ++r) {
        double& sum = query_sums_[static_cast<std::size_t>((range * call_.h_q() + block.head) * call_.n_q() +
                                                           block.r0 + r)];
        for (index_t c = active.all.lo; c < n_cols; ++c) sum += static_cast<double>(d_scores[r * ld + c]);
      }
    if (!sums_.by_key.empty())  // one writer: the unit owns these keys of this head
      for (index_t c = active.all.lo; c < n_cols; ++c) {
        float sum = 0;
        for (index_t r = 0; r < n; ++r) sum += d_scores[r * ld + c];
        sums_.by_key(block.head, t * k_keys + c) += sum;
      }
  }

  void add_bias(const QueryBlock& block, index_t range, index_t t, const ActiveColumns& active,
                const float* d_scores, index_t ld) {
    const index_t width = call_.position->bias_width;
    float* const d_bias = d_bias_.data() + (range * call_.h_q() + block.head) * width;
    for (index_t r = 0; r < block.n_rows(); ++r) {
      const index_t shift = call_.position->bias_zero - (block.r0 + r + call_.query_offset) + t * k_keys;
      const index_t begin = std::max(active.all.lo, -shift),
                    end = std::min({active.all.hi, pass_.n_keys(t), width - shift});
      if (begin < end) kernels::add_row(d_bias + begin + shift, d_scores + r * ld + begin, end - begin);
    }
  }

  /// dQ~ to d_q, at least one variant: factors, rotation and maps undone, variants added up; the gradients of the factors on the way.
  void finish_queries() {
    // The blocks that amplitudes were centred in.
    const index_t n_blocks = (call_.n_q() + height_ - 1) / height_, n = call_.h_q() * call_.n_q();
    std::vector<double> d_scale(static_cast<std::size_t>(n), 0), d_row_scale(static_cast<std::size_t>(n), 0);
    std::vector<std::vector<double>> d_angle = angle_storage(call_.h_q() * n_blocks);
    parallel_for(call_.h_q() * n_blocks, 1, [&](index_t begin, index_t) {
      const index_t head = begin / n_blocks, r0 = begin % n_blocks * height_,
                    n_rows = std::min(call_.n_q() - r0, height_), d = call_.d_k();
      const Scratch<float> total(n_rows * d), rows(n_rows * d), slope(n_rows * d);
      const TensorView<float, 2> d_rows(total.data(), {n_rows, d}), q(rows.data(), {n_rows, d});
      for (index_t v = 0; v < n_variants_; ++v) {
        const Variant& variant = pass_.variants()[static_cast<std::size_t>(v)];
        const TensorView<float, 2> g(v == 0 ? total.data() : slope.data(), {n_rows, d});
        pass_.turned_rows(variant, true, head, r0, q);
        for (index_t r = 0; r < n_rows; ++r) {
          const double row_scale = method_.row_scale(call_, head, r0 + r + call_.query_offset);
          const double factor = pass_.factor(variant, head, r0 + r);
          const auto plan_scale = static_cast<double>(pass_.query_scale(r0 + r));
          float* const row = g.row(r).data();
          std::copy_n(d_queries(0, head, v, r0 + r), d, row);
          for (index_t range = 1; range < n_ranges_; ++range)
            kernels::add_row(row, d_queries(range, head, v, r0 + r), d);
          const double along = kernels::dot(row, q.row(r).data(), d);  // d loss / d (the whole factor)
          kernels::scale_row(row, static_cast<float>(factor * plan_scale), d, row);
          const auto at = static_cast<std::size_t>(head * call_.n_q() + r0 + r);
          d_scale[at] += along * factor;
          d_row_scale[at] +=
              along * plan_scale * (row_scale == 0 ? unscaled_factor(variant) : factor / row_scale);
        }
        if (wants_angle(variant))
          add_angles(variant, true, r0, q, g, d_angle[static_cast<std::size_t>(begin)]);
        pass_.rotate(variant, true, r0, true, g, g);
        if (v > 0) kernels::add_row(total.data(), slope.data(), n_rows * d);
      }
      map_backward(true, head, r0, d_rows);
      for (index_t r = 0; r < n_rows; ++r)
        kernels::add_row(gradients_.d_q.row(head, r0 + r).data(), total.data() + r * d, d);
    });
    add_up_angles(d_angle);
    for (index_t h = 0; h < call_.h_q(); ++h)
      for (index_t r = 0; r < call_.n_q(); ++r) {
        const auto at = static_cast<std::size_t>(h * call_.n_q() + r);
        method_.row_scale_backward(call_, h, r + call_.query_offset, d_row_scale[at], gradients_);
        if (gradients_.d_position && !gradients_.d_position->query_scale.empty())
          gradients_.d_position->query_scale[static_cast<std::size_t>(r)] += static_cast<float>(d_scale[at]);
      }
  }

  double unscaled_factor(const Variant& variant) const {
    return method_.scale(call_) * (variant.band ? variant.band->logit_scale : 1);
  }

  void finish_keys() {
    const index_t n_tiles = pass_.n_tiles();
    std::vector<std::vector<double>> d_angle = angle_storage(call_.h_kv() * n_tiles);
    parallel_for(call_.h_kv() * n_tiles, 1, [&](index_t begin, index_t) {
      const index_t kv = begin / n_tiles, t = begin % n_tiles, j0 = t * k_keys, n = pass_.n_keys(t),
                    d = call_.d_k();
      const Scratch<float> total(n * d), rows(n * d), slope(n * d);
      const TensorView<float, 2> d_rows(total.data(), {n, d}), k(rows.data(), {n, d});
      bool is_first = true;
      for (index_t v = 0; v < n_variants_; ++v) {
        const Variant& variant = pass_.variants()[static_cast<std::size_t>(v)];
        if (!pass_.is_at_work(variant, t)) continue;
        const TensorView<float, 2> g(is_first ? total.data() : slope.data(), {n, d});
        for (index_t r = 0; r < n; ++r) std::copy_n(d_keys(kv, v, j0 + r), d, g.row(r).data());
        if (wants_angle(variant)) {
          pass_.turned_rows(variant, false, kv, j0, k);
          add_angles(variant, false, j0, k, g, d_angle[static_cast<std::size_t>(begin)]);
        }
        pass_.rotate(variant, false, j0, true, g, g);
        if (!is_first) kernels::add_row(total.data(), slope.data(), n * d);
        is_first = false;
      }
      if (is_first) std::ranges::fill(total.span(), 0.0f);
      map_backward(false, kv, j0, d_rows);
      for (index_t r = 0; r < n; ++r) {
        kernels::add_row(gradients_.d_k.row(kv, j0 + r).data(), total.data() + r * d, d);
        kernels::add_row(gradients_.d_v.row(kv, j0 + r).data(),
                         d_values_.data() + (kv * n_padded_ + j0 + r) * pass_.d_o(), call_.d_v());
      }
    });
    add_up_angles(d_angle);
  }

  void map_backward(bool query_side, index_t head, index_t first, TensorView<float, 2> d_rows) const {
    if (!call_.position) return;
    const TokenMap* map = (query_side ? call_.position->query_map : call_.position->key_map).get();
    if (!map) return;
    const index_t n = d_rows.shape(0), d = d_rows.shape(1);
    const Scratch<float> storage(n * d);
    const TensorView<float, 2> input(storage.data(), {n, d});
    for (index_t t = 0; t < n; ++t)
      std::ranges::copy((query_side ? call_.q : call_.k).row(head, first + t), input.row(t).begin());
    map->backward(head, query_side ? first + call_.query_offset : first, input, d_rows);
  }

  // Angles: blocks write sums of their own, [bands][n_rot_dims / 2, n_axes], which are added up in order.
  std::vector<std::vector<double>> angle_storage(index_t n_blocks) const {
    bool wanted = false;
    for (const Variant& variant : pass_.variants()) wanted = wanted || wants_angle(variant);
    return std::vector<std::vector<double>>(static_cast<std::size_t>(wanted ? n_blocks : 0));
  }

  index_t angles_before(const Variant& variant) const {
    index_t offset = 0;
    for (index_t b = 0; b < variant.band_number; ++b)
      offset += n_rot_pairs() * call_.position->bands[static_cast<std::size_t>(b)].n_axes;
    return offset;
  }

  void add_angles(const Variant& variant, bool query_side, index_t first, TensorView<float, 2> rotated,
                  TensorView<float, 2> d_rotated, std::vector<double>& out) const {
    const Band& band = *variant.band;
    index_t size = 0;
    for (const Band& each : call_.position->bands) size += n_rot_pairs() * each.n_axes;
    out.resize(static_cast<std::size_t>(size), 0);
    const PositionTable& positions = query_side ? band.query_position : band.key_position;
    add_angle_gradient(*call_.position, band, band_positions(positions, band, first, rotated.shape(0)),
                       rotated, d_rotated,
                       std::span(out).subspan(static_cast<std::size_t>(angles_before(variant))));
  }

  void add_up_angles(const std::vector<std::vector<double>>& d_angle) {
    for (const std::vector<double>& block : d_angle)
      for (const Variant& variant : pass_.variants()) {
        if (block.empty() || !wants_angle(variant)) continue;
        const std::span<double> out =
            gradients_.d_position->angle[static_cast<std::size_t>(variant.band_number)];
        for (std::size_t x = 0; x < out.size(); ++x)
          out[x] += block[static_cast<std::size_t>(angles_before(variant)) + x];
      }
  }

  void finish_bias_and_sums() {
    for (index_t range = 0; wants_bias() && range < n_ranges_; ++range)
      for (std::size_t x = 0; x < gradients_.d_position->bias.size(); ++x)
        gradients_.d_position->bias[x] +=
            d_bias_[static_cast<std::size_t>(range) * gradients_.d_position->bias.size() + x];
    for (index_t h = 0; h < call_.h_q() && !sums_.by_query.empty(); ++h)
      for (index_t r = 0; r < call_.n_q(); ++r)
        for (index_t range = 0; range < n_ranges_; ++range)
          sums_.by_query(h, r) += static_cast<float>(
              query_sums_[static_cast<std::size_t>((range * call_.h_q() + h) * call_.n_q() + r)]);
  }

  const TileMethod& method_;
  const AttentionCall& call_;
  TensorView<const float, 3> o_, saved_, d_out_;
  const AttentionBackward::Gradients& gradients_;
  const TileScoreSums& sums_;
  RowStatistic statistic_;
  TilePass pass_;
  index_t n_variants_, n_ranges_, height_, n_padded_;
  Scratch<float> d_queries_;        ///< [ranges, h_q, variants, n_q, d_pad]
  Scratch<float> d_keys_;           ///< [h_kv, variants, n_padded, d_pad]
  Scratch<float> d_values_;         ///< [h_kv, n_padded, d_o]
  Scratch<float> row_mean_;         ///< D_i, [h_q, n_q]
  std::vector<float> d_bias_;       ///< [ranges, h_q, bias_width]
  std::vector<double> query_sums_;  ///< [ranges, h_q, n_q]
};

}  // namespace

void tile_backward(const TileMethod& method, const AttentionCall& call, TensorView<const float, 3> o,
                   TensorView<const float, 3> saved, TensorView<const float, 3> d_o,
                   const AttentionBackward::Gradients& gradients, const TileScoreSums& sums) {
  if (call.n_q() == 0 || call.n_k() == 0) return;
  if (!call.position || call.position->ensemble.empty())
    return Backward(method, call, o, saved, d_o, gradients, sums).run();
  if (gradients.d_position)
    throw MethodError("gradients: none for the parameters of an ensemble of position plans");
  // The output is the mean over the plans; each keeps its own output and row statistics.
  const auto share = 1 / static_cast<float>(call.position->ensemble.size());
  const index_t n_rows = call.h_q() * call.n_q();
  const Scratch<float> output(n_rows * call.d_v()), statistics(n_rows * k_tile_saved_per_row),
      slope(n_rows * call.d_v());
  const TensorView<float, 3> own_o(output.data(), o.shape()), own_d_o(slope.data(), o.shape()),
      own_saved(statistics.data(), {call.h_q(), call.n_q(), k_tile_saved_per_row});
  for (index_t h = 0; h < call.h_q(); ++h)
    for (index_t r = 0; r < call.n_q(); ++r)
      for (index_t c = 0; c < call.d_v(); ++c) own_d_o(h, r, c) = share * d_o(h, r, c);
  for (const PositionPlan& plan : call.position->ensemble) {
    AttentionCall part = call;
    part.position = &plan;
    tile_forward_saving(method, part, own_o, own_saved);
    Backward(method, part, own_o, own_saved, own_d_o, gradients, sums).run();
  }
}

}  // namespace borel
