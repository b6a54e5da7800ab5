#include "chunk_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "chunk_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include "product-inl.hpp"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

HWY_INLINE index_t lane_count() { return static_cast<index_t>(hn::Lanes(Floats())); }

void Product(const Left& a, const float* b, index_t ldb, float* out, index_t ldo, index_t n_rows,
             index_t n_inner, index_t n_cols, bool accumulate, Shape shape) {
  const auto columns = [&]<int Vectors>(std::integral_constant<int, Vectors>, index_t c) {
    for_row_blocks<block_rows(Vectors)>(n_rows, [&]<int Rows>(std::integral_constant<int, Rows>, index_t r) {
      if (shape == Shape::lower_out && c >= r + Rows) return;
      const index_t begin = shape == Shape::upper_in ? std::min(r, n_inner) : 0,
                    end = shape == Shape::lower_in ? std::min(n_inner, r + Rows) : n_inner;
      Left left = from_row(a, r);
      left.data += begin * a.inner;
      multiply_block<Rows, Vectors>(left, {b + begin * ldb + c, ldb, k_row_pad}, out + r * ldo + c, ldo,
                                    end - begin, accumulate);
    });
  };
  if (shape == Shape::lower_out)  // narrow blocks: more of them lie above the diagonal
    for_column_blocks<2>(n_cols, columns);
  else
    for_column_blocks(n_cols, columns);
}

void Transpose(const float* in, index_t ld_in, index_t n_rows, index_t n_cols, float* out, index_t ldo) {
  index_t r = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> f;
  const hn::Repartition<double, decltype(f)> d;
  const auto low = [&](auto x, auto y) {
    return hn::BitCast(f, hn::InterleaveLower(d, hn::BitCast(d, x), hn::BitCast(d, y)));
  };
  const auto high = [&](auto x, auto y) {
    return hn::BitCast(f, hn::InterleaveUpper(d, hn::BitCast(d, x), hn::BitCast(d, y)));
  };
  for (; r + 4 <= n_rows; r += 4) {
    index_t c = 0;
    for (; c + 4 <= n_cols; c += 4) {
      const float* at = in + r * ld_in + c;
      const auto x0 = hn::LoadU(f, at), x1 = hn::LoadU(f, at + ld_in), x2 = hn::LoadU(f, at + 2 * ld_in),
                 x3 = hn::LoadU(f, at + 3 * ld_in);
      const auto a = hn::InterleaveLower(f, x0, x1), b = hn::InterleaveLower(f, x2, x3),
                 g = hn::InterleaveUpper(f, x0, x1), h = hn::InterleaveUpper(f, x2, x3);
      float* to = out + c * ldo + r;
      hn::StoreU(low(a, b), f, to);
      hn::StoreU(high(a, b), f, to + ldo);
      hn::StoreU(low(g, h), f, to + 2 * ldo);
      hn::StoreU(high(g, h), f, to + 3 * ldo);
    }
    for (; c < n_cols; ++c)
      for (index_t i = 0; i < 4; ++i) out[c * ldo + r + i] = in[(r + i) * ld_in + c];
  }
#endif
  for (; r < n_rows; ++r)
    for (index_t c = 0; c < n_cols; ++c) out[c * ldo + r] = in[r * ld_in + c];
}

void KeepLower(float* scores, index_t ld, index_t n, index_t n_pad, bool strict, float* row_sums) {
  const Floats f;
  for (index_t r = 0; r < n; ++r) {
    float* row = scores + r * ld;
    std::fill(row + r + (strict ? 0 : 1), row + n_pad, 0.0f);
    if (!row_sums) continue;
    Vec sum = hn::Zero(f);
    for (index_t c = 0; c <= r; c += lane_count()) sum = hn::Add(sum, hn::LoadU(f, row + c));
    row_sums[r] = hn::GetLane(hn::SumOfLanes(f, sum));
  }
}

using Doubles = hn::CappedTag<double, k_row_pad / 2>;
using FloatsOfDoubles = hn::Rebind<float, Doubles>;

/// exp(x): x = n ln 2 + r with |r| <= ln 2 / 2, the series of exp(r) to r^7 (remainder 6e-9), times 2^n.
HWY_INLINE hn::Vec<FloatsOfDoubles> exp_of(hn::Vec<Doubles> x) {
  const Doubles d;
  const FloatsOfDoubles f;
  const hn::Rebind<std::int32_t, Doubles> i;
  x = hn::Min(hn::Max(x, hn::Set(d, -87.0)), hn::Set(d, 88.0));
  const auto n = hn::Round(hn::Mul(x, hn::Set(d, 1.4426950408889634)));
  const auto r = hn::DemoteTo(f, hn::NegMulAdd(n, hn::Set(d, 0.6931471805599453), x));
  auto y = hn::Set(f, 1.0f / 5040);
  for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
    y = hn::MulAdd(y, r, hn::Set(f, c));
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::DemoteTo(i, n), hn::Set(i, 127)));
  return hn::Mul(y, hn::BitCast(f, power));
}

void ScaleByExp(const double* exponent, index_t width, double sign, const float* x, index_t n, index_t f,
                index_t ld, float* out) {
  const Doubles d;
  const FloatsOfDoubles half;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const auto signs = hn::Set(d, sign);
  for (index_t t = 0; t < n; ++t) {
    const float* from = x + t * ld;
    float* to = out + t * ld;
    if (width == 1) {
      const auto factor = hn::GetLane(exp_of(hn::Set(d, sign * exponent[t])));
      const Floats floats;
      const Vec factors = hn::Set(floats, factor);
      for (index_t c = 0; c < f; c += lane_count())
        hn::StoreU(hn::Mul(factors, hn::LoadU(floats, from + c)), floats, to + c);
      continue;
    }
    const double* e = exponent + t * ld;
    for (index_t c = 0; c < f; c += lanes) {
      const auto turned = hn::Mul(signs, hn::LoadU(d, e + c));
      hn::StoreU(hn::Mul(exp_of(turned), hn::LoadU(half, from + c)), half, to + c);
    }
  }
}

/// hi + lo <- factor (hi + lo), the rounding of the product going into lo.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void scale_pair(D, V factor, V& hi, V& lo) {
  const V product = hn::Mul(factor, hi);
  lo = hn::MulAdd(factor, lo, hn::MulSub(factor, hi, product));  // MulSub is 0 where it is not fused
  hi = product;
}

/// hi + lo <- hi + lo + x. Knuth 1969, The Art of Computer Programming 2, section 4.2.2, theorem B.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void add_to_pair(D, V x, V& hi, V& lo) {
  const V sum = hn::Add(hi, x), taken = hn::Sub(sum, hi);
  lo = hn::Add(lo, hn::Add(hn::Sub(hi, hn::Sub(sum, taken)), hn::Sub(x, taken)));
  hi = sum;
}

void ScaleState(float* s, float* rest, index_t lds, index_t f, index_t n_cols, const float* factor,
                index_t width) {
  const Floats floats;
  for (index_t a = 0; a < f; ++a) {
    const Vec factors = hn::Set(floats, factor[width == 1 ? 0 : a]);
    for (index_t c = a * lds; c < a * lds + n_cols; c += lane_count()) {
      Vec hi = hn::LoadU(floats, s + c);
      if (rest) {
        Vec lo = hn::LoadU(floats, rest + c);
        scale_pair(floats, factors, hi, lo);
        hn::StoreU(lo, floats, rest + c);
      } else {
        hi = hn::Mul(factors, hi);
      }
      hn::StoreU(hi, floats, s + c);
    }
  }
}

void AddToState(const float* x, index_t size, float* s, float* rest) {
  const Floats floats;
  for (index_t c = 0; c < size; c += lane_count()) {
    Vec hi = hn::LoadU(floats, s + c), lo = hn::LoadU(floats, rest + c);
    add_to_pair(floats, hn::LoadU(floats, x + c), hi, lo);
    const Vec nearest = hn::Add(hi, lo);
    hn::StoreU(hn::Sub(lo, hn::Sub(nearest, hi)), floats, rest + c);
    hn::StoreU(nearest, floats, s + c);
  }
}

void ColumnSums(const float* x, index_t ld, index_t n, index_t n_cols, float* sum) {
  const Floats f;
  for (index_t c = 0; c < n_cols; c += lane_count()) {
    Vec total = hn::Zero(f);
    for (index_t t = 0; t < n; ++t) total = hn::Add(total, hn::LoadU(f, x + t * ld + c));
    hn::StoreU(total, f, sum + c);
  }
}

void RowDots(const float* x, index_t ldx, const float* y, index_t ldy, index_t n, index_t n_cols,
             float* out) {
  const Floats f;
  for (index_t t = 0; t < n; ++t) {
    Vec sum = hn::Zero(f);
    for (index_t c = 0; c < n_cols; c += lane_count())
      sum = hn::MulAdd(hn::LoadU(f, x + t * ldx + c), hn::LoadU(f, y + t * ldy + c), sum);
    out[t] = hn::GetLane(hn::SumOfLanes(f, sum));
  }
}

HWY_INLINE void add_row(const float* from, float factor, float* to, index_t n_cols) {
  const Floats f;
  const Vec factors = hn::Set(f, factor);
  for (index_t c = 0; c < n_cols; c += lane_count())
    hn::StoreU(hn::MulAdd(factors, hn::LoadU(f, from + c), hn::LoadU(f, to + c)), f, to + c);
}

void SolveUnitLower(const float* minus_m, index_t ldm, float* u, index_t ldu, index_t n, index_t n_cols,
                    bool transposed_system) {
  constexpr index_t k_rows = block_rows(k_block_vectors);
  const index_t n_blocks = (n + k_rows - 1) / k_rows;
  for (index_t step = 0; step < n_blocks; ++step) {
    const index_t block = transposed_system ? n_blocks - 1 - step : step;
    const index_t r0 = block * k_rows, r1 = std::min(n, r0 + k_rows);
    if (transposed_system) {
      Product({minus_m + r1 * ldm + r0, 1, ldm}, u + r1 * ldu, ldu, u + r0 * ldu, ldu, r1 - r0, n - r1,
              n_cols, true, Shape::full);
      for (index_t r = r1 - 1; r >= r0; --r)
        for (index_t j = r + 1; j < r1; ++j) add_row(u + j * ldu, minus_m[j * ldm + r], u + r * ldu, n_cols);
    } else {
      Product({minus_m + r0 * ldm, ldm, 1}, u, ldu, u + r0 * ldu, ldu, r1 - r0, r0, n_cols, true,
              Shape::full);
      for (index_t r = r0; r < r1; ++r)
        for (index_t j = r0; j < r; ++j) add_row(u + j * ldu, minus_m[r * ldm + j], u + r * ldu, n_cols);
    }
  }
}

/// Columns c .. c + Vectors vectors of d of the state: they stay in registers over all features.
template <class D, int Vectors, bool Pairs>
HWY_INLINE void step_columns(D d, const StateStep& t, bool delta_rule, float strength, index_t c, float* s,
                             float* u, float* o) {
  using V = hn::Vec<D>;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const auto decay_of = [&](index_t a) { return t.decay[t.decay_width == 1 ? 0 : a]; };
  V written[Vectors], read[Vectors];
  for (int x = 0; x < Vectors; ++x) {
    written[x] = hn::LoadU(d, t.value + c + x * lanes);
    read[x] = hn::Zero(d);
  }
  if (delta_rule) {
    V known[Vectors];
    for (int x = 0; x < Vectors; ++x) known[x] = hn::Zero(d);
    for (index_t a = 0; a < t.f; ++a) {
      const V key = hn::Set(d, t.decay_width > 0 ? t.key[a] * decay_of(a) : t.key[a]);
      for (int x = 0; x < Vectors; ++x)
        known[x] = hn::MulAdd(key, hn::LoadU(d, s + a * t.d_v + c + x * lanes), known[x]);
    }
    for (int x = 0; x < Vectors; ++x)
      written[x] = hn::Mul(hn::Set(d, strength), hn::Sub(written[x], known[x]));
  }
  for (int x = 0; x < Vectors; ++x) hn::StoreU(written[x], d, u + c + x * lanes);
  for (index_t a = 0; a < t.f; ++a) {
    const V key = hn::Set(d, t.key[a]), query = hn::Set(d, t.query[a]),
            decay = hn::Set(d, t.decay_width > 0 ? decay_of(a) : 1.0f);
    for (int x = 0; x < Vectors; ++x) {
      const index_t place = a * t.d_v + c + x * lanes;
      float* at = s + place;
      const V old = hn::LoadU(d, at);
      if constexpr (Pairs) {
        V hi = old, lo = hn::LoadU(d, t.rest + place);
        if (t.decay_width > 0) scale_pair(d, decay, hi, lo);
        add_to_pair(d, hn::Mul(key, written[x]), hi, lo);
        hn::StoreU(hi, d, at);
        hn::StoreU(lo, d, t.rest + place);
        read[x] = hn::MulAdd(query, hn::Add(hi, lo), read[x]);
        continue;
      }
      const V next = hn::MulAdd(key, written[x], hn::Mul(decay, old));
      hn::StoreU(next, d, at);
      read[x] = hn::MulAdd(query, t.read_before_write ? old : next, read[x]);
    }
  }
  for (int x = 0; x < Vectors; ++x) hn::StoreU(read[x], d, o + c + x * lanes);
}

/// Calls columns(tag, number of vectors, first column) for all columns of a row of d_v.
template <class Columns>
HWY_INLINE void for_each_columns(index_t d_v, Columns&& columns) {
  const Floats f;
  const index_t lanes = lane_count();
  index_t c = 0;
  for (; c + 4 * lanes <= d_v; c += 4 * lanes) columns(f, std::integral_constant<int, 4>(), c);
  for (; c + lanes <= d_v; c += lanes) columns(f, std::integral_constant<int, 1>(), c);
  const hn::CappedTag<float, 1> one;
  for (; c < d_v; ++c) columns(one, std::integral_constant<int, 1>(), c);
}

void Step(const StateStep& t, bool delta_rule, float strength, float* s, float* u, float* o) {
  for_each_columns(t.d_v, [&](auto d, auto vectors, index_t c) HWY_ATTR {
    if (t.rest)
      step_columns<decltype(d), vectors, true>(d, t, delta_rule, strength, c, s, u, o);
    else
      step_columns<decltype(d), vectors, false>(d, t, delta_rule, strength, c, s, u, o);
  });
}

void Read(const StateStep& t, const float* s, float* o) {
  for_each_columns(t.d_v, [&](auto d, auto vectors, index_t c) HWY_ATTR {
    const auto lanes = static_cast<index_t>(hn::Lanes(d));
    hn::Vec<decltype(d)> read[vectors];
    for (int x = 0; x < vectors; ++x) read[x] = hn::Zero(d);
    for (index_t a = 0; a < t.f; ++a)
      for (int x = 0; x < vectors; ++x) {
        const index_t place = a * t.d_v + c + x * lanes;
        auto state = hn::LoadU(d, s + place);
        if (t.rest) state = hn::Add(state, hn::LoadU(d, t.rest + place));
        read[x] = hn::MulAdd(hn::Set(d, t.query[a]), state, read[x]);
      }
    for (int x = 0; x < vectors; ++x) hn::StoreU(read[x], d, o + c + x * lanes);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(Product);
HWY_EXPORT(Transpose);
HWY_EXPORT(KeepLower);
HWY_EXPORT(ScaleByExp);
HWY_EXPORT(ScaleState);
HWY_EXPORT(AddToState);
HWY_EXPORT(ColumnSums);
HWY_EXPORT(RowDots);
HWY_EXPORT(SolveUnitLower);
HWY_EXPORT(Step);
HWY_EXPORT(Read);

void product(const Left& a, const float* b, index_t ldb, float* out, index_t ldo, index_t n_rows,
             index_t n_inner, index_t n_cols, bool accumulate, Shape shape) {
  HWY_DYNAMIC_DISPATCH(Product)(a, b, ldb, out, ldo, n_rows, n_inner, n_cols, accumulate, shape);
}
void transpose(const float* in, index_t ld_in, index_t n_rows, index_t n_cols, float* out, index_t ldo) {
  HWY_DYNAMIC_DISPATCH(Transpose)(in, ld_in, n_rows, n_cols, out, ldo);
}
void keep_lower(float* scores, index_t ld, index_t n, index_t n_pad, bool strict, float* row_sums) {
  HWY_DYNAMIC_DISPATCH(KeepLower)(scores, ld, n, n_pad, strict, row_sums);
}
void scale_by_exp(const double* exponent, index_t width, double sign, const float* x, index_t n, index_t f,
                  index_t ld, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleByExp)(exponent, width, sign, x, n, f, ld, out);
}
void scale_state(float* s, float* rest, index_t lds, index_t f, index_t n_cols, const float* factor,
                 index_t width) {
  HWY_DYNAMIC_DISPATCH(ScaleState)(s, rest, lds, f, n_cols, factor, width);
}
void add_to_state(const float* x, index_t size, float* s, float* rest) {
  HWY_DYNAMIC_DISPATCH(AddToState)(x, size, s, rest);
}
void column_sums(const float* x, index_t ld, index_t n, index_t n_cols, float* sum) {
  HWY_DYNAMIC_DISPATCH(ColumnSums)(x, ld, n, n_cols, sum);
}
void row_dots(const float* x, index_t ld, const float* y, index_t n, index_t n_cols, float* out) {
  HWY_DYNAMIC_DISPATCH(RowDots)(x, ld, y, 0, n, n_cols, out);
}
void paired_row_dots(const float* x, index_t ldx, const float* y, index_t ldy, index_t n, index_t n_cols,
                     float* out) {
  HWY_DYNAMIC_DISPATCH(RowDots)(x, ldx, y, ldy, n, n_cols, out);
}
void solve_unit_lower(const float* minus_m, index_t ldm, float* u, index_t ldu, index_t n, index_t n_cols) {
  HWY_DYNAMIC_DISPATCH(SolveUnitLower)(minus_m, ldm, u, ldu, n, n_cols, false);
}
void solve_unit_lower_transposed(const float* minus_m, index_t ldm, float* u, index_t ldu, index_t n,
                                 index_t n_cols) {
  HWY_DYNAMIC_DISPATCH(SolveUnitLower)(minus_m, ldm, u, ldu, n, n_cols, true);
}
void state_step(const StateStep& step, bool delta_rule, float strength, float* s, float* u, float* o) {
  HWY_DYNAMIC_DISPATCH(Step)(step, delta_rule, strength, s, u, o);
}
void state_read(const StateStep& step, const float* s, float* o) { HWY_DYNAMIC_DISPATCH(Read)(step, s, o); }

}  // namespace borel::kernels
#endif
