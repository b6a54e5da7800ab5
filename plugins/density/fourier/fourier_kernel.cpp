#include "fourier_kernel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fourier/fourier_kernel.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

#include <vector>

HWY_BEFORE_NAMESPACE();
namespace {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::CappedTag<double, 8>;
using Vec = hn::Vec<Doubles>;

constexpr std::size_t k_vectors = 4;  // independent Horner chains hide the latency of two FMAs per step

void add_sums(const FourierPoints& points, const double* HWY_RESTRICT a_re, const double* HWY_RESTRICT a_im,
              std::size_t n_frequencies, double* HWY_RESTRICT sums) {
  const Doubles d;
  const std::size_t lanes = hn::Lanes(d), step = k_vectors * lanes;
  std::vector<double> partial(2 * n_frequencies * lanes);  // per lane, summed at the end
  double* HWY_RESTRICT const g_re = partial.data();
  double* HWY_RESTRICT const g_im = g_re + n_frequencies * lanes;
  Vec loss = hn::Zero(d);
  for (std::size_t first = 0; first < points.n; first += step) {
    Vec zr[k_vectors], zi[k_vectors], re[k_vectors], im[k_vectors];
    for (std::size_t v = 0; v < k_vectors; ++v) {
      zr[v] = hn::LoadU(d, points.z_re + first + v * lanes);
      zi[v] = hn::LoadU(d, points.z_im + first + v * lanes);
      re[v] = hn::Set(d, a_re[n_frequencies - 1]);
      im[v] = hn::Set(d, -a_im[n_frequencies - 1]);
    }
    for (std::size_t k = n_frequencies - 1; k > 0; --k) {
      const Vec ar = hn::Set(d, a_re[k - 1]), ai = hn::Set(d, a_im[k - 1]);
      for (std::size_t v = 0; v < k_vectors; ++v) {
        const Vec next = hn::NegMulAdd(im[v], zi[v], hn::MulAdd(re[v], zr[v], ar));
        im[v] = hn::MulAdd(re[v], zi[v], hn::MulSub(im[v], zr[v], ai));
        re[v] = next;
      }
    }
    for (std::size_t v = 0; v < k_vectors; ++v) {
      const Vec w = hn::LoadU(d, points.w + first + v * lanes);
      const Vec square = hn::MulAdd(re[v], re[v], hn::Mul(im[v], im[v]));
      // |A| = 0 at a point without weight must not make a NaN.
      const auto counts = hn::Gt(w, hn::Zero(d));
      const Vec safe = hn::IfThenElse(counts, square, hn::Set(d, 1.0));
      loss = hn::MulAdd(w, hn::Log(d, safe), loss);
      const Vec factor = hn::Div(w, safe);
      re[v] = hn::Mul(re[v], factor);  // w / A
      im[v] = hn::Neg(hn::Mul(im[v], factor));
    }
    for (std::size_t k = 0; k < n_frequencies; ++k) {
      const Vec sum_re = hn::Add(hn::Add(re[0], re[1]), hn::Add(re[2], re[3]));
      const Vec sum_im = hn::Add(hn::Add(im[0], im[1]), hn::Add(im[2], im[3]));
      hn::StoreU(hn::Add(hn::LoadU(d, g_re + k * lanes), sum_re), d, g_re + k * lanes);
      hn::StoreU(hn::Add(hn::LoadU(d, g_im + k * lanes), sum_im), d, g_im + k * lanes);
      for (std::size_t v = 0; v < k_vectors; ++v) {
        const Vec next = hn::NegMulAdd(im[v], zi[v], hn::Mul(re[v], zr[v]));
        im[v] = hn::MulAdd(re[v], zi[v], hn::Mul(im[v], zr[v]));
        re[v] = next;
      }
    }
  }
  for (std::size_t k = 0; k < n_frequencies; ++k) {
    double re = 0, im = 0;
    for (std::size_t lane = 0; lane < lanes; ++lane)
      re += g_re[k * lanes + lane], im += g_im[k * lanes + lane];
    sums[k] -= 2 * re;
    sums[n_frequencies + k] -= 2 * im;
  }
  sums[2 * n_frequencies] -= hn::GetLane(hn::SumOfLanes(d, loss));
}

}  // namespace HWY_NAMESPACE
}  // namespace
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace {
HWY_EXPORT(add_sums);
}
void add_fourier_sums(const FourierPoints& points, const double* a_re, const double* a_im,
                      std::size_t n_frequencies, double* sums) {
  HWY_DYNAMIC_DISPATCH(add_sums)(points, a_re, a_im, n_frequencies, sums);
}
#endif
