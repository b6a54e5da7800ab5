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
  for (; i < n; ++i) y[i] += a * x[i];
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
    for (; i < n; ++i)
      out[i] += (y[r] * row[i] + y[r + 1] * row[lda + i]) +
                (y[r + 2] * row[2 * lda + i] + y[r + 3] * row[3 * lda + i]);
  }
  for (; r < m; ++r) AddScaled(y[r], a + r * lda, out, n);
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
