#include "moments.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kde/moments.cpp"
#include <hwy/foreach_target.h>  // compiles the rest of this file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void add(const double* HWY_RESTRICT x, const double* HWY_RESTRICT w, std::size_t n, double centre,
         double inverse_h, double* HWY_RESTRICT moments) {
  const hn::CappedTag<double, 8> d;
  using Vec = hn::Vec<decltype(d)>;
  const std::size_t lanes = hn::Lanes(d);
  constexpr std::size_t k_chains = 4;  // the powers are chains of products: four at a time hide their latency
  std::size_t i = 0;
  if (n >= k_chains * lanes) {
    Vec sum[k_moments];
    for (Vec& value : sum) value = hn::Zero(d);
    for (; i + k_chains * lanes <= n; i += k_chains * lanes) {
      Vec s[k_chains], term[k_chains];
      for (std::size_t c = 0; c < k_chains; ++c) {
        s[c] = hn::Mul(hn::Sub(hn::LoadU(d, x + i + c * lanes), hn::Set(d, centre)), hn::Set(d, inverse_h));
        term[c] = hn::LoadU(d, w + i + c * lanes);
      }
      for (std::size_t k = 0; k < k_moments; ++k) {
        sum[k] = hn::Add(sum[k], hn::Add(hn::Add(term[0], term[1]), hn::Add(term[2], term[3])));
        for (std::size_t c = 0; c < k_chains; ++c) term[c] = hn::Mul(term[c], s[c]);
      }
    }
    for (std::size_t k = 0; k < k_moments; ++k) moments[k] += hn::GetLane(hn::SumOfLanes(d, sum[k]));
  }
  for (; i < n; ++i) {
    const double s = (x[i] - centre) * inverse_h;
    double term = w[i];
    for (std::size_t k = 0; k < k_moments; ++k, term *= s) moments[k] += term;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace {
HWY_EXPORT(add);
}
void add_moments(const double* x, const double* w, std::size_t n, double centre, double inverse_h,
                 double* moments) {
  double powers[k_moments] = {};
  HWY_DYNAMIC_DISPATCH(add)(x, w, n, centre, inverse_h, powers);
  double factorial = 1;
  for (std::size_t k = 0; k < k_moments; ++k) {
    if (k > 0) factorial *= static_cast<double>(k);
    moments[k] += powers[k] / factorial;
  }
}
#endif
