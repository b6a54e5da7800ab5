// Register tiles: 4 x 2 dots for B B', four rows at a time for products with a vector.
#include "borel/draft/dense_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "dense_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace borel::dense {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::ScalableTag<double>;
using Vec = hn::Vec<Doubles>;

HWY_INLINE double Total(Vec sum) { return hn::GetLane(hn::SumOfLanes(Doubles(), sum)); }

double Dot(const double* HWY_RESTRICT x, const double* HWY_RESTRICT y, index_t n) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  Vec sum[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  index_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes)
    for (index_t k = 0; k < 4; ++k)
      sum[k] = hn::MulAdd(hn::LoadU(d, x + i + k * lanes), hn::LoadU(d, y + i + k * lanes), sum[k]);
  for (; i + lanes <= n; i += lanes) sum[0] = hn::MulAdd(hn::LoadU(d, x + i), hn::LoadU(d, y + i), sum[0]);
  double rest = 0;
  for (; i < n; ++i) rest += x[i] * y[i];
  return Total(hn::Add(hn::Add(sum[0], sum[2]), hn::Add(sum[1], sum[3]))) + rest;
}

void AddScaled(double a, const double* HWY_RESTRICT x, double* HWY_RESTRICT y, index_t n) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec factor = hn::Set(d, a);
  index_t i = 0;
  for (; i + lanes <= n; i += lanes)
    hn::StoreU(hn::MulAdd(factor, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  const hn::CappedTag<double, 1> one;  // the same rounding as above, whatever the compiler contracts
  for (; i < n; ++i) y[i] = hn::GetLane(hn::MulAdd(hn::Set(one, a), hn::Set(one, x[i]), hn::Set(one, y[i])));
}

/// Dots of Rows rows of a with Columns rows of b, each of length n; out[r][c].
template <int Rows, int Columns>
HWY_INLINE void TileDots(const double* a, index_t lda, const double* b, index_t ldb, index_t n,
                         double (&out)[Rows][Columns]) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  Vec sum[Rows][Columns];
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Columns; ++c) sum[r][c] = hn::Zero(d);
  index_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    Vec right[Columns];
    for (int c = 0; c < Columns; ++c) right[c] = hn::LoadU(d, b + c * ldb + i);
    for (int r = 0; r < Rows; ++r) {
      const Vec left = hn::LoadU(d, a + r * lda + i);
      for (int c = 0; c < Columns; ++c) sum[r][c] = hn::MulAdd(left, right[c], sum[r][c]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < Columns; ++c) {
      double rest = 0;
      for (index_t k = i; k < n; ++k) rest += a[r * lda + k] * b[c * ldb + k];
      out[r][c] = Total(sum[r][c]) + rest;
    }
}

void Multiply(const double* a, index_t lda, index_t m, index_t n, const double* x, double* out) {
  index_t r = 0;
  for (; r + 4 <= m; r += 4) {
    double sum[4][1];
    TileDots<4, 1>(a + r * lda, lda, x, 0, n, sum);
    for (int k = 0; k < 4; ++k) out[r + k] = sum[k][0];
  }
  for (; r < m; ++r) out[r] = Dot(a + r * lda, x, n);
}

void AddTransposed(const double* a, index_t lda, index_t m, index_t n, const double* y,
                   double* HWY_RESTRICT out) {
  const Doubles d;
  const hn::CappedTag<double, 1> one;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  index_t r = 0;
  for (; r + 4 <= m; r += 4) {
    const double* HWY_RESTRICT row = a + r * lda;
    const Vec y0 = hn::Set(d, y[r]), y1 = hn::Set(d, y[r + 1]), y2 = hn::Set(d, y[r + 2]),
              y3 = hn::Set(d, y[r + 3]);
    index_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      Vec sum = hn::LoadU(d, out + i);
      sum = hn::MulAdd(y0, hn::LoadU(d, row + i), sum);
      sum = hn::MulAdd(y1, hn::LoadU(d, row + lda + i), sum);
      sum = hn::MulAdd(y2, hn::LoadU(d, row + 2 * lda + i), sum);
      sum = hn::MulAdd(y3, hn::LoadU(d, row + 3 * lda + i), sum);
      hn::StoreU(sum, d, out + i);
    }
    for (; i < n; ++i) {
      auto sum = hn::Set(one, out[i]);
      for (index_t k = 0; k < 4; ++k)
        sum = hn::MulAdd(hn::Set(one, y[r + k]), hn::Set(one, row[k * lda + i]), sum);
      out[i] = hn::GetLane(sum);
    }
  }
  for (; r < m; ++r) AddScaled(y[r], a + r * lda, out, n);
}

/// Four rows of Y and out at once; two rows of A at a time, because sixteen registers hold no more. Sums in the order of
/// AddTransposed.
void AddTransposedFour(const double* a, index_t lda, index_t m, index_t n, const double* y, index_t ldy,
                       double* out, index_t ldo) {
  const Doubles d;
  const hn::CappedTag<double, 1> one;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  index_t r = 0;
  for (; r + 2 <= m; r += 2) {
    const double* row = a + r * lda;
    Vec first[4], second[4];
    for (index_t k = 0; k < 4; ++k) {
      first[k] = hn::Set(d, y[k * ldy + r]);
      second[k] = hn::Set(d, y[k * ldy + r + 1]);
    }
    index_t i = 0;
    for (; i + lanes <= n; i += lanes) {
      const Vec a0 = hn::LoadU(d, row + i), a1 = hn::LoadU(d, row + lda + i);
      for (index_t k = 0; k < 4; ++k)
        hn::StoreU(hn::MulAdd(second[k], a1, hn::MulAdd(first[k], a0, hn::LoadU(d, out + k * ldo + i))), d,
                   out + k * ldo + i);
    }
    for (; i < n; ++i)
      for (index_t k = 0; k < 4; ++k) {
        double& sum = out[k * ldo + i];
        for (index_t s = 0; s < 2; ++s)
          sum = hn::GetLane(hn::MulAdd(hn::Set(one, y[k * ldy + r + s]), hn::Set(one, row[s * lda + i]),
                                       hn::Set(one, sum)));
      }
  }
  for (; r < m; ++r)
    for (index_t k = 0; k < 4; ++k) AddScaled(y[k * ldy + r], a + r * lda, out + k * ldo, n);
}

void AddTransposedRows(const double* a, index_t lda, index_t m, index_t n, const double* y, index_t ldy,
                       index_t rows, double* out, index_t ldo) {
  constexpr index_t k_columns = 512;  // of four rows of out: 16 KiB, half of the first cache
  for (index_t first = 0; first < n; first += k_columns) {
    const index_t columns = std::min(k_columns, n - first);
    index_t k = 0;
    for (; k + 4 <= rows; k += 4)
      AddTransposedFour(a + first, lda, m, columns, y + k * ldy, ldy, out + k * ldo + first, ldo);
    for (; k < rows; ++k) AddTransposed(a + first, lda, m, columns, y + k * ldy, out + k * ldo + first);
  }
}

/// Value and index (exact as a double) of the extreme so far in each lane; -1 where there was none.
struct LaneBest {
  Vec value, index;
};

HWY_INLINE index_t FirstBest(const LaneBest& best, bool lowest) {
  const Doubles d;
  const std::size_t lanes = hn::Lanes(d);
  double value[HWY_MAX_BYTES / sizeof(double)], index[HWY_MAX_BYTES / sizeof(double)];
  hn::StoreU(best.value, d, value);
  hn::StoreU(best.index, d, index);
  std::size_t at = lanes;
  for (std::size_t l = 0; l < lanes; ++l) {
    if (index[l] < 0) continue;
    if (at == lanes || (lowest ? value[l] < value[at] : value[l] > value[at]) ||
        (value[l] == value[at] && index[l] < index[at]))
      at = l;
  }
  return at == lanes ? -1 : static_cast<index_t>(index[at]);
}

Extremes FindExtremes(const double* HWY_RESTRICT p, const double* HWY_RESTRICT g, index_t n) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec none = hn::Set(d, -1), zero = hn::Zero(d),
            infinity = hn::Set(d, std::numeric_limits<double>::infinity());
  LaneBest lowest{infinity, none}, lowest_used{infinity, none}, highest_used{hn::Neg(infinity), none};
  Vec index = hn::Iota(d, 0);
  const Vec step = hn::Set(d, static_cast<double>(lanes));
  const auto look = [&](Vec p_i, Vec g_i, auto inside) {
    const auto used = hn::And(inside, hn::Gt(p_i, zero));
    const auto less = hn::And(inside, hn::Lt(g_i, lowest.value));
    lowest = {hn::IfThenElse(less, g_i, lowest.value), hn::IfThenElse(less, index, lowest.index)};
    const auto used_less = hn::And(used, hn::Lt(g_i, lowest_used.value));
    lowest_used = {hn::IfThenElse(used_less, g_i, lowest_used.value),
                   hn::IfThenElse(used_less, index, lowest_used.index)};
    const auto used_more = hn::And(used, hn::Gt(g_i, highest_used.value));
    highest_used = {hn::IfThenElse(used_more, g_i, highest_used.value),
                    hn::IfThenElse(used_more, index, highest_used.index)};
    index = hn::Add(index, step);
  };
  index_t i = 0;
  const auto all = hn::Eq(zero, zero);
  for (; i + lanes <= n; i += lanes) look(hn::LoadU(d, p + i), hn::LoadU(d, g + i), all);
  if (i < n) {
    const auto rest = static_cast<std::size_t>(n - i);
    double last_p[HWY_MAX_BYTES / sizeof(double)] = {}, last_g[HWY_MAX_BYTES / sizeof(double)] = {};
    std::copy_n(p + i, rest, last_p);
    std::copy_n(g + i, rest, last_g);
    look(hn::LoadU(d, last_p), hn::LoadU(d, last_g), hn::FirstN(d, rest));
  }
  return {FirstBest(lowest, true), FirstBest(lowest_used, true), FirstBest(highest_used, false)};
}

/// out[i, j] += sign * sum_k a[i, k] b[j, k] for i in [0, m), j in [0, columns), only where i + row_offset >= j.
void AddProducts(const double* a, index_t lda, index_t m, const double* b, index_t ldb, index_t columns,
                 index_t n, double sign, index_t row_offset, double* out, index_t ldo) {
  for (index_t i = 0; i < m; i += 4) {
    const index_t rows = std::min<index_t>(4, m - i);
    const index_t last = std::min(columns, i + rows + row_offset);  // columns that any of these rows needs
    index_t j = 0;
    if (rows == 4)
      for (; j + 2 <= last; j += 2) {
        double sum[4][2];
        TileDots<4, 2>(a + i * lda, lda, b + j * ldb, ldb, n, sum);
        for (index_t r = 0; r < 4; ++r)
          for (index_t c = 0; c < 2; ++c)
            if (i + r + row_offset >= j + c) out[(i + r) * ldo + j + c] += sign * sum[r][c];
      }
    for (; j < last; ++j)
      for (index_t r = 0; r < rows; ++r)
        if (i + r + row_offset >= j) out[(i + r) * ldo + j] += sign * Dot(a + (i + r) * lda, b + j * ldb, n);
  }
}

void AddGram(const double* b, index_t ldb, index_t m, index_t n, double* out, index_t ldo) {
  constexpr index_t k_panel = 512;  // columns of B whose rows stay in the second-level cache
  for (index_t begin = 0; begin < n; begin += k_panel)
    AddProducts(b + begin, ldb, m, b + begin, ldb, m, std::min(k_panel, n - begin), 1, 0, out, ldo);
}

bool Cholesky(double* m, index_t ld, index_t n) {
  constexpr index_t k_block = 48;
  for (index_t begin = 0; begin < n; begin += k_block) {
    const index_t width = std::min(k_block, n - begin);
    // Left-looking: this block's columns minus what the columns before it explain.
    if (begin > 0)
      AddProducts(m + begin * ld, ld, n - begin, m + begin * ld, ld, width, begin, -1, 0,
                  m + begin * ld + begin, ld);
    for (index_t j = begin; j < begin + width; ++j) {
      double* row = m + j * ld;
      for (index_t k = begin; k < j; ++k)
        row[k] = (row[k] - Dot(row + begin, m + k * ld + begin, k - begin)) / m[k * ld + k];
      const double pivot = row[j] - Dot(row + begin, row + begin, j - begin);
      if (!(pivot > 0) || !std::isfinite(pivot)) return false;
      row[j] = std::sqrt(pivot);
    }
    for (index_t i = begin + width; i < n; ++i) {
      double* row = m + i * ld;
      for (index_t k = begin; k < begin + width; ++k)
        row[k] = (row[k] - Dot(row + begin, m + k * ld + begin, k - begin)) / m[k * ld + k];
    }
  }
  return true;
}

void CholeskySolve(const double* l, index_t ld, index_t n, double* x) {
  for (index_t i = 0; i < n; ++i) x[i] = (x[i] - Dot(l + i * ld, x, i)) / l[i * ld + i];
  for (index_t i = n; i-- > 0;) {
    x[i] /= l[i * ld + i];
    AddScaled(-x[i], l + i * ld, x, i);
  }
}

double ExpAndSum(double* x, index_t n, double shift) {
  const Doubles d;
  const auto lanes = static_cast<index_t>(hn::Lanes(d));
  const Vec offset = hn::Set(d, shift), lowest = hn::Set(d, -708);
  Vec sum = hn::Zero(d);
  const auto one = [&](Vec v) {
    const Vec z = hn::Sub(v, offset);
    return hn::IfThenElseZero(hn::Ge(z, lowest), hn::Exp(d, hn::Max(z, lowest)));
  };
  index_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const Vec e = one(hn::LoadU(d, x + i));
    hn::StoreU(e, d, x + i);
    sum = hn::Add(sum, e);
  }
  double total = Total(sum);
  if (i < n) {
    double rest[HWY_MAX_BYTES / sizeof(double)] = {};
    std::fill(rest, rest + lanes, shift);
    std::copy(x + i, x + n, rest);
    hn::StoreU(one(hn::LoadU(d, rest)), d, rest);
    for (index_t k = 0; i + k < n; ++k) total += x[i + k] = rest[k];
  }
  return total;
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::dense
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::dense {

HWY_EXPORT(Dot);
HWY_EXPORT(AddScaled);
HWY_EXPORT(Multiply);
HWY_EXPORT(AddTransposed);
HWY_EXPORT(AddTransposedRows);
HWY_EXPORT(FindExtremes);
HWY_EXPORT(AddGram);
HWY_EXPORT(Cholesky);
HWY_EXPORT(CholeskySolve);
HWY_EXPORT(ExpAndSum);

double dot(std::span<const double> x, std::span<const double> y) {
  assert(x.size() == y.size());
  return HWY_DYNAMIC_DISPATCH(Dot)(x.data(), y.data(), static_cast<index_t>(x.size()));
}

void add_scaled(double a, std::span<const double> x, std::span<double> y) {
  assert(x.size() == y.size());
  HWY_DYNAMIC_DISPATCH(AddScaled)(a, x.data(), y.data(), static_cast<index_t>(x.size()));
}

void multiply(TensorView<const double, 2> a, std::span<const double> x, std::span<double> out) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a.data(), a.stride(0), a.shape(0), a.shape(1), x.data(), out.data());
}

void add_transposed(TensorView<const double, 2> a, std::span<const double> y, std::span<double> out) {
  HWY_DYNAMIC_DISPATCH(AddTransposed)(a.data(), a.stride(0), a.shape(0), a.shape(1), y.data(), out.data());
}

void add_transposed(TensorView<const double, 2> a, TensorView<const double, 2> y, TensorView<double, 2> out) {
  HWY_DYNAMIC_DISPATCH(AddTransposedRows)
  (a.data(), a.stride(0), a.shape(0), a.shape(1), y.data(), y.stride(0), y.shape(0), out.data(),
   out.stride(0));
}

Extremes extremes(std::span<const double> p, std::span<const double> g) {
  assert(p.size() == g.size());
  return HWY_DYNAMIC_DISPATCH(FindExtremes)(p.data(), g.data(), static_cast<index_t>(g.size()));
}

void add_gram(TensorView<const double, 2> b, TensorView<double, 2> out) {
  HWY_DYNAMIC_DISPATCH(AddGram)(b.data(), b.stride(0), b.shape(0), b.shape(1), out.data(), out.stride(0));
}

bool cholesky(TensorView<double, 2> m) {
  return HWY_DYNAMIC_DISPATCH(Cholesky)(m.data(), m.stride(0), m.shape(0));
}

void cholesky_solve(TensorView<const double, 2> l, std::span<double> x) {
  HWY_DYNAMIC_DISPATCH(CholeskySolve)(l.data(), l.stride(0), l.shape(0), x.data());
}

double exp_and_sum(std::span<double> x, double shift) {
  return HWY_DYNAMIC_DISPATCH(ExpAndSum)(x.data(), static_cast<index_t>(x.size()), shift);
}

}  // namespace borel::dense
#endif
