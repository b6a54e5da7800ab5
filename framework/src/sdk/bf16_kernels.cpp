#include "bf16_kernels.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bf16_kernels.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <type_traits>

#if HWY_ARCH_X86_64
#include <immintrin.h>
#endif

namespace borel::kernels {

// By the processor's own instructions; where it has none, false and nothing done. Highway 1.0 has no target with AVX-512 BF16,
// so the targets with AVX-512 ask for these first.
bool to_bf16_native(const float* rows, index_t ld, index_t n, index_t d, Bf16Pair* out, index_t ldo);
bool multiply_bf16_native(const Bf16Pair* a, index_t lda, const Bf16Pair* b, index_t panel, float* out,
                          index_t ldo, index_t n_rows, index_t n_pairs, index_t n_cols, bool accumulate);

}  // namespace borel::kernels

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, k_row_pad>;
using Words = hn::Rebind<Bf16Pair, Floats>;
using Vec = hn::Vec<Floats>;
using WordVec = hn::Vec<Words>;

constexpr auto k_lanes = static_cast<index_t>(hn::MaxLanes(Floats()));

/// The nearest bfloat16, ties to even, in the high halves; the low halves are 0.
HWY_INLINE WordVec rounded(Vec x) {
  const Words w;
  const WordVec bits = hn::BitCast(w, x), high = hn::Set(w, 0xFFFF0000u);
  const WordVec odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(w, 1u));
  const WordVec nearest = hn::Add(bits, hn::Add(hn::Set(w, 0x7FFFu), odd));
  const WordVec quiet_nan = hn::Or(bits, hn::Set(w, 0x00400000u));
  return hn::And(hn::IfThenElse(hn::RebindMask(w, hn::IsNaN(x)), quiet_nan, nearest), high);
}
HWY_INLINE WordVec pairs(Vec even, Vec odd) {
  return hn::Or(hn::ShiftRight<16>(rounded(even)), rounded(odd));
}

void ToBf16(const float* rows, index_t ld, index_t n, index_t d, Bf16Pair* out, index_t ldo) {
#if HWY_TARGET <= HWY_AVX3
  if (to_bf16_native(rows, ld, n, d, out, ldo)) return;
#endif
  const Floats f;
  const Words w;
  for (index_t t = 0; t < n; ++t, rows += ld, out += ldo) {
    index_t c = 0;
    for (; c + 2 * k_lanes <= d; c += 2 * k_lanes) {
      const Vec low = hn::LoadU(f, rows + c), high = hn::LoadU(f, rows + c + k_lanes);
#if HWY_TARGET == HWY_SCALAR
      hn::StoreU(pairs(low, high), w, out + c / 2);
#else
      hn::StoreU(pairs(hn::ConcatEven(f, high, low), hn::ConcatOdd(f, high, low)), w, out + c / 2);
#endif
    }
    for (; c < d; c += 2 * k_lanes) {
      std::array<float, k_row_pad> even{}, odd{};
      std::array<Bf16Pair, k_row_pad> last{};
      for (index_t i = c; i < d; ++i)
        (i % 2 == 0 ? even : odd)[static_cast<std::size_t>((i - c) / 2)] = rows[i];
      hn::StoreU(pairs(hn::LoadU(f, even.data()), hn::LoadU(f, odd.data())), w, last.data());
      std::copy_n(last.data(), std::min(k_lanes, n_bf16_pairs(d - c)), out + c / 2);
    }
  }
}

void PackTransposedBf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded,
                        Bf16Pair* packed) {
  const index_t n_pairs = n_bf16_pairs(d);
  std::array<Bf16Pair, 256> strip;  // pairs of one row at a time
  for (index_t t0 = 0; t0 < n_padded; t0 += k_row_pad, packed += k_row_pad * n_pairs)
    for (index_t t = 0; t < k_row_pad; ++t)
      for (index_t p0 = 0; p0 < n_pairs; p0 += static_cast<index_t>(strip.size())) {
        const index_t count = std::min(static_cast<index_t>(strip.size()), n_pairs - p0);
        if (t0 + t < n)
          ToBf16(rows + (t0 + t) * ld + 2 * p0, ld, 1, std::min(2 * count, d - 2 * p0), strip.data(), count);
        else
          std::fill_n(strip.data(), count, 0u);
        for (index_t p = 0; p < count; ++p)
          packed[(p0 + p) * k_row_pad + t] = strip[static_cast<std::size_t>(p)];
      }
}

void PackRowsBf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, Bf16Pair* packed) {
  const Floats f;
  const Words w;
  std::array<float, k_row_pad> edge[2];
  for (index_t c0 = 0; c0 < d; c0 += k_row_pad, packed += k_row_pad * n_padded / 2) {
    const index_t width = std::min(k_row_pad, d - c0);
    for (index_t t = 0; t < n_padded; t += 2) {
      const float* from[2];
      for (index_t side = 0; side < 2; ++side) {
        from[side] = rows + (t + side) * ld + c0;
        if (t + side < n && width == k_row_pad) continue;
        edge[side].fill(0);
        if (t + side < n) std::copy_n(from[side], width, edge[side].data());
        from[side] = edge[side].data();
      }
      for (index_t c = 0; c < k_row_pad; c += k_lanes)
        hn::StoreU(pairs(hn::LoadU(f, from[0] + c), hn::LoadU(f, from[1] + c)), w,
                   packed + t / 2 * k_row_pad + c);
    }
  }
}

template <int Rows>
HWY_INLINE void multiply_rows(const Bf16Pair* a, index_t lda, const Bf16Pair* b, float* out, index_t ldo,
                              index_t n_pairs, bool accumulate) {
  const Floats f;
  const Words w;
  const WordVec high = hn::Set(w, 0xFFFF0000u);
  for (index_t c = 0; c < k_row_pad; c += k_lanes) {
    Vec sum[Rows];
    for (int r = 0; r < Rows; ++r) sum[r] = accumulate ? hn::LoadU(f, out + r * ldo + c) : hn::Zero(f);
    for (index_t p = 0; p < n_pairs; ++p) {
      const WordVec right = hn::LoadU(w, b + p * k_row_pad + c);
      const Vec even = hn::BitCast(f, hn::ShiftLeft<16>(right)), odd = hn::BitCast(f, hn::And(right, high));
      for (int r = 0; r < Rows; ++r) {
        const WordVec left = hn::Set(w, a[r * lda + p]);
        sum[r] = hn::MulAdd(hn::BitCast(f, hn::ShiftLeft<16>(left)), even, sum[r]);
        sum[r] = hn::MulAdd(hn::BitCast(f, hn::And(left, high)), odd, sum[r]);
      }
    }
    for (int r = 0; r < Rows; ++r) hn::StoreU(sum[r], f, out + r * ldo + c);
  }
}

void MultiplyBf16(const Bf16Pair* a, index_t lda, const Bf16Pair* b, index_t panel, float* out, index_t ldo,
                  index_t n_rows, index_t n_pairs, index_t n_cols, bool accumulate) {
#if HWY_TARGET <= \
    HWY_AVX3  // Highway 1.0 has no target with AVX-512 BF16; without AVX-512 a caller wants none of it
  if (multiply_bf16_native(a, lda, b, panel, out, ldo, n_rows, n_pairs, n_cols, accumulate)) return;
#endif
  for (index_t c = 0; c < n_cols; c += k_row_pad, b += panel) {
    index_t r = 0;
    for (; r + 4 <= n_rows; r += 4)
      multiply_rows<4>(a + r * lda, lda, b, out + r * ldo + c, ldo, n_pairs, accumulate);
    for (; r < n_rows; ++r)
      multiply_rows<1>(a + r * lda, lda, b, out + r * ldo + c, ldo, n_pairs, accumulate);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace borel::kernels {

HWY_EXPORT(ToBf16);
HWY_EXPORT(PackTransposedBf16);
HWY_EXPORT(PackRowsBf16);
HWY_EXPORT(MultiplyBf16);

namespace {

#if HWY_ARCH_X86_64
#define BOREL_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

constexpr int k_block_rows = 6;  // with four panels most of the 32 registers, as in product-inl.hpp

// Loops over registers are unrolled early, or the compiler keeps the sums in memory as well.
template <int Rows, int Panels, bool Accumulate>
BOREL_AVX512_BF16 HWY_NOINLINE void multiply_block(const Bf16Pair* a, index_t lda, const Bf16Pair* b,
                                                   index_t panel, float* out, index_t ldo, index_t n_pairs) {
  __m512 sum[Rows][Panels];
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    HWY_UNROLL(16)
    for (int c = 0; c < Panels; ++c)
      sum[r][c] = Accumulate ? _mm512_loadu_ps(out + r * ldo + c * k_row_pad) : _mm512_setzero_ps();
  }
  for (index_t p = 0; p < n_pairs; ++p) {
    __m512bh right[Panels];
    HWY_UNROLL(16)
    for (int c = 0; c < Panels; ++c)
      right[c] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + c * panel + p * k_row_pad));
    HWY_UNROLL(16)
    for (int r = 0; r < Rows; ++r) {
      const auto left = reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(a[r * lda + p])));
      HWY_UNROLL(16)
      for (int c = 0; c < Panels; ++c) sum[r][c] = _mm512_dpbf16_ps(sum[r][c], left, right[c]);
    }
  }
  HWY_UNROLL(16)
  for (int r = 0; r < Rows; ++r) {
    HWY_UNROLL(16)
    for (int c = 0; c < Panels; ++c) _mm512_storeu_ps(out + r * ldo + c * k_row_pad, sum[r][c]);
  }
}

BOREL_AVX512_BF16 void round_rows(const float* rows, index_t ld, index_t n, index_t d, Bf16Pair* out,
                                  index_t ldo) {
  for (index_t t = 0; t < n; ++t, rows += ld, out += ldo)
    for (index_t c = 0; c < d; c += 2 * k_row_pad) {
      const auto left = static_cast<unsigned>(std::min(2 * k_row_pad, d - c));
      const auto low = static_cast<__mmask16>((1ull << std::min(left, 16u)) - 1),
                 high = static_cast<__mmask16>((1ull << (std::max(left, 16u) - 16)) - 1),
                 kept = static_cast<__mmask16>((1ull << (left + 1) / 2) - 1);
      const __m512 first = _mm512_maskz_loadu_ps(low, rows + c),
                   second = _mm512_maskz_loadu_ps(high, rows + c + 16);
      _mm512_mask_storeu_epi32(out + c / 2, kept,
                               reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
    }
}

template <int Panels>
void multiply_panels(const Bf16Pair* a, index_t lda, const Bf16Pair* b, index_t panel, float* out,
                     index_t ldo, index_t n_rows, index_t n_pairs, bool accumulate) {
  index_t r = 0;
  const auto blocks = [&]<int Rows>(std::integral_constant<int, Rows>) {
    constexpr auto multiply_and_set = multiply_block<Rows, Panels, false>,
                   multiply_and_add = multiply_block<Rows, Panels, true>;
    for (; r + Rows <= n_rows; r += Rows)
      (accumulate ? multiply_and_add : multiply_and_set)(a + r * lda, lda, b, panel, out + r * ldo, ldo,
                                                         n_pairs);
  };
  blocks(std::integral_constant<int, k_block_rows>());
  blocks(std::integral_constant<int, 2>());
  blocks(std::integral_constant<int, 1>());
}

bool processor_has_bf16() {
  static const bool has = __builtin_cpu_supports("avx512bf16") != 0;
  return has;
}
#endif

}  // namespace

bool to_bf16_native([[maybe_unused]] const float* rows, [[maybe_unused]] index_t ld,
                    [[maybe_unused]] index_t n, [[maybe_unused]] index_t d, [[maybe_unused]] Bf16Pair* out,
                    [[maybe_unused]] index_t ldo) {
#if HWY_ARCH_X86_64
  if (!processor_has_bf16()) return false;
  round_rows(rows, ld, n, d, out, ldo);
  return true;
#else
  return false;
#endif
}

bool multiply_bf16_native([[maybe_unused]] const Bf16Pair* a, [[maybe_unused]] index_t lda,
                          [[maybe_unused]] const Bf16Pair* b, [[maybe_unused]] index_t panel,
                          [[maybe_unused]] float* out, [[maybe_unused]] index_t ldo,
                          [[maybe_unused]] index_t n_rows, [[maybe_unused]] index_t n_pairs,
                          [[maybe_unused]] index_t n_cols, [[maybe_unused]] bool accumulate) {
#if HWY_ARCH_X86_64
  if (!processor_has_bf16()) return false;
  index_t c = 0;
  for (; c + 4 * k_row_pad <= n_cols; c += 4 * k_row_pad, b += 4 * panel)
    multiply_panels<4>(a, lda, b, panel, out + c, ldo, n_rows, n_pairs, accumulate);
  for (; c + 2 * k_row_pad <= n_cols; c += 2 * k_row_pad, b += 2 * panel)
    multiply_panels<2>(a, lda, b, panel, out + c, ldo, n_rows, n_pairs, accumulate);
  if (c < n_cols) multiply_panels<1>(a, lda, b, panel, out + c, ldo, n_rows, n_pairs, accumulate);
  return true;
#else
  return false;
#endif
}

void to_bf16(const float* rows, index_t ld, index_t n, index_t d, Bf16Pair* out, index_t ldo) {
  HWY_DYNAMIC_DISPATCH(ToBf16)(rows, ld, n, d, out, ldo);
}
void pack_transposed_bf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded,
                          Bf16Pair* packed) {
  HWY_DYNAMIC_DISPATCH(PackTransposedBf16)(rows, ld, n, d, n_padded, packed);
}
void pack_rows_bf16(const float* rows, index_t ld, index_t n, index_t d, index_t n_padded, Bf16Pair* packed) {
  HWY_DYNAMIC_DISPATCH(PackRowsBf16)(rows, ld, n, d, n_padded, packed);
}
void multiply_bf16(const Bf16Pair* a, index_t lda, const Bf16Pair* b, index_t panel, float* out, index_t ldo,
                   index_t n_rows, index_t n_pairs, index_t n_cols, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(MultiplyBf16)(a, lda, b, panel, out, ldo, n_rows, n_pairs, n_cols, accumulate);
}

}  // namespace borel::kernels
#endif
