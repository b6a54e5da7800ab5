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

/// Sums of (re + i im) z^k over points, k = 0 .. n - 1, per lane.
class PowerSums {
 public:
  explicit PowerSums(std::size_t n) : n_(n), values_(2 * n * hn::Lanes(Doubles())) {}

  /// @param re, im  overwritten
  HWY_INLINE void add(const Vec* zr, const Vec* zi, Vec* re, Vec* im) {
    const Doubles d;
    const std::size_t lanes = hn::Lanes(d);
    double* HWY_RESTRICT const to_re = values_.data();
    double* HWY_RESTRICT const to_im = to_re + n_ * lanes;
    for (std::size_t k = 0; k < n_; ++k) {
      const Vec sum_re = hn::Add(hn::Add(re[0], re[1]), hn::Add(re[2], re[3]));
      const Vec sum_im = hn::Add(hn::Add(im[0], im[1]), hn::Add(im[2], im[3]));
      hn::StoreU(hn::Add(hn::LoadU(d, to_re + k * lanes), sum_re), d, to_re + k * lanes);
      hn::StoreU(hn::Add(hn::LoadU(d, to_im + k * lanes), sum_im), d, to_im + k * lanes);
      for (std::size_t v = 0; v < k_vectors; ++v) {
        const Vec next = hn::NegMulAdd(im[v], zi[v], hn::Mul(re[v], zr[v]));
        im[v] = hn::MulAdd(re[v], zi[v], hn::Mul(im[v], zr[v]));
        re[v] = next;
      }
    }
  }
  /// out[k], out[n + k] += factor Re, Im of the sums
  void add_to(double* HWY_RESTRICT out, double factor) const {
    const std::size_t lanes = hn::Lanes(Doubles());
    for (std::size_t k = 0; k < 2 * n_; ++k) {
      double sum = 0;
      for (std::size_t lane = 0; lane < lanes; ++lane) sum += values_[k * lanes + lane];
      out[k] += factor * sum;
    }
  }

 private:
  std::size_t n_;
  std::vector<double> values_;
};

void add_sums(const FourierPoints& points, const double* HWY_RESTRICT a_re, const double* HWY_RESTRICT a_im,
              std::size_t n_frequencies, double* HWY_RESTRICT sums, double* HWY_RESTRICT curvature) {
  const Doubles d;
  const std::size_t lanes = hn::Lanes(d), step = k_vectors * lanes;
  PowerSums slopes(n_frequencies), curvatures(curvature ? 2 * n_frequencies - 1 : 0);
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
    Vec square_re[k_vectors], square_im[k_vectors];
    for (std::size_t v = 0; v < k_vectors; ++v) {
      const Vec w = hn::LoadU(d, points.w + first + v * lanes);
      const Vec square = hn::MulAdd(re[v], re[v], hn::Mul(im[v], im[v]));
      // |A| = 0 at a point without weight must not make a NaN.
      const auto counts = hn::Gt(w, hn::Zero(d));
      const Vec safe = hn::IfThenElse(counts, square, hn::Set(d, 1.0));
      loss = hn::MulAdd(w, hn::Log(d, safe), loss);
      const Vec factor = hn::Div(w, safe), unit = hn::Div(factor, safe);
      // w / A = w conj(A) / |A|^2 and w / A^2 = w conj(A)^2 / |A|^4
      square_re[v] = hn::Mul(hn::NegMulAdd(im[v], im[v], hn::Mul(re[v], re[v])), unit);
      square_im[v] = hn::Mul(hn::Mul(re[v], im[v]), hn::Mul(hn::Set(d, -2.0), unit));
      re[v] = hn::Mul(re[v], factor);
      im[v] = hn::Neg(hn::Mul(im[v], factor));
    }
    slopes.add(zr, zi, re, im);
    if (curvature) curvatures.add(zr, zi, square_re, square_im);
  }
  slopes.add_to(sums, -2);
  if (curvature) curvatures.add_to(curvature, 1);
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
                      std::size_t n_frequencies, double* sums, double* curvature) {
  HWY_DYNAMIC_DISPATCH(add_sums)(points, a_re, a_im, n_frequencies, sums, curvature);
}
#endif
