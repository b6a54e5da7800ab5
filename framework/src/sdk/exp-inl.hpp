// exp2 for the kernels, compiled once per instruction set: include only from files under foreach_target.h.
// Per-target include guard as Highway's own -inl headers have it.
#if defined(BOREL_EXP_INL_HPP_) == defined(HWY_TARGET_TOGGLE)
#ifdef BOREL_EXP_INL_HPP_
#undef BOREL_EXP_INL_HPP_
#else
#define BOREL_EXP_INL_HPP_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace borel::kernels {
namespace HWY_NAMESPACE {

/// c[0] + c[1] x + ... + c[5] x^5 by multiply-adds, from the highest power down.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V polynomial(D f, V x, const float (&c)[6]) {
  namespace hn = hwy::HWY_NAMESPACE;
  V sum = hn::Set(f, c[5]);
  HWY_UNROLL(5)
  for (int power = 4; power >= 0; --power) sum = hn::MulAdd(sum, x, hn::Set(f, c[power]));
  return sum;
}

/// 2^x for x <= 127; 0 where float32 has none smaller, -infinity included (below the normal numbers only with AVX-512); NaN
/// stays NaN. Relative error <= 2.2e-7, with AVX-512 1.4e-7: minimax polynomial of degree 5 (Remez, coefficients
/// rounded to float) on an interval of length 1, evaluated with FMA; half the instructions of hn::Exp, which also has no way
/// to leave out the product with log2(e).
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V exp2(D f, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET <= HWY_AVX3
  // x - floor(x), and a product with 2^floor(x) that knows infinities and subnormal numbers: five multiply-adds and two
  // instructions beside them on other pipes, with neither a clamp nor integers.
  if constexpr (hn::MaxLanes(D()) == 16) {
    constexpr int k_floor = 9;  // no fraction bits, downwards, silent
    const V rest(V{_mm512_reduce_ps(x.raw, k_floor)});
    const V power = polynomial(f, rest,
                               {0.99999994039535522f, 0.69315272569656372f, 0.24015571177005768f,
                                0.055821284651756287f, 0.0089945578947663307f, 0.0018756279023364186f});
    return V{_mm512_scalef_ps(power.raw, x.raw)};
  }
#endif
  const hn::Rebind<std::int32_t, D> bits;
  // x86 max gives its second argument when one is NaN: NaN passes.
  x = hn::Max(hn::Set(f, -127.0f), x);
  // Adding 1.5 * 2^23 rounds to an integer n, which then stands in the low mantissa bits; 127 more make it the exponent
  // field of 2^n (n = -127: the field of zero).
  const V magic = hn::Set(f, 12582912.0f + 127.0f);
  const V shifted = hn::Add(x, magic);
  const V rest = hn::Sub(x, hn::Sub(shifted, magic));
  const V power = polynomial(f, rest,
                             {1.0000001192092896f, 0.6931469440460205f, 0.24022120237350464f,
                              0.05550713092088699f, 0.009675540961325169f, 0.0013276472454890609f});
  return hn::Mul(power, hn::BitCast(f, hn::ShiftLeft<23>(hn::BitCast(bits, shifted))));
}

}  // namespace HWY_NAMESPACE
}  // namespace borel::kernels
HWY_AFTER_NAMESPACE();

#endif
